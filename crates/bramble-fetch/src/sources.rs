//! Where a cluster's files are: those that its file names, those that were fetched, and those of a bundle.

use std::path::{Path, PathBuf};

use bramble_kube::{Archive, Programs, distribution};
use bramble_spec::{Cluster, WantedRelease};

use crate::error::{Context, Result};
use crate::image_archive::open_image_archive;
use crate::lockfile::LockFile;
use crate::releases::{Releases, arches};

/// Says what a cluster is made from, and where what is fetched for it is kept.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The folder of the cluster file.
    pub dir: &'a Path,
    /// The user's home folder, for `~`.
    pub home: Option<&'a Path>,
    /// The folder in which this project's manifests are kept; it may hold secrets.
    pub cache: PathBuf,
    /// The folder in which releases are kept, for all projects of the user. Images of systems are kept beside it.
    pub releases: PathBuf,
    /// The bundle that takes the place of the network.
    pub bundle: Option<&'a Path>,
}

impl Sources<'_> {
    /// Resolves a path as written in the cluster file: `~` is the home folder, anything relative starts at the file.
    pub fn path(&self, written: &str) -> PathBuf {
        match (written.strip_prefix("~/"), self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.dir.join(written),
        }
    }

    /// Opens the lock file beside the cluster file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lock_file(&self) -> Result<LockFile> {
        LockFile::open(&self.dir.join("bramble.lock"), self.cache.clone())
    }

    /// Opens the archives of images that the cluster file names.
    ///
    /// # Errors
    /// One of them cannot be read, or names no image.
    pub fn archives(&self) -> Result<Vec<Archive>> {
        let open = |written: &String| open_image_archive(&self.path(written)).context("a file of `archives`");
        self.cluster.archives.iter().map(open).collect()
    }

    /// Says where the programs of the cluster's distribution come from; nothing if there is none.
    pub(crate) fn programs(&self) -> Option<Programs<'_>> {
        distribution(self.cluster)?.programs(self.cluster)
    }

    /// Gives the release that the cluster file wants, if its distribution has releases of its own.
    pub fn wanted(&self) -> Option<&WantedRelease> {
        let Programs::Release { wanted, .. } = self.programs()? else { return None };
        Some(wanted)
    }

    /// Says where releases of the cluster's distribution come from, if it has releases of its own.
    pub fn releases(&self) -> Option<Releases> {
        let Programs::Release { upstream, mirror, .. } = self.programs()? else { return None };
        Some(Releases::new(upstream, mirror, self.bundle, &self.releases))
    }

    /// Lists the architectures that the boards' systems may have, as Debian calls them.
    pub fn arches(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = self.cluster.members().flat_map(|node| arches(node.board.arch)).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
