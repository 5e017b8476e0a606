//! Which host keys are trusted: only those in known_hosts files, never one seen for the first time.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PublicKey};

use crate::error::ConnectError;

/// The known_hosts files that are asked, in this order. New keys are written to the first.
#[derive(Debug, Clone, Default)]
pub struct HostKeys {
    /// The files; one that does not exist knows nobody.
    pub files: Vec<PathBuf>,
}

/// A key that a host showed and nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// `address` or `[address]:port`, as known_hosts writes it.
    pub host: String,
    /// The digest a person compares, `SHA256:…`.
    pub fingerprint: String,
    /// The key in OpenSSH's form.
    pub key: String,
}

pub(crate) enum Verdict {
    Known,
    Unknown(UnknownKey),
    Changed { file: PathBuf, line: usize, fingerprint: String },
}

fn entry(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

impl HostKeys {
    /// The algorithms of the keys known for a host: the server is asked for one of these first, since a key of
    /// another kind could not be compared.
    pub(crate) fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let mut found = Vec::new();
        for file in &self.files {
            for (_, key) in russh::keys::known_hosts::known_host_keys_path(host, port, file).unwrap_or_default() {
                found.push(key.algorithm());
            }
        }
        found
    }

    pub(crate) fn check(&self, host: &str, port: u16, key: &PublicKey) -> Verdict {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let mut changed = None;
        for file in &self.files {
            match russh::keys::check_known_hosts_path(host, port, key, file) {
                Ok(true) => return Verdict::Known,
                Err(russh::keys::Error::KeyChanged { line }) => {
                    changed.get_or_insert((file.clone(), line));
                }
                _ => {}
            }
        }
        match changed {
            Some((file, line)) => Verdict::Changed { file, line, fingerprint },
            None => Verdict::Unknown(UnknownKey {
                host: entry(host, port),
                fingerprint,
                key: key.to_openssh().unwrap_or_default(),
            }),
        }
    }

    /// Trusts a key from now on. Call it only after somebody vouched for it.
    pub fn trust(&self, key: &UnknownKey) -> Result<(), ConnectError> {
        let Some(path) = self.files.first() else { return Ok(()) };
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            writeln!(file, "{} {}", key.host, key.key)
        };
        write().map_err(|source| ConnectError::KnownHosts { path: path.clone(), source })
    }
}
