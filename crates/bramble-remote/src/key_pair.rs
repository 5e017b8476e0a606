//! Keys that bramble makes for boards.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;

/// The Ed25519 key that follows from a secret seed, in OpenSSH's forms: the private half with its newlines, and the public
/// half in one line; `None` if it cannot be written down.
pub fn new_key_pair(seed: &[u8; 32], comment: &str) -> Option<(String, String)> {
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(seed));
    key.set_comment(comment);
    Some((key.to_openssh(LineEnding::LF).ok()?.to_string(), key.public_key().to_openssh().ok()?))
}
