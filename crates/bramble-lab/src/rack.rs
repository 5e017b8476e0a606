//! Racks: what they are, and how they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bramble_spec::MacAddr;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::host::{Error, Event, Events, PathContext, remove_tree, require_root, run, write};
use crate::node::{self, NodeState};
use crate::{host, network, root};

/// Where the lab keeps its things.
#[derive(Debug, Clone)]
pub struct Lab {
    /// Roots and bundles: can be made again.
    pub cache: PathBuf,
    /// Racks: the disks of their nodes.
    pub state: PathBuf,
    /// The program that keeps nodes on, with its first arguments; `<rack folder> <node>` are added.
    pub keeper: Vec<PathBuf>,
    /// A Debian mirror, if not the one that this machine uses.
    pub mirror: Option<String>,
}

/// What a new rack should be.
#[derive(Debug, Clone)]
pub struct RackRequest {
    /// Its name.
    pub name: String,
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// Its network, or else the first free one.
    pub subnet: Option<Ipv4Net>,
    /// Whether sudo on the nodes asks for a password; it is [`Rack::PASSWORD`].
    pub sudo_password: bool,
    /// Whether the nodes have snapd: a stand-in for it.
    pub snapd: bool,
    /// Whether the first node stands between the others and this machine.
    pub gateway: bool,
}

/// A virtual rack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rack {
    /// Its name.
    pub name: String,
    /// Its network.
    pub subnet: Ipv4Net,
    /// Its nodes.
    pub nodes: Vec<RackNode>,
    /// The shared root below the nodes' disks.
    pub(crate) base: PathBuf,
    /// The host's kernel settings as they were before the first rack.
    #[serde(default)]
    pub(crate) host_settings: BTreeMap<String, u32>,
    pub(crate) sudo_password: bool,
    #[serde(default)]
    pub(crate) snapd: bool,
    /// The network outside of the first node, if that is a gateway: the rack's own is cut off from this machine then.
    #[serde(default)]
    pub outside: Option<Ipv4Net>,
    #[serde(skip)]
    pub(crate) dir: PathBuf,
}

/// A board of a virtual rack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RackNode {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

const RECORD: &str = "rack.json";

impl Lab {
    fn racks(&self) -> PathBuf {
        self.state.join("racks")
    }

    /// The names of all racks.
    pub fn list(&self) -> Result<Vec<Rack>, Error> {
        let dir = self.racks();
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
        let mut racks = Vec::new();
        for entry in entries {
            let entry = entry.at("read", &dir)?;
            if entry.path().join(RECORD).exists() {
                racks.push(self.open(&entry.file_name().to_string_lossy())?);
            }
        }
        racks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(racks)
    }

