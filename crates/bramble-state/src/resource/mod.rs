//! The kinds of things a node can be asked to have, one in each file.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::{ExternalKind, Kind};
use crate::probe::Question;

mod apt_lists;
mod autoremove;
mod blob;
mod boot_config;
mod certificates;
mod cleanup;
mod disk;
mod edit;
mod file;
mod hold;
mod hostname;
mod hosts;
mod kernel_args;
mod locale;
mod module;
mod owned_folder;
mod packages;
mod step;
mod swap;
mod sysctl;
mod timezone;
mod unit;

pub use blob::{Blob, BlobSource};
pub use boot_config::{effective_boot_config, with_boot_config};
pub use certificates::Certificates;
pub use cleanup::Cleanup;
pub use disk::{DISK_IDENTITY, Disk};
pub use file::{Check, File};
pub use kernel_args::{MEMORY_CGROUP, with_tokens};
pub use step::Step;
pub use swap::{RPI_SWAP_FILE, RPI_SWAP_TEXT};
#[cfg(any(test, feature = "testing"))]
pub(crate) use unit::UNITS;
pub use unit::Unit;

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
    /// Lines in /etc/hosts, in a block of their own: addresses, each with its names.
    Hosts(Arc<str>),
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
    BootConfig(BTreeMap<String, Vec<String>>),
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
    /// Certificates that do not end soon.
    Certificates(Certificates),
    /// A disk with a file system of ours.
    Disk(Disk),
    /// Something that is done once.
    Step(Step),
    /// What bramble may have brought and goes where nothing else wants it.
    Cleanup(Cleanup),
    /// A kind that another crate brings.
    Other(Arc<dyn ExternalKind>),
}

/// All questions of these kinds, in the order in which a node is asked.
pub(crate) const QUESTIONS: &[&Question] = &[
    &edit::TEXTS,
    &boot_config::BOOT_TEXTS,
    &sysctl::SETTINGS,
    &module::MODULES,
    &file::STATS,
    &file::DIGESTS,
    &blob::VERIFIED,
    &packages::PACKAGES,
    &cleanup::INSTALLED,
    &unit::UNITS,
    &certificates::STEPS,
    &disk::CONTENTS,
    &locale::LOCALES,
    &autoremove::UNNEEDED,
];

impl Resource {
    /// Makes a resource of a kind that this crate does not know.
    pub fn other(kind: impl ExternalKind) -> Resource {
        Resource::Other(Arc::new(kind))
    }

    /// Returns the resource if it is of this kind, which this crate does not know.
    pub fn as_other<K: ExternalKind>(&self) -> Option<&K> {
        match self {
            Resource::Other(kind) => (&**kind as &dyn Any).downcast_ref(),
            _ => None,
        }
    }

    /// Does something with what the resource is by its kind.
    pub(crate) fn with_kind<T>(&self, act: impl FnOnce(&dyn Kind) -> T) -> T {
        match self {
            Resource::File(file) => act(file),
            Resource::OwnedFolder(path) => act(&owned_folder::OwnedFolder(path)),
            Resource::Hostname(name) => act(&hostname::Hostname(name)),
            Resource::Hosts(entries) => act(&hosts::Hosts(entries)),
            Resource::Timezone(zone) => act(&timezone::Timezone(zone)),
            Resource::Locale(locale) => act(&locale::Locale(locale)),
            Resource::AptLists { max_age, sources } => act(&apt_lists::AptLists { max_age: *max_age, sources }),
            Resource::Packages(names) => act(&packages::Packages(names)),
            Resource::Hold(names) => act(&hold::Hold(names)),
            Resource::Autoremove => act(&autoremove::Autoremove),
            Resource::BootConfig(settings) => act(&boot_config::BootConfig(settings)),
            Resource::KernelArgs(tokens) => act(&kernel_args::KernelArgs(tokens)),
            Resource::MemoryCgroup => act(&kernel_args::MemoryCgroup),
            Resource::SwapOff => act(&swap::SwapOff),
            Resource::Modules(names) => act(&module::Modules(names)),
            Resource::Sysctls(values) => act(&sysctl::Sysctls(values)),
            Resource::Unit(unit) => act(unit),
            Resource::Blob(blob) => act(blob),
            Resource::Certificates(certificates) => act(certificates),
            Resource::Disk(disk) => act(disk),
            Resource::Step(step) => act(step),
            Resource::Cleanup(cleanup) => act(cleanup),
            Resource::Other(kind) => act(&**kind),
        }
    }
}
