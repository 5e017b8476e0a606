//! Raises racks, takes them down, and turns their nodes on and off.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use crate::cgroup::Group;
use crate::disk::Disk;
use crate::host::{Error, Event, Events, PathContext, remove_tree, require_root, run, write};
use crate::rack::{NodePackage, NodeState, RECORD, Rack, RackNode};
use crate::root::System;
use crate::{host, network, node, root, trouble};

/// The folders of the lab, and what it needs from outside.
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

/// A rack that is to be raised.
#[derive(Debug, Clone)]
pub struct RackRequest {
    /// Its name.
    pub name: String,
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// Its network, or else the first free one.
    pub subnet: Option<Ipv4Net>,
    /// If sudo on the nodes asks for a password; it is [`Rack::PASSWORD`].
    pub sudo_password: bool,
    /// Packages of the nodes besides those of Raspberry Pi OS Lite.
    pub packages: Vec<NodePackage>,
    /// The systems of its boards: the first of the first one, and so on, from the beginning again.
    pub systems: Vec<System>,
    /// If the first node stands between the others and this machine.
    pub gateway: bool,
}

impl Lab {
    fn racks(&self) -> PathBuf {
        self.state.join("racks")
    }

    /// Gives the Debian mirror that roots are made from.
    pub fn debian_mirror(&self) -> Result<String, Error> {
        self.mirror.clone().map_or_else(root::host_mirror, Ok)
    }

