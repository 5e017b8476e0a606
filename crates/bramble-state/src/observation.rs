//! What is there on a node.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::probe::{package_name, sha256};
use crate::resource::{Blob, File, Resource};

/// What a node is, whatever is asked of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The running hostname.
    pub hostname: String,
    /// Another one after each boot.
    pub boot_id: String,
    /// The release of the running kernel.
    pub kernel: String,
    /// The running kernel's arguments.
    pub cmdline: String,
    /// The board's name as its firmware tells it; empty on boards without one.
    pub model: String,
    /// The systemd machine id.
    pub machine_id: String,
    /// Memory in KiB as the kernel sees it.
    pub memory: u64,
    /// Bytes that are free on the disk of its root, if that is known.
    pub disk_free: Option<u64>,
    /// The version of the cgroup hierarchy, 1 or 2.
    pub cgroup: u8,
    /// cgroup controllers that can be used.
    pub controllers: BTreeSet<String>,
    /// Swap in use.
    pub swaps: Vec<String>,
    /// `ID` of os-release.
    pub os: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// dpkg's architecture: that of the userland, which is what counts for programs.
    pub arch: String,
    /// Seconds since 1970 by the node's clock.
    pub time: i64,
    /// Seconds by which the node's clock was ahead of this machine's at the moment of its answer; unknown until whoever asked
    /// fills it in.
    pub ahead: Option<i64>,
    /// IPv4 addresses, each with its interface.
    pub addresses: Vec<(String, String)>,
    /// Ethernet addresses by interface.
    pub macs: BTreeMap<String, String>,
    /// Whether systemd-resolved runs.
    pub resolved: bool,
    /// Who manages its interfaces.
    pub network: NetworkManager,
    /// Whether Debian asks for a reboot.
    pub reboot_required: bool,
    /// Whether rpi-swap manages swap (Raspberry Pi OS Trixie).
    pub rpi_swap: bool,
    /// Whether bramble has changed something here.
    pub ledger: bool,
    /// Whether the node is a container, as in the virtual rack.
    pub container: bool,
    /// The cmdline.txt that this board's firmware reads.
    pub cmdline_file: Option<String>,
    /// The config.txt that this board's firmware reads.
    pub config_file: Option<String>,
}

/// Who manages a node's interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkManager {
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
    /// Another one, or nobody.
    #[default]
    Other,
}

/// A file on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits in octal, without leading zeros.
    pub mode: String,
    /// `user:group`.
    pub owner: String,
    /// Seconds since 1970 of its last change.
    pub modified: i64,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// Something else.
    Other,
}

/// A systemd unit on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// `LoadState`.
    pub load: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `UnitFileState`.
    pub enabled: String,
    /// `NeedDaemonReload`.
    pub stale: bool,
}

/// Everything that a look at a node brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// What the node is.
    pub facts: Facts,
    pub(crate) files: BTreeMap<String, FileSeen>,
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) packages: BTreeMap<String, (String, String)>,
    pub(crate) units: BTreeMap<String, UnitSeen>,
    /// By their files in /proc/sys.
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) modules: BTreeSet<String>,
    pub(crate) blobs: BTreeMap<String, String>,
    pub(crate) images: BTreeSet<String>,
    pub(crate) locales: BTreeSet<String>,
    pub(crate) removable: Vec<String>,
    /// By file: when it ends, in seconds since 1970.
    pub(crate) certificates: BTreeMap<String, i64>,
    /// What is on a disk, by its device: `missing`, `blank`, or what it holds and the label of that.
    pub(crate) disks: BTreeMap<String, String>,
    /// What is in the ledger: by its hash, the path or the unit.
    pub(crate) kept: BTreeMap<String, String>,
    /// Of the packages that were asked about: those that bramble installed.
    pub(crate) ours: BTreeSet<String>,
    pub(crate) done: BTreeMap<String, String>,
    pub(crate) pending: BTreeMap<String, String>,
}

/// Why the output of a look cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObservationError {
    /// Another bramble works on the node for longer than anyone would wait.
    #[error("another run of bramble has been working on this node for 15 minutes; end it, or wait for it")]
    Busy,
    /// The script did not run to its end.
    #[error("the node's answer is cut off after {lines} lines")]
    CutOff {
        /// Lines that arrived.
        lines: usize,
    },
    /// A line that this version does not know.
    #[error("the node's answer has a line that cannot be read: `{0}`")]
    Line(String),
}

impl UnitSeen {
    /// Whether it runs, or is about to; one that starts again and again does not.
    pub(crate) fn runs(&self) -> bool {
        self.active == "active" || (self.active == "activating" && self.sub != "auto-restart")
    }
}

