//! The Debian root that all nodes share, built once.

use std::path::{Path, PathBuf};
use std::process::Command;

use bramble_spec::hex;
use sha2::{Digest, Sha256};

use crate::host::{Error, Event, Events, PathContext, remove_tree, run, stream};

/// The release that Raspberry Pi OS Bookworm is made of.
pub const SUITE: &str = "bookworm";

/// The packages of Raspberry Pi OS Lite that provisioning touches.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "cron",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
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
pub(crate) fn ensure(cache: &Path, mirror: &str, events: Events) -> Result<PathBuf, Error> {
    let digest = Sha256::digest(format!("1 {SUITE} {mirror} {}", PACKAGES.join(",")).as_bytes());
    let name = hex(&digest[..6]);
    let roots = cache.join("roots");
    let root = roots.join(format!("{SUITE}-{name}"));
    if root.exists() {
        return Ok(root);
    }
    events(Event::Step(format!("Building the nodes' Debian root ({SUITE}), once")));
    build(&roots, &root, mirror, PACKAGES, false, events)?;
    Ok(root)
}

/// Makes a Debian root beside its place and moves it there when it is whole.
pub(crate) fn build(
    parent: &Path,
    root: &Path,
    mirror: &str,
    packages: &[&str],
    sources: bool,
    events: Events,
) -> Result<(), Error> {
    std::fs::create_dir_all(parent).at("create", parent)?;
    let partial = root.with_extension("partial");
    remove_tree(&partial)?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=root", "--variant=apt", "--components=main", "--format=directory"]);
    command.arg("--aptopt=Apt::Install-Recommends \"false\"");
    command.arg(format!("--include={}", packages.join(",")));
    command.arg(SUITE).arg(&partial).arg(format!("deb {mirror} {SUITE} main"));
    if sources {
        command.arg(format!("deb-src {mirror} {SUITE} main"));
    }
    stream(command, events)?;
    std::fs::rename(&partial, root).at("move into place", root)
}
