//! The network of a rack: a bridge with NAT, DNS and DHCP on the host, a network namespace for each node.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bramble_spec::hex;
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::cgroup::Group;
use crate::host::{Error, PathContext, run};
use crate::rack::{Rack, RackNode};

/// Names of kernel objects hold at most 15 characters: a digest of the rack's name keeps them apart.
fn tag(rack: &str) -> String {
    hex(&Sha256::digest(rack.as_bytes())[..3])
}

pub(crate) fn bridge(rack: &str) -> String {
    format!("bl{}", tag(rack))
}

fn table(rack: &str) -> String {
    format!("bramble_lab_{}", tag(rack))
}

pub(crate) fn namespace(rack: &str, node: &str) -> String {
    format!("bramble-{rack}-{node}")
}

pub(crate) fn port(rack: &str, index: usize) -> String {
    format!("bl{}p{index}", tag(rack))
}

/// The first address of a network: way out and name server. It is the bridge's, or in a rack with a gateway that node's.
pub(crate) fn first(subnet: Ipv4Net) -> Ipv4Addr {
    subnet.hosts().next().unwrap_or(subnet.network())
}

/// The network that this machine is in, too.
fn near(rack: &Rack) -> Ipv4Net {
    rack.outside.unwrap_or(rack.subnet)
}

