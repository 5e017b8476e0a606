//! Kinds of parts, and the figures that each has. What is not known is left out, never guessed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kinds::{Arch, Chip, Connector, DiskKind, Poe, UasQuality, UsbBoot};
use super::sources::From;
use crate::quantity::{BitRate, ByteRate, Celsius, Length, Power, Price, Seconds, Size, Voltage};

/// A part of which some figures may be given anew by another file.
pub(crate) trait Overlay: Sized {
    /// This one where it says something, the other one elsewhere.
    fn over(&self, base: &Self) -> Self;
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        // Entries of boards are seen only as boards.
        #[allow(unreachable_pub)]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The word for it.
            pub id: String,
            /// The name on its box.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub name: Option<String>,
            $($(#[$field_doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
            /// What one costs.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub price: Option<Price>,
            /// Where its figures come from.
            #[serde(default)]
            pub from: From,
        }

        impl $name {
            /// The name on its box, or the word for it.
            #[allow(unreachable_pub)]
            pub fn label(&self) -> &str {
                self.name.as_deref().unwrap_or(&self.id)
            }

            /// The names of the figures that it gives.
            #[allow(unreachable_pub)]
            pub fn figures(&self) -> Vec<&'static str> {
                let mut all = Vec::new();
                $(if self.$field.is_some() {
                    all.push(stringify!($field));
                })*
                if self.price.is_some() {
                    all.push("price");
                }
                all
            }
        }

        impl Overlay for $name {
            fn over(&self, base: &Self) -> Self {
                $name {
                    id: self.id.clone(),
                    name: self.name.clone().or_else(|| base.name.clone()),
                    $($field: self.$field.clone().or_else(|| base.$field.clone()),)*
                    price: self.price.or(base.price),
                    from: self.from.over(&self.figures(), &base.from),
                }
            }
        }
    };
}

part! {
    /// What boards of one kind have in common.
    Family {
        /// Power with nothing to do, nothing attached.
        idle: Power,
        /// Power with all cores busy, nothing attached.
        load: Power,
        /// What its supply has to be able to give, for the board and all that hangs on its USB ports.
        worst: Power,
        /// The speed of its Ethernet link; none without Ethernet.
        ethernet: BitRate,
        /// What was measured over it.
        throughput: BitRate,
        /// The rate of its Wi-Fi's link at best, without an adapter; none without Wi-Fi.
        wifi: BitRate,
        /// The generation of its fastest USB port: 2 or 3.
        usb: u8,
        /// Whether it has the four pins that PoE HATs use.
        poe: bool,
        /// Whether a NVMe drive can be attached.
        nvme: bool,
        /// What it takes to boot from USB.
        usb_boot: UsbBoot,
        /// The temperature at which the processor is slowed down.
        throttle: Celsius,
        /// The temperature at which it is slowed down a little.
        soft_limit: Celsius,
        /// How long it runs at full load, without any cooling, until it is slowed down.
        bare: Seconds,
        /// The same with a heat sink.
        heatsink: Seconds,
    }
}

part! {
    /// A board as the catalogue's files have it.
    BoardEntry {
        /// The family whose figures it has.
        family: String,
        /// What its processor runs.
        arch: Arch,
        /// Processor cores.
        cores: u32,
        /// Memory in MiB as sold.
        memory: u32,
    }
}

impl BoardEntry {
    pub(crate) fn board(&self, family: Option<Family>) -> Option<Board> {
        Some(Board {
            id: self.id.clone(),
            name: self.label().to_owned(),
            arch: self.arch?,
            cores: self.cores,
            memory: self.memory,
            price: self.price,
            from: self.from.clone(),
            family,
        })
    }
}

