//! What every node gets before Kubernetes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{FileMode, Sha256Digest};

/// What every node gets before Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preparation {
    /// A name of the time zone database.
    pub timezone: Option<String>,
    /// A locale.
    pub locale: Option<String>,
    /// Debian packages that must be there.
    pub packages: Vec<String>,
    /// Debian packages that keep their version.
    pub hold: Vec<String>,
    /// Whether packages that nothing needs are removed.
    pub autoremove: bool,
    /// Kernel modules.
    pub modules: Vec<String>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// What the boot loader reads.
    pub boot: BootSettings,
    /// What happens to swap.
    pub swap: Swap,
    /// How little is written to the disks, if that was asked for.
    pub wear: Option<Wear>,
    /// Whether a board that hangs boots by its hardware's watchdog, if it has one.
    pub watchdog: bool,
    /// Settings of sshd.
    pub sshd: BTreeMap<String, String>,
    /// Lines for sudoers.
    pub sudoers: Vec<String>,
    /// Files with their text.
    pub files: Vec<HeldFile>,
    /// Files to fetch.
    pub downloads: Vec<Download>,
    /// Files to send.
    pub uploads: Vec<Sent>,
    /// Services that run.
    pub services: Vec<String>,
}

/// What the boot loader of a Raspberry Pi reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BootSettings {
    /// Settings of config.txt, each with its values: `dtoverlay` and some others have several.
    pub config: BTreeMap<String, Vec<String>>,
    /// Arguments of the kernel.
    pub kernel_args: Vec<String>,
}

/// How little is written to the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wear {
    /// As little as can be without losing what matters.
    Low,
}

/// What happens to swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// It is turned off, for good.
    #[serde(rename = "none")]
    Off,
    /// It is left as it is.
    Keep,
}

/// A file that is kept as written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldFile {
    /// Its absolute path.
    pub path: String,
    /// All of its text.
    pub content: String,
    /// Its permission bits.
    pub mode: FileMode,
    /// Units that read it.
    pub restart: Vec<String>,
}

/// A file from here that every node gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Where it is here, as written.
    pub from: String,
    /// Where it goes.
    pub path: String,
    /// Permission bits.
    pub mode: FileMode,
}

/// A file that each node fetches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Download {
    /// http or https.
    pub url: String,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// Its absolute path on the node.
    pub path: String,
    /// Its permission bits.
    pub mode: FileMode,
}
