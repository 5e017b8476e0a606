//! `bramble discover`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bramble_kube::{Lease, leases};
use bramble_remote::{ConnectError, Connection, Dialer, HostKeys, Target};
use bramble_spec::{MacAddr, Node};
use ipnet::Ipv4Net;
use mdns_sd::{HostnameResolutionEvent, ServiceDaemon};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::Project;

/// Find the boards on the network, and which node each is (exit code 3 if one is not where the cluster file says)
#[derive(clap::Args)]
pub(crate) struct Discover {
    /// The network that is searched; the nodes' subnet if not given
    #[arg(long, value_name = "NETWORK")]
    subnet: Option<Ipv4Net>,
    /// A file with dnsmasq's leases, such as a router's; those of this machine if not given
    #[arg(long, value_name = "FILE")]
    leases: Option<PathBuf>,
    /// Also machines that are neither a node nor a Raspberry Pi
    #[arg(short, long)]
    all: bool,
}

/// What is known of the machine at an address.
#[derive(Default)]
struct Machine {
    mac: Option<MacAddr>,
    names: BTreeSet<String>,
    /// The key of its sshd, in OpenSSH's form.
    key: Option<String>,
}

impl Machine {
    fn is_raspberry_pi(&self) -> bool {
        self.mac.as_ref().is_some_and(|mac| RASPBERRY_PI.iter().any(|maker| mac.as_str().starts_with(maker)))
    }
}

/// A network larger than this is not asked address by address.
const MOST: u8 = 20;
/// How long a machine may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long a board's sshd may take until it serves: the first boot's cloud-init makes its host keys and starts it anew.
const STARTING: Duration = Duration::from_secs(10);
/// Where dnsmasq keeps its leases (dnsmasq(8); OpenWrt).
const LEASES: [&str; 3] = ["/var/lib/misc/dnsmasq.leases", "/var/lib/dnsmasq/dnsmasq.leases", "/tmp/dhcp.leases"];
/// The first half of the MAC addresses of Raspberry Pi (IEEE, MA-L).
const RASPBERRY_PI: [&str; 7] = ["28:cd:c1", "2c:cf:67", "88:a2:9e", "b8:27:eb", "d8:3a:dd", "dc:a6:32", "e4:5f:01"];

