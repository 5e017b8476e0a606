//! Releases of distributions: where they are published, and what is known of one.

use std::collections::BTreeMap;

use crate::prepare::LocalFile;

/// Where a distribution publishes its releases. A mirror has the same files below an address of its own.
#[derive(Debug, Clone, Copy)]
pub struct Upstream {
    /// The distribution, as in a cluster file.
    pub name: &'static str,
    /// Files are at `<downloads>/v<version>/<file>`.
    pub downloads: &'static str,
    /// What `<channels>/<channel>` leads to ends with the name of a release.
    pub channels: &'static str,
    /// The file with the digests of a release's files for an architecture (as Debian calls it).
    pub digests: fn(arch: &str) -> &'static str,
    /// The file with the names of a release's images.
    pub images: &'static str,
    /// The program of a version for an architecture.
    pub program: fn(version: &str, arch: &str) -> String,
    /// The archive of its images.
    pub archive: fn(version: &str, arch: &str) -> String,
}

/// A release of a distribution: what upstream publishes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Its version without `v`, such as `1.34.6+k3s1`.
    pub version: String,
    /// Its files by name, with upstream's digests, and where they are here, or will be when they are needed.
    pub files: BTreeMap<String, LocalFile>,
    /// The names of its images.
    pub images: Vec<String>,
    /// Whether nodes have to do without the network.
    pub offline: bool,
}
