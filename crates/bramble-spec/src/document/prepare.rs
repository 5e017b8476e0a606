//! The section `prepare`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::cluster::{Swap, Wear};
use crate::de::{OneOrMany, Spanned};
use crate::names::{FileMode, Sha256Digest};

/// What every node gets before Kubernetes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrepareSection {
    /// A time zone such as Europe/Berlin.
    pub(crate) timezone: Option<Spanned<String>>,
    /// A locale such as en_GB.UTF-8.
    pub(crate) locale: Option<Spanned<String>>,
    /// Debian packages that must be there.
    #[serde(default)]
    pub(crate) packages: Vec<Spanned<String>>,
    /// Debian packages that must keep their version.
    #[serde(default)]
    pub(crate) hold: Vec<Spanned<String>>,
    /// Whether packages that nothing needs any more are removed.
    #[serde(default)]
    pub(crate) autoremove: bool,
    /// Kernel modules, loaded now and at each boot.
    #[serde(default)]
    pub(crate) modules: Vec<Spanned<String>>,
    /// Kernel settings, such as `vm.swappiness: 10`.
    #[serde(default)]
    pub(crate) sysctls: BTreeMap<String, Spanned<String>>,
    /// What the boot loader of a Raspberry Pi reads.
    #[serde(default)]
    pub(crate) boot: BootSection,
    /// Whether swap is turned off (`none`) or left alone (`keep`); `none` if not given and there is Kubernetes.
    pub(crate) swap: Option<Swap>,
    /// `low`: less is written to the disks, so that cards last longer: the journal is in memory, files' access times are not
    /// kept, containers' logs are short, and Kubernetes' controllers say less often that they are there.
    pub(crate) wear: Option<Wear>,
    /// Whether a board that hangs boots by itself, by the watchdog in its hardware, if it has one; true if not given.
    pub(crate) watchdog: Option<bool>,
    /// Settings of sshd, such as `PermitRootLogin: no`.
    #[serde(default)]
    pub(crate) sshd: BTreeMap<String, Spanned<String>>,
    /// Lines for sudoers.
    #[serde(default)]
    pub(crate) sudoers: Vec<Spanned<String>>,
    /// Files with their text.
    #[serde(default)]
    pub(crate) files: Vec<Spanned<FileSection>>,
    /// Files that each node fetches.
    #[serde(default)]
    pub(crate) downloads: Vec<Spanned<DownloadSection>>,
    /// Files from here that every node gets.
    #[serde(default)]
    pub(crate) uploads: Vec<Spanned<UploadSection>>,
    /// Services that are enabled and running.
    #[serde(default)]
    pub(crate) services: Vec<Spanned<String>>,
}

/// What the boot loader of a Raspberry Pi reads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootSection {
    /// Settings of config.txt, such as `gpu_mem: 16`; a list for one that comes several times, such as `dtoverlay`.
    #[serde(default)]
    pub(crate) config: BTreeMap<String, OneOrMany<Spanned<String>>>,
    /// Arguments of the kernel command line.
    #[serde(default)]
    pub(crate) kernel_args: Vec<Spanned<String>>,
}

/// A file with its text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSection {
    /// Where it is on the node.
    pub(crate) path: Spanned<String>,
    /// All of its text.
    pub(crate) content: String,
    /// Permission bits in octal; 0644 if not given.
    pub(crate) mode: Option<FileMode>,
    /// Units that read the file and are restarted when it changes.
    #[serde(default)]
    pub(crate) restart: Vec<Spanned<String>>,
}

/// A file that each node fetches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DownloadSection {
    /// http or https.
    pub(crate) url: Spanned<String>,
    /// The digest of its bytes.
    pub(crate) sha256: Sha256Digest,
    /// Where it goes on the node.
    pub(crate) path: Spanned<String>,
    /// Permission bits in octal; 0644 if not given.
    pub(crate) mode: Option<FileMode>,
}

/// A file from here that every node gets. It is sent once, and the nodes pass it on to each other, unless its mode says
/// that not everybody may read it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadSection {
    /// Where it is here; a relative path starts at the cluster file.
    pub(crate) from: Spanned<String>,
    /// Where it goes on the node.
    pub(crate) path: Spanned<String>,
    /// Permission bits in octal; 0644 if not given.
    pub(crate) mode: Option<FileMode>,
}
