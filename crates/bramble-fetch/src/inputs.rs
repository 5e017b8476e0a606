//! What a plan needs besides the cluster file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bramble_kube::{Bundle, CniManifest, Inputs, LocalFile, Programs, Reference, distribution};
use bramble_spec::KubeVersion;

use crate::addon_bundle::AddonBundle;
use crate::digest::file_digest;
use crate::error::{Context, FetchError, Result, bail};
use crate::fetched::Fetched;
use crate::lockfile::LockFile;
use crate::manifests::{fetch_addons, is_manifest, render_addons};
use crate::signatures::fingerprints;
use crate::small_file::read_text;
use crate::sources::Sources;
use crate::watcher::Watcher;

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
    if !cluster.addons.is_empty() {
        inputs.addons = render_addons(sources, &fetch_addons(sources, lock, watcher)?)?;
    }
    if let (Some(releases), Some(wanted)) = (sources.releases(), sources.wanted()) {
        let arches = sources.arches();
        let version = releases.version(wanted, &arches, lock, watcher)?;
        inputs.release = Some(releases.release(&version, &arches, lock, watcher)?);
    }
    if let Some(written) = distribution(cluster).and_then(|distribution| distribution.registries_file(cluster)) {
        inputs.registries = Some(read(&sources.path(written))?);
    }
    add_programs(&mut inputs, sources, lock, watcher)?;
    if let Some((fetched, published)) = fetch_cni(sources, lock, watcher)? {
        inputs.cni_manifest = Some(match published.pods {
            Some(pods) => fetched.text.replace(pods, &cluster.network.pods.to_string()),
            None => fetched.text,
        });
    }
    if let Some(bundle) = sources.bundle {
        let used = images_used(&inputs)?;
        let mut archives = AddonBundle::open(bundle)?.archives(bundle);
        archives.retain(|archive| archive.images.iter().any(|(name, _)| used.contains(name)));
        inputs.archives.extend(archives);
    }
    Ok(inputs)
}

/// The images that the add-ons and the manifest of the CNI run, by their whole names: a bundle may have others.
fn images_used(inputs: &Inputs) -> Result<BTreeSet<String>> {
    let cni = inputs.cni_manifest.as_deref().map_or(Ok(Vec::new()), bramble_kube::objects).map_err(FetchError::new)?;
    let all = inputs.addons.iter().map(|addon| &addon.objects).chain([&cni]);
    let runs = all.flat_map(|objects| bramble_kube::images(objects));
    Ok(runs.filter_map(|run| Reference::parse(&run.image)).map(|image| image.to_string()).collect())
}

/// Adds where programs come from that are no release of the distribution's own: a bundle, or an apt repository with its key.
fn add_programs(inputs: &mut Inputs, sources: &Sources<'_>, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<()> {
    // A bundle may have only what add-ons need.
    let given = sources.bundle.filter(|bundle| Bundle::is_at(bundle) || !AddonBundle::is_at(bundle));
    let (version, dir) = match (sources.programs(), given) {
        (None | Some(Programs::Release { .. }), _) => return Ok(()),
        (Some(Programs::Apt { version, .. } | Programs::Bundle { version, .. }), Some(given)) => {
            (version, given.to_owned())
        }
        (Some(Programs::Bundle { version, folder }), None) => (version, sources.path(folder)),
        (Some(Programs::Apt { version, repository }), None) => {
            inputs.kubernetes = Some(lock.kubernetes(&repository.url, version, watcher)?);
            inputs.apt_key = Some(match &repository.key {
                Some(file) => read(&sources.path(file))?,
                None => {
                    let url = format!("{}Release.key", repository.url);
                    lock.fetch("apt-key", &url, |text| is_key_of(&repository.url, text), watcher)?
                }
            });
            return Ok(());
        }
    };
    inputs.bundle = Some(agreeing_bundle(version, dir)?);
    Ok(())
}

/// Opens a bundle, and refuses one of another version than the cluster file wants.
fn agreeing_bundle(wanted: KubeVersion, dir: PathBuf) -> Result<Bundle> {
    let bundle = Bundle::open(&dir).map_err(|error| FetchError::new(error.to_string()))?;
    let has = bundle.manifest.kubernetes;
    if has.minor != wanted.minor || wanted.patch.is_some_and(|patch| has.patch != Some(patch)) {
        bail!(
            "the bundle at {} holds Kubernetes {has}, the cluster file wants {wanted}: make them agree",
            bundle.dir.display()
        );
    }
    Ok(bundle)
}

