//! What must hold of any known_hosts file and any output of ssh or of a node's relay.

use std::path::PathBuf;

use bramble_remote::{HostKeys, SshConfig, public_keys, relay_events};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// A known_hosts file: what is added to it is known, if it is not revoked, and what is known is plain.
pub(crate) fn known_hosts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let read = |text: String| HostKeys::parse([(PathBuf::from("known_hosts"), text)]);
    let keys = read(text.clone());
    for (host, port) in [("kube1", 22), ("10.0.0.1", 2222), ("", 0)] {
        keys.knows(host, port, KEY);
    }
    let more = read(format!("{text}\nkube1 {KEY}\n"));
    assert!(more.knows("kube1", 22, KEY) || text.contains("@revoked"));
}

/// What `ssh -G` prints; and a file of public keys: what is taken of it is lines, without anything that steers a terminal.
pub(crate) fn ssh_config(bytes: &[u8]) {
    let config = SshConfig::parse(&String::from_utf8_lossy(bytes));
    assert!(config.identities.len() <= bytes.len() && config.jump.len() <= bytes.len());
    for key in public_keys(bytes).unwrap_or_default() {
        assert!(!key.chars().any(|letter| letter.is_control() && letter != '\t'), "{key:?}");
    }
}

/// What a relay says, whole and in pieces: it means the same.
pub(crate) fn relay(bytes: &[u8]) {
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    assert_eq!(relay_events(&[bytes]), relay_events(&[first, rest]));
}
