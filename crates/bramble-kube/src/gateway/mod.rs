//! The gateway: a node between two networks that gives the others their addresses and names, and lets them out.
//!
//! It is dnsmasq and nftables under units of our own, so that neither depends on what a package's defaults are, and nothing
//! at boot on who is first: the firewall stands before any interface is up, and dnsmasq takes interfaces as they come.

mod leases;

use bramble_shell::Commands;
use bramble_spec::{Cluster, Node, Uplink};
use bramble_state::{Cleanup, File, NetworkManager, Observation, Resource, Step, Unit};

pub use leases::{Lease, leases};

use crate::template::fill;

/// The packages that it takes: of dnsmasq only the program.
pub(crate) const PACKAGES: [&str; 2] = ["dnsmasq-base", "nftables"];
/// The folder in which dnsmasq keeps what it gave away.
pub(crate) const FOLDER: &str = "/var/lib/bramble-gateway";

/// The mark of a look at who is logged in.
const WAY_IN: &str = "gateway-way-in";
const DNSMASQ: &str = "/etc/bramble/gateway/dnsmasq.conf";
const FIREWALL: &str = "/etc/bramble/gateway/firewall.nft";
const ADDRESS: &str = "/etc/bramble/gateway/address";

/// The folder of NetworkManager's connections; systemd-networkd's own files.
const NETWORK_MANAGER: &str = "/etc/NetworkManager/system-connections";
const NETWORKD: &str = "/etc/systemd/network";

/// Gives what a gateway has.
pub(crate) fn resources(cluster: &Cluster, node: &Node, uplink: &Uplink, seen: &Observation) -> Vec<Resource> {
    let mut all = vec![
        Resource::OwnedFolder(FOLDER.to_owned()),
        way_in(cluster, uplink),
        Resource::File(File::new(FIREWALL, firewall(cluster, uplink))),
        unit_file("firewall", include_str!("firewall.service")),
        unit("firewall", &[FIREWALL]),
    ];
    match seen.facts.network {
        NetworkManager::NetworkManager => {
            let path = format!("{NETWORK_MANAGER}/bramble-inside.nmconnection");
            all.push(Resource::File(File { mode: "600".into(), ..File::new(path, keyfile(cluster, node, uplink)) }));
        }
        NetworkManager::Networkd => {
            // Before what netplan makes, which begins with 10.
            let path = format!("{NETWORKD}/05-bramble-inside.network");
            all.push(Resource::File(File::new(path, networkd(cluster, node, uplink))));
        }
        NetworkManager::Other => {}
    }
    all.push(Resource::File(File { mode: "755".into(), ..File::new(ADDRESS, address(cluster, node, uplink)) }));
    all.push(unit_file("address", include_str!("address.service")));
    all.push(unit("address", &[ADDRESS]));
    all.push(Resource::File(File::new(DNSMASQ, dnsmasq(cluster, node, uplink, seen))));
    all.push(unit_file("dnsmasq", include_str!("dnsmasq.service")));
    all.push(unit("dnsmasq", &[DNSMASQ]));
    all
}

/// Gives all that a gateway may have.
pub(crate) fn cleanup() -> Cleanup {
    let names = ["dnsmasq", "address", "firewall"];
    let own = [FIREWALL, ADDRESS, DNSMASQ].map(str::to_owned).into_iter();
    let inside =
        [format!("{NETWORK_MANAGER}/bramble-inside.nmconnection"), format!("{NETWORKD}/05-bramble-inside.network")];
    Cleanup {
        what: "the gateway's parts".to_owned(),
        units: names.map(|name| format!("bramble-gateway-{name}.service")).to_vec(),
        files: own.chain(names.map(unit_path)).chain(inside).collect(),
        folders: vec![FOLDER.to_owned()],
        packages: PACKAGES.map(str::to_owned).to_vec(),
        steps: vec![WAY_IN],
    }
}

fn unit_path(name: &str) -> String {
    format!("/etc/systemd/system/bramble-gateway-{name}.service")
}

fn unit_file(name: &str, text: &str) -> Resource {
    Resource::File(File::new(unit_path(name), text))
}

fn unit(name: &str, reads: &[&str]) -> Resource {
    let reads = reads.iter().map(|path| (*path).to_owned()).chain([unit_path(name)]).collect();
    Resource::Unit(Unit::new(&format!("bramble-gateway-{name}"), reads))
}

