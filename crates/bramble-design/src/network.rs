//! Ports, and what goes through them.

use bramble_spec::{BitRate, Cluster, Role, Severity};
use serde::Serialize;

use crate::rules::{Findings, Rule};

/// What a switch or router carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// What is plugged into it: nodes, then devices.
    pub attached: Vec<String>,
    /// The ports that it takes, its own way out included.
    pub ports_needed: u32,
    /// The ports that it has, where known.
    pub ports: Option<u32>,
    /// What all of its ports send and receive at once.
    pub capacity_needed: Option<BitRate>,
    /// What it moves, where known.
    pub capacity: Option<BitRate>,
}

/// The link of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// What can go through it: the least of what the board was measured with, its link, and the switch's port.
    pub rate: Option<BitRate>,
    /// What sets the limit.
    pub limit: &'static str,
}

/// What each device carries. A switch for N boards needs N + 1 ports, and 2 (N + 1) times the speed of a port.
pub(crate) fn traffic(cluster: &Cluster, findings: &mut Findings<'_>) -> Vec<Traffic> {
    let hardware = &cluster.hardware;
    let mut attached: Vec<Vec<String>> = hardware.devices.iter().map(|_| Vec::new()).collect();
    for node in &cluster.nodes {
        if let Some(switch) = node.fitting.switch {
            attached[switch].push(node.name.to_string());
        }
    }
    for guest in &hardware.guests {
        if let Some(switch) = guest.fitting.switch {
            attached[switch].push(guest.name.to_string());
        }
    }
    for device in &hardware.devices {
        if let Some(uplink) = device.uplink {
            attached[uplink].push(device.name.to_string());
        }
    }
    let mut all = Vec::new();
    for (device, attached) in hardware.devices.iter().zip(attached) {
        let Some(network) = device.network().filter(|_| !attached.is_empty()) else {
            all.push(Traffic { attached, ..Traffic::default() });
            continue;
        };
        let (name, part) = (device.name.as_str(), device.part.name());
        // Behind a gateway of the rack's own the way out is one of the boards.
        let own =
            cluster.gateway().is_some_and(|(gateway, _)| attached.iter().any(|name| *name == gateway.name.as_str()));
        let needed = attached.len() as u32 + u32::from(!own);
        let capacity_needed = network.speed.map(|speed| BitRate(speed.0 * 2 * u64::from(needed)));
        let capacity = network.switching();
        match network.ports {
            None => findings.unknown(name, "the number of ports", part, "whether they are enough is not checked"),
            Some(ports) if ports < needed => findings.add(
                Severity::Error,
                Rule::SwitchPorts,
                name,
                format!(
                    "{} are plugged into it, {}it needs {needed} ports, and it has {ports}",
                    attached.len(),
                    if own { "" } else { "with its way out " }
                ),
                &[
                    ("plugged in", attached.len().to_string()),
                    ("needed", needed.to_string()),
                    ("ports", ports.to_string()),
                ],
                "take one with more ports, or add a second one",
            ),
            Some(_) => {}
        }
        if let (Some(needed), Some(capacity)) = (capacity_needed, capacity)
            && capacity < needed
        {
            findings.add(
                Severity::Warning,
                Rule::SwitchCapacity,
                name,
                format!("it moves {capacity}, and its ports can send and receive {needed}"),
                &[("needed", needed.to_string()), ("capacity", capacity.to_string())],
                "take one that is not blocking: twice the speed of a port for each port",
            );
        }
        all.push(Traffic { attached, ports_needed: needed, ports: network.ports, capacity_needed, capacity });
    }
    all
}

