//! Keys that bramble makes for boards.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;

/// An Ed25519 key in OpenSSH's forms.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private half, with its newlines.
    pub private: String,
    /// The public half, one line.
    pub public: String,
}

impl KeyPair {
    /// The key that follows from a secret seed; `None` if it cannot be written down.
    pub fn from_seed(seed: &[u8; 32], comment: &str) -> Option<KeyPair> {
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(seed));
        key.set_comment(comment);
        Some(KeyPair {
            private: key.to_openssh(LineEnding::LF).ok()?.to_string(),
            public: key.public_key().to_openssh().ok()?,
        })
    }
}
