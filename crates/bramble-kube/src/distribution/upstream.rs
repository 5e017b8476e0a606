//! Releases of distributions: where they are published, and what is known of one.

use std::collections::BTreeMap;

use bramble_spec::{Arch, Node, Problem};
use bramble_state::{Blob, BlobSource, Observation, Resource};

use crate::files::LocalFile;

/// An image with a small HTTP server and client, from where everybody can pull it.
pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:1.36";

/// The place where a distribution publishes its releases. A mirror has the same files below an address of its own.
#[derive(Debug, Clone, Copy)]
pub struct Upstream {
    /// The distribution, as in a cluster file.
    pub name: &'static str,
    /// Files are at `<downloads>/v<version>/<file>`.
    pub downloads: &'static str,
    /// Gives the address of a channel: what it leads to, or has in it, ends with the name of a channel's release;
    /// `None` if there is no such channel.
    pub channel: fn(channel: &str) -> Option<String>,
    /// The file with the digests of a release's files for an architecture (as Debian calls it).
    pub digests: fn(arch: &str) -> &'static str,
    /// The file with the names of a release's images for an architecture.
    pub images: fn(arch: &str) -> &'static str,
    /// The architectures that it has programs for.
    pub architectures: &'static [&'static str],
    /// The program of a version for an architecture.
    pub program: fn(version: &str, arch: &str) -> String,
    /// The archive of its images; upstream may have none.
    pub archive: fn(version: &str, arch: &str) -> String,
    /// Whether it is the snap store, which has neither digests nor names of images beside the program: bramble writes
    /// them down itself.
    pub store: bool,
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
    /// The addresses of files that do not lie beside the others, by name.
    pub urls: BTreeMap<String, String>,
    /// Whether nodes have to do without the network.
    pub offline: bool,
}

impl Upstream {
    /// Lists the files of a release for an architecture: its program with what that needs, and the archive of its
    /// images.
    pub fn files(&self, release: &Release, arch: &str) -> Vec<String> {
        if self.store {
            let own =
                |name: &&String| name.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with(&format!("_{arch}")));
            return release.files.keys().filter(own).cloned().collect();
        }
        vec![(self.program)(&release.version, arch), (self.archive)(&release.version, arch)]
    }

    /// Writes one of the files that describe a release, where upstream has none.
    pub fn described(&self, release: &Release, file: &str) -> String {
        let arches = || self.architectures.iter().filter(|arch| (self.digests)(arch) == file);
        let digests = arches().flat_map(|arch| self.files(release, arch));
        let lines = digests.filter_map(|name| Some(format!("{}  {name}\n", release.files.get(&name)?.sha256)));
        match arches().next() {
            Some(_) => lines.collect(),
            None => release.images.iter().map(|image| format!("{image}\n")).collect(),
        }
    }

    /// Says what stands against a node whose system no program of the release runs on.
    pub(crate) fn check(&self, release: Option<&Release>, node: &Node, seen: &Observation) -> Option<Problem> {
        let arch = seen.facts.arch.as_str();
        if !self.architectures.contains(&arch) {
            let message = format!("its system is {arch}, and there is no {} for it", self.name);
            return Some(Problem::error(message, &node.name));
        }
        let release = release?;
        let program = (self.program)(&release.version, arch);
        (!release.files.contains_key(&program)).then(|| {
            let message = format!(
                "its system is {arch}, and the release {} has no {program}; a {} takes another system",
                release.version, node.board.name
            );
            Problem::error(message, &node.name)
        })
    }
}

/// Gives the architecture of a node's system, or before it was looked at the one that its board usually has.
pub(crate) fn arch<'a>(node: &Node, seen: &'a Observation) -> &'a str {
    match (seen.facts.arch.as_str(), node.board.arch) {
        ("", Arch::Arm64) => "arm64",
        ("", Arch::Amd64) => "amd64",
        (known, _) => known,
    }
}

impl Release {
    /// Finds an image of the release with a small HTTP server and client; where the network can be reached, any one
    /// will do.
    pub(crate) fn small_image(&self) -> Option<String> {
        let own = self.images.iter().find(|image| image.contains("busybox")).cloned();
        own.or_else(|| (!self.offline).then(|| BUSYBOX.to_owned()))
    }

    /// Puts a file of the release at its place on a node.
    pub(crate) fn blob(&self, name: &str, path: &str, mode: &str) -> Option<Resource> {
        let file = self.files.get(name)?;
        let source = BlobSource::Upload(file.path.clone());
        Some(Resource::Blob(Blob { path: path.into(), sha256: file.sha256.clone(), mode: mode.into(), source }))
    }
}

/// Reads the `36` of `1.36.3+k3s1`; of a channel without a number, more than any.
pub fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX)
}