    /// Opens a rack that exists.
    pub fn open(&self, name: &str) -> Result<Rack, Error> {
        let dir = self.racks().join(name);
        Rack::open(&dir).map_err(|error| match error {
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::NoRack(name.to_owned())
            }
            other => other,
        })
    }

    /// Raises a rack, or finishes one whose raising was interrupted, and waits until every node answers on port 22.
    pub fn up(&self, request: &RackRequest, events: Events) -> Result<Rack, Error> {
        require_root()?;
        let rack = match self.open(&request.name) {
            Ok(rack) => {
                let known: Vec<&String> = rack.nodes.iter().map(|node| &node.name).collect();
                if known != request.nodes.iter().collect::<Vec<_>>() {
                    let known = known.into_iter().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Error::Request(format!(
                        "rack `{}` is there already, with other nodes ({known}); take it down first, or choose another name",
                        rack.name
                    )));
                }
                rack
            }
            Err(Error::NoRack(_)) => self.create(request, events)?,
            Err(other) => return Err(other),
        };
        events(Event::Step(format!("Raising rack `{}`: {} nodes on {}", rack.name, rack.nodes.len(), rack.subnet)));
        host::raise_settings()?;
        network::up(&rack)?;
        for node in &rack.nodes {
            node::dress(&rack, node)?;
            if rack.node_state(node)? == NodeState::Off {
                node::start(self, &rack, node)?;
            }
        }
        for node in &rack.nodes {
            rack.wait_for_ssh(node)?;
        }
        Ok(rack)
    }

    fn create(&self, request: &RackRequest, events: Events) -> Result<Rack, Error> {
        let names: BTreeSet<&String> = request.nodes.iter().collect();
        if names.len() != request.nodes.len() || names.is_empty() || names.len() > 200 {
            return Err(Error::Request("a rack has 1 to 200 nodes with different names".into()));
        }
        for name in request.nodes.iter().chain([&request.name]) {
            name.parse::<bramble_spec::NodeName>().map_err(|_| {
                Error::Request(format!("`{name}` cannot be a name: use lower-case letters, digits and `-`"))
            })?;
        }
        let mirror = match &self.mirror {
            Some(mirror) => mirror.clone(),
            None => root::host_mirror()?,
        };
        let base = root::ensure(&self.cache, &mirror, events)?;
        let others = self.list()?;
        let routes = run("ip", &["-4", "route"])?;
        let routed = |net: &Ipv4Net| routes.lines().any(|line| line.split(' ').next() == Some(&net.to_string()));
        let free = |second: u8| {
            (0..=255u8)
                .filter_map(|third| Ipv4Net::new(Ipv4Addr::new(10, second, third, 0), 24).ok())
                .find(|net| !routed(net) && others.iter().all(|rack| rack.subnet != *net && rack.outside != Some(*net)))
                .ok_or_else(|| Error::Request(format!("all of 10.{second}.0.0/16 is taken by racks")))
        };
        let subnet = request.subnet.map_or_else(|| free(77), Ok)?;
        let outside = if request.gateway { Some(free(78)?) } else { None };
        let nodes = request.nodes.iter().zip(0u8..).map(|(name, index)| {
            let base = u32::from(subnet.network());
            let tail = subnet.network().octets();
            let mac = format!("dc:a6:32:{:02x}:{:02x}:{index:02x}", tail[1], tail[2]);
            let address = match outside {
                Some(_) if index == 0 => network::first(subnet),
                _ => Ipv4Addr::from(base + 50 + u32::from(index)),
            };
            let mac = mac.parse().map_err(|_| Error::Request(format!("{mac} is no MAC address")))?;
            if !subnet.contains(&address) {
                return Err(Error::Request(format!("{subnet} is too small: nodes start at its address number 50")));
            }
            Ok(RackNode { name: name.clone(), address, mac })
        });
        let host_settings = match others.first() {
            Some(other) => other.host_settings.clone(),
            None => host::settings(),
        };
        let rack = Rack {
            name: request.name.clone(),
            subnet,
            nodes: nodes.collect::<Result<_, _>>()?,
            base,
            host_settings,
            sudo_password: request.sudo_password,
            snapd: request.snapd,
            outside,
            dir: self.racks().join(&request.name),
        };
        // From here on everything that will be made can be found and removed again.
        let record = serde_json::to_vec_pretty(&rack).map_err(|error| Error::Request(error.to_string()))?;
        let path = rack.dir.join(RECORD);
        let fresh = path.with_extension("new");
        write(&fresh, record, 0o600)?;
        fs::rename(&fresh, &path).at("move into place", &path)?;
        Ok(rack)
    }

    /// Removes a rack and everything that belonged to it.
    pub fn down(&self, name: &str) -> Result<(), Error> {
        require_root()?;
        let rack = self.open(name)?;
        Group::rack(&rack.name).kill()?;
        for (index, node) in rack.nodes.iter().enumerate() {
            network::unplug(&rack.name, index, &node.name)?;
            node::unmount(&rack, node)?;
        }
        network::down(&rack.name)?;
        Group::rack(&rack.name).remove()?;
        if self.list()?.len() == 1 {
            host::restore_settings(&rack.host_settings)?;
        }
        // The record goes last: until then the rack can be taken down again.
        for entry in fs::read_dir(&rack.dir).at("read", &rack.dir)? {
            let path = entry.at("read", &rack.dir)?.path();
            if path.is_dir() {
                remove_tree(&path)?;
            } else if path.file_name().is_some_and(|name| name != RECORD) {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        remove_tree(&rack.dir)
    }

    /// Ends a node as a power cut does: every process dies at once, the disk stays.
    pub fn cut(&self, rack: &Rack, node: &str) -> Result<(), Error> {
        require_root()?;
        let node = rack.node(node)?;
        Group::keeper(&rack.name, &node.name).kill()?;
        Group::node(&rack.name, &node.name).kill()?;
        // Its Ethernet port goes dark, too: nothing there refuses connections any more.
        let index = rack.nodes.iter().position(|other| other.name == node.name).unwrap_or(0);
        network::unplug(&rack.name, index, &node.name)
    }

    /// Puts a new board in the place of one: an empty disk, other host keys, the same cable.
    pub fn replace(&self, rack: &Rack, node: &str) -> Result<(), Error> {
        self.cut(rack, node)?;
        let node = rack.node(node)?;
        node::unmount(rack, node)?;
        remove_tree(&rack.node_dir(&node.name))?;
        node::dress(rack, node)?;
        self.start(rack, &node.name)
    }

    /// Turns a node on.
    pub fn start(&self, rack: &Rack, node: &str) -> Result<(), Error> {
        require_root()?;
        let node = rack.node(node)?;
        if rack.node_state(node)? == NodeState::Off {
            node::start(self, rack, node)?;
        }
        rack.wait_for_ssh(node)
    }
}

impl Rack {
    /// The password of `pi` on a rack whose sudo asks for one.
    pub const PASSWORD: &'static str = "raspberry";

    pub(crate) fn open(dir: &Path) -> Result<Rack, Error> {
        let path = dir.join(RECORD);
        let text = fs::read(&path).at("read", &path)?;
        let mut rack: Rack = serde_json::from_slice(&text)
            .map_err(|error| Error::Request(format!("{} cannot be read: {error}", path.display())))?;
        rack.dir = dir.to_owned();
        Ok(rack)
    }

    pub(crate) fn node(&self, name: &str) -> Result<&RackNode, Error> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| Error::NoNode {
            rack: self.name.clone(),
            node: name.to_owned(),
            known: self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The private key that may log in as `pi` on every node.
    pub fn key(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }

    /// The lines for a known_hosts file: the host keys that the lab wrote to the nodes' disks.
    pub fn known_hosts(&self) -> Result<String, Error> {
        let mut lines = String::new();
        for node in &self.nodes {
            let path = self.node_dir(&node.name).join("host_key.pub");
            let text = fs::read_to_string(&path).at("read", &path)?;
            let key: Vec<&str> = text.split_whitespace().take(2).collect();
            let host = self.reach(node).unwrap_or(node.address);
            lines.push_str(&format!("{host} {}\n", key.join(" ")));
        }
        Ok(lines)
    }

    /// Whether a node is on.
    pub fn node_state(&self, node: &RackNode) -> Result<NodeState, Error> {
        let kept = !Group::keeper(&self.name, &node.name).processes()?.is_empty();
        Ok(if kept { NodeState::On } else { NodeState::Off })
    }

    /// The process id, on this machine, of the node's init.
    pub fn init_pid(&self, node: &str) -> Result<i32, Error> {
        let node = self.node(node)?;
        for pid in Group::node(&self.name, &node.name).processes()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("");
            if inner.split_whitespace().nth(1) == Some("1") {
                return Ok(pid);
            }
        }
        Err(Error::Request(format!("node `{}` is off; `bramble lab start` turns it on", node.name)))
    }

    pub(crate) fn node_dir(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    pub(crate) fn ensure_key(&self) -> Result<String, Error> {
        let path = self.key();
        if !path.with_extension("pub").exists() {
            fs::remove_file(&path).ok();
            let comment = format!("bramble rack {}", self.name);
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f", &path.to_string_lossy()])?;
        }
        let public = path.with_extension("pub");
        fs::read_to_string(&public).at("read", &public)
    }

    /// Where a gateway is reached from this machine.
    pub fn reach(&self, node: &RackNode) -> Option<Ipv4Addr> {
        let first = self.nodes.first().is_some_and(|first| first.name == node.name);
        self.outside.filter(|_| first).map(|net| Ipv4Addr::from(u32::from(net.network()) + 2))
    }

    fn wait_for_ssh(&self, node: &RackNode) -> Result<(), Error> {
        if self.outside.is_some() && self.reach(node).is_none() {
            return self.wait_for_sshd(node);
        }
        use std::io::Read;
        let deadline = Instant::now() + Duration::from_secs(60);
        let address = SocketAddr::from((self.reach(node).unwrap_or(node.address), 22));
        loop {
            if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
                stream.set_read_timeout(Some(Duration::from_secs(2))).ok();
                let mut banner = [0u8; 4];
                if stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-" {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                let log = self.node_dir(&node.name).join("console.log");
                return Err(Error::Request(format!(
                    "node `{}` does not answer on {address} after 60 s; its console is in {}",
                    node.name,
                    log.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The same for a node that cannot be reached from this machine: whether sshd listens is asked in its own network.
    fn wait_for_sshd(&self, node: &RackNode) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let namespace = network::namespace(&self.name, &node.name);
        loop {
            let listening = run("ip", &["netns", "exec", &namespace, "ss", "-Hltn", "sport = :22"]);
            if listening.is_ok_and(|lines| !lines.trim().is_empty()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Request(format!("node `{}` has no sshd after 60 s", node.name)));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