/// How fast each node is on the network, and who holds the others up.
pub(crate) fn ports(cluster: &Cluster, findings: &mut Findings<'_>) -> Vec<Port> {
    let hardware = &cluster.hardware;
    let ports: Vec<Port> = cluster
        .nodes
        .iter()
        .map(|node| {
            if let Some(rate) = node.board.figure(|family| family.wifi).filter(|_| cluster.in_wifi(node)) {
                return Port { rate: Some(rate), limit: "its Wi-Fi, at best" };
            }
            let link = node.board.figure(|family| family.ethernet);
            let measured = node.board.figure(|family| family.throughput);
            let switch =
                node.fitting.switch.and_then(|at| hardware.devices[at].network()).and_then(|device| device.speed);
            let named =
                [("its switch's port", switch), ("its link", link), ("what its board was measured with", measured)];
            let least = named.iter().filter_map(|(name, rate)| Some(((*rate)?, *name))).min_by_key(|(rate, _)| *rate);
            Port { rate: least.map(|(rate, _)| rate), limit: least.map_or("", |(_, name)| name) }
        })
        .collect();
    for node in &cluster.nodes {
        if node.board.family.is_some()
            && node.board.figure(|family| family.ethernet).is_none()
            && !cluster.in_wifi(node)
        {
            findings.add(
                Severity::Warning,
                Rule::Link,
                node.name.as_str(),
                format!("a {} has no Ethernet", node.board.name),
                &[],
                "let it join a Wi-Fi (`network.wifi`), or give it a USB adapter",
            );
        }
    }
    air(cluster, &ports, findings);
    let fastest = ports.iter().filter_map(|port| port.rate).max();
    for (node, port) in cluster.nodes.iter().zip(&ports) {
        if let (Some(rate), Some(fastest)) = (port.rate, fastest)
            && rate.0.saturating_mul(2) < fastest.0
        {
            let severity = if node.role == Role::ControlPlane { Severity::Warning } else { Severity::Note };
            findings.add(
                severity,
                Rule::Link,
                node.name.as_str(),
                format!("it has {rate} on the network, others have {fastest}"),
                &[("here", format!("{rate} ({})", port.limit)), ("fastest", fastest.to_string())],
                "keep storage and ingress on the faster nodes",
            );
        }
    }
    // All of them may be slower than they could be.
    for device in &hardware.devices {
        let Some(speed) = device.network().and_then(|network| network.speed) else { continue };
        let held: Vec<BitRate> = cluster
            .nodes
            .iter()
            .filter(|node| node.fitting.switch.is_some_and(|at| hardware.devices[at].name == device.name))
            .filter_map(|node| node.board.figure(|family| family.throughput.or(family.ethernet)))
            .filter(|rate| *rate > speed)
            .collect();
        if let Some(most) = held.iter().max() {
            findings.add(
                Severity::Note,
                Rule::Link,
                device.name.as_str(),
                format!("its ports have {speed}, and {} of its boards could do {most}", held.len()),
                &[("port", speed.to_string()), ("board", most.to_string())],
                "a faster switch would not be wasted",
            );
        }
    }
    ports
}

/// What a Wi-Fi costs: its nodes send one after the other, and an access point sends all of it once more.
fn air(cluster: &Cluster, ports: &[Port], findings: &mut Findings<'_>) {
    let within: Vec<_> = cluster.nodes.iter().zip(ports).filter(|(node, _)| cluster.in_wifi(node)).collect();
    let count = within.len() as u64;
    if count < 2 {
        return;
    }
    let mut figures = vec![("nodes in it", count.to_string())];
    if let Some(rate) = within.iter().filter_map(|(_, port)| port.rate).max() {
        figures.push(("its channel, at best", rate.to_string()));
        figures.push((
            "left for each when all send to each other",
            BitRate(rate.0 / (2 * count) / 1_000_000 * 1_000_000).to_string(),
        ));
    }
    findings.add(
        Severity::Warning,
        Rule::Wifi,
        "network.wifi",
        "its nodes share one channel, and what goes from one to another goes through it twice",
        &figures,
        "put control planes and whatever stores data on Ethernet",
    );
    let planes = within.iter().filter(|(node, _)| node.role == Role::ControlPlane).count();
    if planes > 1 {
        findings.add(
            Severity::Warning,
            Rule::Wifi,
            "network.wifi",
            format!("{planes} control planes are in it: etcd waits for its members at each write, and elects another leader when one is not heard for a second"),
            // etcd.io/docs, "Tuning".
            &[("heartbeat", "100 ms".to_owned()), ("election timeout", "1000 ms".to_owned())],
            "one control plane, or all of them on Ethernet",
        );
    }
}
