//! What can be written in a cluster file.

mod addons;
mod backup;
mod hardware;
mod network;
mod nodes;
mod power;
mod prepare;
mod storage;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use self::addons::*;
pub(crate) use self::backup::*;
pub(crate) use self::hardware::*;
pub(crate) use self::network::*;
pub(crate) use self::nodes::*;
pub(crate) use self::power::*;
pub(crate) use self::prepare::*;
pub(crate) use self::storage::*;
use crate::arguments::ArgumentsSection;
use crate::cluster::Sudo;
use crate::de::Spanned;
use crate::distribution::DistributionSection;
use crate::names::{ClusterName, Sha256Digest};

/// One cluster. A file may hold several, separated by lines of `---`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterDocument {
    /// The name of the cluster.
    #[schemars(required)]
    pub(crate) cluster: Option<Spanned<ClusterName>>,
    /// How bramble reaches the nodes.
    #[serde(default)]
    pub(crate) access: AccessSection,
    /// Addresses.
    #[schemars(required)]
    pub(crate) network: Option<Spanned<NetworkSection>>,
    /// Which Kubernetes.
    #[schemars(required)]
    pub(crate) distribution: Option<Spanned<DistributionSection>>,
    /// What Kubernetes' own programs are told beside that.
    #[serde(default)]
    pub(crate) arguments: ArgumentsSection,
    /// The system that is written onto the boards' disks.
    pub(crate) image: Option<Spanned<ImageSection>>,
    /// Where the images of a registry come from instead, such as `docker.io: http://10.0.0.10:5000`.
    #[serde(default)]
    pub(crate) registries: BTreeMap<String, Spanned<String>>,
    /// Archives of container images (`docker save`) that every node gets: it need not pull them.
    #[serde(default)]
    pub(crate) archives: Vec<Spanned<String>>,
    /// Folders that all nodes share.
    #[serde(default)]
    pub(crate) storage: StorageSection,
    /// What the cluster has besides Kubernetes.
    #[serde(default)]
    pub(crate) addons: AddonsSection,
    /// What every node gets before Kubernetes.
    #[serde(default)]
    pub(crate) prepare: PrepareSection,
    /// Backups that the control planes make by themselves.
    pub(crate) backup: Option<Spanned<BackupSection>>,
    /// Where the boards' power comes from.
    #[serde(default)]
    pub(crate) power: PowerSection,
    /// How nodes that run pods are changed.
    #[serde(default)]
    pub(crate) update: UpdateSection,
    /// What stands beside the boards, and what is attached to them: for `bramble design`.
    pub(crate) hardware: Option<Spanned<HardwareSection>>,
    /// The machines.
    #[schemars(required)]
    pub(crate) nodes: Option<Spanned<Vec<Spanned<NodeSection>>>>,
}

/// An image of a system, plain or compressed (xz, gzip, Zstandard).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSection {
    /// A file here.
    pub(crate) file: Option<Spanned<String>>,
    /// Where it is fetched from, once.
    pub(crate) url: Option<Spanned<String>>,
    /// What it is called in a catalogue, such as `Raspberry Pi OS Lite (64-bit)`; `bramble image list` shows the names.
    pub(crate) name: Option<Spanned<String>>,
    /// The catalogue that has the name; that of Raspberry Pi Imager if not given.
    pub(crate) catalogue: Option<Spanned<String>>,
    /// The SHA-256 of the file as it is published. With a `url` alone, the digest that stands beside the file is taken, and
    /// pinned in bramble.lock.
    pub(crate) sha256: Option<Spanned<Sha256Digest>>,
}

/// How nodes that run pods are changed: upgraded, or booted again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateSection {
    /// How many workers are taken out of service at once; 1 if not given. Control planes always go one by one.
    pub(crate) workers: Option<Spanned<u16>>,
    /// How many seconds the pods of a node have to go elsewhere; 300 if not given.
    pub(crate) drain: Option<Spanned<u32>>,
}

/// How bramble reaches the nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessSection {
    /// The user to log in as; `pi` if not given.
    pub(crate) user: Option<Spanned<String>>,
    /// Key files, public or private: the private half is used to log in, beside those that the SSH agent holds.
    #[serde(default)]
    pub(crate) keys: Vec<Spanned<String>>,
    /// The port of sshd; 22 if not given.
    pub(crate) port: Option<Spanned<u16>>,
    /// A host to go through, as `[user@]host[:port]`.
    pub(crate) jump: Option<Spanned<String>>,
    /// Whether sudo asks for a password; `passwordless` if not given.
    pub(crate) sudo: Option<Sudo>,
}
