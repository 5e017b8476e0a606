//! Which host keys are trusted: only those in known_hosts files, never one seen for the first time.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, PublicKey, parse_public_key_base64};

use crate::error::ConnectError;
use crate::known_hosts::{Lines, Marker, means, without};

/// The known_hosts files, each read once: a thousand nodes would otherwise read a thousand lines each, twice.
#[derive(Debug, Default)]
pub struct HostKeys {
    files: Vec<KnownHosts>,
}

#[derive(Debug)]
struct KnownHosts {
    path: PathBuf,
    lines: Mutex<Lines>,
}

impl KnownHosts {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
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

#[derive(Debug)]
pub(crate) enum Verdict {
    Known,
    Unknown(UnknownKey),
    Changed(Box<Changed>),
    Revoked { file: PathBuf, line: usize, fingerprint: String },
}

/// What was known of a host that shows another key.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    /// The type of the key that is known.
    pub(crate) known: Algorithm,
    /// The type of the key that the host shows.
    pub(crate) shown: Algorithm,
    pub(crate) fingerprint: String,
    /// The host in the file, if that is not the one to which bramble writes.
    pub(crate) elsewhere: Option<String>,
}

fn entry(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

impl HostKeys {
    /// Reads the files. They are asked in this order; new keys are written to the first. One that is not there knows
    /// nobody.
    ///
    /// # Errors
    /// One that is there cannot be read.
    pub fn open(files: impl IntoIterator<Item = PathBuf>) -> Result<HostKeys, ConnectError> {
        let mut texts = Vec::new();
        for path in files {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(source) => return Err(ConnectError::KnownHosts { path, source }),
            };
            texts.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
        Ok(HostKeys::parse(texts))
    }

    /// Reads the texts of files. They are asked in this order; new keys are written to the first.
    pub fn parse(texts: impl IntoIterator<Item = (PathBuf, String)>) -> HostKeys {
        let file = |(path, text): (PathBuf, String)| KnownHosts { path, lines: Mutex::new(Lines::parse(&text)) };
        HostKeys { files: texts.into_iter().map(file).collect() }
    }

    /// Gives the types of the keys that are known for a host: the server is asked for one of these first, as ssh does, since a
    /// key of another type can only be called a changed one.
    pub(crate) fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        names(host, port)
            .iter()
            .flat_map(|name| self.files.iter().map(|file| file.lines().keys(Marker::Host, name)))
            .find(|keys| !keys.is_empty())
            .unwrap_or_default()
            .into_iter()
            .map(|(_, key)| key.algorithm())
            .collect()
    }

    /// Lists the authorities that may vouch for a host.
    fn authorities(&self, host: &str, port: u16) -> Vec<PublicKey> {
        let names = names(host, port);
        let all =
            self.files.iter().flat_map(|file| names.iter().flat_map(|name| file.lines().keys(Marker::Authority, name)));
        all.map(|(_, key)| key).collect()
    }

    /// Tells whether some authority may vouch for a host.
    pub(crate) fn has_authority(&self, host: &str, port: u16) -> bool {
        !self.authorities(host, port).is_empty()
    }

    /// Judges a host's certificate, and if no authority vouches for it, the key in it, as ssh does.
    pub(crate) fn check_certificate(&self, host: &str, port: u16, certificate: &Certificate) -> Verdict {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        for key in [&key, &authority] {
            if let Some(revoked) = self.revoked(host, port, key) {
                return revoked;
            }
        }
        let trusted =
            self.authorities(host, port).iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect::<Vec<_>>();
        let principals = certificate.valid_principals();
        let named = principals.is_empty() || principals.iter().any(|name| means(name, &host.to_ascii_lowercase()));
        // No critical option means anything for hosts (PROTOCOL.certkeys of OpenSSH).
        let plain = certificate.cert_type() == CertType::Host && certificate.critical_options().is_empty();
        match named && plain && certificate.validate(&trusted).is_ok() {
            true => Verdict::Known,
            false => self.check(host, port, &key),
        }
    }

    pub(crate) fn check(&self, host: &str, port: u16, key: &PublicKey) -> Verdict {
        if let Some(revoked) = self.revoked(host, port, key) {
            return revoked;
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let mut changed = None;
        for (at, name) in names(host, port).into_iter().enumerate() {
            let all: Vec<_> = self.files.iter().map(|file| (file, file.lines().keys(Marker::Host, &name))).collect();
            if all.iter().any(|(_, keys)| keys.iter().any(|(_, known)| known.key_data() == key.key_data())) {
                return Verdict::Known;
            }
            // What is known without the port is of another sshd, unless it shows the same key.
            if at > 0 {
                break;
            }
            let others =
                all.iter().enumerate().flat_map(|(at, (file, keys))| keys.iter().map(move |known| (at, file, known)));
            // One of the same type says more.
            let other = others.min_by_key(|(_, _, (_, known))| known.algorithm() != key.algorithm());
            changed = other.map(|(at, file, (line, known))| Changed {
                file: file.path.clone(),
                line: *line,
                known: known.algorithm(),
                shown: key.algorithm(),
                fingerprint: fingerprint.clone(),
                elsewhere: (at > 0).then(|| name.clone()),
            });
        }
        match changed {
            Some(changed) => Verdict::Changed(Box::new(changed)),
            None => Verdict::Unknown(UnknownKey {
                host: entry(host, port),
                fingerprint,
                key: key.to_openssh().unwrap_or_default(),
            }),
        }
    }

    fn revoked(&self, host: &str, port: u16, key: &PublicKey) -> Option<Verdict> {
        let names = names(host, port);
        for file in &self.files {
            for (line, known) in names.iter().flat_map(|name| file.lines().keys(Marker::Revoked, name)) {
                if known.key_data() == key.key_data() {
                    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
                    return Some(Verdict::Revoked { file: file.path.clone(), line, fingerprint });
                }
            }
        }
        None
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
        if known.lines().keys(Marker::Host, &name).is_empty() {
            return Ok(());
        }
        let path = &known.path;
        let rewrite = || {
            let kept = without(&String::from_utf8_lossy(&fs::read(path)?), &name);
            bramble_files::replace_file(path, kept.as_bytes(), 0o600)?;
            Ok(kept)
        };
        let kept = rewrite().map_err(|source| ConnectError::KnownHosts { path: path.clone(), source })?;
        *known.lines() = Lines::parse(&kept);
        Ok(())
    }

    /// Trusts a key of a host that bramble itself made, beside those that are known already.
    pub fn pin(&self, host: &str, port: u16, public: &str) -> Result<(), ConnectError> {
        let host = entry(host, port);
        let known = |file: &KnownHosts| {
            let bytes = public.split_whitespace().nth(1).unwrap_or_default();
            file.lines().has_plain(&host, bytes)
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
            let mut file = fs::OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
            let end = file.seek(SeekFrom::End(0))?;
            let mut last = [b'\n'];
            if end > 0 {
                file.read_exact_at(&mut last, end - 1)?;
            }
            let gap = if last == [b'\n'] { "" } else { "\n" };
            let written =
                file.write_all(format!("{gap}{} {}\n", key.host, key.key).as_bytes()).and_then(|()| file.sync_all());
            // Half a line would be glued to the next one.
            written.or_else(|error| file.set_len(end).and(Err(error)))
        };
        write().map_err(|source| ConnectError::KnownHosts { path: path.clone(), source })?;
        if let Some(bytes) = key.key.split_whitespace().nth(1) {
            known.lines().add(&key.host, bytes);
        }
        Ok(())
    }
}

/// The names by which a host may be known: with its port, and, as ssh tries, without.
fn names(host: &str, port: u16) -> Vec<String> {
    let own = entry(host, port);
    if port == 22 { vec![own] } else { vec![own, host.to_owned()] }
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
        assert!(matches!(keys.check("10.0.0.9", 22, &one), Verdict::Revoked { line: 2, .. }));
        match keys.check("10.0.0.1", 22, &two) {
            Verdict::Changed(changed) => assert_eq!((changed.file, changed.line), (second, 3)),
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

    const RSA: &str = concat!(
        "AAAAB3NzaC1yc2EAAAADAQABAAABAQC54n37h6SS9j94fU4fVsrgqSzR616c+baEUo10X1X84kjJ0WArOk3zaS4jskIhUHDl2d9E",
        "Qul4bP3NAjGn1G2iQEhzPz7HDu5KZK/7D7a+9UrBCK7r0boqYeQQFubTtfPXsdg7f1SX09a5hKirJJigZry3F1AecZmM5ZCe0WZL",
        "DRO+liDruKrwwl7aHfC+mZu4QXoL5ZCRuJR/wND67EJWR6m3Z8Hk4B9JMNySFJMe7/Yz4304bAjis4c0ItQ6efp8vm4uE0SFb73A",
        "s0s/94UEw3JSeOlUZp/F7PpuDx9ez9b/nk9RqJaRP+CZYHJFCYlrjqWsZvMDS6NPQygiSn8V",
    );

    fn checked(text: &str, host: &str, port: u16, key: &str) -> Verdict {
        let keys = HostKeys::parse([(PathBuf::from("known_hosts"), text.to_owned())]);
        keys.check(host, port, &parse_public_key_base64(key).unwrap())
    }

    #[test]
    fn a_key_of_another_type_is_a_changed_key() {
        match checked(&format!("kube1 ssh-rsa {RSA}\n"), "kube1", 22, ONE) {
            Verdict::Changed(changed) => assert!(changed.known.clone().is_rsa() && changed.shown == Algorithm::Ed25519),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_two_known_keys_the_one_of_the_same_type_is_shown_as_changed() {
        let text = format!("kube1 ssh-rsa {RSA}\nkube1 ssh-ed25519 {TWO}\n");
        match checked(&text, "kube1", 22, ONE) {
            Verdict::Changed(changed) => assert_eq!(changed.line, 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_that_is_revoked_is_refused_also_if_another_line_trusts_it() {
        let text = format!("@revoked * ssh-ed25519 {ONE}\n10.77.0.50 ssh-ed25519 {ONE}\n");
        assert!(matches!(checked(&text, "10.77.0.50", 22, ONE), Verdict::Revoked { line: 1, .. }));
    }

    #[test]
    fn a_pattern_vouches_for_the_hosts_that_it_means() {
        assert!(matches!(checked(&format!("10.77.0.* ssh-ed25519 {ONE}\n"), "10.77.0.50", 22, ONE), Verdict::Known));
    }

    #[test]
    fn a_host_that_a_pattern_leaves_out_is_unknown() {
        let text = format!("10.77.0.*,!10.77.0.50 ssh-ed25519 {ONE}\n");
        assert!(matches!(checked(&text, "10.77.0.50", 22, ONE), Verdict::Unknown(_)));
    }

    #[test]
    fn a_hidden_name_after_a_plain_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, format!("10.77.0.50 ssh-ed25519 {ONE}\n")).unwrap();
        assert!(
            std::process::Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).status().unwrap().success()
        );
        let text = format!("10.77.0.50 ssh-rsa {}\n{}", RSA, fs::read_to_string(&file).unwrap());
        assert!(matches!(checked(&text, "10.77.0.50", 22, ONE), Verdict::Known));
    }

    #[test]
    fn a_key_that_is_known_without_the_port_is_known_as_ssh_has_it() {
        assert!(matches!(checked(&format!("kube1 ssh-ed25519 {ONE}\n"), "kube1", 2222, ONE), Verdict::Known));
    }

    #[test]
    fn another_key_on_another_port_is_of_another_server() {
        assert!(matches!(checked(&format!("kube1 ssh-ed25519 {TWO}\n"), "kube1", 2222, ONE), Verdict::Unknown(_)));
    }

    #[test]
    fn a_key_that_is_trusted_begins_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, format!("kube1 ssh-ed25519 {ONE}")).unwrap();
        let keys = HostKeys::open([file.clone()]).unwrap();
        keys.pin("kube2", 22, &format!("ssh-ed25519 {TWO}")).unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), format!("kube1 ssh-ed25519 {ONE}\nkube2 ssh-ed25519 {TWO}\n"));
    }
}
