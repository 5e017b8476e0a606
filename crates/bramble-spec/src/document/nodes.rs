//! The section `nodes`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::hardware::FittingSection;
use crate::cluster::Role;
use crate::de::Spanned;
use crate::names::{MacAddr, NodeName};

/// A machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// Its name, which becomes its hostname.
    #[schemars(required)]
    pub(crate) name: Option<Spanned<NodeName>>,
    /// What it does in the cluster.
    #[schemars(required)]
    pub(crate) role: Option<Spanned<Role>>,
    /// Which board it is, by the word of the catalogue (`bramble boards`).
    #[schemars(required)]
    pub(crate) board: Option<Spanned<String>>,
    /// Its IPv4 address.
    #[schemars(required)]
    pub(crate) address: Option<Spanned<String>>,
    /// Its Ethernet address.
    pub(crate) mac: Option<Spanned<MacAddr>>,
    /// Labels of the node in Kubernetes.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, Spanned<String>>,
    /// Taints of the node in Kubernetes, as `key[=value]:Effect`.
    pub(crate) taints: Option<Vec<Spanned<String>>>,
    /// What it has besides its board, where that differs from `hardware.each`.
    #[serde(default)]
    pub(crate) hardware: FittingSection,
    /// The outside of a gateway.
    pub(crate) uplink: Option<Spanned<UplinkSection>>,
}

/// The outside of a gateway: it lets the rack out, and in only what is named here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UplinkSection {
    /// The interface towards the outside, such as wlan0; its address comes from the network there.
    #[schemars(required)]
    pub(crate) interface: Option<Spanned<String>>,
    /// The interface towards the rack; eth0 if not given, and eth1 if that is the outside.
    pub(crate) inside: Option<Spanned<String>>,
    /// The gateway's name or address outside, if bramble works from there: it goes through the gateway to the other nodes.
    pub(crate) reach: Option<Spanned<String>>,
    /// TCP ports of the gateway itself that are open to the outside. That of sshd is, where `reach` is given.
    #[serde(default)]
    pub(crate) open: Vec<Spanned<u16>>,
    /// TCP ports outside that lead into the rack, such as `443: 10.0.0.240:443`.
    #[serde(default)]
    pub(crate) publish: BTreeMap<String, Spanned<String>>,
}
