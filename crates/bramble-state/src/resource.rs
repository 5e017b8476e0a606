//! The kinds of things a node can be asked to have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bramble_spec::Sha256Digest;

/// The argument of the kernel that switches on the memory cgroup, which the firmware of a Raspberry Pi switches off.
pub const MEMORY_CGROUP: &str = "cgroup_enable=memory";

/// One thing a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A file with exactly this text.
    File(File),
    /// A folder that belongs to software which bramble installs: it goes, with all in it, when bramble goes, unless it
    /// was there before.
    OwnedFolder(String),
    /// The hostname, running and for the next boot.
    Hostname(String),
    /// Lines in /etc/hosts, in a block of their own.
    Hosts(Vec<(String, String)>),
    /// The time zone.
    Timezone(String),
    /// The locale, generated and set as the default.
    Locale(String),
    /// Package lists that are not older than this many seconds.
    AptLists {
        /// In seconds.
        max_age: u64,
        /// Files whose change makes the lists stale.
        sources: Vec<String>,
    },
    /// Debian packages that are installed: `name`, or `name=version` where the version may end with `*`.
    Packages(Vec<String>),
    /// Debian packages that keep their version.
    Hold(Vec<String>),
    /// No package that nothing needs.
    Autoremove,
    /// Settings in the `[all]` part of config.txt.
    BootConfig(BTreeMap<String, String>),
    /// Tokens of the kernel command line, in cmdline.txt and in the running kernel.
    KernelArgs(Vec<String>),
    /// On a Raspberry Pi, the memory cgroup that its firmware switches off.
    MemoryCgroup,
    /// No swap, now and after the next boot.
    SwapOff,
    /// Kernel modules, loaded now and at boot.
    Modules(Vec<String>),
    /// Kernel settings, now and at boot.
    Sysctls(BTreeMap<String, String>),
    /// A systemd unit that is enabled and running.
    Unit(Unit),
    /// Bytes by digest.
    Blob(Blob),
    /// Container images in containerd's `k8s.io` namespace.
    Images(Vec<Image>),
    /// Certificates that do not end soon.
    Certificates(Certificates),
    /// A disk with a file system of ours.
    Disk(Disk),
    /// Something that is done once.
    Step(Step),
    /// What bramble may have brought and goes where nothing else wants it.
    Cleanup(Cleanup),
}

/// What bramble may have brought and goes where nothing else of the same plan wants it. What was there before bramble is
/// left as it was then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// What it is, in words.
    pub what: String,
    /// Its units, in the order in which they end.
    pub units: Vec<String>,
    /// Its files and blobs; what ends with `/` or `-` stands for all that begin so.
    pub files: Vec<String>,
    /// Its Debian packages.
    pub packages: Vec<String>,
    /// Steps that were done for it.
    pub steps: Vec<&'static str>,
}

/// A disk with a file system of ours (ext4), which is known by its label. It is formatted if it is blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The whole disk or a partition.
    pub device: String,
    /// At most 16 characters.
    pub label: String,
    /// Whether what is on it may be lost.
    pub wipe: bool,
}

/// A file with exactly this text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its absolute path.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Whether its text must not be shown or logged.
    pub secret: bool,
    /// What must accept the text before it takes effect.
    pub check: Option<Check>,
}

impl File {
    /// A readable file of root's.
    pub fn new(path: impl Into<String>, content: impl Into<String>) -> File {
        File { path: path.into(), content: content.into(), mode: "644".into(), secret: false, check: None }
    }
}

/// A program that validates a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `sshd -t`.
    Sshd,
    /// `visudo -c`.
    Sudoers,
}

/// A systemd unit that is enabled and running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, with its suffix.
    pub name: String,
    /// The files it reads: it is restarted when one of them changes.
    pub reads: Vec<String>,
    /// Whether it runs now; a unit that only starts at boot or by something else is left alone.
    pub running: bool,
}

impl Unit {
    /// A unit that is enabled and running; `.service` is added where there is no suffix.
    pub fn new(name: &str, reads: Vec<String>) -> Unit {
        let name = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
        Unit { name, reads, running: true }
    }
}

/// Bytes by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Where they go.
    pub path: String,
    /// Their digest.
    pub sha256: Sha256Digest,
    /// Permission bits in octal.
    pub mode: String,
    /// Where they come from.
    pub source: BlobSource,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobSource {
    /// A file here, sent to the node.
    Upload(PathBuf),
    /// A URL that the node fetches.
    Url(String),
}

/// Container images out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Their whole names: at least one.
    pub names: Vec<String>,
    /// The digest of the archive.
    pub sha256: Sha256Digest,
    /// The archive, here.
    pub archive: PathBuf,
}

/// Certificates that do not end soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// Shell patterns of their files, PEM; of several in one the first counts.
    pub files: &'static [&'static str],
    /// How many seconds before the first of them ends they are renewed.
    pub before: i64,
    /// Renews them all; nothing is planned if it is empty, because something on the node does it by itself.
    pub renew: crate::Commands,
}

/// Something that is done once, and whose mark says with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The name of its mark below [`DONE`](crate::DONE).
    pub id: &'static str,
    /// In words, for plan and progress.
    pub title: String,
    /// What the mark must say; when it says something else, the step is done again.
    pub version: String,
    /// Does it. It must cope with an earlier attempt that was cut off anywhere.
    pub apply: crate::Commands,
    /// Undoes it, also when it was cut off anywhere.
    pub undo: Option<crate::Commands>,
}