impl Observation {
    /// Reads the output of [`observe_script`](crate::observe_script) for the same resources.
    pub fn parse(output: &str, resources: &[Resource]) -> Result<Observation, ObservationError> {
        let units = crate::probe::units(resources);
        let mut seen = Observation::default();
        let mut lines = output.lines();
        let mut complete = false;
        while let Some(line) = lines.next() {
            let bad = || ObservationError::Line(line.to_owned());
            let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
            let pair = || rest.split_once(' ').unwrap_or((rest, ""));
            match tag {
                "waiting" | "bramble" => {}
                "busy" => return Err(ObservationError::Busy),
                "fact" => seen.facts.take(rest).ok_or_else(bad)?,
                "text" => {
                    let mut text = String::new();
                    for line in lines.by_ref() {
                        match line.split_at_checked(1) {
                            Some(("=", content)) => {
                                text.push_str(content);
                                text.push('\n');
                            }
                            Some(("~", content)) => text.push_str(content),
                            _ => break,
                        }
                    }
                    seen.texts.insert(rest.to_owned(), text);
                }
                "stat" => {
                    let (fields, path) = rest.split_once('|').ok_or_else(bad)?;
                    let mut fields = fields.splitn(5, ' ');
                    let mut next = || fields.next().ok_or_else(bad);
                    let (mode, owner, modified, _, kind) = (next()?, next()?, next()?, next()?, next()?);
                    let kind = match kind {
                        "regular file" | "regular empty file" => FileKind::File,
                        "directory" => FileKind::Folder,
                        "symbolic link" => FileKind::Link,
                        _ => FileKind::Other,
                    };
                    let modified = modified.parse().map_err(|_| bad())?;
                    let file = FileSeen { kind, mode: mode.to_owned(), owner: owner.to_owned(), modified };
                    seen.files.insert(path.to_owned(), file);
                }
                "sha" => {
                    let (digest, path) = pair();
                    seen.digests.insert(path.to_owned(), digest.to_owned());
                }
                "content" => {
                    let (path, encoded) = rest.rsplit_once(' ').ok_or_else(bad)?;
                    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| bad())?;
                    seen.texts.insert(path.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
                }
                "sysctls" => {
                    for line in lines.by_ref().take_while(|line| *line != ".") {
                        let (path, value) = line.split_once(':').ok_or_else(bad)?;
                        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                        seen.sysctls.insert(path.to_owned(), value);
                    }
                }
                "module" => drop(seen.modules.insert(rest.to_owned())),
                "blob" => {
                    let (digest, path) = pair();
                    seen.blobs.insert(path.to_owned(), digest.to_owned());
                }
                "package" => {
                    let (name, rest) = pair();
                    let (status, version) = rest.split_once('|').ok_or_else(bad)?;
                    seen.packages.insert(name.to_owned(), (status.to_owned(), version.to_owned()));
                }
                "units" => {
                    for name in &units {
                        let mut unit = UnitSeen::default();
                        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
                            match line.split_once('=') {
                                Some(("LoadState", v)) => unit.load = v.to_owned(),
                                Some(("ActiveState", v)) => unit.active = v.to_owned(),
                                Some(("SubState", v)) => unit.sub = v.to_owned(),
                                Some(("UnitFileState", v)) => unit.enabled = v.to_owned(),
                                Some(("NeedDaemonReload", v)) => unit.stale = v == "yes",
                                _ if line == "." => break,
                                _ => {}
                            }
                        }
                        seen.units.insert(name.clone(), unit);
                    }
                }
                "." => {}
                "image" => drop(seen.images.insert(rest.to_owned())),
                "locale" => drop(seen.locales.insert(normal_locale(rest))),
                "removable" => seen.removable.push(rest.to_owned()),
                "certificate" => {
                    let (end, path) = pair();
                    seen.certificates.insert(path.to_owned(), end.parse().map_err(|_| bad())?);
                }
                "disk" => {
                    let (device, holds) = pair();
                    seen.disks.insert(device.to_owned(), holds.to_owned());
                }
                "kept" => {
                    let (hash, name) = pair();
                    seen.facts.ledger = true;
                    seen.kept.insert(hash.to_owned(), name.to_owned());
                }
                "ours" => drop(seen.ours.insert(rest.to_owned())),
                "done" => {
                    let (name, value) = pair();
                    seen.done.insert(name.to_owned(), value.to_owned());
                }
                "pending" => {
                    let (name, value) = pair();
                    seen.pending.insert(name.to_owned(), value.to_owned());
                }
                "end" => complete = true,
                _ => return Err(bad()),
            }
        }
        if complete { Ok(seen) } else { Err(ObservationError::CutOff { lines: output.lines().count() }) }
    }

    /// Whether this look, which asked about `asked`, is enough to show what `resources` change: every text that differs
    /// was read, and every place of a file or a blob was looked at.
    pub fn suffices(&self, resources: &[Resource], asked: &[Resource]) -> bool {
        let same_place = |blob: &Blob, other: &Resource| matches!(other, Resource::Blob(b) if b.path == blob.path);
        let same_file = |path: &str| asked.iter().any(|other| matches!(other, Resource::File(f) if f.path == path));
        resources.iter().all(|resource| match resource {
            Resource::Blob(blob) => asked.iter().any(|other| same_place(blob, other)),
            Resource::File(file) => {
                if !self.files.contains_key(&file.path) {
                    return same_file(&file.path);
                }
                file.secret
                    || self.texts.contains_key(&file.path)
                    || self.digests.get(&file.path) == Some(&crate::probe::sha256(file.content.as_bytes()))
            }
            _ => true,
        }) && crate::probe::units(resources).iter().all(|unit| self.units.contains_key(unit))
    }

    /// Whether a service runs that was asked about, by its name without its suffix.
    pub fn runs(&self, service: &str) -> bool {
        self.units.get(&format!("{service}.service")).is_some_and(UnitSeen::runs)
    }

    /// The certificate that ends first: its file, and how many seconds are left by the node's clock.
    pub fn first_certificate(&self) -> Option<(&str, i64)> {
        let (path, end) = self.certificates.iter().min_by_key(|(_, end)| **end)?;
        Some((path, end - self.facts.time))
    }

    /// Whether a package is installed, in the version that is wanted if one is.
    pub(crate) fn has_package(&self, wanted: &str) -> bool {
        let Some(version) = self.package_version(package_name(wanted)) else { return false };
        match wanted.split_once('=') {
            None => true,
            Some((_, pattern)) => match pattern.strip_suffix('*') {
                Some(start) => version.starts_with(start),
                None => version == pattern,
            },
        }
    }

    /// The version of an installed Debian package.
    pub fn package_version(&self, name: &str) -> Option<&str> {
        let (status, version) = self.packages.get(name)?;
        (status.as_bytes().get(1) == Some(&b'i')).then_some(version)
    }

    /// Takes the mark of a finished step for not there: the step is done again.
    pub fn forget(&mut self, id: &str) {
        self.done.remove(id);
    }

    /// Whether a file that was looked at has another text than it should.
    pub fn differs(&self, file: &File) -> bool {
        self.digests.get(&file.path).is_some_and(|there| *there != sha256(file.content.as_bytes()))
    }

    /// What the mark of a finished step says.
    pub fn done(&self, id: &str) -> Option<&str> {
        self.done.get(id).map(String::as_str)
    }
}