    /// Lists the racks by name.
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
                node::start(&self.keeper, &rack, node)?;
            }
        }
        for node in &rack.nodes {
            wait_for_ssh(&rack, node)?;
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
        let mirror = self.debian_mirror()?;
        let mut bases = Vec::new();
        for system in &request.systems {
            bases.push((*system, root::ensure(&self.cache, &mirror, *system, events)?));
        }
        let others = self.list()?;
        let routes = run("ip", &["-4", "route"])?;
        let routed = |net: &Ipv4Net| network::route_into(&routes, net).is_some();
        let free = |second: u8| {
            (0..=255u8)
                .filter_map(|third| Ipv4Net::new(Ipv4Addr::new(10, second, third, 0), 24).ok())
                .find(|net| !routed(net) && others.iter().all(|rack| rack.subnet != *net && rack.outside != Some(*net)))
                .ok_or_else(|| Error::Request(format!("all of 10.{second}.0.0/16 is taken by racks")))
        };
        if let Some((net, route)) = request.subnet.and_then(|net| Some((net, network::route_into(&routes, &net)?))) {
            return Err(Error::Request(format!(
                "{net} is in a network that this machine knows already (`ip route`: {route}): choose another one with --subnet"
            )));
        }
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
            let base = bases.iter().cycle().nth(usize::from(index)).cloned();
            let (system, base) =
                base.ok_or_else(|| Error::Request("a rack's boards have at least one system".into()))?;
            Ok(RackNode { name: name.clone(), address, mac, system, base })
        });
        let host_settings = match others.first() {
            Some(other) => other.host_settings.clone(),
            None => host::settings(),
        };
        let rack = Rack {
            name: request.name.clone(),
            subnet,
            nodes: nodes.collect::<Result<_, _>>()?,
            host_settings,
            sudo_password: request.sudo_password,
            packages: request.packages.clone(),
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
            Disk::of(&rack, node).unmount()?;
        }
        network::down(&rack.name)?;
        Group::rack(&rack.name).remove()?;
        // Racks of another folder need them as well.
        if self.list()?.len() == 1 && !Group::any() {
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
        network::unplug(&rack.name, rack.index(node), &node.name)
    }

    /// Puts a new board in the place of one: an empty disk, other host keys, the same cable.
    pub fn replace(&self, rack: &Rack, node: &str) -> Result<(), Error> {
        self.cut(rack, node)?;
        let node = rack.node(node)?;
        Disk::of(rack, node).unmount()?;
        remove_tree(&rack.node_dir(&node.name))?;
        node::dress(rack, node)?;
        self.start(rack, &node.name)
    }

    /// Pulls the cable out of a board or puts it in, as its switch's port sees it: the board loses its carrier.
    pub fn link(&self, rack: &Rack, node: &str, plugged: bool) -> Result<(), Error> {
        require_root()?;
        let node = rack.node(node)?;
        trouble::link(&network::port(&rack.name, rack.index(node)), if plugged { "up" } else { "down" })
    }

    /// Sets the clock that programs of a board see which use its C library and start from now on: `+1h`, `-3d`, or `real`.
    /// Programs of Go, such as Kubernetes', go on seeing this machine's.
    pub fn clock(&self, rack: &Rack, node: &str, offset: &str) -> Result<(), Error> {
        require_root()?;
        trouble::clock(rack, rack.node(node)?, offset)
    }

    /// Lets a board hang: its sshd answers and nothing else does, until its power is cut.
    pub fn hang(&self, rack: &Rack, node: &str) -> Result<(), Error> {
        require_root()?;
        trouble::hang(rack, rack.node(node)?)
    }

    /// Fills a board's disk but for so many bytes, or gives back what that took.
    pub fn fill(&self, rack: &Rack, node: &str, leave: Option<u64>) -> Result<(), Error> {
        require_root()?;
        let disk = Disk::of(rack, rack.node(node)?);
        disk.mount()?;
        match leave {
            Some(leave) => disk.fill(leave),
            None => disk.free(),
        }
    }

    /// Turns all boards off, each as its system does it, copies their disks, and turns on those that were.
    pub fn save(&self, rack: &Rack, events: Events) -> Result<(), Error> {
        require_root()?;
        let on = self.on(rack)?;
        events(Event::Step(format!("Turning {} boards off", on.len())));
        for node in &on {
            trouble::power_off(rack, node)?;
        }
        self.wait_until_off(rack, &on)?;
        events(Event::Step("Copying the disks".into()));
        // An earlier save is whole until this one is.
        let saved = rack.saved_dir();
        let fresh = saved.with_extension("new");
        remove_tree(&fresh)?;
        for node in &rack.nodes {
            Disk::of(rack, node).save(&fresh)?;
        }
        remove_tree(&saved)?;
        fs::rename(&fresh, &saved).at("move into place", &saved)?;
        self.start_all(rack, &on, events)
    }

    /// Gives all boards the disks that were saved, and turns them on.
    pub fn restore(&self, rack: &Rack, events: Events) -> Result<(), Error> {
        require_root()?;
        if !rack.saved_dir().exists() {
            return Err(Error::Request(format!(
                "nothing was saved of rack `{name}`: `bramble lab save {name}` does it",
                name = rack.name
            )));
        }
        events(Event::Step("Putting the saved disks in".into()));
        for node in &rack.nodes {
            self.cut(rack, &node.name)?;
            Disk::of(rack, node).restore(&rack.saved_dir())?;
        }
        self.start_all(rack, &rack.nodes.iter().collect::<Vec<_>>(), events)
    }

    fn on<'a>(&self, rack: &'a Rack) -> Result<Vec<&'a RackNode>, Error> {
        let mut on = Vec::new();
        for node in &rack.nodes {
            if rack.node_state(node)? == NodeState::On {
                on.push(node);
            }
        }
        Ok(on)
    }

    /// One that does not turn itself off in time loses its power.
    fn wait_until_off(&self, rack: &Rack, nodes: &[&RackNode]) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(90);
        for node in nodes {
            while rack.node_state(node)? == NodeState::On && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
            self.cut(rack, &node.name)?;
        }
        Ok(())
    }

    fn start_all(&self, rack: &Rack, nodes: &[&RackNode], events: Events) -> Result<(), Error> {
        events(Event::Step(format!("Turning {} boards on", nodes.len())));
        for node in nodes {
            node::start(&self.keeper, rack, node)?;
        }
        nodes.iter().try_for_each(|node| wait_for_ssh(rack, node))
    }

    /// Turns a node on.
    pub fn start(&self, rack: &Rack, node: &str) -> Result<(), Error> {
        require_root()?;
        let node = rack.node(node)?;
        if rack.node_state(node)? == NodeState::Off {
            node::start(&self.keeper, rack, node)?;
        }
        wait_for_ssh(rack, node)
    }
}

/// Waits until a node answers on port 22.
fn wait_for_ssh(rack: &Rack, node: &RackNode) -> Result<(), Error> {
    if rack.outside.is_some() && rack.reach(node).is_none() {
        return wait_for_sshd(rack, node);
    }
    use std::io::Read;
    let deadline = Instant::now() + Duration::from_secs(60);
    let address = SocketAddr::from((rack.reach(node).unwrap_or(node.address), 22));
    loop {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok();
            let mut banner = [0u8; 4];
            if stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-" {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            let log = rack.node_dir(&node.name).join("console.log");
            return Err(Error::Request(format!(
                "node `{}` does not answer on {address} after 60 s; its console is in {}",
                node.name,
                log.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Waits until sshd listens in the network of a node that cannot be reached from this machine.
fn wait_for_sshd(rack: &Rack, node: &RackNode) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let namespace = network::namespace(&rack.name, &node.name);
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
