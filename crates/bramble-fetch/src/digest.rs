//! Digests of files.

use std::fs::File;
use std::path::Path;

use bramble_spec::{Sha256Digest, hex};
use sha2::{Digest as _, Sha256, Sha512};
use sha3::Sha3_384;

use crate::error::{Context, Result, failure};

/// The digest that was published for a file.
#[derive(Clone, Copy)]
pub(crate) enum Digest<'a> {
    Sha256(&'a Sha256Digest),
    /// SHA-512, in hexadecimal digits.
    Sha512(&'a str),
    /// Of what is packed in it.
    Unpacked(&'a Sha256Digest),
    /// SHA3-384, in hexadecimal digits.
    Sha3(&'a str),
}

impl Digest<'_> {
    /// Computes the digest of this kind of a file, in hexadecimal digits.
    pub(crate) fn of(self, path: &Path) -> Result<String> {
        match self {
            Digest::Sha256(_) => Ok(file_digest(path)?.to_string()),
            Digest::Unpacked(_) => {
                let packed = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                let cannot = || format!("cannot unpack {}", path.display());
                let mut image = bramble_image::decompress(packed).with_context(cannot)?;
                let mut hasher = Sha256::new();
                std::io::copy(&mut image, &mut hasher).with_context(cannot)?;
                Ok(hex(&hasher.finalize()))
            }
            Digest::Sha512(_) => hashed::<Sha512>(path),
            Digest::Sha3(_) => sha3_384(path),
        }
    }

    /// Gives the published digest in hexadecimal digits.
    pub(crate) fn published(self) -> String {
        match self {
            Digest::Sha256(digest) | Digest::Unpacked(digest) => digest.to_string(),
            Digest::Sha3(digest) | Digest::Sha512(digest) => digest.to_owned(),
        }
    }
}

/// Computes the SHA-256 digest of a file.
///
/// # Errors
/// The file cannot be read.
pub fn file_digest(path: &Path) -> Result<Sha256Digest> {
    let digits = hashed::<Sha256>(path)?;
    digits.parse().map_err(|_| failure!("`{digits}` is not a SHA-256 digest"))
}

/// Computes the digest by which the snap store knows a file, in hexadecimal digits.
pub(crate) fn sha3_384(path: &Path) -> Result<String> {
    hashed::<Sha3_384>(path)
}

fn hashed<D: sha2::Digest + std::io::Write>(path: &Path) -> Result<String> {
    let mut hasher = D::new();
    let copied = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    copied.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex(&hasher.finalize()))
}
