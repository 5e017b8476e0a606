//! Digests of files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bramble_spec::{Sha256Digest, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use sha3::Sha3_384;

use crate::error::{Context, Result, bail, failure};

/// More than any image of a system has when it is unpacked, in bytes.
const UNPACKED_LIMIT: u64 = 256 << 30;

/// A digest in hexadecimal digits, `BYTES` of them: it becomes the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digits<const BYTES: usize>(String);

/// SHA-512, in hexadecimal digits.
pub(crate) type Sha512Digits = Digits<64>;
/// SHA3-384, in hexadecimal digits.
pub(crate) type Sha3Digits = Digits<48>;

impl<const BYTES: usize> Digits<BYTES> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const BYTES: usize> TryFrom<String> for Digits<BYTES> {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Digits(text.to_ascii_lowercase())),
            false => Err(format!("`{}` is no digest of {BYTES} bytes", text.escape_debug())),
        }
    }
}

impl<const BYTES: usize> From<Digits<BYTES>> for String {
    fn from(digits: Digits<BYTES>) -> String {
        digits.0
    }
}

/// The digest that was published for a file.
#[derive(Clone, Copy)]
pub(crate) enum Digest<'a> {
    Sha256(&'a Sha256Digest),
    Sha512(&'a Sha512Digits),
    /// Of what is packed in it.
    Unpacked(&'a Sha256Digest),
    Sha3(&'a Sha3Digits),
}

impl Digest<'_> {
    /// Computes the digest of this kind of a file, in hexadecimal digits.
    pub(crate) fn of(self, path: &Path) -> Result<String> {
        match self {
            Digest::Sha256(_) => Ok(file_digest(path)?.to_string()),
            Digest::Unpacked(_) => {
                let packed = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                let cannot = || format!("cannot unpack {}", path.display());
                let image = bramble_image::decompress(packed).with_context(cannot)?;
                let mut hasher = Sha256::new();
                let copied = std::io::copy(&mut image.take(UNPACKED_LIMIT + 1), &mut hasher).with_context(cannot)?;
                if copied > UNPACKED_LIMIT {
                    bail!("{} unpacks to more than any image has: it is refused", path.display());
                }
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
            Digest::Sha3(digest) => digest.as_str().to_owned(),
            Digest::Sha512(digest) => digest.as_str().to_owned(),
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

/// Computes the SHA-256 digest of a text.
pub(crate) fn text_digest(text: &str) -> Result<Sha256Digest> {
    let digits = hex(&Sha256::digest(text.as_bytes()));
    digits.parse().map_err(|_| failure!("`{digits}` is not a SHA-256 digest"))
}

/// Computes the digest by which the snap store knows a file, in hexadecimal digits.
fn sha3_384(path: &Path) -> Result<String> {
    hashed::<Sha3_384>(path)
}

fn hashed<D: sha2::Digest + std::io::Write>(path: &Path) -> Result<String> {
    let mut hasher = D::new();
    let copied = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    copied.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex(&hasher.finalize()))
}
