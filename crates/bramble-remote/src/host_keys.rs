//! Which host keys are trusted: only those in known_hosts files, never one seen for the first time.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PublicKey, parse_public_key_base64};

use crate::error::ConnectError;

/// The known_hosts files, each read once: a thousand nodes would otherwise read a thousand lines each, twice.
#[derive(Debug, Default)]
pub struct HostKeys {
    files: Vec<KnownHosts>,
}

#[derive(Debug)]
struct KnownHosts {
    path: PathBuf,
    /// By host as known_hosts writes it: line number and key in base64.
    plain: Mutex<HashMap<String, Vec<(usize, String)>>>,
    /// Whether there are names that only a search finds, as `HashKnownHosts` makes them.
    hashed: bool,
}

impl KnownHosts {
    /// A file that is not there knows nobody.
    fn open(path: PathBuf) -> Result<KnownHosts, ConnectError> {
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConnectError::KnownHosts { path, source }),
        };
        let mut plain: HashMap<String, Vec<(usize, String)>> = HashMap::new();
        let mut hashed = false;
        for (line, text) in (1..).zip(text.lines()) {
            let mut words = text.split_whitespace();
            // Lines with a marker, `@revoked` or `@cert-authority`, have another word first, and vouch for nobody here.
            let (Some(hosts), Some(_), Some(key)) = (words.next(), words.next(), words.next()) else { continue };
            if hosts.starts_with(['#', '@']) {
                continue;
            }
            hashed |= hosts.starts_with('|');
            for host in hosts.split(',') {
                plain.entry(host.to_owned()).or_default().push((line, key.to_owned()));
            }
        }
        Ok(KnownHosts { path, plain: Mutex::new(plain), hashed })
    }

    fn plain(&self) -> MutexGuard<'_, HashMap<String, Vec<(usize, String)>>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self, host: &str, port: u16) -> Vec<(usize, PublicKey)> {
        let plain: Vec<_> = match self.plain().get(&entry(host, port)) {
            Some(lines) => {
                lines.iter().filter_map(|(line, key)| Some((*line, parse_public_key_base64(key).ok()?))).collect()
            }
            None => Vec::new(),
        };
        if plain.is_empty() && self.hashed {
            return russh::keys::known_hosts::known_host_keys_path(host, port, &self.path).unwrap_or_default();
        }
        plain
    }
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
    /// Reads the files. They are asked in this order; new keys are written to the first.
    ///
    /// # Errors
    /// One that is there cannot be read.
    pub fn open(files: impl IntoIterator<Item = PathBuf>) -> Result<HostKeys, ConnectError> {
        Ok(HostKeys { files: files.into_iter().map(KnownHosts::open).collect::<Result<_, _>>()? })
    }

    /// The algorithms of the keys known for a host: the server is asked for one of these first, since a key of
    /// another kind could not be compared.
    pub(crate) fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let keys = self.files.iter().map(|file| file.keys(host, port)).find(|keys| !keys.is_empty());
        keys.unwrap_or_default().into_iter().map(|(_, key)| key.algorithm()).collect()
    }

    pub(crate) fn check(&self, host: &str, port: u16, key: &PublicKey) -> Verdict {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let mut changed = None;
        for file in &self.files {
            for (line, known) in file.keys(host, port) {
                if known == *key {
                    return Verdict::Known;
                }
                if known.algorithm() == key.algorithm() {
                    changed.get_or_insert((file.path.clone(), line));
                }
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

    /// Whether this is a key of a host, in OpenSSH's form.
    pub fn knows(&self, host: &str, port: u16, public: &str) -> bool {
        let key = parse_public_key_base64(public.split_whitespace().nth(1).unwrap_or_default());
        key.is_ok_and(|key| matches!(self.check(host, port, &key), Verdict::Known))
    }

    /// Forgets the keys of a host, in the file to which new ones are written: another machine is met in its place.
    pub fn forget(&self, host: &str, port: u16) -> Result<(), ConnectError> {
        let Some(known) = self.files.first() else { return Ok(()) };
        let name = entry(host, port);
        if known.plain().remove(&name).is_none() {
            return Ok(());
        }
        let path = &known.path;
        let rewrite = || {
            let text = fs::read_to_string(path)?;
            let others = |line: &&str| line.split_whitespace().next().is_none_or(|hosts| hosts != name);
            let kept: String = text.lines().filter(others).map(|line| format!("{line}\n")).collect();
            let fresh = path.with_extension("new");
            let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(kept.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        };
        rewrite().map_err(|source| ConnectError::KnownHosts { path: path.clone(), source })
    }

    /// Trusts a key of a host that bramble itself made, beside those that are known already.
    pub fn pin(&self, host: &str, port: u16, public: &str) -> Result<(), ConnectError> {
        let host = entry(host, port);
        let known = |file: &KnownHosts| {
            let bytes = public.split_whitespace().nth(1).unwrap_or_default();
            file.plain().get(&host).is_some_and(|keys| keys.iter().any(|(_, key)| key == bytes))
        };
        if self.files.first().is_some_and(known) {
            return Ok(());
        }
        self.trust(&UnknownKey { host, fingerprint: String::new(), key: public.to_owned() })
    }

    /// Trusts a key from now on. Call it only after somebody vouched for it.
    pub fn trust(&self, key: &UnknownKey) -> Result<(), ConnectError> {
        let Some(known) = self.files.first() else { return Ok(()) };
        let path = &known.path;
        let write = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            writeln!(file, "{} {}", key.host, key.key)
        };
        write().map_err(|source| ConnectError::KnownHosts { path: path.clone(), source })?;
        if let Some(bytes) = key.key.split_whitespace().nth(1) {
            // Its line has no number before the file is read again.
            known.plain().entry(key.host.clone()).or_default().push((0, bytes.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    #[test]
    fn keys_are_found_by_name_address_port_and_digest_of_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        fs::write(
            &second,
            format!(
                "# a comment\n@revoked 10.0.0.9 ssh-ed25519 {ONE}\n10.0.0.1,kube1 ssh-ed25519 {ONE} someone\n\n\
                 [10.0.0.1]:2222\tssh-ed25519 {TWO}\n"
            ),
        )
        .unwrap();
        let keys = HostKeys::open([first.clone(), second.clone()]).unwrap();
        let (one, two) = (parse_public_key_base64(ONE).unwrap(), parse_public_key_base64(TWO).unwrap());
        for (host, port, key) in [("10.0.0.1", 22, &one), ("kube1", 22, &one), ("10.0.0.1", 2222, &two)] {
            assert!(matches!(keys.check(host, port, key), Verdict::Known), "{host} {port}");
            assert_eq!(keys.algorithms(host, port), [Algorithm::Ed25519]);
        }
        assert!(matches!(keys.check("10.0.0.9", 22, &one), Verdict::Unknown(_)));
        match keys.check("10.0.0.1", 22, &two) {
            Verdict::Changed { file, line, .. } => assert_eq!((file, line), (second, 3)),
            _ => panic!("another key is a changed key"),
        }
        let Verdict::Unknown(met) = keys.check("10.0.0.2", 22, &two) else { panic!("nobody knows it") };
        keys.trust(&met).unwrap();
        assert!(matches!(keys.check("10.0.0.2", 22, &two), Verdict::Known));
        assert!(
            matches!(HostKeys::open([first.clone()]).unwrap().check("10.0.0.2", 22, &two), Verdict::Known),
            "it is in the file"
        );
        keys.forget("10.0.0.2", 22).unwrap();
        assert!(matches!(keys.check("10.0.0.2", 22, &two), Verdict::Unknown(_)));
        assert!(
            matches!(HostKeys::open([first]).unwrap().check("10.0.0.2", 22, &two), Verdict::Unknown(_)),
            "nor in the file"
        );
    }

    #[test]
    fn a_name_that_is_hidden_by_its_digest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, format!("kube1 ssh-ed25519 {ONE}\n")).unwrap();
        let hashed = std::process::Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).status().unwrap();
        assert!(hashed.success() && !fs::read_to_string(&file).unwrap().contains("kube1"));
        let keys = HostKeys::open([file]).unwrap();
        assert!(matches!(keys.check("kube1", 22, &parse_public_key_base64(ONE).unwrap()), Verdict::Known));
    }
}
