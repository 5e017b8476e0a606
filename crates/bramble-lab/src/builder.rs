//! A Debian container in which something is built.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::Group;
use crate::host::{Error, Event, Events, PathContext, remove_tree, require_root, stream, write};
use crate::lab::Lab;
use crate::network::enter;
use crate::root;

/// A Debian container in which something is built: a fresh root, and the network of this machine.
#[derive(Debug)]
pub struct Builder {
    root: PathBuf,
}

impl Builder {
    const RACK: &str = "_bundle";

    fn group() -> Group {
        Group::node(Builder::RACK, "builder")
    }

    /// Makes a Debian root with these packages and Debian's sources. There is one builder at a time: an earlier one whose
    /// supervisor was killed goes on by itself, so it is ended and removed first.
    pub fn create(lab: &Lab, mirror: &str, packages: &[&str], events: Events) -> Result<Builder, Error> {
        require_root()?;
        Builder::group().kill()?;
        let roots = lab.cache.join("roots");
        let root = roots.join("builder");
        remove_tree(&root)?;
        remove_tree(&root.with_extension("partial"))?;
        events(Event::Step("Building the builder's Debian root".into()));
        root::build(&roots, &root, mirror, packages, true, events)?;
        Ok(Builder { root })
    }

    /// The builder's root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a program of the builder's root to its end, passing each line that it prints on.
    pub fn run(&self, program: &str, args: &[&str], events: Events) -> Result<(), Error> {
        let resolv = self.root.join("etc/resolv.conf");
        fs::remove_file(&resolv).ok();
        let own = Path::new("/etc/resolv.conf");
        write(&resolv, fs::read(own).at("read", own)?, 0o644)?;
        let group = Builder::group();
        let entries = group.create()?;
        let mut command = enter(&entries, "systemd-nspawn");
        command.args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"]);
        command.args(["--timezone=off", "--link-journal=no", "--machine=bramble-bundle", "--directory"]);
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