/// A board that can be bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Board {
    /// The word for it in a cluster file.
    pub id: String,
    /// The name on its box.
    pub name: String,
    /// What its processor runs.
    pub arch: Arch,
    /// Processor cores, where known.
    pub cores: Option<u32>,
    /// Memory in MiB as sold, where known.
    pub memory: Option<u32>,
    /// What it costs.
    pub price: Option<Price>,
    /// Where its own figures come from.
    pub from: From,
    /// What it has in common with its kind.
    pub family: Option<Family>,
}

impl Board {
    /// The name on its box.
    pub fn label(&self) -> &str {
        &self.name
    }

    /// The names of the figures that it gives itself, without those of its family.
    pub fn figures(&self) -> Vec<&'static str> {
        let given =
            [("cores", self.cores.is_some()), ("memory", self.memory.is_some()), ("price", self.price.is_some())];
        given.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect()
    }

    /// A figure of its family.
    pub fn figure<T>(&self, figure: impl FnOnce(&Family) -> Option<T>) -> Option<T> {
        self.family.as_ref().and_then(figure)
    }
}

impl Overlay for Board {
    /// Boards are made of entries that were put together already.
    fn over(&self, _: &Self) -> Self {
        self.clone()
    }
}

part! {
    /// What sits on a board and takes power out of its Ethernet cable.
    Hat {
        /// What it asks of the switch.
        standard: Poe,
        /// The least voltage that it works with.
        input_min: Voltage,
        /// The highest voltage that it works with.
        input_max: Voltage,
        /// The power that it gives the board.
        output: Power,
        /// The families that it fits.
        fits: Vec<String>,
        /// Whether a fan is on it.
        fan: bool,
        /// How much of the power arrives at the board, in percent.
        efficiency: u8,
    }
}

part! {
    /// A power supply for one board.
    Supply {
        /// The power that it gives.
        output: Power,
        /// Its voltage.
        volts: Voltage,
        /// Its plug.
        connector: Connector,
    }
}

part! {
    /// A power supply with several ports.
    Charger {
        /// How many ports it has.
        ports: u32,
        /// The power that one port gives.
        port: Power,
        /// The power that all give together.
        output: Power,
    }
}

part! {
    /// A switch or a router.
    NetworkDevice {
        /// How many Ethernet ports it has.
        ports: u32,
        /// The speed of a port.
        speed: BitRate,
        /// What it moves in all, both directions counted.
        capacity: BitRate,
        /// How many ports give power.
        poe_ports: u32,
        /// What they give together.
        poe_budget: Power,
        /// How.
        poe: Poe,
        /// What one of them gives, if that is less than the standard allows.
        poe_port: Power,
        /// What it uses itself.
        own: Power,
        /// `mains`, or `usb` if it takes its power from a charger.
        power: String,
        /// How it can be told something: `none`, `web`, `snmp`, `routeros`, `edgeos`.
        control: String,
    }
}

impl NetworkDevice {
    /// What it moves in all: as published, or both directions of every port.
    pub fn switching(&self) -> Option<BitRate> {
        self.capacity.or_else(|| Some(BitRate(self.speed?.0 * 2 * u64::from(self.ports?))))
    }

    /// What one of its ports gives.
    pub fn at_port(&self) -> Option<Power> {
        self.poe_port.or_else(|| self.poe?.at_port())
    }
}

part! {
    /// A card, a stick or a drive.
    Medium {
        /// What it is.
        kind: DiskKind,
        /// Its size.
        size: Size,
        /// How fast it is read.
        read: ByteRate,
        /// How fast it is written.
        write: ByteRate,
        /// What can be written to it before it is worn out, as published.
        endurance: Size,
        /// Power while it is busy.
        load: Power,
    }
}

part! {
    /// What is between a drive and a USB port.
    Adapter {
        /// Its vendor and product id.
        usb_id: String,
        /// The chip in it.
        chip: String,
        /// Whether it can do UAS.
        uas: UasQuality,
    }
}

part! {
    /// A fan.
    Fan {
        /// Its size in millimetres.
        size: u32,
        /// Its power.
        load: Power,
        /// Its voltage.
        volts: Voltage,
        /// The families that it is made for; any if not given.
        fits: Vec<String>,
    }
}

