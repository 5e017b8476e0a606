//! A folder with a cluster file: what it says, and what bramble keeps beside it.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use bramble_fetch::{Sources, replace_file};
use bramble_files::PrivateFile;
use bramble_kube::{BackupKeys, Identity};
use bramble_spec::{BackupPlace, Cluster, Node, select};

use crate::backup_archive::BackupKey;
use crate::error::{Result, bail};

/// A cluster and its folder.
#[derive(Debug)]
pub struct Project {
    /// The cluster.
    pub cluster: Cluster,
    /// The folder of the cluster file.
    pub dir: PathBuf,
    /// The user's home folder, for `~`.
    pub home: Option<PathBuf>,
    /// The bundle that takes the place of the network.
    pub bundle: Option<PathBuf>,
    /// The user's folder for what can be fetched again.
    pub user_cache: Option<PathBuf>,
}

impl Project {
    /// Resolves a path as written in the cluster file: `~` is the home folder, anything relative starts at the file.
    pub fn path(&self, written: &str) -> PathBuf {
        match (written.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.dir.join(written),
        }
    }

    /// Finds the node of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let node = self.cluster.nodes.iter().find(|node| node.name.as_str() == name);
        Ok(node.ok_or_else(|| anyhow!("the cluster file has no node `{name}`"))?)
    }

    /// Finds the nodes that are named on a command line, all if none is.
    ///
    /// # Errors
    /// A word means no node.
    pub fn nodes(&self, words: &[String]) -> Result<Vec<&Node>> {
        Ok(select(&self.cluster.nodes, words).map_err(|why| anyhow!("{}: {why}", self.cluster.name))?)
    }

    /// Gives the file with the host keys that were trusted in this project.
    ///
    /// # Errors
    /// `.bramble` cannot be made.
    pub fn known_hosts(&self) -> Result<PathBuf> {
        Ok(self.private_dir()?.join("known_hosts"))
    }

    /// Gives `.bramble`, made if it is not there: for secrets and pinned host keys; nobody else can read it.
    ///
    /// # Errors
    /// It cannot be made, or is no folder of the user's own.
    pub fn private_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join(".bramble");
        let cannot = |what: &str| format!("cannot {what} {}", dir.display());
        match fs::symlink_metadata(&dir) {
            Ok(there) if !there.is_dir() => bail!("{} is not a folder; move it away", dir.display()),
            // One that came with a copy or an archive may be open to others.
            Ok(there) if there.mode() & 0o077 != 0 => {
                fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).with_context(|| {
                    format!("{}, and others can read the secrets in it", cannot("take the rights of others away from"))
                })?;
            }
            Ok(_) => {}
            Err(_) => {
                let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir);
                made.with_context(|| cannot("create"))?;
            }
        }
        let ignore = dir.join(".gitignore");
        if !ignore.exists() {
            replace_file(&ignore, b"*\n", 0o644)?;
        }
        Ok(dir)
    }

    /// Makes a file for secrets on their way, which has no name and is gone whenever the program ends.
    ///
    /// # Errors
    /// `.bramble` cannot be written.
    pub fn private_file(&self) -> Result<PrivateFile> {
        let dir = self.private_dir()?;
        Ok(PrivateFile::create_in(&dir).with_context(|| format!("cannot write to {}", dir.display()))?)
    }

    /// Gives the file with the key that opens the backups.
    ///
    /// # Errors
    /// `.bramble` cannot be made.
    pub fn backup_key(&self) -> Result<PathBuf> {
        Ok(self.private_dir()?.join("backup.key"))
    }

    /// Gives what backups need that the control planes make by themselves, if the cluster file asks for them; and whether the key
    /// that opens them was made just now.
    ///
    /// # Errors
    /// A file that a place names cannot be read, or is no private key without a passphrase.
    pub fn backup_keys(&self) -> Result<Option<(BackupKeys, BackupKey)>> {
        let Some(backups) = &self.cluster.backups else { return Ok(None) };
        let key = BackupKey::open(&self.backup_key()?, true)?;
        let path = self.private_dir()?.join("backup_ssh");
        let private = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = bramble_remote::new_key_pair(&random()?, &format!("backups of {}", self.cluster.name));
                let (private, _) = made.ok_or_else(|| anyhow!("cannot make a key for backups"))?;
                replace_file(&path, private.as_bytes(), 0o600)?;
                private
            }
            Err(error) => return Err(anyhow!(error).context(format!("cannot read {}", path.display())).into()),
        };
        let public = bramble_remote::public_half(&private).ok_or_else(|| {
            anyhow!("{} is no private key in OpenSSH's form; remove it, and bramble makes another", path.display())
        })?;
        let volumes = key.volumes_password();
        let mut keys = BackupKeys { recipient: key.recipient(), private, public, volumes, ..BackupKeys::default() };
        for place in &backups.to {
            let (written, is_key) = match place {
                BackupPlace::Ssh { key: Some(key), .. } => (key, true),
                BackupPlace::S3 { credentials, .. } => (credentials, false),
                _ => continue,
            };
            let path = self.path(written);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}, which the backup at {place} needs", path.display()))?;
            if is_key && bramble_remote::public_half(&text).is_none() {
                bail!("{}, which the backup at {place} needs, is no private key in OpenSSH's form", path.display());
            }
            if is_key && bramble_remote::is_encrypted(&text) {
                bail!(
                    "{}, which the backup at {place} needs, has a passphrase, which nobody can type on the boards",
                    path.display()
                );
            }
            let credentials = ["aws_access_key_id", "aws_secret_access_key"];
            if !is_key && credentials.iter().any(|name| !text.contains(name)) {
                bail!(
                    "{}, which the backup at {place} needs, has no {} in it",
                    path.display(),
                    credentials.join(" and ")
                );
            }
            keys.files.insert(written.clone(), text);
        }
        Ok(Some((keys, key)))
    }

    /// Makes sure that no other bramble works on this cluster from this folder.
    ///
    /// # Errors
    /// One does.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.private_dir()?.join(format!("{}.lock", self.cluster.name));
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            bail!(
                "another bramble (process {}) is working on cluster {}; wait for it",
                holder.trim(),
                self.cluster.name
            );
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(RunLock { _file: file })
    }

    /// Gives the identity of the cluster, if it was made from here.
    ///
    /// # Errors
    /// The lock file cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>> {
        Ok(self.sources()?.lock_file()?.identity(&self.cluster.name).cloned())
    }

    /// Says what the cluster is made from, and where what is fetched for it is kept.
    ///
    /// # Errors
    /// `.bramble` cannot be made.
    pub fn sources(&self) -> Result<Sources<'_>> {
        Ok(Sources {
            cluster: &self.cluster,
            dir: &self.dir,
            home: self.home.as_deref(),
            cache: self.private_dir()?.join("cache"),
            releases: self.release_cache()?,
            bundle: self.bundle.as_deref(),
        })
    }

    /// Gives the folder in which releases are kept that were fetched: for all projects of this user, if they have a cache.
    fn release_cache(&self) -> Result<PathBuf> {
        Ok(match &self.user_cache {
            Some(cache) => cache.join("bramble/releases"),
            None => self.private_dir()?.join("releases"),
        })
    }
}

/// Reads bytes that nobody can guess.
///
/// # Errors
/// /dev/urandom cannot be read.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut source = fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    source.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes)
}

/// Held while a run changes a cluster.
#[derive(Debug)]
pub struct RunLock {
    _file: fs::File,
}
