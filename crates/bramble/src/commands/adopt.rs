//! `bramble adopt`.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, anyhow, bail};
use bramble_fetch::replace_file;
use bramble_shell::{Commands, Script};
use bramble_spec::{Arch, Catalogue, MacAddr, Node, NodeName, Role, add_node};
use bramble_state::Facts;
use serde_json::json;

use crate::confirmed::Yes;
use crate::drive::visit;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

/// Put a board that is found on the network into the cluster file: `bramble discover` lists them
#[derive(clap::Args)]
pub(crate) struct Adopt {
    /// Where the board is now
    #[arg(value_name = "ADDRESS")]
    at: Ipv4Addr,
    /// Its name; the next one of the nodes' names if not given
    #[arg(long)]
    name: Option<NodeName>,
    /// What it does in the cluster
    #[arg(long, default_value = "worker", value_parser = ["worker", "control-plane"])]
    role: String,
    /// The address that it is to have; the one that it has now if not given
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    #[command(flatten)]
    yes: Yes,
}

/// What a board tells beside its facts.
const SERIAL: &str = "[ ! -r /proc/device-tree/serial-number ] || tr -d '\\0' </proc/device-tree/serial-number";

impl Adopt {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let nodes = &project.cluster.nodes;
        let address = self.address.unwrap_or(self.at);
        for node in nodes {
            if node.address == self.at || node.address == address {
                bail!("{} is the address of {}, which the cluster file has already", node.address, node.name);
            }
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => next_name(nodes).ok_or_else(|| anyhow!("the nodes' names have no numbers: say --name"))?,
        };
        if nodes.iter().any(|node| node.name == name) {
            bail!("there is a node {name} already: say another --name");
        }
        // It is asked as a node would be, by the same user and keys.
        let like = nodes.iter().find(|node| node.role == Role::Worker).or(nodes.first());
        let like = like.ok_or_else(|| anyhow!("the cluster file has no nodes"))?;
        let board = Node { name: name.clone(), address: self.at, mac: None, ..like.clone() };
        let network = cluster_file::network(&project)?;
        let look = async |session: bramble_engine::Session<_>| {
            let seen = session.observe(&[]).await?;
            let serial =
                session.ask(&Script::new("ask for its serial", Commands::new().fixed(SERIAL)), |_, _| {}).await?;
            anyhow::Ok((seen, serial.trim().to_owned()))
        };
        let mut found = visit(&network, std::slice::from_ref(&board), printer, look).await?.complete()?;
        let (seen, serial) = found.pop().ok_or_else(|| anyhow!("{} was not looked at", self.at))?;
        if let Some(owner) = bramble_kube::owner(&seen) {
            bail!(
                "the board at {} is of the cluster {} already: `bramble down` there lets it go",
                self.at,
                owner.cluster
            );
        }
        let facts = &seen.facts;
        let mac = own_mac(facts, self.at);
        if let Some(node) = nodes.iter().find(|node| node.mac.is_some() && node.mac == mac) {
            bail!("the board at {} has the MAC of {}: it is that node at another address", self.at, node.name);
        }
        let arch = if facts.arch == "amd64" { Arch::Amd64 } else { Arch::Arm64 };
        let part = Catalogue::built_in().board_of(&facts.model, facts.memory, arch);
        let part = part.ok_or_else(|| anyhow!("the catalogue has no board for {}", facts.arch))?;
        let mac_text = mac.as_ref().map(|mac| format!(", mac: \"{mac}\"")).unwrap_or_default();
        let entry =
            format!("{{ name: {name}, role: {}, board: {}, address: {address}{mac_text} }}", self.role, part.id);
        let text =
            fs::read_to_string(&common.file).with_context(|| format!("cannot read {}", common.file.display()))?;
        let cluster = project.cluster.name.as_str();
        let new = add_node(&text, cluster, &entry).ok_or_else(|| {
            anyhow!("{} has no plain list of nodes: add it yourself, as\n  - {entry}", common.file.display())
        })?;
        let loaded = bramble_spec::load(&common.file, &new);
        if loaded.report.has_errors()
            || !loaded.clusters.iter().any(|own| own.nodes.iter().any(|node| node.name == name))
        {
            bail!(
                "the cluster file would not be valid with\n  - {entry}\n{}",
                loaded.report.render(printer.colour).trim_end()
            );
        }
        let model = if facts.model.is_empty() { "a machine that tells no model" } else { &facts.model };
        let with = if serial.is_empty() { String::new() } else { format!(", serial {serial}") };
        printer.info(format!(
            "{}: {model}, {:.1} GiB{with}, {} {}\n  - {entry}",
            self.at,
            facts.memory as f64 / f64::from(1 << 20),
            facts.os,
            facts.os_version
        ));
        if !self.yes.clone().confirmed().changes {
            let question = format!("Add it to {}?", common.file.display());
            printer.agree(&question, "nothing was changed; pass --yes to add it", "nothing was changed")?;
        }
        replace_file(&common.file, new.as_bytes(), 0o644)?;
        if printer.format == Format::Json {
            printer.json(&json!({
                "node": name, "board": part.id, "address": address, "mac": mac, "model": facts.model,
                "memory": facts.memory, "serial": serial,
            }));
            return Ok(Done::Good);
        }
        printer.result(format!("{} {name} is in {}.", printer.style(Style::Good, "✓"), common.file.display()));
        if address != self.at {
            printer.result(format!(
                "It is at {} still: let your router give {address} to its MAC, or set it there, and boot it.",
                self.at
            ));
        }
        printer.result("Next: `bramble up` makes it a member of the cluster.");
        Ok(Done::Good)
    }
}

/// The next name of a row such as kube1, kube2.
fn next_name(nodes: &[Node]) -> Option<NodeName> {
    let split = |node: &Node| {
        let name = node.name.as_str();
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        Some((stem.to_owned(), name[stem.len()..].to_owned(), name[stem.len()..].parse::<u32>().ok()?))
    };
    let (stem, written, most) = nodes.iter().filter_map(split).max_by_key(|(.., number)| *number)?;
    let width = if written.starts_with('0') { written.len() } else { 0 };
    format!("{stem}{:0width$}", most + 1).parse().ok()
}

/// The MAC of the interface that has this address.
fn own_mac(facts: &Facts, address: Ipv4Addr) -> Option<MacAddr> {
    let is = |(own, _): &&(String, String)| own.split('/').next() == Some(&address.to_string());
    let (_, interface) = facts.addresses.iter().find(is)?;
    facts.macs.get(interface)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<Node> {
        let text = include_str!("../../../../examples/smallest.yaml");
        let loaded = bramble_spec::load(std::path::Path::new("x.yaml"), text);
        let like = loaded.clusters[0].nodes[0].clone();
        names.iter().map(|name| Node { name: name.parse().unwrap(), ..like.clone() }).collect()
    }

    #[test]
    fn names_go_on_as_they_are_counted() {
        for (names, next) in [
            (&["kube1", "kube2"][..], Some("kube3")),
            (&["pi-09", "pi-08"], Some("pi-10")),
            (&["pi-01", "pi-02"], Some("pi-03")),
            (&["gate", "kube7"], Some("kube8")),
            (&["alpha", "beta"], None),
        ] {
            assert_eq!(next_name(&named(names)).map(|name| name.to_string()).as_deref(), next, "{names:?}");
        }
    }
}
