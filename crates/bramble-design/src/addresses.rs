//! The subnet: who has which addresses, and how many are left.

use std::net::Ipv4Addr;

use bramble_spec::{AddressRange, Cluster, Severity};
use serde::Serialize;

use crate::rules::{Findings, Rule};

/// Addresses that are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// By whom: `nodes`, `gateway`, `API`, `DHCP`, `services`.
    pub by: &'static str,
    /// Which.
    pub range: AddressRange,
}

/// The addresses of the subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressPlan {
    /// What is taken, in the order of the addresses; neighbouring nodes are put together.
    pub claims: Vec<Claim>,
    /// How many hosts fit.
    pub hosts: u64,
    /// How many are left.
    pub free: u64,
}

pub(crate) fn plan(cluster: &Cluster, findings: &mut Findings<'_>) -> AddressPlan {
    let network = &cluster.network;
    let one = |by, address: Ipv4Addr| Claim { by, range: AddressRange { first: address, last: address } };
    let mut addresses: Vec<Ipv4Addr> = cluster.nodes.iter().map(|node| node.address).collect();
    addresses.sort_unstable();
    let mut claims: Vec<Claim> = Vec::new();
    for address in &addresses {
        match claims.last_mut() {
            Some(last) if u32::from(last.range.last).checked_add(1) == Some(u32::from(*address)) => {
                last.range.last = *address
            }
            _ => claims.push(one("nodes", *address)),
        }
    }
    let gateway = network.gateway.filter(|address| addresses.binary_search(address).is_err());
    claims.extend(gateway.map(|address| one("gateway", address)));
    if addresses.binary_search(&network.api).is_err() {
        claims.push(one("API", network.api));
    }
    claims.extend(network.dhcp.map(|range| Claim { by: "DHCP", range }));
    claims.extend(network.pool.map(|range| Claim { by: "services", range }));
    claims.sort_by_key(|claim| (claim.range.first, claim.range.last));
    let hosts = match network.subnet.prefix_len() {
        32 => 1,
        31 => 2,
        length => (1u64 << (32 - length)) - 2,
    };
    let mut taken = 0;
    let mut behind: u64 = 0;
    for claim in &claims {
        let (first, last) = (u64::from(u32::from(claim.range.first)), u64::from(u32::from(claim.range.last)) + 1);
        taken += last.saturating_sub(first.max(behind));
        behind = behind.max(last);
    }
    let free = hosts.saturating_sub(taken);
    let room = (cluster.nodes.len() as u64 / 4).max(2);
    if free < room {
        findings.add(
            Severity::Warning,
            Rule::Addresses,
            "network.subnet",
            format!("{free} addresses of {} are left", network.subnet),
            &[("hosts", hosts.to_string()), ("taken", taken.to_string())],
            "take a larger subnet while that is easy: addresses of nodes cannot be changed later",
        );
    }
    if let Some(dhcp) = network.dhcp {
        for node in cluster.nodes.iter().filter(|node| dhcp.contains(node.address)) {
            // A board that is told its address by its image does not ask.
            let (severity, message, fix) = match (network.gateway.is_some() && cluster.image.is_some(), &node.mac) {
                (true, _) => (
                    Severity::Error,
                    "its fixed address is one that the router gives away",
                    "choose one outside of `network.dhcp`",
                ),
                (false, Some(_)) => continue,
                (false, None) => (
                    Severity::Warning,
                    "its address is one that the router gives away",
                    "reserve it there for the board's MAC address, and note that: `mac: …`",
                ),
            };
            findings.add(severity, Rule::Addresses, node.name.as_str(), message, &[("DHCP", dhcp.to_string())], fix);
        }
    }
    AddressPlan { claims, hosts, free }
}
