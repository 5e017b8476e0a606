//! A Debian container in which something is built.

use std::fs;
use std::path::{Path, PathBuf};

use bramble_spec::Arch;

use crate::cgroup::Group;
use crate::host::{Error, Event, Events, PathContext, remove_tree, require_root, stream, write};
use crate::lab::Lab;
use crate::network::enter;
use crate::root::{self, System};

/// The certificates that a Debian trusts.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The environment that tells programs to go through a proxy.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// A Debian container in which something is built: a fresh root, and the network of this machine.
#[derive(Debug)]
pub struct Builder {
    root: PathBuf,
    /// Folders of this machine, and where they are seen inside.
    binds: Vec<String>,
}

impl Builder {
    const RACK: &str = "_bundle";

    fn group() -> Group {
        Group::node(Builder::RACK, "builder")
    }

    /// Makes a Debian 13 root with these packages, which may be backports. There is one builder at a time: an earlier one whose
    /// supervisor was killed goes on by itself, so it is ended and removed first.
    pub fn create(lab: &Lab, mirror: &str, packages: &[&str], events: Events) -> Result<Builder, Error> {
        require_root()?;
        Builder::group().kill()?;
        let roots = lab.cache.join("roots");
        let root = roots.join("builder");
        remove_tree(&root)?;
        remove_tree(&root.with_extension("partial"))?;
        events(Event::Step("Building the builder's Debian root".into()));
        let suite = System::Trixie.name();
        let backports = format!("{suite}-backports");
        root::build(&roots, &root, packages, &[(mirror, suite), (mirror, &backports)], events)?;
        Ok(Builder { root, binds: Vec::new() })
    }

    /// The builder's root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Unpacks packages of another architecture, with what they need, into a new folder.
    pub fn unpack(&self, mirror: &str, arch: Arch, packages: &[&str], to: &Path, events: Events) -> Result<(), Error> {
        root::unpack(to, &arch.to_string(), packages, (mirror, System::Trixie.name()), events)
    }

    /// Shows a folder of this machine inside, at `place`.
    pub fn bind(&mut self, folder: &Path, place: &str) {
        self.binds.push(format!("--bind={}:{place}", folder.display()));
    }

    /// Runs a program of the builder's root to its end, passing each line that it prints on.
    pub fn run(&self, program: &str, args: &[&str], events: Events) -> Result<(), Error> {
        let resolv = self.root.join("etc/resolv.conf");
        fs::remove_file(&resolv).ok();
        let own = Path::new("/etc/resolv.conf");
        write(&resolv, fs::read(own).at("read", own)?, 0o644)?;
        // Whoever this machine trusts and goes through, such as a company's proxy.
        let trusted = Path::new(CERTIFICATES);
        if trusted.exists() {
            write(
                &self.root.join(CERTIFICATES.trim_start_matches('/')),
                fs::read(trusted).at("read", trusted)?,
                0o644,
            )?;
        }
        let group = Builder::group();
        let entries = group.create()?;
        let mut command = enter(&entries, "systemd-nspawn");
        command.args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"]);
        command.args(["--timezone=off", "--link-journal=no", "--machine=bramble-bundle"]);
        command.args(
            PROXIES.iter().filter(|name| std::env::var_os(name).is_some()).map(|name| format!("--setenv={name}")),
        );
        command.args(&self.binds).arg("--directory");
        command.arg(&self.root).arg(program).args(args);
        let result = stream(command, events);
        group.kill()?;
        Group::rack(Builder::RACK).remove()?;
        result
    }

    /// Removes the builder's root.
    pub fn remove(self) -> Result<(), Error> {
        remove_tree(&self.root)
    }
}
