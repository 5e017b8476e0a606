//! Racks: what they are, and where their things lie.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bramble_spec::MacAddr;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::host::{Error, PathContext, run};
use crate::root::System;

/// A virtual rack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rack {
    /// Its name.
    pub name: String,
    /// Its network.
    pub subnet: Ipv4Net,
    /// Its nodes.
    pub nodes: Vec<RackNode>,
    /// The host's kernel settings as they were before the first rack.
    #[serde(default)]
    pub(crate) host_settings: BTreeMap<String, u32>,
    pub(crate) sudo_password: bool,
    #[serde(default)]
    pub(crate) packages: Vec<NodePackage>,
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
    /// What it runs.
    #[serde(default)]
    pub system: System,
    /// The root below its disk, which boards of the same system share.
    #[serde(default)]
    pub(crate) base: PathBuf,
}

/// A Debian package that stands on the nodes without having come from an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePackage {
    /// Its name.
    pub name: String,
    /// Its record in dpkg's status, without the empty lines around it.
    pub status: String,
    /// Its files.
    pub files: Vec<NodeFile>,
    /// Folders that it keeps overlays in (`var/snap`): they lie beside the node's disk, which is an overlay itself.
    pub folders: Vec<String>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Its absolute path.
    pub path: String,
    /// All of its text.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

/// The power of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It is on.
    On,
    /// It is off.
    Off,
}

/// The file with what a rack is.
pub(crate) const RECORD: &str = "rack.json";

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

    /// Gives the number of a node, by which its links are named.
    pub(crate) fn index(&self, node: &RackNode) -> usize {
        self.nodes.iter().position(|other| other.name == node.name).unwrap_or(0)
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

    /// Tells if a node is on.
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

    /// Where the disks lie that were saved.
    pub(crate) fn saved_dir(&self) -> PathBuf {
        self.dir.join("saved")
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

    /// Gives the address of a gateway on the side of this machine.
    pub fn reach(&self, node: &RackNode) -> Option<Ipv4Addr> {
        let first = self.nodes.first().is_some_and(|first| first.name == node.name);
        self.outside.filter(|_| first).map(|net| Ipv4Addr::from(u32::from(net.network()) + 2))
    }
}
