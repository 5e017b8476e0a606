//! Files on this machine that nodes are given.

use std::path::PathBuf;

use bramble_spec::Sha256Digest;

use crate::manifest::Platform;

/// A file here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Its place.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// An archive of container images, here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The whole names of its images, each with the processors that it was made for: at least one name.
    pub images: Vec<(String, Vec<Platform>)>,
    /// Its place.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Sha256Digest,
}
