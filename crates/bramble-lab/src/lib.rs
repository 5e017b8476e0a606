//! The virtual rack: boards as systemd-nspawn containers that look like Raspberry Pis, on a bridge of their own.
//!
//! Everything of a rack carries its name (network namespaces, links, nft table, cgroups, mounts, folders), and the
//! names are written down before the first of them is made. So [`Rack::down`] removes all of it, whatever was
//! interrupted before, and two racks do not meet.

mod bundle;
mod cgroup;
mod host;
mod network;
mod node;
mod rack;
mod root;
mod standin;

pub use bundle::{DebianBundle, Release};
pub use host::{Error, Event, Events};
pub use node::{NodeState, keep};
pub use rack::{Lab, Rack, RackNode, RackRequest};
pub use standin::releases;
