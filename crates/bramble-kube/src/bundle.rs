//! Bundles: everything an installation needs, offline.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bramble_spec::{Arch, KubeVersion, Sha256Digest};
use serde::{Deserialize, Serialize};

/// Everything an installation needs, offline: a folder with a manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// Its contents.
    pub manifest: BundleManifest,
}

/// What belongs to a containerd: itself, the program beside each pod, its client (containerd, docs/getting-started.md).
pub const CONTAINERD_PROGRAMS: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "ctr"];

/// The contents of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// The version of Kubernetes, with its patch.
    pub kubernetes: KubeVersion,
    /// The registry under whose name the images are stored on the nodes.
    pub image_repository: String,
    /// The tag of the etcd image.
    pub etcd_tag: String,
    /// The whole name of the pause image.
    pub pause_image: String,
    /// The whole name of an image with a small HTTP server and client, for the smoke test.
    pub smoke_image: String,
    /// The version of the containerd among its programs, without `v`; without one the nodes' systems have theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
    /// What there is for each processor that boards may have.
    pub files: BTreeMap<Arch, BundleFiles>,
}

/// What a bundle has for one processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFiles {
    /// The programs.
    pub programs: Vec<BundleFile>,
    /// The images, as Docker archives.
    pub images: Vec<BundleFile>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// A program's name, or an image's whole name with its tag.
    pub name: String,
    /// Its path below the bundle's folder.
    pub path: String,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether only control planes need it.
    pub control_plane_only: bool,
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not there.
    #[error("there is no bundle at {}: {source}; make one with `bramble lab bundle`", path.display())]
    Missing {
        /// Its place.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Its bytes are not those of its manifest.
    #[error("the bundle at {} is damaged: {reason}; make it again as it was made", path.display())]
    Damaged {
        /// The bundle.
        path: PathBuf,
        /// The damage.
        reason: String,
    },
}

impl BundleManifest {
    /// Lists the images for all processors.
    pub fn images(&self) -> impl Iterator<Item = &BundleFile> {
        self.files.values().flat_map(|files| &files.images)
    }

    /// Lists all files.
    pub fn all(&self) -> impl Iterator<Item = &BundleFile> {
        self.files.values().flat_map(|files| files.programs.iter().chain(&files.images))
    }
}

impl Bundle {
    /// The name of the manifest in the bundle's folder.
    pub const MANIFEST: &str = "manifest.json";

    /// Tells whether there is one in a folder.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(Self::MANIFEST).exists()
    }

    /// Opens a bundle and checks that its files are there with the right sizes; digests are checked when they are used.
    pub fn open(dir: &Path) -> Result<Bundle, BundleError> {
        let path = dir.join(Self::MANIFEST);
        let text = fs::read(&path).map_err(|source| BundleError::Missing { path: path.clone(), source })?;
        let damaged = |reason: String| BundleError::Damaged { path: dir.to_owned(), reason };
        let manifest: BundleManifest =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("{}: {e}", Self::MANIFEST)))?;
        for file in manifest.all() {
            let path = dir.join(&file.path);
            let size = fs::metadata(&path).map_err(|e| damaged(format!("{}: {e}", file.path)))?.len();
            if size != file.size {
                return Err(damaged(format!("{} has {size} bytes instead of {}", file.path, file.size)));
            }
        }
        Ok(Bundle { dir: dir.to_owned(), manifest })
    }

    /// Gives what it has for a node's system, called by Debian's name of its architecture.
    pub fn files(&self, arch: &str) -> Option<&BundleFiles> {
        self.manifest.files.iter().find_map(|(own, files)| (own.to_string() == arch).then_some(files))
    }

    /// Gives the tag of its CoreDNS image, if it has one.
    pub fn dns_tag(&self) -> Option<&str> {
        // In the project's own registry it has a folder of its own (kubeadm, GetDNSImage).
        let own = ["coredns", "coredns/coredns"].map(|name| format!("{}/{name}:", self.manifest.image_repository));
        self.manifest.images().find_map(|image| own.iter().find_map(|prefix| image.name.strip_prefix(prefix)))
    }
}
