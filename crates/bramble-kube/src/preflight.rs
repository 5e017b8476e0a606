//! What is checked on the nodes themselves before anything is changed.

use std::collections::BTreeMap;

use bramble_spec::{Cluster, Node, NodeName, Problem};
use bramble_state::{Observation, Root};

use crate::distribution::lifecycle;
use crate::inputs::Inputs;

/// Says what stands against this node, each with its next step.
pub fn check(cluster: &Cluster, node: &Node, seen: &Observation, inputs: &Inputs) -> Vec<Problem> {
    let mut found = Vec::new();
    let error = |message: String| Problem::error(message, &node.name);
    let facts = &seen.facts;
    match facts.root {
        Root::Lasting => {}
        // Of a container's root the machine below knows more.
        _ if facts.container => {}
        Root::Overlay => found.push(
            error("its root is an overlay in memory: whatever is changed there is gone at the next boot".into())
                .next("switch it off (`sudo raspi-config nonint do_overlayfs 1`) and reboot it"),
        ),
        Root::ReadOnly => found.push(
            error("its root is mounted read-only: its disk may be failing".into())
                .next("look at `dmesg` there, or take `ro` out of its /etc/fstab and cmdline.txt"),
        ),
    }
    let here: Vec<&str> = facts.addresses.iter().map(|(address, _)| address.as_str()).collect();
    // A gateway gets its address in the rack from bramble.
    if node.uplink.is_none() && !here.contains(&node.address.to_string().as_str()) {
        found.push(
            error(format!("the machine at {} has the addresses {}", node.address, here.join(", ")))
                .next("give the board the address of the cluster file, or correct the file"),
        );
    }
    if let Some(mac) = &node.mac
        && !facts.macs.values().any(|known| known.eq_ignore_ascii_case(mac.as_str()))
    {
        let known: Vec<String> =
            facts.macs.iter().filter(|(i, _)| *i != "lo").map(|(i, m)| format!("{i} {m}")).collect();
        found.push(
            error(format!("this is another board than {mac}: it has {}", known.join(", ")))
                .next("check the cabling, or correct `mac` in the cluster file"),
        );
    }
    if let Some(uplink) = &node.uplink {
        for interface in [&uplink.interface, &uplink.inside] {
            if !facts.macs.contains_key(interface) {
                let known: Vec<&str> = facts.macs.keys().map(String::as_str).filter(|name| *name != "lo").collect();
                found.push(
                    error(format!("it has no interface {interface}, only {}", known.join(", ")))
                        .next("correct `uplink` in the cluster file"),
                );
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

/// Says what stands against the nodes together.
pub fn check_together(seen: &[(&NodeName, &Observation)]) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut ids: BTreeMap<&str, &NodeName> = BTreeMap::new();
    for (name, seen) in seen {
        let id = seen.facts.machine_id.as_str();
        if id.len() != 32 {
            found.push(
                Problem::error("it has no machine-id", *name)
                    .next("run `systemd-machine-id-setup` there and reboot it"),
            );
        } else if let Some(first) = ids.insert(id, name) {
            found.push(
                Problem::error(format!("it has the machine-id of {first}, as copied cards do"), *name)
                    .next("run `rm /etc/machine-id; systemd-machine-id-setup` there and reboot it"),
            );
        }
    }
    let mut keys: BTreeMap<&str, &NodeName> = BTreeMap::new();
    for (name, seen) in seen.iter().filter(|(_, seen)| !seen.facts.host_key.is_empty()) {
        if let Some(first) = keys.insert(seen.facts.host_key.as_str(), name) {
            let message =
                format!("it has the SSH host key of {first}, as copied cards do: each can pass for the other");
            let next = format!(
                "run `rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh` there, then `bramble up --replaced {name}`"
            );
            found.push(Problem::error(message, *name).next(next));
        }
    }
    found.extend(clocks(seen));
    found
}

/// Finds clocks that are wrong. Each is compared with this machine's at the moment of the node's answer: nodes answer at
/// different times, and boards without a battery may all be wrong by the same.
fn clocks(seen: &[(&NodeName, &Observation)]) -> Vec<Problem> {
    let known: Vec<(&NodeName, i64)> =
        seen.iter().filter_map(|(name, seen)| Some((*name, seen.facts.ahead?))).collect();
    let wrong: Vec<(&NodeName, i64)> = known.iter().copied().filter(|(_, ahead)| ahead.abs() > CLOCK).collect();
    let spread = || {
        let ahead = wrong.iter().map(|(_, ahead)| *ahead);
        ahead.clone().max().unwrap_or_default() - ahead.min().unwrap_or_default()
    };
    let together = known.len() > 1 && wrong.len() == known.len() && spread() <= CLOCK;
    let (others, next) = if together {
        (", as are all others", "check the clock of this machine first")
    } else {
        ("", "check its time server (timedatectl)")
    };
    let problem = |(name, ahead): (&NodeName, i64)| {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        Problem::error(format!("its clock is {} s {way} this machine's{others}", ahead.abs()), name).next(next)
    };
    wrong.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_cards_are_told_by_their_host_keys() {
        let node = |index: usize, key: &str| {
            let mut seen = Observation::default();
            seen.facts.machine_id = format!("{index:032}");
            (seen.facts.ahead, seen.facts.host_key) = (Some(0), key.to_owned());
            (format!("n{index}").parse::<NodeName>().unwrap(), seen)
        };
        let nodes =
            [node(1, "ssh-ed25519 A"), node(2, "ssh-ed25519 B"), node(3, "ssh-ed25519 A"), node(4, ""), node(5, "")];
        let seen: Vec<_> = nodes.iter().map(|(name, seen)| (name, seen)).collect();
        let found = check_together(&seen);
        assert!(found.len() == 1 && found[0].message.contains("the SSH host key of n1"), "{found:?}");
    }

    /// Checks nodes whose clocks are ahead by this, if that is known.
    fn found(ahead: &[Option<i64>]) -> Vec<String> {
        let node = |(index, ahead): (usize, &Option<i64>)| {
            let mut seen = Observation::default();
            seen.facts.machine_id = format!("{index:032}");
            seen.facts.ahead = *ahead;
            // A node met late answers late; its clock says so, and is right.
            seen.facts.time = 1_800_000_000 + 600 * index as i64;
            (format!("kube{index}").parse::<NodeName>().unwrap(), seen)
        };
        let nodes: Vec<(NodeName, Observation)> = ahead.iter().enumerate().map(node).collect();
        let nodes: Vec<(&NodeName, &Observation)> = nodes.iter().map(|(name, seen)| (name, seen)).collect();
        check_together(&nodes).iter().map(|problem| format!("{}: {problem}", problem.place)).collect()
    }

    #[test]
    fn one_clock_that_is_wrong_is_named() {
        let next = "check its time server (timedatectl)";
        assert_eq!(
            found(&[Some(0), Some(31), Some(2)]),
            [format!("kube1: its clock is 31 s ahead of this machine's: {next}")]
        );
        assert_eq!(found(&[Some(-3600)]), [format!("kube0: its clock is 3600 s behind this machine's: {next}")]);
    }

    #[test]
    fn boards_that_are_wrong_together_do_not_pass() {
        let next = "as are all others: check the clock of this machine first";
        assert_eq!(
            found(&[Some(-86_400), Some(-86_390)]),
            [
                format!("kube0: its clock is 86400 s behind this machine's, {next}"),
                format!("kube1: its clock is 86390 s behind this machine's, {next}")
            ]
        );
        let apart = found(&[Some(-86_400), Some(-3600)]);
        assert!(apart.len() == 2 && apart.iter().all(|message| message.ends_with("(timedatectl)")), "{apart:?}");
    }

    #[test]
    fn a_node_that_was_met_late_is_not_called_off() {
        assert_eq!(found(&[Some(0), Some(1), Some(-2)]), [""; 0]);
        assert_eq!(found(&[None, None]), [""; 0]);
    }
}
