//! The Debian root that all nodes share, built once.

use std::path::{Path, PathBuf};
use std::process::Command;

use bramble_spec::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::host::{Error, Event, Events, PathContext, remove_tree, run, stream};

/// A release of Debian, of which Raspberry Pi OS is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Debian 13.
    #[default]
    Trixie,
    /// Debian 12.
    Bookworm,
}

impl System {
    /// All of them.
    pub const ALL: [System; 2] = [System::Trixie, System::Bookworm];

    /// Finds one by its name.
    pub fn named(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Lists the packages of its boards.
    fn packages(self) -> impl Iterator<Item = &'static str> {
        let more: &[&str] = match self {
            System::Trixie => &["cloud-init", "netplan.io", "network-manager"],
            System::Bookworm => &[],
        };
        PACKAGES.iter().chain(more).copied()
    }

    /// Gives the name of the release.
    pub fn name(self) -> &'static str {
        match self {
            System::Trixie => "trixie",
            System::Bookworm => "bookworm",
        }
    }
}

/// The packages of Raspberry Pi OS Lite, of all its releases, that provisioning touches.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "cron",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    // No board's: `lab clock` sets a clock with it.
    "libfaketime",
    "libpam-systemd",
    "locales",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
];

/// Unpacks packages of an architecture, with what they need, into a new folder: nothing of them is run.
pub(crate) fn unpack(
    to: &Path,
    arch: &str,
    packages: &[&str],
    (mirror, suite): (&str, &str),
    events: Events,
) -> Result<(), Error> {
    std::fs::create_dir_all(to).at("create", to)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "mmdebstrap", "--mode=root", "--variant=extract", "--format=directory"]);
    command.arg(format!("--architectures={arch}")).arg(format!("--include={}", packages.join(",")));
    command.arg(suite).arg(to).arg(format!("deb {mirror} {suite} main"));
    stream(command, events)?;
    // The names by which programs call what loads them (Debian's base-files).
    for name in ["lib", "lib64"] {
        let link = to.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), &link).at("make the link", &link)?;
        }
    }
    Ok(())
}

/// The Debian mirror this machine itself uses, so that the lab asks no other.
pub(crate) fn host_mirror() -> Result<String, Error> {
    let none = || {
        Error::Request(
            "this machine's apt names no Debian mirror; name one with --mirror, such as http://mirror/debian".into(),
        )
    };
    let targets =
        run("apt-get", &["indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"])?;
    let main = |line: &&str| line.starts_with("Debian main ") && !line.contains("security");
    let line = targets.lines().find(main).ok_or_else(none)?;
    line.rsplit(' ').next().map(|uri| uri.trim_end_matches('/').to_owned()).ok_or_else(none)
}

/// The folder of the shared root; builds it if it is not cached.
pub(crate) fn ensure(cache: &Path, mirror: &str, system: System, events: Events) -> Result<PathBuf, Error> {
    let suite = system.name();
    let packages: Vec<&str> = system.packages().collect();
    let digest = Sha256::digest(format!("1 {suite} {mirror} {}", packages.join(",")).as_bytes());
    let name = hex(&digest[..6]);
    let roots = cache.join("roots");
    let root = roots.join(format!("{suite}-{name}"));
    if root.exists() {
        return Ok(root);
    }
    events(Event::Step(format!("Building the nodes' Debian root ({suite}), once")));
    build(&roots, &root, &packages, &[(mirror, suite)], events)?;
    Ok(root)
}

/// Makes a Debian root beside its place and moves it there when it is whole. `sources`: mirrors with a suite each, of
/// which the first is the root's own.
pub(crate) fn build(
    parent: &Path,
    root: &Path,
    packages: &[&str],
    sources: &[(&str, &str)],
    events: Events,
) -> Result<(), Error> {
    std::fs::create_dir_all(parent).at("create", parent)?;
    let partial = root.with_extension("partial");
    remove_tree(&partial)?;
    // What it mounts is gone with it, however it ends.
    let mut command = Command::new("unshare");
    command.args(["--mount", "mmdebstrap", "--mode=root", "--variant=apt", "--components=main", "--format=directory"]);
    command.arg("--aptopt=Apt::Install-Recommends \"false\"");
    command.arg(format!("--include={}", packages.join(",")));
    command.args(sources.first().map(|(_, suite)| suite)).arg(&partial);
    command.args(sources.iter().map(|(mirror, suite)| format!("deb {mirror} {suite} main")));
    stream(command, events)?;
    std::fs::rename(&partial, root).at("move into place", root)
}
