//! Nodes as they are named on a command line.

use std::collections::BTreeSet;

use crate::cluster::Node;
use crate::name_ranges::name_ranges;

/// Finds the nodes that are meant, in the order in which they are named. Each word is a name, names as [`name_ranges`] writes them
/// (`kube[1-4,6]`), `role=ROLE`, or `LABEL=VALUE`. No word at all means all nodes.
///
/// # Errors
/// A word means no node; what there is is listed.
pub fn select<'a>(nodes: &'a [Node], words: &[String]) -> Result<Vec<&'a Node>, String> {
    if words.is_empty() {
        return Ok(nodes.iter().collect());
    }
    let mut chosen: Vec<&Node> = Vec::new();
    for word in whole(words) {
        if let Some((key, value)) = word.split_once('=') {
            let fits = |node: &&Node| match key {
                "role" => node.role.to_string() == value,
                _ => node.labels.get(key).is_some_and(|given| given == value),
            };
            let found: Vec<&Node> = nodes.iter().filter(fits).collect();
            if found.is_empty() {
                let roles: BTreeSet<String> = nodes.iter().map(|node| node.role.to_string()).collect();
                let roles = roles.into_iter().collect::<Vec<_>>().join(", ");
                let help = if key == "role" { format!("; there are {roles}") } else { String::new() };
                return Err(format!("no node has {word}{help}"));
            }
            chosen.extend(found);
            continue;
        }
        for name in expanded(&word)? {
            let Some(node) = nodes.iter().find(|node| node.name.as_str() == name) else {
                let known = name_ranges(nodes.iter().map(|node| node.name.as_str()));
                return Err(format!("there is no node `{name}`; the nodes are {known}"));
            };
            chosen.push(node);
        }
    }
    let mut seen = BTreeSet::new();
    if chosen.is_empty() {
        // An empty variable of a script does not mean all of them.
        return Err("an empty word names no node".to_owned());
    }
    chosen.retain(|node| seen.insert(&node.name));
    Ok(chosen)
}

/// Puts ranges together again that were taken apart at their commas.
fn whole(words: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
        match all.last_mut() {
            Some(open) if open.contains('[') && !open.contains(']') => *open = format!("{open},{word}"),
            _ => all.push(word.to_owned()),
        }
    }
    all
}

/// The names that a range stands for.
fn expanded(word: &str) -> Result<Vec<String>, String> {
    let Some((stem, ranges)) = word.split_once('[') else { return Ok(vec![word.to_owned()]) };
    let wrong = || format!("`{word}` is not a range of nodes: write it like kube[1-4,6]");
    let ranges = ranges.strip_suffix(']').ok_or_else(wrong)?;
    let mut names = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().map_err(|_| wrong())?, last.parse::<u32>().map_err(|_| wrong())?);
        // No cluster has more nodes than that.
        if first > last || last - first > 10_000 {
            return Err(wrong());
        }
        names.extend((first..=last).map(|number| format!("{stem}{number}")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    #[test]
    fn nodes_are_named_one_by_one_by_range_by_role_and_by_label() {
        let lines: String = (1..=6)
            .map(|n| {
                let role = if n == 1 { "control-plane" } else { "worker" };
                let labels = if n % 2 == 0 { ", labels: { disk: ssd }" } else { "" };
                format!("  - {{ name: kube{n}, role: {role}, board: rpi-4b-4gb, address: 10.0.0.5{n}{labels} }}\n")
            })
            .collect();
        let text = format!(
            "cluster: home\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ k3s: {{ version: stable }} }}\nnodes:\n{lines}"
        );
        let cluster = crate::load(Path::new("bramble.yaml"), &text).clusters.remove(0);
        let chosen = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let chosen = select(&cluster.nodes, &words);
            chosen.map(|nodes| nodes.iter().map(|node| node.name.as_str()[4..].to_owned()).collect::<String>())
        };
        for (words, expected) in [
            (&[][..], "123456"),
            (&["kube3", "kube1", "kube3"], "31"),
            (&["kube3,kube1"], "31"),
            (&["kube[2-3,6]"], "236"),
            // As clap hands on a list that is split at commas.
            (&["kube[2-3", "6]", "kube1"], "2361"),
            (&["role=worker"], "23456"),
            (&["role=control-plane", "disk=ssd"], "1246"),
        ] {
            assert_eq!(chosen(words).unwrap(), expected, "{words:?}");
        }
        for (words, said) in [
            (&["kube9"][..], "there is no node `kube9`; the nodes are kube[1-6]"),
            (&["kube[1-9]"], "there is no node `kube7`; the nodes are kube[1-6]"),
            (&["kube[3-1]"], "`kube[3-1]` is not a range of nodes: write it like kube[1-4,6]"),
            (&["kube[1-"], "`kube[1-` is not a range of nodes: write it like kube[1-4,6]"),
            (&["kube[0-4294967295]"], "`kube[0-4294967295]` is not a range of nodes: write it like kube[1-4,6]"),
            (&["role=boss"], "no node has role=boss; there are control-plane, worker"),
            (&["disk=tape"], "no node has disk=tape"),
            (&[""], "an empty word names no node"),
            (&[","], "an empty word names no node"),
        ] {
            assert_eq!(chosen(words).unwrap_err(), said);
        }
    }
}
