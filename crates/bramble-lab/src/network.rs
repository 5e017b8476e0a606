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
    dns(rack, &bridge)
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
    let table = table(rack);
    if run("nft", &["list", "tables", "ip"])?.lines().any(|line| line.ends_with(&format!(" {table}"))) {
        run("nft", &["delete", "table", "ip", &table])?;
    }
    Ok(())
}
