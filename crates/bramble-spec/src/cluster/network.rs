//! The addresses of a cluster.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::AddressRange;

/// How pods reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// One route for each node's range of pods; all nodes share one Ethernet.
    #[default]
    Routed,
    /// The overlay of the flannel project.
    Flannel,
    /// The Calico project.
    Calico,
}

/// Addresses of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// The network of the nodes.
    pub subnet: Ipv4Net,
    /// The range of pod addresses.
    pub pods: Ipv4Net,
    /// The range of service addresses.
    pub services: Ipv4Net,
    /// The way out of the subnet, if boards are told their addresses by their images.
    pub gateway: Option<Ipv4Addr>,
    /// Who resolves names for such boards.
    pub dns: Vec<Ipv4Addr>,
    /// The addresses that the router hands out.
    pub dhcp: Option<AddressRange>,
    /// The addresses that services get from a load balancer.
    pub pool: Option<AddressRange>,
    /// The Wi-Fi that boards are in, if they are not on Ethernet.
    pub wifi: Option<Wifi>,
    /// How pods reach each other.
    pub cni: Cni,
    /// A manifest (URL or file) in place of the CNI project's own.
    pub cni_manifest: Option<String>,
    /// The address of the Kubernetes API.
    pub api: Ipv4Addr,
}

/// What boards are told of Wi-Fi by their images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wifi {
    /// The country whose rules for radio hold (ISO 3166-1, two letters).
    pub country: String,
    /// The network that they join, and the file with its passphrase, as written.
    pub join: Option<(String, String)>,
}
