//! Backups that the control planes make by themselves.

use std::fmt;

use serde::Serialize;

use crate::names::NodeName;

/// Backups that the control planes make by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backups {
    /// The time between two of them, in seconds; at least ten minutes.
    pub every: u32,
    /// How many are kept at each place; at least one.
    pub keep: u16,
    /// Where they go; at least one place.
    pub to: Vec<Place>,
    /// Whether the state of the cluster is saved: not where it is in a database elsewhere.
    pub state: bool,
    /// The claims whose volumes are saved as well, as `namespace/name`.
    pub volumes: Vec<String>,
}

/// A place for backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A folder of a node.
    Node {
        /// Its name.
        node: NodeName,
        /// The folder.
        folder: String,
    },
    /// A folder that an SSH server gives over SFTP.
    Ssh {
        /// The user there.
        user: String,
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// The folder.
        folder: String,
        /// The server's public key, as its type and its base64.
        host_key: String,
        /// The file of a private key, as written; without it, bramble's own.
        key: Option<String>,
    },
    /// A bucket of a service that speaks as Amazon's S3 does.
    S3 {
        /// The bucket, with a folder behind it if there is one.
        bucket: String,
        /// The service; Amazon's if there is none.
        endpoint: Option<String>,
        /// Its region.
        region: String,
        /// The file of its credentials, as written.
        credentials: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node { node, folder } => write!(f, "{node}:{folder}"),
            Place::Ssh { user, host, port: 22, folder, .. } => write!(f, "ssh://{user}@{host}{folder}"),
            Place::Ssh { user, host, port, folder, .. } => write!(f, "ssh://{user}@{host}:{port}{folder}"),
            Place::S3 { bucket, .. } => write!(f, "s3://{bucket}"),
        }
    }
}