/// Gives the manifest of the cluster's CNI, as it is where it comes from: the one that its project publishes, or that the
/// cluster file names.
///
/// # Errors
/// It cannot be fetched or read, or is not what was pinned.
pub fn fetch_cni(
    sources: &Sources<'_>,
    lock: &mut LockFile,
    watcher: &dyn Watcher,
) -> Result<Option<(Fetched, &'static CniManifest)>> {
    let network = &sources.cluster.network;
    let Some(published) = bramble_kube::cni_manifest(sources.cluster) else { return Ok(None) };
    let written = network.cni_manifest.as_deref().unwrap_or(published.url);
    let elsewhere = written.starts_with("https://") || written.starts_with("http://");
    let text = match sources.bundle.filter(|bundle| AddonBundle::is_at(bundle)) {
        Some(bundle) if elsewhere => {
            let supplies = AddonBundle::open(bundle)?;
            lock.text("cni-manifest", written, is_manifest, || Ok(supplies.text(bundle, written)?.0))?
        }
        _ if elsewhere => lock.fetch("cni-manifest", written, is_manifest, watcher)?,
        _ => read(&sources.path(written))?,
    };
    Ok(Some((Fetched { source: written.to_owned(), text, commit: None }, published)))
}

/// Whose apt repositories are known, and the fingerprint of the key that they have been signed with since 2023
/// (kubernetes.io/blog/2023/08/15/pkgs-k8s-io-introduction).
const APT_KEYS: [(&str, &str); 1] = [("https://pkgs.k8s.io/", "DE15B14486CD377B9E876E1A234654DA9A296436")];

/// Checks that a text is a key, and that of the publisher if it is a repository of a known one.
fn is_key_of(repository: &str, text: &str) -> Result<()> {
    let found = fingerprints(text)?;
    match APT_KEYS.iter().find(|(place, _)| repository.starts_with(place)) {
        Some((place, wanted)) if found.iter().any(|key| key != wanted) => bail!(
            "{place} is signed with the key {wanted}, and this is the key {}: it is refused; if Kubernetes has changed its \
             key, give it as a file (`key` beside the `url` of the repository)",
            found.join(", ")
        ),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String> {
    read_text(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::signatures::samples;
    use crate::test_server::TestServer;
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

    /// Fetches what a cluster with this in its file needs, and tells the error and what is pinned afterwards.
    fn refused(lines: &str) -> (String, String) {
        let text = format!(
            "cluster: shelf\naccess: {{ user: pi }}\n{lines}\
             nodes:\n  - {{ name: a, role: control-plane, board: rpi-cm4-4gb, address: 10.0.0.11 }}\n"
        );
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            cluster: loaded.clusters.first().unwrap_or_else(|| panic!("{}", loaded.report.render(false))),
            dir: dir.path(),
            home: None,
            cache: dir.path().join("cache"),
            releases: dir.path().join("releases"),
            bundle: None,
        };
        let error = inputs(&sources, &mut sources.lock_file().unwrap(), &Silent).unwrap_err().chain();
        (error, fs::read_to_string(dir.path().join("bramble.lock")).unwrap_or_default())
    }

    #[test]
    fn a_manifest_of_an_add_on_that_is_broken_is_not_pinned() {
        let server = TestServer::start();
        server.serve("/web.yaml", "apiVersion: v1\nkind: [\n");
        let lines = format!(
            "network: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ k3s: {{ version: stable }} }}\naddons: {{ own: {{ web: {{ from: \"{}\" }} }} }}\n",
            server.url("/web.yaml")
        );
        let (_, pinned) = refused(&lines);
        assert!(!pinned.contains("web.yaml"), "{pinned}");
    }

    #[test]
    fn a_web_page_in_the_place_of_an_apt_key_is_not_pinned() {
        let server = TestServer::start();
        server.serve("/Release.key", "<html>Log in to the network</html>");
        let lines = format!(
            "network: {{ subnet: 10.0.0.0/24 }}\n\
             distribution: {{ kubeadm: {{ version: 1.36.2, source: {{ apt: {{ url: \"{}/\" }} }} }} }}\n",
            server.address
        );
        let (error, pinned) = refused(&lines);
        assert!(error.contains("answers with a web page") && !pinned.contains("Release.key"), "{error} {pinned}");
    }

    #[test]
    fn a_key_that_is_none_is_not_pinned() {
        let server = TestServer::start();
        server.serve("/Release.key", "not found\n");
        let lines = format!(
            "network: {{ subnet: 10.0.0.0/24 }}\n\
             distribution: {{ kubeadm: {{ version: 1.36.2, source: {{ apt: {{ url: \"{}/\" }} }} }} }}\n",
            server.address
        );
        let (error, pinned) = refused(&lines);
        assert!(error.contains("no OpenPGP key") && !pinned.contains("Release.key"), "{error} {pinned}");
    }

    #[test]
    fn kubernetes_own_repository_has_only_the_key_that_is_known() {
        let key = samples::key("own").armored;
        let error = is_key_of("https://pkgs.k8s.io/core:/stable:/v1.36/deb/", &key).unwrap_err().to_string();
        assert!(error.contains("DE15B14486CD377B9E876E1A234654DA9A296436") && error.contains("F27958CE"), "{error}");
    }

    #[test]
    fn a_mirror_may_have_a_key_of_its_own() {
        is_key_of("https://mirror.example/deb/", &samples::key("own").armored).unwrap();
    }
}
