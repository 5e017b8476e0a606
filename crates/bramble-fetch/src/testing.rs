//! What servers send, read without one: for the fuzz targets.

use crate::releases::{digests, image_names};
use crate::signatures::{fingerprints, signers};

/// Reads a list of digests, a list of images, and a text of keys.
pub fn read_lists(text: &str) {
    digests(text).ok();
    image_names(text).ok();
    fingerprints(text).ok();
}

/// Tells whether some bytes are a signature of other bytes with one of the pinned keys.
pub fn is_signature(signature: &[u8], data: &[u8]) -> bool {
    signers().iter().any(|signer| signer.key.verify(signature, data, "it").is_ok())
}
