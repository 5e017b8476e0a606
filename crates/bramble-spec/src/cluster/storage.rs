//! Folders that all nodes share.

use serde::Serialize;

use crate::names::NodeName;

/// Folders that all nodes share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// A folder of one node, which the others mount.
    pub nfs: Option<Nfs>,
    /// A volume that several nodes hold.
    pub glusterfs: Option<Gluster>,
}

impl Storage {
    /// The node that looks after what lies in a folder that all share; none if there is no such folder.
    pub fn holder(&self) -> Option<&NodeName> {
        let server = self.nfs.as_ref().map(|nfs| &nfs.server);
        server.or_else(|| self.glusterfs.as_ref().and_then(|gluster| gluster.nodes.first()))
    }

    /// The disks of a node that the cluster file gives to storage.
    pub fn disks_of(&self, node: &NodeName) -> Vec<&str> {
        let nfs = self.nfs.iter().filter(|nfs| nfs.server == *node).filter_map(|nfs| nfs.disk.as_deref());
        let bricks = self.glusterfs.iter().filter(|gluster| gluster.nodes.contains(node));
        nfs.chain(bricks.filter_map(|gluster| gluster.disk.as_deref())).collect()
    }
}

/// A folder of one node, which the others mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nfs {
    /// The node that has it.
    pub server: NodeName,
    /// The folder there.
    pub folder: String,
    /// A disk of its own for the folder.
    pub disk: Option<String>,
    /// Whether root of the other nodes is root in it, too.
    pub no_root_squash: bool,
    /// Where every node has it.
    pub mount: String,
}

/// A volume that several nodes hold, each a whole copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gluster {
    /// The nodes that hold it.
    pub nodes: Vec<NodeName>,
    /// Its name.
    pub volume: String,
    /// The folder with each node's copy.
    pub brick: String,
    /// A disk of its own for it on each of these nodes.
    pub disk: Option<String>,
    /// Where every node has it.
    pub mount: String,
}
