//! The machines of a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::Board;
use crate::hardware::Fitting;
use crate::names::{MacAddr, NodeName};

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its hostname and its name in Kubernetes.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// Which board it is.
    pub board: Board,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Labels in Kubernetes.
    pub labels: BTreeMap<String, String>,
    /// Taints in Kubernetes, if the distribution's own are not wanted.
    pub taints: Option<Vec<Taint>>,
    /// Its part of the pods' range, where bramble decides it (CNI `routed`).
    pub pods: Option<Ipv4Net>,
    /// What it has besides its board.
    pub fitting: Fitting,
    /// Its outside, if it is a gateway.
    pub uplink: Option<Uplink>,
}

impl Node {
    /// Under which name or address bramble calls it.
    pub fn host(&self) -> String {
        let reach = self.uplink.as_ref().and_then(|uplink| uplink.reach.clone());
        reach.unwrap_or_else(|| self.address.to_string())
    }
}

/// The outside of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// The interface towards the outside.
    pub interface: String,
    /// The interface towards the rack.
    pub inside: String,
    /// Its name or address outside, if bramble works from there.
    pub reach: Option<String>,
    /// TCP ports of its own that are open to the outside, without sshd's.
    pub open: Vec<u16>,
    /// TCP ports outside that lead into the rack.
    pub publish: Vec<Published>,
}

/// A TCP port outside that leads into the rack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The port of the gateway's outside.
    pub port: u16,
    /// To whom it leads.
    pub to: SocketAddrV4,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It runs the Kubernetes API.
    ControlPlane,
    /// It runs workloads.
    Worker,
    /// It gives the others their addresses and their way out.
    Gateway,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::ControlPlane => "control-plane",
            Role::Worker => "worker",
            Role::Gateway => "gateway",
        })
    }
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// New pods only if there is no other place.
    PreferNoSchedule,
    /// No pods at all.
    NoExecute,
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.key, self.value, self.effect)
    }
}