/// The bridge behind a rack's gateway, which this machine has no part in.
fn inner(rack: &str) -> String {
    format!("{}i", bridge(rack))
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

/// Makes the bridge, NAT and DNS; what is already there is kept.
pub(crate) fn up(rack: &Rack) -> Result<(), Error> {
    let bridge = bridge(&rack.name);
    if !exists(&bridge) {
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
    }
    if rack.outside.is_some() {
        let inner = inner(&rack.name);
        if !exists(&inner) {
            run("ip", &["link", "add", &inner, "type", "bridge"])?;
        }
        run("ip", &["link", "set", &inner, "up"])?;
    }
    let near = near(rack);
    let address = format!("{}/{}", first(near), near.prefix_len());
    run("ip", &["addr", "replace", &address, "dev", &bridge])?;
    run("ip", &["link", "set", &bridge, "up"])?;
    let table = table(&rack.name);
    // With br_netfilter, rules also meet what only crosses a bridge.
    let rules = format!(
        "table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{\n\
         chain nat {{ type nat hook postrouting priority srcnat; oifname != \"{bridge}*\" ip saddr {net} ip daddr != {net} masquerade; }}\n\
         chain forward {{ type filter hook forward priority filter; iifname \"{bridge}\" accept; oifname \"{bridge}\" accept; }}\n}}\n",
        net = near
    );
    let file = rack.dir.join("nat.nft");
    crate::host::write(&file, rules, 0o600)?;
    run("nft", &["-f", &file.to_string_lossy()])?;
    pass_others(&bridge)?;
    dns(rack, &bridge)
}

/// The line of `ip route` that leads into a part of this network; the default route leads everywhere.
pub(crate) fn route_into(routes: &str, net: &Ipv4Net) -> Option<String> {
    let into = |line: &&str| {
        let word = line
            .split_whitespace()
            .find(|word| !matches!(*word, "blackhole" | "unreachable" | "prohibit"))
            .unwrap_or("");
        let route = word.parse::<Ipv4Net>().or_else(|_| word.parse::<Ipv4Addr>().map(Ipv4Net::from));
        route.is_ok_and(|route| route.prefix_len() > 0 && (route.contains(net) || net.contains(&route)))
    };
    routes.lines().find(into).map(|line| line.trim().to_owned())
}

/// Lets the rack through where another's rules drop what nobody allowed, as Docker's do (docs.docker.com, "Packet filtering
/// and firewalls"): accepting in a table of our own does not overrule them.
fn pass_others(bridge: &str) -> Result<(), Error> {
    forget_others(bridge)?;
    for [family, table, chain] in dropping(&run("nft", &["-j", "list", "chains"])?) {
        for way in ["iifname", "oifname"] {
            run("nft", &["insert", "rule", &family, &table, &chain, way, bridge, "accept"])?;
        }
    }
    Ok(())
}

/// Takes back what [`pass_others`] did.
fn forget_others(bridge: &str) -> Result<(), Error> {
    for [family, table, chain] in dropping(&run("nft", &["-j", "list", "chains"])?) {
        let rules = run("nft", &["-a", "list", "chain", &family, &table, &chain])?;
        let name = format!("ifname \"{bridge}\"");
        for handle in
            rules.lines().filter(|line| line.contains(&name)).filter_map(|line| line.split("# handle ").nth(1))
        {
            run("nft", &["delete", "rule", &family, &table, &chain, "handle", handle.trim()])?;
        }
    }
    Ok(())
}

/// The chains for what passes through this machine that drop what no rule of theirs accepts, out of `nft -j list chains`:
/// family, table, name.
fn dropping(listed: &str) -> Vec<[String; 3]> {
    let listed: serde_json::Value = serde_json::from_str(listed).unwrap_or_default();
    let chains = listed["nftables"].as_array().into_iter().flatten().map(|entry| &entry["chain"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    chains
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .filter(|chain| chain["family"] == "ip" || chain["family"] == "inet")
        .map(|chain| [text(&chain["family"]), text(&chain["table"]), text(&chain["name"])])
        .collect()
}

fn dns(rack: &Rack, bridge: &str) -> Result<(), Error> {
    let pid_file = rack.dir.join("dnsmasq.pid");
    let running = fs::read_to_string(&pid_file).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
    let group = Group::dns(&rack.name);
    if let Some(pid) = running
        && group.processes()?.contains(&pid)
    {
        return Ok(());
    }
    let entries = group.create()?;
    let mut args = vec![
        "--conf-file=/dev/null".to_owned(),
        "--keep-in-foreground".to_owned(),
        "--user=root".to_owned(),
        "--no-hosts".to_owned(),
        "--bind-interfaces".to_owned(),
        "--except-interface=lo".to_owned(),
        format!("--interface={bridge}"),
        format!("--pid-file={}", pid_file.display()),
    ];
    for node in &rack.nodes {
        args.push(format!("--host-record={},{}", node.name, node.address));
    }
    if rack.outside.is_none() {
        // The shelf's router, which knows its boards.
        args.extend(["--dhcp-authoritative".to_owned(), "--no-ping".to_owned()]);
        args.push(format!("--dhcp-range={},static,1h", rack.subnet.network()));
        args.push(format!("--dhcp-leasefile={}", rack.dir.join("leases").display()));
        args.extend(rack.nodes.iter().map(|node| format!("--dhcp-host={},{}", node.mac, node.address)));
    }
    let log = rack.dir.join("dnsmasq.log");
    let log_file = fs::File::create(&log).at("create", &log)?;
    let errors = log_file.try_clone().at("create", &log)?;
    let mut command = enter_detached(&entries, "dnsmasq");
    command.args(args).stdin(Stdio::null()).stdout(log_file).stderr(errors);
    let status = command.status().at("start", Path::new("dnsmasq"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Failed { command: "setsid dnsmasq".into(), output: status.to_string() })
    }
}

const ENTER: &str =
    r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 1; shift; n=$((n - 1)); done; exec "$@""#;

/// Makes a command that first moves itself into a cgroup.
pub(crate) fn enter(entries: &[PathBuf], program: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(ENTER).arg("enter").arg(entries.len().to_string()).args(entries).arg(program);
    command
}

/// Makes the same of a command that outlives this process and its terminal.
pub(crate) fn enter_detached(entries: &[PathBuf], program: &str) -> Command {
    let inner = enter(entries, program);
    let mut command = Command::new("setsid");
    command.arg("--fork").arg(inner.get_program()).args(inner.get_args());
    command
}

/// Plugs the node in: a fresh namespace with `eth0`, as after power-on. A kernel's network state does not survive a
/// power cut, so an old namespace is thrown away.
pub(crate) fn plug(rack: &Rack, index: usize, node: &RackNode) -> Result<(), Error> {
    unplug(&rack.name, index, &node.name)?;
    let (ns, port, bridge) = (namespace(&rack.name, &node.name), port(&rack.name, index), bridge(&rack.name));
    run("ip", &["netns", "add", &ns])?;
    run("ip", &["-n", &ns, "link", "set", "lo", "up"])?;
    let veth = |port: &str, bridge: &str, name: &str, mac: &[&str]| -> Result<(), Error> {
        let head = ["link", "add", port, "type", "veth", "peer", "name", name];
        run("ip", &[&head[..], mac, &["netns", &ns]].concat())?;
        run("ip", &["link", "set", port, "master", bridge, "up"])?;
        run("ip", &["-n", &ns, "link", "set", name, "up"]).map(|_| ())
    };
    let mac = ["address", node.mac.as_str()];
    match rack.outside {
        None => veth(&port, &bridge, "eth0", &mac)?,
        Some(_) => {
            // Behind a gateway boards ask that for their addresses.
            veth(&port, &inner(&rack.name), "eth0", &mac)?;
            if rack.reach(node).is_some() {
                veth(&format!("{bridge}u"), &bridge, "eth1", &[])?;
            }
        }
    }
    Ok(())
}

pub(crate) fn unplug(rack: &str, index: usize, node: &str) -> Result<(), Error> {
    let ns = namespace(rack, node);
    let mut ports = vec![port(rack, index)];
    if index == 0 {
        ports.push(format!("{}u", bridge(rack)));
    }
    for port in ports.iter().filter(|port| exists(port)) {
        run("ip", &["link", "del", port])?;
    }
    if Path::new("/run/netns").join(&ns).exists() {
        run("ip", &["netns", "del", &ns])?;
    }
    Ok(())
}

/// Removes bridge and NAT; DNS ends with the rack's processes.
pub(crate) fn down(rack: &str) -> Result<(), Error> {
    for bridge in [bridge(rack), inner(rack)].iter().filter(|bridge| exists(bridge)) {
        run("ip", &["link", "del", bridge])?;
    }
    forget_others(&bridge(rack))?;
    let table = table(rack);
    if run("nft", &["list", "tables", "ip"])?.lines().any(|line| line.ends_with(&format!(" {table}"))) {
        run("nft", &["delete", "table", "ip", &table])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn networks_that_are_known_are_found() {
        let routes = "default via 192.168.1.1 dev eth0 \n10.8.0.0/16 dev wg0 proto kernel \n10.9.3.7 dev tun0 \nblackhole 10.20.0.0/24 \n";
        let known = |net: &str| route_into(routes, &net.parse().unwrap());
        assert_eq!(known("10.8.4.0/24").as_deref(), Some("10.8.0.0/16 dev wg0 proto kernel"));
        assert_eq!(known("10.9.3.0/24").as_deref(), Some("10.9.3.7 dev tun0"));
        assert_eq!(known("10.20.0.0/16").as_deref(), Some("blackhole 10.20.0.0/24"));
        assert_eq!(known("10.77.0.0/24"), None);
    }

    #[test]
    fn chains_that_drop_what_passes_are_found() {
        let listed = r#"{"nftables": [{"metainfo": {}}, {"chain": {"family": "ip", "table": "filter", "name": "FORWARD",
            "hook": "forward", "policy": "drop"}}, {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input",
            "policy": "drop"}}, {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "mine", "name": "pass", "hook": "forward", "policy": "accept"}}]}"#;
        assert_eq!(dropping(listed), [["ip", "filter", "FORWARD"]]);
        assert!(dropping("").is_empty());
    }
}
