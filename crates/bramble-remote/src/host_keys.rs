//! Which host keys are trusted: only those in known_hosts files, never one seen for the first time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, PublicKey, parse_public_key_base64};

use crate::connection::Target;
use crate::error::ConnectError;
use crate::known_hosts::{Lines, Marker, means, without};

/// The known_hosts files, each read once: a thousand nodes would otherwise read a thousand lines each, twice.
#[derive(Debug, Default)]
pub struct HostKeys {
    files: Vec<Arc<KnownHosts>>,
    /// Those that some hosts have besides.
    more: Mutex<BTreeMap<PathBuf, Arc<KnownHosts>>>,
}

#[derive(Debug)]
struct KnownHosts {
    path: PathBuf,
    lines: Mutex<Lines>,
}

impl KnownHosts {
    /// Reads a file; one that is not there knows nobody.
    fn open(path: PathBuf) -> Result<KnownHosts, ConnectError> {
        match fs::read(&path) {
            Ok(bytes) => Ok(KnownHosts::parse(path, &String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(KnownHosts::parse(path, "")),
            Err(source) => Err(ConnectError::KnownHosts { path, source }),
        }
    }

    /// Reads a file of public keys, one in a line, that no host may show. ssh refuses all hosts where it cannot be read.
    fn open_revoked(path: PathBuf) -> Result<KnownHosts, ConnectError> {
        let refuse = |source| ConnectError::KnownHosts { path: path.clone(), source };
        let bytes = fs::read(&path).map_err(refuse)?;
        if bytes.starts_with(b"SSHKRL") {
            let said = "it is a key revocation list (KRL), which bramble does not read: name a file with the public keys, one in a line";
            return Err(refuse(std::io::Error::other(said)));
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: String = text.lines().map(|line| format!("@revoked * {}\n", line.trim())).collect();
        Ok(KnownHosts::parse(path, &lines))
    }

    fn parse(path: PathBuf, text: &str) -> KnownHosts {
        KnownHosts { path, lines: Mutex::new(Lines::parse(text)) }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host as the files may know it.
#[derive(Debug)]
pub(crate) struct Peer {
    host: String,
    port: u16,
    /// What other files than bramble's own call it (ssh_config(5), `HostKeyAlias`).
    alias: Option<String>,
    files: Vec<Arc<KnownHosts>>,
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
        let files = files.into_iter().map(|path| KnownHosts::open(path).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(HostKeys { files, more: Mutex::default() })
    }

    /// Reads the texts of files. They are asked in this order; new keys are written to the first.
    pub fn parse(texts: impl IntoIterator<Item = (PathBuf, String)>) -> HostKeys {
        let files = texts.into_iter().map(|(path, text)| Arc::new(KnownHosts::parse(path, &text))).collect();
        HostKeys { files, more: Mutex::default() }
    }

    /// Gives what is known of a host, also by files that it has besides.
    ///
    /// # Errors
    /// One that is there cannot be read.
    pub(crate) fn peer(&self, target: &Target) -> Result<Peer, ConnectError> {
        type Open = fn(PathBuf) -> Result<KnownHosts, ConnectError>;
        let mut files = self.files.clone();
        let mut known = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let more = target.known_hosts.iter().map(|path| (path, KnownHosts::open as Open));
        for (path, open) in more.chain(target.revoked.iter().map(|path| (path, KnownHosts::open_revoked as Open))) {
            let file = match known.get(path) {
                Some(file) => file.clone(),
                None => known.entry(path.clone()).or_insert(Arc::new(open(path.clone())?)).clone(),
            };
            files.push(file);
        }
        Ok(Peer { host: target.host.clone(), port: target.port, alias: target.alias.clone(), files })
    }

    fn plain(&self, host: &str, port: u16) -> Peer {
        Peer { host: host.to_owned(), port, alias: None, files: self.files.clone() }
    }

    /// Whether this is a key of a host, in OpenSSH's form.
    pub fn knows(&self, host: &str, port: u16, public: &str) -> bool {
        let key = parse_public_key_base64(public.split_whitespace().nth(1).unwrap_or_default());
        key.is_ok_and(|key| matches!(self.plain(host, port).check(&key), Verdict::Known))
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
        let known = |file: &Arc<KnownHosts>| {
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

impl Peer {
    /// The names by which the file at this place may know it, and whether this is its own one: as ssh tries, one with a port
    /// may be known without.
    fn names(&self, at: usize) -> Vec<(String, bool)> {
        let mut names: Vec<(String, bool)> = self.alias.iter().map(|alias| (alias.clone(), true)).collect();
        // bramble itself writes down addresses.
        if names.is_empty() || at == 0 {
            names.push((entry(&self.host, self.port), true));
            if self.port != 22 {
                names.push((self.host.clone(), false));
            }
        }
        names
    }

    /// Lists the keys with a marker that are for it: the file, its place, the name, whether that is its own, line and key.
    fn keys(&self, marker: Marker) -> Vec<Known<'_>> {
        let mut all = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            for (name, own) in self.names(at) {
                let keys = file.lines().keys(marker, &name);
                all.extend(keys.into_iter().map(|(line, key)| Known { at, file, name: name.clone(), own, line, key }));
            }
        }
        all
    }

    /// Gives the types of the keys that are known for it: the server is asked for one of these first, as ssh does, since a key of
    /// another type can only be called a changed one.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let keys = self.keys(Marker::Host);
        let own = keys.iter().any(|known| known.own);
        keys.iter().filter(|known| known.own || !own).map(|known| known.key.algorithm()).collect()
    }

    /// Tells whether some authority may vouch for it.
    pub(crate) fn has_authority(&self) -> bool {
        !self.keys(Marker::Authority).is_empty()
    }

    /// Judges its certificate, and if no authority vouches for it, the key in it, as ssh does.
    pub(crate) fn check_certificate(&self, certificate: &Certificate) -> Verdict {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        for key in [&key, &authority] {
            if let Some(revoked) = self.revoked(key) {
                return revoked;
            }
        }
        let trusted: Vec<_> =
            self.keys(Marker::Authority).iter().map(|known| known.key.fingerprint(HashAlg::Sha256)).collect();
        let principals = certificate.valid_principals();
        let name = self.alias.as_ref().unwrap_or(&self.host).to_ascii_lowercase();
        let named = principals.is_empty() || principals.iter().any(|principal| means(principal, &name));
        // No critical option means anything for hosts (PROTOCOL.certkeys of OpenSSH).
        let plain = certificate.cert_type() == CertType::Host && certificate.critical_options().is_empty();
        match named && plain && certificate.validate(&trusted).is_ok() {
            true => Verdict::Known,
            false => self.check(&key),
        }
    }

    pub(crate) fn check(&self, key: &PublicKey) -> Verdict {
        if let Some(revoked) = self.revoked(key) {
            return revoked;
        }
        let all = self.keys(Marker::Host);
        if all.iter().any(|known| known.key.key_data() == key.key_data()) {
            return Verdict::Known;
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        // What is known without the port is of another sshd. One of the same type says more.
        let others = all.iter().filter(|known| known.own);
        match others.min_by_key(|known| known.key.algorithm() != key.algorithm()) {
            Some(known) => Verdict::Changed(Box::new(Changed {
                file: known.file.path.clone(),
                line: known.line,
                known: known.key.algorithm(),
                shown: key.algorithm(),
                fingerprint,
                elsewhere: (known.at > 0).then(|| known.name.clone()),
            })),
            None => Verdict::Unknown(UnknownKey {
                host: entry(&self.host, self.port),
                fingerprint,
                key: key.to_openssh().unwrap_or_default(),
            }),
        }
    }

    fn revoked(&self, key: &PublicKey) -> Option<Verdict> {
        let revoked = self.keys(Marker::Revoked);
        let known = revoked.iter().find(|known| known.key.key_data() == key.key_data())?;
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        Some(Verdict::Revoked { file: known.file.path.clone(), line: known.line, fingerprint })
    }
}

/// A line that is for a host.
struct Known<'a> {
    /// The place of its file.
    at: usize,
    file: &'a KnownHosts,
    name: String,
    /// Whether the name is the host's own, with its port.
    own: bool,
    line: usize,
    key: PublicKey,
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
            assert!(matches!(keys.plain(host, port).check(key), Verdict::Known), "{host} {port}");
            assert_eq!(keys.plain(host, port).algorithms(), [Algorithm::Ed25519]);
        }
        assert!(matches!(keys.plain("10.0.0.9", 22).check(&one), Verdict::Revoked { line: 2, .. }));
        match keys.plain("10.0.0.1", 22).check(&two) {
            Verdict::Changed(changed) => assert_eq!((changed.file, changed.line), (second, 3)),
            _ => panic!("another key is a changed key"),
        }
        let Verdict::Unknown(met) = keys.plain("10.0.0.2", 22).check(&two) else { panic!("nobody knows it") };
        keys.trust(&met).unwrap();
        assert!(matches!(keys.plain("10.0.0.2", 22).check(&two), Verdict::Known));
        assert!(
            matches!(HostKeys::open([first.clone()]).unwrap().plain("10.0.0.2", 22).check(&two), Verdict::Known),
            "it is in the file"
        );
        keys.forget("10.0.0.2", 22).unwrap();
        assert!(matches!(keys.plain("10.0.0.2", 22).check(&two), Verdict::Unknown(_)));
        assert!(
            matches!(HostKeys::open([first]).unwrap().plain("10.0.0.2", 22).check(&two), Verdict::Unknown(_)),
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
        assert!(matches!(keys.plain("kube1", 22).check(&parse_public_key_base64(ONE).unwrap()), Verdict::Known));
    }

    const RSA: &str = concat!(
        "AAAAB3NzaC1yc2EAAAADAQABAAABAQC54n37h6SS9j94fU4fVsrgqSzR616c+baEUo10X1X84kjJ0WArOk3zaS4jskIhUHDl2d9E",
        "Qul4bP3NAjGn1G2iQEhzPz7HDu5KZK/7D7a+9UrBCK7r0boqYeQQFubTtfPXsdg7f1SX09a5hKirJJigZry3F1AecZmM5ZCe0WZL",
        "DRO+liDruKrwwl7aHfC+mZu4QXoL5ZCRuJR/wND67EJWR6m3Z8Hk4B9JMNySFJMe7/Yz4304bAjis4c0ItQ6efp8vm4uE0SFb73A",
        "s0s/94UEw3JSeOlUZp/F7PpuDx9ez9b/nk9RqJaRP+CZYHJFCYlrjqWsZvMDS6NPQygiSn8V",
    );

    fn checked(text: &str, host: &str, port: u16, key: &str) -> Verdict {
        let keys = HostKeys::parse([(PathBuf::from("known_hosts"), text.to_owned())]);
        keys.plain(host, port).check(&parse_public_key_base64(key).unwrap())
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