impl Discover {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let subnet = self.subnet.unwrap_or(project.cluster.network.subnet);
        if subnet.prefix_len() < MOST {
            bail!("{subnet} has too many addresses to be searched: name a part of it with --subnet");
        }
        printer.info(format!("searching {subnet}"));
        let names: Vec<String> = project.cluster.nodes.iter().map(|node| node.name.to_string()).collect();
        let called = tokio::task::spawn_blocking(move || called(&names));
        let mut addresses: BTreeSet<Ipv4Addr> = subnet.hosts().collect();
        addresses.extend(project.cluster.nodes.iter().map(|node| node.address));
        let mut machines = answering(addresses, project.cluster.access.port).await;
        for (address, name) in called.await?? {
            machines.entry(address).or_default().names.insert(name);
        }
        for Lease { address, mac, name } in leased(self.leases.as_deref())? {
            // A lease outlives its board.
            if let Some(machine) = machines.get_mut(&address) {
                machine.mac.get_or_insert(mac);
                machine.names.extend(name);
            }
        }
        // Whoever was called stands there now, if it is in a network of this machine.
        for (address, mac) in neighbours(&fs::read_to_string("/proc/net/arp").unwrap_or_default()) {
            if let Some(machine) = machines.get_mut(&address) {
                machine.mac = Some(mac);
            }
        }
        let ours = |address: &Ipv4Addr, machine: &Machine| {
            machine.key.is_none()
                && (machine.is_raspberry_pi() || project.cluster.nodes.iter().any(|node| node.address == *address))
        };
        let keyless: Vec<Ipv4Addr> =
            machines.iter().filter(|(address, machine)| ours(address, machine)).map(|(address, _)| *address).collect();
        if !keyless.is_empty() {
            let named: Vec<String> = keyless.iter().map(ToString::to_string).collect();
            printer.info(format!("no SSH server answers yet at {}: asking again for 10 s", named.join(", ")));
            for (address, key) in keys_of(keyless, project.cluster.access.port).await {
                machines.entry(address).or_default().key = Some(key);
            }
        }
        self.show(&project, &machines, printer)
    }

    fn show(
        &self,
        project: &Project,
        machines: &BTreeMap<Ipv4Addr, Machine>,
        printer: &Printer,
    ) -> anyhow::Result<Done> {
        let known = HostKeys::open([project.known_hosts()?])?;
        let port = project.cluster.access.port;
        let by = |node: &Node, machine: &Machine| -> Vec<&'static str> {
            let key = machine.key.as_deref().is_some_and(|key| known.knows(&node.address.to_string(), port, key));
            let mac = node.mac.is_some() && node.mac == machine.mac;
            let name = machine.names.contains(node.name.as_str());
            [(key, "host key"), (mac, "MAC"), (name, "name")]
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, word)| *word)
                .collect()
        };
        let mut rows = Vec::new();
        let mut taken = BTreeSet::new();
        let mut elsewhere = 0;
        for node in &project.cluster.nodes {
            let best = machines.iter().map(|(address, machine)| (address, machine, by(node, machine)));
            // A key is proof; two words are more than one.
            let best = best.filter(|(.., words)| !words.is_empty()).max_by_key(|(address, _, words)| {
                (words.contains(&"host key"), words.len(), **address == node.address)
            });
            let (address, remark, found) = match best {
                Some((address, _, words)) if *address == node.address => (Some(*address), String::new(), words),
                Some((address, _, words)) => (Some(*address), format!("the cluster file says {}", node.address), words),
                None if machines.contains_key(&node.address) => {
                    (Some(node.address), "somebody is there, and nothing says that it is this node".to_owned(), vec![])
                }
                None => (None, "not found".to_owned(), vec![]),
            };
            elsewhere += u32::from(!remark.is_empty());
            taken.extend(address);
            rows.push((Some(node), address, found, remark));
        }
        for (address, machine) in machines {
            let pi = machine.is_raspberry_pi();
            if !taken.contains(address) && (pi || self.all) {
                let remark = if pi { "a Raspberry Pi that is no node" } else { "no node" };
                rows.push((None, Some(*address), vec![], remark.to_owned()));
            }
        }
        let machine = |address: Option<Ipv4Addr>| address.and_then(|address| machines.get(&address));
        if printer.format == Format::Json {
            let list: Vec<_> = rows
                .iter()
                .map(|(node, address, found, remark)| {
                    let machine = machine(*address);
                    json!({
                        "node": node.map(|node| &node.name), "address": address, "by": found,
                        "mac": machine.and_then(|machine| machine.mac.as_ref()),
                        "names": machine.map(|machine| &machine.names),
                        "hostKey": machine.and_then(|machine| machine.key.as_ref()),
                        "remark": if remark.is_empty() { None } else { Some(remark) },
                    })
                })
                .collect();
            printer.json(&json!({ "machines": list }));
        } else {
            let width =
                rows.iter().filter_map(|(node, ..)| node.map(|node| node.name.as_str().len())).max().unwrap_or(0);
            for (node, address, found, remark) in &rows {
                let sign = match (node, remark.is_empty(), address) {
                    (Some(_), true, _) => printer.style(Style::Good, "✓"),
                    (Some(_), false, None) => printer.style(Style::Bad, "✗"),
                    _ => printer.style(Style::Bold, "!"),
                };
                let mac = machine(*address).and_then(|machine| machine.mac.as_ref()).map_or("", MacAddr::as_str);
                let said = match (found.as_slice(), remark.as_str()) {
                    ([], remark) => remark.to_owned(),
                    (words, "") => format!("by {}", words.join(", ")),
                    (words, remark) => format!("by {}; {remark}", words.join(", ")),
                };
                let name = node.map_or("-", |node| node.name.as_str());
                let address = address.map(|address| address.to_string()).unwrap_or_default();
                printer.result(format!("{sign} {name:width$}  {address:15}  {mac:17}  {said}"));
            }
        }
        Ok(if elsewhere == 0 { Done::Good } else { Done::Code(3) })
    }
}