/// Lists the gateway's own ports that are open from outside.
fn open_ports(cluster: &Cluster, uplink: &Uplink) -> Vec<u16> {
    let mut ports: Vec<u16> = uplink.open.clone();
    if uplink.reach.is_some() {
        ports.push(cluster.access.port);
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Sees, before the firewall stands, that nobody who is logged in comes by a way that it closes: they could not come
/// again.
fn way_in(cluster: &Cluster, uplink: &Uplink) -> Resource {
    let ports: Vec<String> = open_ports(cluster, uplink).iter().map(u16::to_string).collect();
    let version = [uplink.interface.clone(), uplink.inside.clone(), ports.join(",")].join(" ");
    let mut apply = Commands::new();
    apply.fixed(include_str!("way_in.sh"));
    apply.call(
        "way_in",
        [uplink.interface.as_str(), uplink.inside.as_str()].into_iter().chain(ports.iter().map(String::as_str)),
    );
    let title = "see that the firewall shuts nobody out who is logged in".to_owned();
    Resource::Step(Step { id: WAY_IN, title, version, apply, undo: None })
}

/// Writes the firewall (nft(8)). From outside comes in what is named, and answers; everything else is dropped without a
/// word.
fn firewall(cluster: &Cluster, uplink: &Uplink) -> String {
    let Uplink { interface, inside, reach, publish, .. } = uplink;
    let ports = open_ports(cluster, uplink);
    let mut rules = String::new();
    if !ports.is_empty() {
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        rules.push_str(&format!("        iifname \"{interface}\" tcp dport {{ {} }} accept\n", list.join(", ")));
    }
    if reach.as_ref().is_some_and(|reach| reach.ends_with(".local")) {
        rules.push_str(&format!("        iifname \"{interface}\" udp dport 5353 accept\n"));
    }
    let published: String = publish
        .iter()
        .map(|one| format!("        iifname \"{interface}\" tcp dport {} dnat ip to {}\n", one.port, one.to))
        .collect();
    let subnet = cluster.network.subnet.to_string();
    let values = [("INSIDE", inside.as_str()), ("OUTSIDE", interface), ("SUBNET", &subnet), ("OPEN", &rules)];
    fill(include_str!("firewall.nft"), &[&values[..], &[("PUBLISHED", &published)]].concat())
}

/// Writes dnsmasq's configuration (dnsmasq(8)).
fn dnsmasq(cluster: &Cluster, node: &Node, uplink: &Uplink, seen: &Observation) -> String {
    let network = &cluster.network;
    let (subnet, own) = (network.subnet, node.address);
    let mut text = format!(
        "# Written by bramble.\ninterface={}\nexcept-interface=lo\n# Interfaces are taken as they come, also late.\nbind-dynamic\n\
         no-hosts\ndomain-needed\nbogus-priv\ncache-size=1000\n\
         dhcp-authoritative\ndhcp-leasefile={FOLDER}/leases\n\
         dhcp-option=option:router,{own}\ndhcp-option=option:dns-server,{own}\n",
        uplink.inside
    );
    match network.dhcp {
        Some(range) => {
            text.push_str(&format!("dhcp-range={},{},{},12h\n", range.first, range.last, subnet.netmask()));
        }
        // Only to those that are known.
        None => text.push_str(&format!("dhcp-range={},static,{},12h\n", subnet.network(), subnet.netmask())),
    }
    let upstream: Vec<_> = network.dns.iter().filter(|address| **address != own).collect();
    if !upstream.is_empty() {
        text.push_str("no-resolv\n");
    } else if seen.facts.resolved {
        text.push_str("resolv-file=/run/systemd/resolve/resolv.conf\n");
    }
    for address in upstream {
        text.push_str(&format!("server={address}\n"));
    }
    for node in &cluster.nodes {
        text.push_str(&format!("host-record={},{}\n", node.name, node.address));
        if let Some(mac) = node.mac.as_ref().filter(|_| node.address != own) {
            text.push_str(&format!("dhcp-host={mac},{},{}\n", node.address, node.name));
        }
    }
    text
}

/// Writes a connection of NetworkManager (nm-settings-keyfile(5)).
fn keyfile(cluster: &Cluster, node: &Node, uplink: &Uplink) -> String {
    inside(include_str!("inside.nmconnection"), cluster, node, uplink)
}

/// Writes a network of systemd (systemd.network(5)).
fn networkd(cluster: &Cluster, node: &Node, uplink: &Uplink) -> String {
    inside(include_str!("inside.network"), cluster, node, uplink)
}

/// Writes the script that tells whoever manages the board's interfaces; the address is there in any case.
fn address(cluster: &Cluster, node: &Node, uplink: &Uplink) -> String {
    inside(include_str!("address.sh.in"), cluster, node, uplink)
}

/// Fills in a text about the gateway's address in the rack.
fn inside(text: &str, cluster: &Cluster, node: &Node, uplink: &Uplink) -> String {
    let address = format!("{}/{}", node.address, cluster.network.subnet.prefix_len());
    let folders = [("NETWORK_MANAGER", NETWORK_MANAGER), ("NETWORKD", NETWORKD)];
    fill(text, &[&folders[..], &[("INSIDE", &uplink.inside), ("ADDRESS", &address)]].concat())
}
