//! What a cluster file means: everything filled in, looked up and checked.

mod access;
mod backup;
pub(crate) mod network;
pub(crate) mod node;
mod power;
mod preparation;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

pub use self::access::{Access, Jump, Sudo};
pub use self::backup::{Backups, Place as BackupPlace};
pub use self::network::{Cni, Network, Wifi};
pub use self::node::{Node, Published, Role, Taint, TaintEffect, Uplink};
pub use self::power::{Control, ControlWay, PoeMib, PowerSwitch, Ups};
pub use self::preparation::{BootSettings, Download, HeldFile, Preparation, Sent, Swap, Wear};
pub use self::storage::{Gluster, Nfs, Storage};
use crate::addon::Addon;
use crate::arguments::Arguments;
use crate::distribution::Distribution;
use crate::hardware::{Feed, Hardware};
use crate::names::{ClusterName, Sha256Digest};

/// A cluster without open questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// How its nodes are reached.
    pub access: Access,
    /// Its addresses.
    pub network: Network,
    /// Which Kubernetes.
    pub distribution: Distribution,
    /// What Kubernetes' own programs are told beside that.
    pub arguments: Arguments,
    /// The system that is written onto the boards' disks.
    pub image: Option<ImageSource>,
    /// Where the images of a registry come from instead: a URL without a `/` at its end, by the registry's host.
    pub registries: BTreeMap<String, String>,
    /// Archives of container images that every node gets, as written.
    pub archives: Vec<String>,
    /// Folders that all nodes share.
    pub storage: Storage,
    /// What it has besides Kubernetes.
    pub addons: Vec<Addon>,
    /// What every node gets first.
    pub preparation: Preparation,
    /// Backups that the control planes make by themselves.
    pub backups: Option<Backups>,
    /// The UPS behind which all boards are.
    pub ups: Option<Ups>,
    /// How nodes that run pods are changed.
    pub update: Update,
    /// What stands beside the boards.
    pub hardware: Hardware,
    /// Its nodes in the order of the file: at least one, and a control plane among them if there is Kubernetes.
    pub nodes: Vec<Node>,
    /// The lines of hosts(5) for all of them. It is shared: a thousand nodes have a thousand lines each.
    pub hosts: Arc<str>,
}

impl Cluster {
    /// The nodes that Kubernetes runs on, in the order of the file: all but the gateway.
    pub fn members(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role != Role::Gateway)
    }

    /// The node that gives the others their addresses and their way out, with its outside.
    pub fn gateway(&self) -> Option<(&Node, &Uplink)> {
        self.nodes.iter().find_map(|node| node.uplink.as_ref().map(|uplink| (node, uplink)))
    }

    /// What switches the power of a node: its own control, or that of the device that gives it power.
    pub fn power_switch<'c>(&'c self, node: &'c Node) -> Option<PowerSwitch<'c>> {
        let fitting = &node.fitting;
        let outlet = fitting.outlet.as_deref();
        if let Some(control) = &fitting.control {
            return Some(PowerSwitch { control, device: None, outlet });
        }
        let device = &self.hardware.devices[fitting.feed.as_ref().and_then(Feed::device)?];
        Some(PowerSwitch { control: device.control.as_ref()?, device: Some(device.name.as_str()), outlet })
    }

    /// Tells whether a node is in the cluster's Wi-Fi: those that no cable of the plan leads to are, unless it is the gateway's.
    pub fn in_wifi(&self, node: &Node) -> bool {
        let joined = self.network.wifi.as_ref().is_some_and(|wifi| wifi.join.is_some());
        joined && self.gateway().is_none() && node.fitting.switch.is_none()
    }

    /// The control planes in the order of the file.
    pub fn control_planes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane)
    }
}

/// How nodes that run pods are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Update {
    /// How many workers are taken out of service at once; at least 1.
    pub workers: u16,
    /// How many seconds the pods of a node have to go elsewhere.
    pub drain: u32,
}

/// Where the image of a system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// A file here, as written.
    File {
        /// Its path.
        path: String,
        /// Its digest, if it is known.
        sha256: Option<Sha256Digest>,
    },
    /// A file elsewhere.
    Url {
        /// Its address.
        url: String,
        /// Its digest; without it, the one that is published beside the file.
        sha256: Option<Sha256Digest>,
    },
    /// One of a catalogue.
    Name {
        /// What it is called there.
        name: String,
        /// The catalogue's address, if it is not that of Raspberry Pi Imager.
        catalogue: Option<String>,
    },
}