/// Who answers at these addresses, with the key of its sshd. One that refuses is there as well.
async fn answering(addresses: BTreeSet<Ipv4Addr>, port: u16) -> BTreeMap<Ipv4Addr, Machine> {
    let dialer = nobody_trusted();
    let mut calls = JoinSet::new();
    for address in addresses {
        let dialer = dialer.clone();
        calls.spawn(async move {
            match tokio::time::timeout(PATIENCE, TcpStream::connect((address, port))).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    return Some((address, Machine::default()));
                }
                _ => return None,
            }
            Some((address, Machine { key: host_key(address, port, &dialer).await, ..Machine::default() }))
        });
    }
    let found = calls.join_all().await;
    found.into_iter().flatten().collect()
}

/// The host keys of these, which showed none when they were first asked, as far as their sshd starts within [`STARTING`].
async fn keys_of(addresses: Vec<Ipv4Addr>, port: u16) -> Vec<(Ipv4Addr, String)> {
    let dialer = nobody_trusted();
    let mut calls = JoinSet::new();
    for address in addresses {
        let dialer = dialer.clone();
        calls.spawn(async move {
            let asked = async {
                loop {
                    if let Some(key) = host_key(address, port, &dialer).await {
                        return (address, key);
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            };
            tokio::time::timeout(STARTING, asked).await.ok()
        });
    }
    let found = calls.join_all().await;
    found.into_iter().flatten().collect()
}

/// With nobody trusted, each machine shows its key, and nothing more is said.
fn nobody_trusted() -> Arc<Dialer> {
    Arc::new(Dialer::new(HostKeys::default()))
}

async fn host_key(address: Ipv4Addr, port: u16, dialer: &Arc<Dialer>) -> Option<String> {
    match Connection::open(&Target::new(&address.to_string(), port, "nobody"), dialer).await {
        Err(ConnectError::UnknownHostKey(met)) => Some(met.key),
        _ => None,
    }
}

/// The addresses of these names in mDNS (RFC 6762), which Raspberry Pi OS answers to.
fn called(names: &[String]) -> anyhow::Result<Vec<(Ipv4Addr, String)>> {
    let daemon = ServiceDaemon::new().context("cannot ask for names by mDNS")?;
    let mut answers = Vec::new();
    for name in names {
        answers.push((name, daemon.resolve_hostname(&format!("{name}.local."), Some(PATIENCE.as_millis() as u64))?));
    }
    let mut found = Vec::new();
    for (name, events) in answers {
        while let Ok(event) = events.recv() {
            match event {
                HostnameResolutionEvent::AddressesFound(_, addresses) => {
                    for address in addresses {
                        if let IpAddr::V4(address) = address.to_ip_addr() {
                            found.push((address, name.clone()));
                        }
                    }
                }
                HostnameResolutionEvent::SearchTimeout(_) | HostnameResolutionEvent::SearchStopped(_) => break,
                _ => {}
            }
        }
    }
    daemon.shutdown().ok();
    Ok(found)
}

/// What dnsmasq has leased, by its file.
fn leased(file: Option<&Path>) -> anyhow::Result<Vec<Lease>> {
    let text = match file {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => LEASES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default(),
    };
    Ok(leases(&text))
}

/// The kernel's neighbours (proc_net_arp): address, hardware type, flags, MAC. Those that did not answer have no flags.
fn neighbours(text: &str) -> Vec<(Ipv4Addr, MacAddr)> {
    let neighbour = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, flags, mac, ..] = words[..] else { return None };
        if flags == "0x0" {
            return None;
        }
        Some((address.parse().ok()?, mac.parse().ok()?))
    };
    text.lines().skip(1).filter_map(neighbour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_and_neighbours_are_read_and_what_is_none_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("leases");
        fs::write(
            &file,
            "1795312345 DC:A6:32:00:00:01 10.0.0.71 kube1 01:dc:a6\n1795312345 dc:a6:32:00:00:02 10.0.0.72 * *\n\
             duid 00:01:00:01\n1795312345 12345 fd00::5 host *\n",
        )
        .unwrap();
        let found = leased(Some(&file)).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].mac.as_str(), "dc:a6:32:00:00:01");
        assert_eq!((found[0].name.as_deref(), found[1].name.as_deref()), (Some("kube1"), None));
        let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
                   10.0.0.71        0x1         0x2         dc:a6:32:00:00:01     *        br0\n\
                   10.0.0.99        0x1         0x0         00:00:00:00:00:00     *        br0\n";
        let found = neighbours(arp);
        assert_eq!(found.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>(), ["10.0.0.71"]);
    }
}
