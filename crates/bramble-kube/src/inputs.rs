//! What a plan needs besides the cluster file.

use std::collections::{BTreeMap, BTreeSet};

use bramble_spec::{ClusterId, KubeVersion, NodeName};

use crate::addon::rendered::Rendered;
use crate::bundle::Bundle;
use crate::distribution::upstream::Release;
use crate::files::{Archive, LocalFile};

/// All that a plan needs besides the cluster file: bytes that were chosen once and are pinned in the lock file.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The id of the cluster; nodes are told it if it is known.
    pub id: Option<ClusterId>,
    /// The bundle, if programs and images come from one.
    pub bundle: Option<Bundle>,
    /// The version of Kubernetes with its patch, if programs come from an apt repository.
    pub kubernetes: Option<KubeVersion>,
    /// The release, if the distribution has releases of its own.
    pub release: Option<Release>,
    /// The text of the file that says where images come from, if one is named.
    pub registries: Option<String>,
    /// The signing key of the apt repository, if programs come from one (armoured).
    pub apt_key: Option<String>,
    /// The CNI's manifest, if it has one.
    pub cni_manifest: Option<String>,
    /// Archives of container images.
    pub archives: Vec<Archive>,
    /// Disks that may be formatted although something is on them, each with its node.
    pub format: BTreeSet<(NodeName, String)>,
    /// The add-ons of the cluster file.
    pub addons: Vec<Rendered>,
    /// What backups need that the control planes make by themselves.
    pub backups: Option<BackupKeys>,
    /// The password of the user that watches the UPS, if a file has it.
    pub ups_password: Option<String>,
    /// The files of `prepare.uploads`, by what the cluster file calls them.
    pub uploads: BTreeMap<String, LocalFile>,
}

/// What backups need that the control planes make by themselves. What it shows are no secrets.
#[derive(Clone, Default)]
pub struct BackupKeys {
    /// The age key that they are encrypted for.
    pub recipient: String,
    /// The private key, in OpenSSH's form, with which control planes log in where backups go.
    pub private: String,
    /// Its public half, in one line.
    pub public: String,
    /// The password of the repositories in which volumes are saved.
    pub volumes: String,
    /// The texts of the files that places name: private keys and credentials, by what the cluster file calls them.
    pub files: BTreeMap<String, String>,
}

impl std::fmt::Debug for BackupKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<&String> = self.files.keys().collect();
        f.debug_struct("BackupKeys").field("recipient", &self.recipient).field("files", &files).finish_non_exhaustive()
    }
}
