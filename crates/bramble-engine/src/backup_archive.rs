//! A backup as a file: what a cluster is, encrypted with age (age-encryption.org).
//!
//! Inside is a tar archive: `manifest.json` says what it is, `state.tar.gz` comes from a control plane as it is, the
//! cluster file and the lock file are there to be read by people.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Result, bail};
use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use anyhow::{Context, anyhow};
use bramble_fetch::replace_file;
use bramble_files::WholeFile;
use bramble_spec::ClusterId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The distribution's name.
    pub distribution: String,
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// The address of its API.
    pub api: std::net::Ipv4Addr,
    /// The digest of the cluster's CA.
    pub ca: String,
    /// The id that the cluster was given at its birth, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ClusterId>,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// The UIDs of the objects that tell whether the cluster is the same, as `uid kind namespace/name`.
    pub objects: Vec<String>,
}

impl Manifest {
    /// The version of the format that this bramble writes and reads.
    pub const FORMAT: u32 = 1;
}

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.tar.gz";

/// The key that opens the backups of a project; it is made with the first one.
pub struct BackupKey {
    identity: Identity,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it was made just now.
    pub fresh: bool,
}

impl BackupKey {
    /// Gives its public half, for which backups are encrypted.
    pub fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }

    /// Gives the password of the repositories in which volumes are saved: whoever has the key has it as well, and not the
    /// other way round.
    pub fn volumes_password(&self) -> String {
        let secret = self.identity.to_string();
        bramble_spec::hex(&Sha256::digest(format!("the volumes of {}", secret.expose_secret())))
    }

    /// Reads the key at `path`, or makes one there if `make` says so.
    ///
    /// # Errors
    /// There is none, or it is no key.
    pub fn open(path: &Path, make: bool) -> Result<BackupKey> {
        let (identity, fresh) = match fs::read_to_string(path) {
            Ok(text) => {
                let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap_or_default();
                let identity = Identity::from_str(line)
                    .map_err(|why| anyhow!("{} holds no key that opens a backup: {why}", path.display()))?;
                (identity, false)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => {
                let identity = Identity::generate();
                let text = format!(
                    "# The key of this cluster's backups. Keep a copy elsewhere: without it they cannot be opened.\n{}\n",
                    identity.to_string().expose_secret()
                );
                replace_file(path, text.as_bytes(), 0o600)?;
                (identity, true)
            }
            Err(error) => {
                let why = format!(
                    "cannot read {}, the key that opens the backup; name another one with --key",
                    path.display()
                );
                return Err(anyhow::Error::from(error).context(why).into());
            }
        };
        Ok(BackupKey { identity, path: path.to_owned(), fresh })
    }
}

/// Writes a backup: whole or not at all, and readable by nobody else.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(to: &Path, key: &BackupKey, manifest: &Manifest, state: &Path, beside: &[PathBuf]) -> Result<u64> {
    let recipient: Recipient = key.identity.to_public();
    let make = || -> anyhow::Result<u64> {
        let file = WholeFile::create(to, 0o600)?;
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))?;
        let mut tar = tar::Builder::new(encryptor.wrap_output(std::io::BufWriter::new(file))?);
        let text = serde_json::to_vec_pretty(manifest)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(manifest.made);
        tar.append_data(&mut header, MANIFEST, text.as_slice())?;
        let mut state = fs::File::open(state)?;
        header.set_size(state.metadata()?.len());
        tar.append_data(&mut header, STATE, &mut state)?;
        for path in beside.iter().filter(|path| path.exists()) {
            tar.append_path_with_name(path, path.file_name().unwrap_or_default())?;
        }
        let mut file = tar.into_inner()?.finish()?.into_inner().map_err(|error| error.into_error())?;
        let size = file.file().metadata()?.len();
        file.finish()?;
        Ok(size)
    };
    Ok(make().with_context(|| format!("cannot write {}", to.display()))?)
}

/// Opens a backup and puts the state that it holds into a file at `state`, readable by nobody else.
///
/// # Errors
/// It is no backup, is damaged, or does not open with this key.
pub fn read(from: &Path, key: &BackupKey, state: &Path) -> Result<Manifest> {
    let file = fs::File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let damaged = || format!("{} is damaged or no backup", from.display());
    let decryptor = age::Decryptor::new_buffered(std::io::BufReader::new(file)).with_context(damaged)?;
    let plain = match decryptor.decrypt(std::iter::once(&key.identity as &dyn age::Identity)) {
        Ok(plain) => plain,
        Err(age::DecryptError::NoMatchingKeys) => {
            bail!("{} does not open with the key in {}; name its own with --key", from.display(), key.path.display())
        }
        Err(error) => return Err(anyhow::Error::from(error).context(damaged()).into()),
    };
    let mut archive = tar::Archive::new(plain);
    let mut manifest: Option<Manifest> = None;
    let mut whole = false;
    for entry in archive.entries().with_context(damaged)? {
        let mut entry = entry.with_context(damaged)?;
        let name = entry.path().with_context(damaged)?.into_owned();
        if name == Path::new(MANIFEST) {
            let mut text = String::new();
            entry.read_to_string(&mut text).with_context(damaged)?;
            let value: serde_json::Value = serde_json::from_str(&text).with_context(damaged)?;
            if value["format"] != Manifest::FORMAT {
                bail!("{} has the format {}, this bramble knows {}", from.display(), value["format"], Manifest::FORMAT);
            }
            manifest = Some(serde_json::from_value(value).with_context(damaged)?);
        } else if name == Path::new(STATE) {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(state)?;
            std::io::copy(&mut entry, &mut file).with_context(damaged)?;
            whole = true;
        }
    }
    Ok(manifest.filter(|_| whole).ok_or_else(|| anyhow!("{}", damaged()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            cluster: "shelf".into(),
            distribution: "kubeadm".into(),
            kubernetes: "1.36.4".into(),
            api: [10, 0, 0, 50].into(),
            ca: "sha256:00".into(),
            id: Some("a".repeat(32).parse().unwrap()),
            made: 1_700_000_000,
            objects: vec!["u1 Namespace /default".into()],
        }
    }

    #[test]
    fn a_backup_opens_with_its_key_only_and_every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let state: Vec<u8> = (0..200_000u32).map(|n| (n * 7 % 251) as u8).collect();
        fs::write(path("state"), &state).unwrap();
        let key = BackupKey::open(&path("key"), true).unwrap();
        assert!(key.fresh);
        write(&path("backup"), &key, &manifest(), &path("state"), &[]).unwrap();
        let bytes = fs::read(path("backup")).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"default"), "it is not encrypted");
        let key = BackupKey::open(&path("key"), true).unwrap();
        assert!(!key.fresh);
        assert_eq!(read(&path("backup"), &key, &path("out")).unwrap(), manifest());
        assert_eq!(fs::read(path("out")).unwrap(), state);
        let other = BackupKey::open(&path("other"), true).unwrap();
        let error = read(&path("backup"), &other, &path("out")).unwrap_err().to_string();
        assert!(error.contains("does not open with the key"), "{error}");
        assert!(BackupKey::open(&path("none"), false).is_err());
        for at in (0..bytes.len()).step_by(bytes.len() / 50) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(path("damaged"), &damaged).unwrap();
            assert!(read(&path("damaged"), &key, &path("out")).is_err(), "byte {at}");
        }
        fs::write(path("short"), &bytes[..bytes.len() - 20_000]).unwrap();
        assert!(read(&path("short"), &key, &path("out")).is_err(), "cut off");
    }
}