/// `locale -a` writes `en_GB.utf8` for what is configured as `en_GB.UTF-8`.
pub(crate) fn normal_locale(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "")
}

impl Facts {
    fn take(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let text = || value.trim_end_matches('\0').trim().to_owned();
        match key {
            "hostname" => self.hostname = text(),
            "boot-id" => self.boot_id = text(),
            "kernel" => self.kernel = text(),
            "cmdline" => self.cmdline = text(),
            "model" => self.model = text(),
            "machine-id" => self.machine_id = text(),
            "memory" => self.memory = value.parse().ok()?,
            "cgroup" => self.cgroup = value.parse().ok()?,
            "controllers" => self.controllers = value.split_whitespace().map(str::to_owned).collect(),
            "swap" => self.swaps.push(text()),
            "os" => {
                let mut words = value.split(' ');
                self.os = words.next()?.to_owned();
                self.os_version = words.next()?.to_owned();
            }
            "arch" => self.arch = text(),
            "disk-free" => {
                let (blocks, size) = value.split_once(' ')?;
                self.disk_free = Some(blocks.parse::<u64>().ok()?.saturating_mul(size.parse().ok()?));
            }
            "time" => self.time = value.parse().ok()?,
            "address" => {
                let (address, interface) = value.split_once(' ')?;
                self.addresses.push((address.to_owned(), interface.to_owned()));
            }
            "mac" => {
                let (interface, mac) = value.split_once(' ')?;
                self.macs.insert(interface.to_owned(), mac.to_owned());
            }
            "resolved" => self.resolved = true,
            "network" => {
                self.network = match value {
                    "NetworkManager" => NetworkManager::NetworkManager,
                    "networkd" => NetworkManager::Networkd,
                    _ => NetworkManager::Other,
                }
            }
            "reboot-required" => self.reboot_required = true,
            "rpi-swap" => self.rpi_swap = true,
            "container" => self.container = true,
            "cmdline-file" => self.cmdline_file = Some(text()),
            "config-file" => self.config_file = Some(text()),
            _ => return None,
        }
        Some(())
    }

    /// Whether the board is a Raspberry Pi, by what its firmware says.
    pub fn is_raspberry_pi(&self) -> bool {
        self.model.starts_with("Raspberry Pi")
    }
}
