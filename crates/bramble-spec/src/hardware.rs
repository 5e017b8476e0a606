//! What stands on the shelf beside the boards, and what is attached to them: resolved.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;

use crate::catalogue::{Adapter, Board, Catalogue, Charger, Chip, Hat, Medium, NetworkDevice, Part, Supply};
use crate::cluster::Control;
use crate::names::{DeviceName, NodeName};

/// The hardware of a cluster, as far as the cluster file tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hardware {
    /// The parts that can be named.
    #[serde(skip)]
    pub catalogue: Arc<Catalogue>,
    /// Switches, routers, chargers, and boards that are no nodes.
    pub devices: Vec<Device>,
    /// Boards of the file's other clusters that hang on the same devices: those of the same name and part.
    pub guests: Vec<Guest>,
    /// What is bought besides, and belongs to nothing in particular.
    pub others: Vec<Line>,
    /// Rules of the hardware check whose findings the user knows and takes.
    pub accept: Vec<String>,
}

impl Hardware {
    /// The place of a device in `devices`.
    pub fn device(&self, name: &str) -> Option<usize> {
        self.devices.iter().position(|device| device.name.as_str() == name)
    }
}

/// A board of another cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guest {
    /// The node's name there.
    pub name: NodeName,
    /// Which board it is.
    pub board: Board,
    /// What it has; its devices are those of this cluster.
    pub fitting: Fitting,
}

/// So many of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What.
    pub part: Arc<Part>,
    /// How many pieces, or packs.
    pub quantity: u32,
}

/// Something that stands beside the boards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// What it is: a switch, a router, a charger or a board.
    pub part: Arc<Part>,
    /// The device that its way out goes through; `None` is the network of the house.
    pub uplink: Option<usize>,
    /// What gives it power; `None` is the mains, or unknown.
    pub feed: Option<Feed>,
    /// How the power of what hangs on it is switched.
    pub control: Option<Control>,
    /// What is attached to it.
    pub with: Vec<Line>,
}

impl Device {
    /// As a switch or router.
    pub fn network(&self) -> Option<&NetworkDevice> {
        match self.part.as_ref() {
            Part::Switch(device) | Part::Router(device) => Some(device),
            _ => None,
        }
    }

    /// As a charger.
    pub fn charger(&self) -> Option<&Charger> {
        match self.part.as_ref() {
            Part::Charger(charger) => Some(charger),
            _ => None,
        }
    }

    /// As a board.
    pub fn board(&self) -> Option<&Board> {
        match self.part.as_ref() {
            Part::Board(board) => Some(board),
            _ => None,
        }
    }
}

/// Where power comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Feed {
    /// A supply of its own.
    Supply(Arc<Part>),
    /// A device: a charger, or a switch that gives power over Ethernet.
    Device(usize),
}

impl Feed {
    /// As a supply of its own.
    pub fn supply(&self) -> Option<&Supply> {
        match self {
            Feed::Supply(part) => match part.as_ref() {
                Part::Supply(supply) => Some(supply),
                _ => None,
            },
            Feed::Device(_) => None,
        }
    }

    /// As a device.
    pub fn device(&self) -> Option<usize> {
        match self {
            Feed::Device(device) => Some(*device),
            Feed::Supply(_) => None,
        }
    }
}

/// What a node has besides its board.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fitting {
    /// What gives it power.
    pub feed: Option<Feed>,
    /// The outlet, port or slot of it.
    pub outlet: Option<String>,
    /// How its own power is switched.
    pub control: Option<Control>,
    /// Its PoE HAT.
    pub hat: Option<Arc<Part>>,
    /// The switch or router that it is plugged into.
    pub switch: Option<usize>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// What else is attached to it.
    pub with: Vec<Line>,
}

impl Fitting {
    /// Its PoE HAT.
    pub fn hat(&self) -> Option<&Hat> {
        match self.hat.as_deref() {
            Some(Part::Hat(hat)) => Some(hat),
            _ => None,
        }
    }

    /// The chips of its accelerators, and how many of each.
    pub fn accelerators(&self) -> BTreeMap<Chip, u32> {
        let mut chips = BTreeMap::new();
        for line in &self.with {
            if let Part::Accelerator(part) = line.part.as_ref()
                && let Some(chip) = part.chip
            {
                *chips.entry(chip).or_default() += line.quantity * part.chips.unwrap_or(1);
            }
        }
        chips
    }

    /// The disk that holds something.
    pub fn holder(&self, what: Holds) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.holds.contains(&what))
    }
}

/// A disk of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// What it is.
    pub part: Arc<Part>,
    /// What it is attached by.
    pub adapter: Option<Arc<Part>>,
    /// What is on it.
    pub holds: Vec<Holds>,
}

impl Disk {
    /// As a medium.
    pub fn medium(&self) -> Option<&Medium> {
        match self.part.as_ref() {
            Part::Disk(medium) => Some(medium),
            _ => None,
        }
    }

    /// What it is attached by.
    pub fn adapter(&self) -> Option<&Adapter> {
        match self.adapter.as_deref() {
            Some(Part::Adapter(adapter)) => Some(adapter),
            _ => None,
        }
    }
}

/// What can be on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// What the board boots from.
    Boot,
    /// The system.
    System,
    /// The state of the cluster, and images of containers.
    State,
    /// Volumes of workloads.
    Volumes,
}

/// Addresses from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AddressRange {
    /// The first.
    pub first: Ipv4Addr,
    /// The last; not before the first.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// Reads `FIRST-LAST`, or one address.
    pub(crate) fn parse(text: &str) -> Option<AddressRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = AddressRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (range.first <= range.last).then_some(range)
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &AddressRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many addresses are in it.
    pub fn count(&self) -> u64 {
        u64::from(u32::from(self.last)) - u64::from(u32::from(self.first)) + 1
    }
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}-{}", self.first, self.last))
    }
}
