//! What is checked on the nodes themselves before anything is changed.

use std::collections::BTreeMap;

use bramble_spec::{Cluster, Node, NodeName};
use bramble_state::Observation;

use crate::lifecycle::lifecycle;
use crate::prepare::Inputs;

/// What stands against this node, each with its next step.
pub fn check(cluster: &Cluster, node: &Node, seen: &Observation, inputs: &Inputs) -> Vec<String> {
    let mut found = Vec::new();
    let facts = &seen.facts;
    let here: Vec<&str> = facts.addresses.iter().map(|(address, _)| address.as_str()).collect();
    // A gateway gets its address in the rack from bramble.
    if node.uplink.is_none() && !here.contains(&node.address.to_string().as_str()) {
        found.push(format!(
            "the machine at {} has the addresses {}: give the board the address of the cluster file, or correct the file",
            node.address,
            here.join(", ")
        ));
    }
    if let Some(mac) = &node.mac
        && !facts.macs.values().any(|known| known.eq_ignore_ascii_case(mac.as_str()))
    {
        let known: Vec<String> =
            facts.macs.iter().filter(|(i, _)| *i != "lo").map(|(i, m)| format!("{i} {m}")).collect();
        found.push(format!(
            "this is another board than {mac}: it has {}; check the cabling, or correct `mac` in the cluster file",
            known.join(", ")
        ));
    }
    if let Some(uplink) = &node.uplink {
        for interface in [&uplink.interface, &uplink.inside] {
            if !facts.macs.contains_key(interface) {
                let known: Vec<&str> = facts.macs.keys().map(String::as_str).filter(|name| *name != "lo").collect();
                found.push(format!(
                    "it has no interface {interface}, only {}: correct `uplink` in the cluster file",
                    known.join(", ")
                ));
            }
        }
        return found;
    }
    if let Some(life) = lifecycle(cluster, inputs) {
        found.extend(life.check(node, seen));
    }
    found
}

/// Seconds by which a clock may differ: certificates are valid from the moment that they are made.
const CLOCK: i64 = 30;

/// What stands against the nodes together.
pub fn check_together<'a>(seen: &[(&'a NodeName, &'a Observation)]) -> Vec<(&'a NodeName, String)> {
    let mut found = Vec::new();
    let mut ids: BTreeMap<&str, &NodeName> = BTreeMap::new();
    for (name, seen) in seen {
        let id = seen.facts.machine_id.as_str();
        if id.len() != 32 {
            found.push((*name, "it has no machine-id: run `systemd-machine-id-setup` there and reboot it".to_owned()));
        } else if let Some(first) = ids.insert(id, name) {
            found.push((
                *name,
                format!("it has the machine-id of {first}, as copied cards do: run `rm /etc/machine-id; systemd-machine-id-setup` there and reboot it"),
            ));
        }
    }
    let mut times: Vec<i64> = seen.iter().map(|(_, seen)| seen.facts.time).collect();
    times.sort_unstable();
    if let Some(median) = times.get(times.len() / 2).copied() {
        for (name, seen) in seen {
            let off = seen.facts.time - median;
            if off.abs() > CLOCK {
                found
                    .push((*name, format!("its clock is {off} s off the others: check its time server (timedatectl)")));
            }
        }
    }
    found
}
