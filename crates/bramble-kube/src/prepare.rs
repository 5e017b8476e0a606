//! What every node has before Kubernetes starts on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bramble_spec::{ADDON_PACKAGES, AddonKind, Cluster, KubeVersion, Node, NodeName, Role, Sha256Digest, Swap};
use bramble_state::{Blob, BlobSource, Check, Cleanup, File, Observation, Resource, Unit};

use crate::addons::{self, Rendered};
use crate::bundle::Bundle;
use crate::gateway;
use crate::lifecycle::lifecycle;
use crate::manifest::Platform;
use crate::release::{self, Release};
use crate::storage;

/// What a plan needs besides the cluster file: bytes that were chosen once and are pinned in the lock file.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The bundle, if programs and images come from one.
    pub bundle: Option<Bundle>,
    /// The version of Kubernetes with its patch, if programs come from an apt repository.
    pub kubernetes: Option<KubeVersion>,
    /// The release, if the distribution has releases of its own.
    pub release: Option<Release>,
    /// The text of the file that says where images come from, if one is named.
    pub registries: Option<String>,
    /// The signing key of the apt repository, if programs come from one (armoured).
    pub apt_key: Option<String>,
    /// The CNI's manifest, if it has one.
    pub cni_manifest: Option<String>,
    /// Archives of container images.
    pub archives: Vec<Archive>,
    /// Disks that may be formatted although something is on them, each with its node.
    pub format: BTreeSet<(NodeName, String)>,
    /// The add-ons of the cluster file.
    pub addons: Vec<Rendered>,
    /// The files of `prepare.uploads`, by what the cluster file calls them.
    pub uploads: BTreeMap<String, LocalFile>,
}

/// An archive of container images, here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The whole names of its images, each with the processors that it was made for: at least one name.
    pub images: Vec<(String, Vec<Platform>)>,
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// A file here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// sshd keeps the first value that it reads of a setting, so ours come before the others.
const SSHD_FILE: &str = "/etc/ssh/sshd_config.d/00-bramble.conf";
const SUDOERS_FILE: &str = "/etc/sudoers.d/bramble";

