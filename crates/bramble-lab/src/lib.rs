//! The virtual rack: boards as systemd-nspawn containers that look like Raspberry Pis, on a bridge of their own.
//!
//! Everything of a rack carries its name (network namespaces, links, nft table, cgroups, mounts, folders), and the
//! names are written down before the first of them is made. So [`Lab::down`] removes all of it, whatever was
//! interrupted before, and two racks do not meet.

mod builder;
mod cgroup;
mod disk;
mod first_boot;
mod host;
mod lab;
mod network;
mod node;
mod rack;
mod root;
mod trouble;

pub use builder::Builder;
pub use host::{Error, Event, Events, PathContext, remove_tree, require_root, write};
pub use lab::{Lab, RackRequest};
pub use node::keep;
pub use rack::{NodeFile, NodePackage, NodeState, Rack, RackNode};
pub use root::System;
