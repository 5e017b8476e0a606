//! A folder with a cluster file: what it says, and what bramble keeps beside it.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Archive, Bundle, Inputs, LocalFile, lifecycle};
use bramble_spec::{
    Cluster, Cni, Distribution, K3s, KubeadmSource, Node, Override, Release, Severity, Sha256Digest, hex,
};
use sha2::{Digest, Sha256};

use crate::output::{Printer, Style};
use crate::packed;
use crate::pins::Pins;
use crate::releases::Releases;
use crate::supplies::Supplies;
use crate::{Common, addons, invoker};

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

    /// What the plan needs besides the cluster file. What must be fetched is fetched once and pinned.
    pub(crate) fn inputs(&self, printer: &Printer) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::default();
        for sent in &self.cluster.preparation.uploads {
            let path = self.path(&sent.from);
            let sha256 = file_digest(&path).context("a file of `prepare.uploads`")?;
            inputs.uploads.insert(sent.from.clone(), LocalFile { path, sha256 });
        }
        inputs.archives = self.archives()?;
        if let Some(bundle) = &self.bundle {
            inputs.archives.extend(Supplies::open(bundle)?.archives(bundle));
        }
        if !self.cluster.addons.is_empty() {
            inputs.addons = addons::render(self, &addons::fetch(self, &mut self.pins()?, printer)?)?;
        }
        if let (Some(releases), Some(wanted)) = (self.releases()?, self.wanted()) {
            let mut pins = self.pins()?;
            let arches = self.arches();
            let version = releases.version(wanted, &arches, &mut pins, printer)?;
            inputs.release = Some(releases.release(&version, &arches, &mut pins, printer)?);
        }
        if let Distribution::K3s(K3s { registries: Some(written), .. }) = &self.cluster.distribution {
            inputs.registries = Some(read(&self.path(written))?);
        }
        let Distribution::Kubeadm(config) = &self.cluster.distribution else { return Ok(inputs) };
        let mut pins = self.pins()?;
        // A bundle may have only what add-ons need.
        let bundle = self.bundle.as_ref().filter(|bundle| Bundle::is_at(bundle) || !Supplies::is_at(bundle));
        let source = match bundle {
            Some(bundle) => &KubeadmSource::Bundle(bundle.display().to_string()),
            None => &config.source,
        };
        match source {
            KubeadmSource::Bundle(written) => {
                let written = if bundle.is_some() { PathBuf::from(written) } else { self.path(written) };
                let bundle = Bundle::open(&written)?;
                let has = bundle.manifest.kubernetes;
                let wanted = config.version;
                if has.minor != wanted.minor || wanted.patch.is_some_and(|patch| has.patch != Some(patch)) {
                    bail!(
                        "the bundle at {} holds Kubernetes {has}, the cluster file wants {wanted}: make them agree",
                        bundle.dir.display()
                    );
                }
                inputs.bundle = Some(bundle);
            }
            KubeadmSource::Apt(repository) => {
                inputs.kubernetes = Some(pins.kubernetes(&repository.url, config.version, printer)?);
                inputs.apt_key = Some(match &repository.key {
                    Some(file) => read(&self.path(file))?,
                    None => pins.fetch("apt-key", &format!("{}Release.key", repository.url), printer)?,
                });
            }
        }
        let manifest = match (&self.cluster.network.cni_manifest, self.cluster.network.cni) {
            (_, Cni::Routed) => None,
            (Some(written), _) => Some(written.clone()),
            (None, Cni::Flannel) => {
                Some("https://github.com/flannel-io/flannel/releases/latest/download/kube-flannel.yml".into())
            }
            (None, Cni::Calico) => {
                Some("https://raw.githubusercontent.com/projectcalico/calico/v3.31.0/manifests/calico.yaml".into())
            }
        };
        if let Some(written) = manifest {
            let text = if written.starts_with("https://") || written.starts_with("http://") {
                pins.fetch("cni-manifest", &written, printer)?
            } else {
                read(&self.path(&written))?
            };
            inputs.cni_manifest = Some(match self.cluster.network.cni {
                // Its own default is flannel's one constant that a cluster file can contradict.
                Cni::Flannel => text.replace("10.244.0.0/16", &self.cluster.network.pods.to_string()),
                _ => text,
            });
        }
        Ok(inputs)
    }

    /// The archives of images that the cluster file names.
    pub(crate) fn archives(&self) -> anyhow::Result<Vec<Archive>> {
        let open = |written: &String| packed::open(&self.path(written)).context("a file of `archives`");
        self.cluster.archives.iter().map(open).collect()
    }

    pub(crate) fn pins(&self) -> anyhow::Result<Pins> {
        Pins::open(&self.dir.join("bramble.lock"), self.private_dir()?.join("cache"))
    }

    /// The release that the cluster file wants.
    pub(crate) fn wanted(&self) -> Option<&Release> {
        match &self.cluster.distribution {
            Distribution::K3s(config) => Some(&config.version),
            Distribution::K0s(config) => Some(&config.version),
            Distribution::MicroK8s(config) => Some(&config.version),
            Distribution::Kubeadm(_) | Distribution::None => None,
        }
    }

    /// Where releases of the cluster's distribution come from.
    pub(crate) fn releases(&self) -> anyhow::Result<Option<Releases>> {
        let (upstream, mirror) = match &self.cluster.distribution {
            Distribution::K3s(config) => (&bramble_kube::K3S, config.mirror.as_deref()),
            Distribution::K0s(config) => (&bramble_kube::K0S, config.mirror.as_deref()),
            Distribution::MicroK8s(config) => (&bramble_kube::MICROK8S, config.mirror.as_deref()),
            Distribution::Kubeadm(_) | Distribution::None => return Ok(None),
        };
        Ok(Some(Releases::new(upstream, mirror, self.bundle.as_deref(), &self.release_cache()?)))
    }

    /// Where releases are kept that were fetched: for all projects of this user.
    pub(crate) fn release_cache(&self) -> anyhow::Result<PathBuf> {
        let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let user = user.or_else(|| self.home.as_ref().map(|home| home.join(".cache")));
        Ok(match user {
            Some(cache) => cache.join("bramble/releases"),
            None => self.private_dir()?.join("releases"),
        })
    }

    /// The architectures that the boards' systems may have, as Debian calls them.
    pub(crate) fn arches(&self) -> Vec<&'static str> {
        let mut arches: Vec<_> =
            self.cluster.members().flat_map(|node| crate::releases::arches(node.board.arch)).copied().collect();
        arches.sort_unstable();
        arches.dedup();
        arches
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

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(crate) fn file_digest(path: &Path) -> anyhow::Result<Sha256Digest> {
    let digest = || {
        let mut hasher = Sha256::new();
        std::io::copy(&mut fs::File::open(path)?, &mut hasher)?;
        hex(&hasher.finalize()).parse().map_err(|_| std::io::Error::other("its digest is none"))
    };
    digest().with_context(|| format!("cannot read {}", path.display()))
}

/// Held while a run changes a cluster.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: fs::File,
}
