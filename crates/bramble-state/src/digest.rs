//! Digests, and the names that are made of them.

use bramble_spec::hex;
use sha2::{Digest, Sha256};

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Tells whether a text is a digest as `sha256sum` prints it.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Names an entry of the ledger by what it remembers.
pub fn entry_hash(kind: &str, name: &str) -> String {
    short(&format!("{kind}:{name}"))
}

/// Names something by a text that no file name can hold.
pub(crate) fn short(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}