part! {
    /// Heat sinks.
    Heatsink {
        /// The families that it is made for.
        fits: Vec<String>,
        /// How many boards one pack is for.
        boards: u32,
    }
}

part! {
    /// A case.
    Case {
        /// How many boards it holds.
        boards: u32,
        /// How many fans are in it.
        fans: u32,
    }
}

part! {
    /// A cable.
    Cable {
        /// `ethernet`, `usb-c` or `micro-usb`.
        kind: String,
        /// How long it is.
        length: Length,
        /// How many are in a pack.
        pack: u32,
    }
}

part! {
    /// An accelerator for neural networks.
    Accelerator {
        /// The chip on it.
        chip: Chip,
        /// How many of these chips are on it; one if not given.
        chips: u32,
        /// Its power at work.
        load: Power,
    }
}

part! {
    /// Something else that is bought.
    Other {
        /// Its power, if it has any.
        load: Power,
    }
}

part! {
    /// What software asks of a node.
    Need {
        /// Memory that is used with nothing to do, system included, in MiB.
        idle: u32,
        /// Memory that is used while the cluster works, in MiB.
        busy: u32,
        /// The smallest disk that does.
        disk: Size,
        /// What is written to the disk that holds the state, in a day.
        writes: Size,
    }
}

macro_rules! parts {
    ($($kind:ident: $type:ty = $word:literal),*) => {
        /// Anything that can be bought.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Part {
            $(#[doc = concat!("A ", $word, ".")]
            $kind($type),)*
        }

        /// A kind of part.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum PartKind {
            $(#[doc = concat!("A ", $word, ".")]
            #[serde(rename = $word)]
            $kind,)*
        }

        impl fmt::Display for PartKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(PartKind::$kind => $word),* })
            }
        }

        impl Part {
            /// The word for it.
            pub fn id(&self) -> &str {
                match self { $(Part::$kind(part) => &part.id),* }
            }

            /// What it is.
            pub fn kind(&self) -> PartKind {
                match self { $(Part::$kind(_) => PartKind::$kind),* }
            }

            /// What one, or one pack, costs.
            pub fn price(&self) -> Option<Price> {
                match self { $(Part::$kind(part) => part.price),* }
            }

            /// Where its figures come from.
            pub fn from(&self) -> &From {
                match self { $(Part::$kind(part) => &part.from),* }
            }

            /// The name on its box.
            pub fn name(&self) -> &str {
                match self { $(Part::$kind(part) => part.label()),* }
            }

            /// The names of the figures that it gives.
            pub fn figures(&self) -> Vec<&'static str> {
                match self { $(Part::$kind(part) => part.figures()),* }
            }

            /// This part, where it says something, over another of the same kind.
            pub(crate) fn over(&self, base: &Part) -> Option<Part> {
                match (self, base) {
                    $((Part::$kind(part), Part::$kind(base)) => Some(Part::$kind(part.over(base))),)*
                    _ => None,
                }
            }
        }
    };
}

parts! {
    Board: Board = "board",
    Hat: Hat = "HAT",
    Supply: Supply = "power supply",
    Charger: Charger = "charger",
    Switch: NetworkDevice = "switch",
    Router: NetworkDevice = "router",
    Disk: Medium = "disk",
    Adapter: Adapter = "adapter",
    Fan: Fan = "fan",
    Heatsink: Heatsink = "heat sink",
    Case: Case = "case",
    Cable: Cable = "cable",
    Accelerator: Accelerator = "accelerator",
    Other: Other = "other part"
}

impl Part {
    /// The power that it takes from whatever it is attached to.
    pub fn load(&self) -> Option<Power> {
        match self {
            Part::Disk(part) => part.load,
            Part::Fan(part) => part.load,
            Part::Accelerator(part) => part.load,
            Part::Other(part) => part.load,
            _ => None,
        }
    }
}