/// Everything that `node` should have before Kubernetes is started on it.
pub fn prepare(cluster: &Cluster, node: &Node, seen: &Observation, inputs: &Inputs) -> Vec<Resource> {
    let wish = &cluster.preparation;
    let mut all = Vec::new();
    let life = lifecycle(cluster, inputs).filter(|_| node.role != Role::Gateway);
    let kubernetes = life.is_some();
    all.push(Resource::Hostname(node.name.to_string()));
    let hosts = cluster.nodes.iter().map(|node| (node.address.to_string(), node.name.to_string()));
    all.push(Resource::Hosts(hosts.collect()));
    if let Some(zone) = &wish.timezone {
        all.push(Resource::Timezone(zone.clone()));
    }
    if let Some(locale) = &wish.locale {
        all.push(Resource::Locale(locale.clone()));
    }
    let mut packages = wish.packages.clone();
    let mut hold = wish.hold.clone();
    let mut sources = Vec::new();
    if let Some(life) = &life {
        all.extend(life.folders().iter().map(|path| Resource::OwnedFolder((*path).to_owned())));
        let own = life.packages(node, seen);
        for file in own.sources {
            sources.push(file.path.clone());
            all.push(Resource::File(file));
        }
        packages.extend(own.install);
        hold.extend(own.hold);
    }
    let needs = cluster.addons.iter().map(|addon| (addon, addon.needs()));
    // The gateway is only watched.
    let needs = needs.filter(|(addon, _)| kubernetes || matches!(addon.kind, AddonKind::Monitoring(_)));
    let needs: Vec<_> = needs.map(|(_, needs)| needs).collect();
    packages.extend(needs.iter().flat_map(|needs| needs.packages).map(|name| (*name).to_owned()));
    packages.extend(storage::packages(cluster, node).into_iter().map(str::to_owned));
    if node.uplink.is_some() {
        packages.extend(gateway::PACKAGES.map(str::to_owned));
    }
    packages.sort();
    packages.dedup();
    if !packages.is_empty() {
        all.push(Resource::AptLists { max_age: 24 * 3600, sources });
        all.push(Resource::Packages(packages));
    }
    if wish.autoremove {
        all.push(Resource::Autoremove);
    }
    if !hold.is_empty() {
        all.push(Resource::Hold(hold));
    }
    if !wish.boot.config.is_empty() {
        all.push(Resource::BootConfig(wish.boot.config.clone()));
    }
    if !wish.boot.kernel_args.is_empty() {
        all.push(Resource::KernelArgs(wish.boot.kernel_args.clone()));
    }
    if kubernetes {
        all.push(Resource::MemoryCgroup);
    }
    if wish.swap == Swap::Off {
        all.push(Resource::SwapOff);
    }
    let mut modules = wish.modules.clone();
    // kubeadm checked these until 1.29 and fails mysteriously without them since (flannel-io/flannel#2068).
    let own: &[&str] = if kubernetes { &["overlay", "br_netfilter"] } else { &[] };
    for module in needs.iter().flat_map(|needs| needs.modules).chain(own) {
        if !modules.iter().any(|known| known == module) {
            modules.push((*module).to_owned());
        }
    }
    let mut sysctls: BTreeMap<String, String> = wish.sysctls.clone();
    if kubernetes {
        for key in ["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"]
        {
            sysctls.entry(key.to_owned()).or_insert_with(|| "1".to_owned());
        }
    }
    for (key, value) in needs.iter().flat_map(|needs| needs.sysctls) {
        sysctls.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
    }
    if node.uplink.is_some() {
        sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
    }
    // Modules come first: some settings exist only with them.
    if !modules.is_empty() {
        all.push(Resource::Modules(modules));
    }
    if !sysctls.is_empty() {
        all.push(Resource::Sysctls(sysctls));
    }
    if !wish.sshd.is_empty() {
        let text: String = wish.sshd.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let file = File { check: Some(Check::Sshd), ..File::new(SSHD_FILE, text) };
        all.push(Resource::File(file));
        all.push(Resource::Unit(Unit::new("ssh", vec![SSHD_FILE.into()])));
    }
    if !wish.sudoers.is_empty() {
        let text: String = wish.sudoers.iter().map(|line| format!("{line}\n")).collect();
        let file = File { mode: "440".into(), check: Some(Check::Sudoers), ..File::new(SUDOERS_FILE, text) };
        all.push(Resource::File(file));
    }
    let mut readers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in &wish.files {
        all.push(Resource::File(File { mode: file.mode.to_string(), ..File::new(&file.path, &file.content) }));
        for unit in &file.restart {
            readers.entry(unit).or_default().push(file.path.clone());
        }
    }
    for download in &wish.downloads {
        all.push(Resource::Blob(Blob {
            path: download.path.clone(),
            sha256: download.sha256.clone(),
            mode: download.mode.to_string(),
            source: BlobSource::Url(download.url.clone()),
        }));
    }
    for sent in &wish.uploads {
        if let Some(here) = inputs.uploads.get(&sent.from) {
            all.push(Resource::Blob(Blob {
                path: sent.path.clone(),
                sha256: here.sha256.clone(),
                mode: sent.mode.to_string(),
                source: BlobSource::Upload(here.path.clone()),
            }));
        }
    }
    for service in &wish.services {
        readers.entry(service).or_default();
    }
    for (unit, files) in readers {
        all.push(Resource::Unit(Unit::new(unit, files)));
    }
    if let Some(uplink) = &node.uplink {
        all.extend(gateway::resources(cluster, node, uplink, seen));
    }
    all.extend(storage::resources(cluster, node, seen, inputs));
    all.extend(addons::node_resources(cluster, node, life.as_deref()));
    if let Some(life) = &life {
        all.extend(life.resources(node, seen));
    }
    all.splice(0..0, leftovers().map(Resource::Cleanup));
    all
}

/// What a node may have of earlier cluster files.
fn leftovers() -> [Cleanup; 5] {
    let monitoring = addons::everything();
    let packages = ADDON_PACKAGES.concat().into_iter().map(str::to_owned).collect();
    let places = Cleanup {
        what: "what was said of registries and archives".to_owned(),
        files: release::PLACES.map(str::to_owned).to_vec(),
        ..Cleanup::default()
    };
    let [nfs, gluster] = storage::everything();
    [nfs, gluster, Cleanup { packages, ..monitoring }, gateway::everything(), places]
}
