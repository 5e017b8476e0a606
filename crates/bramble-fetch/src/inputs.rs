//! What a plan needs besides the cluster file.

use std::fs;
use std::path::{Path, PathBuf};

use bramble_kube::{Bundle, Inputs, LocalFile};
use bramble_spec::{Cluster, Cni, Distribution, K3s, Kubeadm, KubeadmSource};

use crate::addon_bundle::AddonBundle;
use crate::digest::file_digest;
use crate::error::{Context, FetchError, Result, bail};
use crate::lockfile::LockFile;
use crate::manifests::{fetch_addons, render_addons};
use crate::sources::Sources;
use crate::watcher::Watcher;

/// The addresses at which CNIs publish their manifests.
const CNI_MANIFESTS: [(Cni, &str); 2] = [
    (Cni::Flannel, "https://github.com/flannel-io/flannel/releases/latest/download/kube-flannel.yml"),
    (Cni::Calico, "https://raw.githubusercontent.com/projectcalico/calico/v3.31.0/manifests/calico.yaml"),
];
/// The range of pods in flannel's manifest: its one constant that a cluster file can contradict.
const FLANNEL_PODS: &str = "10.244.0.0/16";

/// Gathers what the plan of a cluster needs besides its file. What must be fetched is fetched once and pinned.
///
/// # Errors
/// A file cannot be read or fetched, or is not the one that was pinned or that the cluster file wants.
pub fn inputs(sources: &Sources<'_>, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<Inputs> {
    let cluster = sources.cluster;
    let mut inputs = Inputs::default();
    for sent in &cluster.preparation.uploads {
        let path = sources.path(&sent.from);
        let sha256 = file_digest(&path).context("a file of `prepare.uploads`")?;
        inputs.uploads.insert(sent.from.clone(), LocalFile { path, sha256 });
    }
    inputs.archives = sources.archives()?;
    if let Some(bundle) = sources.bundle {
        inputs.archives.extend(AddonBundle::open(bundle)?.archives(bundle));
    }
    if !cluster.addons.is_empty() {
        inputs.addons = render_addons(sources, &fetch_addons(sources, lock, watcher)?)?;
    }
    if let (Some(releases), Some(wanted)) = (sources.releases(), sources.wanted()) {
        let arches = sources.arches();
        let version = releases.version(wanted, &arches, lock, watcher)?;
        inputs.release = Some(releases.release(&version, &arches, lock, watcher)?);
    }
    match &cluster.distribution {
        Distribution::K3s(K3s { registries: Some(written), .. }) => {
            inputs.registries = Some(read(&sources.path(written))?);
        }
        Distribution::Kubeadm(config) => {
            add_programs(&mut inputs, config, sources, lock, watcher)?;
            inputs.cni_manifest = cni_manifest(sources, lock, watcher)?;
        }
        _ => {}
    }
    Ok(inputs)
}

/// Adds where the programs of kubeadm come from: a bundle, or an apt repository with its key.
fn add_programs(
    inputs: &mut Inputs,
    config: &Kubeadm,
    sources: &Sources<'_>,
    lock: &mut LockFile,
    watcher: &dyn Watcher,
) -> Result<()> {
    // A bundle may have only what add-ons need.
    let given = sources.bundle.filter(|bundle| Bundle::is_at(bundle) || !AddonBundle::is_at(bundle));
    let dir = match (given, &config.source) {
        (Some(given), _) => given.to_owned(),
        (None, KubeadmSource::Bundle(written)) => sources.path(written),
        (None, KubeadmSource::Apt(repository)) => {
            inputs.kubernetes = Some(lock.kubernetes(&repository.url, config.version, watcher)?);
            inputs.apt_key = Some(match &repository.key {
                Some(file) => read(&sources.path(file))?,
                None => lock.fetch("apt-key", &format!("{}Release.key", repository.url), watcher)?,
            });
            return Ok(());
        }
    };
    inputs.bundle = Some(agreeing_bundle(config, dir)?);
    Ok(())
}

