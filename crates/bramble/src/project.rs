//! A folder with a cluster file: what it says, and what bramble keeps beside it.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bramble_fetch::Sources;
use bramble_kube::{Inputs, lifecycle};
use bramble_spec::{Cluster, Node, Override, Severity};

use crate::output::{Printer, Style};
use crate::{Common, invoker};

/// The cluster file is not there, or not valid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidFile(pub(crate) String);

/// A path as written in the cluster file of this folder.
fn written_path(dir: &Path, home: Option<&Path>, written: &str) -> PathBuf {
    match (written.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => dir.join(written),
    }
}

/// A cluster and its folder.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) cluster: Cluster,
    /// The folder of the cluster file.
    pub(crate) dir: PathBuf,
    /// The user's home folder, for `~`.
    pub(crate) home: Option<PathBuf>,
    /// The bundle that takes the place of the network.
    pub(crate) bundle: Option<PathBuf>,
}

impl Project {
    pub(crate) fn open(common: &Common, printer: &Printer) -> anyhow::Result<Project> {
        Project::open_with(common, printer, &[])
    }

    /// The same, with some values of the cluster file given anew.
    pub(crate) fn open_with(common: &Common, printer: &Printer, overrides: &[Override]) -> anyhow::Result<Project> {
        let path = &common.file;
        let text = fs::read_to_string(path).map_err(|error| {
            let hint =
                if error.kind() == std::io::ErrorKind::NotFound { "; `bramble init` writes a first one" } else { "" };
            InvalidFile(format!("cannot read {}: {error}{hint}", path.display()))
        })?;
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let home = invoker::home();
        let read = |written: &str| fs::read_to_string(written_path(&dir, home.as_deref(), written));
        let loaded = bramble_spec::load_with(path, &text, overrides, &read);
        if loaded.report.diagnostics.iter().any(|d| d.severity == Severity::Error) {
            printer.error(loaded.report.render(printer.colour));
            return Err(InvalidFile(format!("{} is not a valid cluster file", path.display())).into());
        }
        if !loaded.report.diagnostics.is_empty() {
            printer.info(loaded.report.render(printer.colour));
        }
        let names: Vec<String> = loaded.clusters.iter().map(|cluster| cluster.name.to_string()).collect();
        let mut clusters = loaded.clusters;
        let cluster = match &common.cluster {
            Some(name) => clusters
                .into_iter()
                .find(|cluster| cluster.name.as_str() == name)
                .with_context(|| format!("{} has no cluster `{name}`; it has: {}", path.display(), names.join(", ")))?,
            None if clusters.len() == 1 => clusters.remove(0),
            None => {
                bail!("{} holds several clusters: choose one with --cluster ({})", path.display(), names.join(", "))
            }
        };
        Ok(Project { cluster, dir, home, bundle: common.bundle.clone() })
    }

    /// A path as written in the cluster file: `~` is the home folder, anything relative starts at the file.
    pub(crate) fn path(&self, written: &str) -> PathBuf {
        written_path(&self.dir, self.home.as_deref(), written)
    }

    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> anyhow::Result<&Node> {
        let node = self.cluster.nodes.iter().find(|node| node.name.as_str() == name);
        node.ok_or_else(|| anyhow!("the cluster file has no node `{name}`"))
    }

    /// Leaves only these nodes, or all if none is named.
    pub(crate) fn only(&mut self, names: &[String]) -> anyhow::Result<()> {
        let nodes = &mut self.cluster.nodes;
        if let Some(stranger) = names.iter().find(|name| !nodes.iter().any(|node| node.name.as_str() == *name)) {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            bail!("{} has no node `{stranger}`; it has: {}", self.cluster.name, known.join(", "));
        }
        nodes.retain(|node| names.is_empty() || names.iter().any(|name| name == node.name.as_str()));
        Ok(())
    }

    /// Where the host keys are that were trusted in this project.
    pub(crate) fn known_hosts(&self) -> anyhow::Result<PathBuf> {
        Ok(self.private_dir()?.join("known_hosts"))
    }

    /// `.bramble`, for secrets and pinned host keys; nobody else can read it.
    pub(crate) fn private_dir(&self) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(".bramble");
        if !dir.exists() {
            fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(&dir)
                .with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let ignore = dir.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").with_context(|| format!("cannot write {}", ignore.display()))?;
        }
        Ok(dir)
    }

    /// The key that opens the backups.
    pub(crate) fn backup_key(&self) -> anyhow::Result<PathBuf> {
        Ok(self.private_dir()?.join("backup.key"))
    }

    /// Makes sure that no other bramble works on this cluster from this folder.
    pub(crate) fn lock(&self) -> anyhow::Result<RunLock> {
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

    /// What the cluster is made from, and where what is fetched for it is kept.
    pub(crate) fn sources(&self) -> anyhow::Result<Sources<'_>> {
        Ok(Sources {
            cluster: &self.cluster,
            dir: &self.dir,
            home: self.home.as_deref(),
            cache: self.private_dir()?.join("cache"),
            releases: self.release_cache()?,
            bundle: self.bundle.as_deref(),
        })
    }

    /// What the plan needs besides the cluster file. What must be fetched is fetched once and pinned.
    pub(crate) fn inputs(&self, printer: &Printer) -> anyhow::Result<Inputs> {
        let sources = self.sources()?;
        Ok(bramble_fetch::inputs(&sources, &mut sources.lock_file()?, printer)?)
    }

    /// Brings the image of the boards' system here, and tells where it is.
    pub(crate) fn os_image(&self, printer: &Printer) -> anyhow::Result<PathBuf> {
        let sources = self.sources()?;
        Ok(bramble_fetch::fetch_os_image(&sources, &mut sources.lock_file()?, printer)?)
    }

    /// Where releases are kept that were fetched: for all projects of this user.
    fn release_cache(&self) -> anyhow::Result<PathBuf> {
        let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let user = user.or_else(|| self.home.as_ref().map(|home| home.join(".cache")));
        Ok(match user {
            Some(cache) => cache.join("bramble/releases"),
            None => self.private_dir()?.join("releases"),
        })
    }

    /// What the cluster is, in a line; with inputs it names the version that was chosen.
    pub(crate) fn title(&self, inputs: &Inputs, printer: &Printer) -> String {
        let kubernetes = match lifecycle(&self.cluster, inputs) {
            Some(life) => format!("{} {}", life.name(), life.version()),
            None => "no Kubernetes".to_owned(),
        };
        let name = printer.style(Style::Bold, self.cluster.name.as_str());
        format!("{name}: {kubernetes}, {} nodes", self.cluster.nodes.len())
    }
}

/// Held while a run changes a cluster.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: fs::File,
}