/// Opens a bundle, and refuses one of another version than the cluster file wants.
fn agreeing_bundle(config: &Kubeadm, dir: PathBuf) -> Result<Bundle> {
    let bundle = Bundle::open(&dir).map_err(|error| FetchError::new(error.to_string()))?;
    let has = bundle.manifest.kubernetes;
    let wanted = config.version;
    if has.minor != wanted.minor || wanted.patch.is_some_and(|patch| has.patch != Some(patch)) {
        bail!(
            "the bundle at {} holds Kubernetes {has}, the cluster file wants {wanted}: make them agree",
            bundle.dir.display()
        );
    }
    Ok(bundle)
}

/// Gives the manifest of the cluster's CNI, if it has one.
fn cni_manifest(sources: &Sources<'_>, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<Option<String>> {
    let cluster = sources.cluster;
    let Some(written) = cni_source(cluster) else { return Ok(None) };
    let text = if written.starts_with("https://") || written.starts_with("http://") {
        lock.fetch("cni-manifest", written, watcher)?
    } else {
        read(&sources.path(written))?
    };
    Ok(Some(match cluster.network.cni {
        Cni::Flannel => text.replace(FLANNEL_PODS, &cluster.network.pods.to_string()),
        _ => text,
    }))
}

/// Says where the manifest of the cluster's CNI is: a URL, or a path as written.
fn cni_source(cluster: &Cluster) -> Option<&str> {
    let cni = cluster.network.cni;
    if cni == Cni::Routed {
        return None;
    }
    let published = CNI_MANIFESTS.iter().find(|(known, _)| *known == cni).map(|(_, url)| *url);
    cluster.network.cni_manifest.as_deref().or(published)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::Silent;

    /// Gathers the inputs of a cluster of one node, with these lines in its file and these files beside it.
    fn gathered(lines: &str, files: &[(&str, &str)]) -> Result<Inputs> {
        let text = format!(
            "cluster: shelf\naccess: {{ user: pi }}\n{lines}\
             nodes:\n  - {{ name: a, role: control-plane, board: rpi-cm4-4gb, address: 10.0.0.11 }}\n"
        );
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            fs::write(dir.path().join(name), text)?;
        }
        let cluster = loaded.clusters.first().unwrap_or_else(|| panic!("{}", loaded.report.render(false)));
        let sources = Sources {
            cluster,
            dir: dir.path(),
            home: None,
            cache: dir.path().join("cache"),
            releases: dir.path().join("releases"),
            bundle: None,
        };
        inputs(&sources, &mut sources.lock_file()?, &Silent)
    }

    const APT: &str = "distribution: { kubeadm: { version: 1.36.2, source: { apt: { url: \"http://127.0.0.1:1/\", key: key.asc } } } }\n";

    #[test]
    fn flannel_gets_the_range_of_pods_and_nothing_is_fetched_that_is_here() {
        let network = "network: { subnet: 10.0.0.0/24, pods: 10.240.0.0/16, cni: flannel, cni_manifest: cni.yaml }\n";
        let files = [("key.asc", "a key"), ("cni.yaml", "Network: 10.244.0.0/16\n")];
        let inputs = gathered(&format!("{network}{APT}"), &files).unwrap();
        assert_eq!(inputs.cni_manifest.as_deref(), Some("Network: 10.240.0.0/16\n"));
        assert_eq!(inputs.apt_key.as_deref(), Some("a key"));
        assert_eq!(inputs.kubernetes.map(|version| version.to_string()).as_deref(), Some("1.36.2"));
        assert!(inputs.release.is_none() && inputs.bundle.is_none());
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_its_place_in_the_cluster_file() {
        let network = "network: { subnet: 10.0.0.0/24 }\nprepare: { uploads: [{ from: motd, path: /etc/motd }] }\n";
        let error = gathered(&format!("{network}{APT}"), &[("key.asc", "a key")]).unwrap_err().chain();
        assert!(error.contains("a file of `prepare.uploads`: cannot read") && error.contains("motd"), "{error}");
    }
}
