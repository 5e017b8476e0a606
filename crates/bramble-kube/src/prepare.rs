//! What every node has before Kubernetes starts on it.

use std::collections::BTreeMap;

use bramble_shell::Commands;
use bramble_spec::{AddonKind, Cluster, Cni, Distribution, Needs, Node, Preparation, Role, Swap, Wear};
use bramble_state::{Blob, BlobSource, Check, Cleanup, File, NetworkManager, Observation, Resource, Step, Unit};

use crate::backup::automatic;
use crate::identity::owner_step;
use crate::inputs::Inputs;
use crate::lifecycle::Lifecycle;
use crate::{addon, distribution, gateway, storage, ups};

const WATCHDOG_FILE: &str = "/etc/systemd/system.conf.d/90-bramble.conf";
/// The mark of the watchdog's setting that systemd has read.
const WATCHDOG: &str = "watchdog";
const JOURNAL_FILE: &str = "/etc/systemd/journald.conf.d/90-bramble.conf";
const WEAR_UNIT: &str = "/etc/systemd/system/bramble-wear.service";
/// sshd keeps the first value that it reads of a setting, so ours come before the others.
const SSHD_FILE: &str = "/etc/ssh/sshd_config.d/00-bramble.conf";
const SUDOERS_FILE: &str = "/etc/sudoers.d/bramble";

/// Gives everything that `node` should have before Kubernetes is started on it.
pub fn prepare(cluster: &Cluster, node: &Node, seen: &Observation, inputs: &Inputs) -> Vec<Resource> {
    let wanted = &cluster.preparation;
    let life = distribution::lifecycle(cluster, inputs).filter(|_| node.role != Role::Gateway);
    let life = life.as_deref();
    let needs = cluster.addons.iter().map(|addon| (addon, addon.needs()));
    // The gateway is only watched.
    let needs = needs.filter(|(addon, _)| life.is_some() || matches!(addon.kind, AddonKind::Monitoring(_)));
    let needs: Vec<Needs> = needs.map(|(_, needs)| needs).collect();
    // Before anything is changed.
    let owner = inputs.id.iter().map(|id| Resource::Step(owner_step(cluster, node, id)));
    let mut all: Vec<Resource> = owner.collect();
    all.extend(cleanups().map(Resource::Cleanup));
    all.extend(identity(cluster, node));
    all.extend(packages(cluster, node, seen, life, &needs));
    all.extend(boot(wanted, life.is_some()));
    let modules: &[&str] = match life {
        None => &[],
        Some(_) if has_vxlan(cluster) => &["overlay", "br_netfilter", "vxlan"],
        Some(_) => &["overlay", "br_netfilter"],
    };
    all.extend(kernel(wanted, node, modules, &needs));
    all.extend(access(wanted, automatic::sshd(cluster, node)));
    all.extend(hangs(wanted, seen));
    if wanted.wear == Some(Wear::Low) {
        all.extend(wear(seen));
    }
    // It reads that file also when it goes.
    all.push(Resource::Unit(Unit::new("systemd-journald", vec![JOURNAL_FILE.into()])));
    if life.is_some() && seen.facts.network == NetworkManager::NetworkManager {
        all.extend(left_alone());
    }
    all.extend(files(wanted, inputs));
    if let Some(uplink) = &node.uplink {
        all.extend(gateway::resources(cluster, node, uplink, seen));
    }
    all.extend(storage::resources(cluster, node, seen, inputs));
    all.extend(addon::node_resources(cluster, node, life));
    all.extend(life.into_iter().flat_map(|life| life.resources(node, seen)));
    all.extend(automatic::resources(cluster, node, life, inputs));
    all.extend(ups::resources(cluster, node, inputs));
    all
}

/// Gives a node its name, those of the others, and its place in the world.
fn identity(cluster: &Cluster, node: &Node) -> Vec<Resource> {
    let mut all = vec![Resource::Hostname(node.name.to_string()), Resource::Hosts(cluster.hosts.clone())];
    all.extend(cluster.preparation.timezone.clone().map(Resource::Timezone));
    all.extend(cluster.preparation.locale.clone().map(Resource::Locale));
    all
}

/// Gives the packages of a node, and the folders that belong to those of its distribution.
fn packages(
    cluster: &Cluster,
    node: &Node,
    seen: &Observation,
    life: Option<&dyn Lifecycle>,
    needs: &[Needs],
) -> Vec<Resource> {
    let wanted = &cluster.preparation;
    let mut all = Vec::new();
    let mut packages = wanted.packages.clone();
    let mut hold = wanted.hold.clone();
    let mut sources = Vec::new();
    if let Some(life) = life {
        all.extend(life.folders().iter().map(|path| Resource::OwnedFolder((*path).to_owned())));
        let own = life.packages(node, seen);
        for file in own.sources {
            sources.push(file.path.clone());
            all.push(Resource::File(file));
        }
        packages.extend(own.install);
        hold.extend(own.hold);
    }
    packages.extend(needs.iter().flat_map(|needs| needs.packages).map(|name| (*name).to_owned()));
    packages.extend(storage::packages(cluster, node).into_iter().map(str::to_owned));
    packages.extend(automatic::packages(cluster, node).into_iter().map(str::to_owned));
    packages.extend(cluster.ups.is_some().then(|| ups::PACKAGE.to_owned()));
    if node.uplink.is_some() {
        packages.extend(gateway::PACKAGES.map(str::to_owned));
    }
    let facts = &seen.facts;
    let release: f64 = facts.os_version.parse().unwrap_or(0.0);
    if life.is_some() && has_vxlan(cluster) && facts.os == "ubuntu" && facts.is_raspberry_pi() {
        // Its kernels for Raspberry Pis have the module in a package of its own (bugs.launchpad.net, 1947628).
        packages.extend((21.10..24.0).contains(&release).then(|| "linux-modules-extra-raspi".to_owned()));
    }
    packages.sort();
    packages.dedup();
    if !packages.is_empty() {
        all.push(Resource::AptLists { max_age: 24 * 3600, sources });
        all.push(Resource::Packages(packages));
    }
    if wanted.autoremove {
        all.push(Resource::Autoremove);
    }
    if !hold.is_empty() {
        all.push(Resource::Hold(hold));
    }
    all
}

/// Tells whether pods' packets travel between nodes in VXLAN.
fn has_vxlan(cluster: &Cluster) -> bool {
    matches!(cluster.network.cni, Cni::Flannel | Cni::Calico)
        || matches!(cluster.distribution, Distribution::MicroK8s(_))
}

/// Gives what a board is told when it boots, and its swap.
fn boot(wanted: &Preparation, kubernetes: bool) -> Vec<Resource> {
    let mut all = Vec::new();
    if !wanted.boot.config.is_empty() {
        all.push(Resource::BootConfig(wanted.boot.config.clone()));
    }
    if !wanted.boot.kernel_args.is_empty() {
        all.push(Resource::KernelArgs(wanted.boot.kernel_args.clone()));
    }
    if kubernetes {
        all.push(Resource::MemoryCgroup);
    }
    if wanted.swap == Swap::Off {
        all.push(Resource::SwapOff);
    }
    all
}

/// Gives the modules and the settings of a node's kernel. Modules come first: some settings exist only with them.
/// `own`: the modules that Kubernetes needs, if there is any. kubeadm checked the first two until 1.29 and fails mysteriously
/// without them since (flannel-io/flannel#2068).
fn kernel(wanted: &Preparation, node: &Node, own: &[&str], needs: &[Needs]) -> Vec<Resource> {
    let mut all = Vec::new();
    let mut modules = wanted.modules.clone();
    for module in needs.iter().flat_map(|needs| needs.modules).chain(own) {
        if !modules.iter().any(|known| known == module) {
            modules.push((*module).to_owned());
        }
    }
    let mut sysctls: BTreeMap<String, String> = wanted.sysctls.clone();
    if !own.is_empty() {
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
    if !modules.is_empty() {
        all.push(Resource::Modules(modules));
    }
    if !sysctls.is_empty() {
        all.push(Resource::Sysctls(sysctls));
    }
    all
}

/// Keeps NetworkManager from the links of pods and of their networks, which it would ask for addresses and take down (docs.k3s.io,
/// "Known Issues"; docs.tigera.io, "Configure NetworkManager").
fn left_alone() -> [Resource; 2] {
    let links = ["cni*", "veth*", "flannel*", "cali*", "tunl*", "vxlan.calico", "kube-*"];
    let links = links.map(|link| format!("interface-name:{link}")).join(";");
    let file = File::new(
        "/etc/NetworkManager/conf.d/90-bramble.conf",
        format!("# Written by bramble: the links of pods.\n[keyfile]\nunmanaged-devices={links}\n"),
    );
    let mut apply = Commands::new();
    apply.fixed("systemctl reload NetworkManager");
    let title = "let NetworkManager read what it is to leave alone".to_owned();
    [Resource::File(file), Resource::Step(Step { id: "pod-links", title, version: "1".into(), apply, undo: None })]
}

/// Lets the hardware boot a board that hangs: systemd tells it that it lives, as on Raspberry Pi OS, which has the same
/// (systemd-system.conf(5)).
fn hangs(wanted: &Preparation, seen: &Observation) -> Vec<Resource> {
    if !wanted.watchdog || !seen.facts.watchdog || seen.facts.container {
        return Vec::new();
    }
    let text = "# Written by bramble: a board that hangs boots.\n[Manager]\nRuntimeWatchdogSec=1min\n";
    let mut apply = Commands::new();
    apply.fixed("systemctl daemon-reload");
    let title = "let systemd watch over the board with its watchdog".to_owned();
    let step = Step { id: WATCHDOG, title, version: "1min".into(), apply, undo: None };
    vec![Resource::File(File::new(WATCHDOG_FILE, text)), Resource::Step(step)]
}

/// Keeps a node from writing what nobody misses after a power cut: logs to the disk at once, and when a file was last read.
fn wear(seen: &Observation) -> Vec<Resource> {
    let text = "# Written by bramble: the journal is in memory, and bounded.\n[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n";
    let mut all = vec![Resource::File(File::new(JOURNAL_FILE, text))];
    // How a container's root is mounted, and what its disk forgets, is the machine's below.
    if !seen.facts.container {
        all.push(Resource::File(File::new(WEAR_UNIT, include_str!("wear.service"))));
        all.push(Resource::Unit(Unit::new("bramble-wear", vec![WEAR_UNIT.into()])));
        all.push(Resource::Unit(Unit::new("fstrim.timer", Vec::new())));
    }
    all
}

/// Says who may log in, and who may become root. `more`: settings of sshd besides those of the cluster file.
fn access(wanted: &Preparation, more: Option<File>) -> Vec<Resource> {
    let mut all = Vec::new();
    let text: String = wanted.sshd.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
    let own = (!text.is_empty()).then(|| File { check: Some(Check::Sshd), ..File::new(SSHD_FILE, text) });
    let files: Vec<File> = own.into_iter().chain(more).collect();
    if !files.is_empty() {
        let reads = files.iter().map(|file| file.path.clone()).collect();
        all.extend(files.into_iter().map(Resource::File));
        all.push(Resource::Unit(Unit::new("ssh", reads)));
    }
    if !wanted.sudoers.is_empty() {
        let text: String = wanted.sudoers.iter().map(|line| format!("{line}\n")).collect();
        let file = File { mode: "440".into(), check: Some(Check::Sudoers), ..File::new(SUDOERS_FILE, text) };
        all.push(Resource::File(file));
    }
    all
}

/// Gives the files and services of the cluster file's own.
fn files(wanted: &Preparation, inputs: &Inputs) -> Vec<Resource> {
    let mut all = Vec::new();
    let mut readers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in &wanted.files {
        all.push(Resource::File(File { mode: file.mode.to_string(), ..File::new(&file.path, &file.content) }));
        for unit in &file.restart {
            readers.entry(unit).or_default().push(file.path.clone());
        }
    }
    for download in &wanted.downloads {
        all.push(Resource::Blob(Blob {
            path: download.path.clone(),
            sha256: download.sha256.clone(),
            mode: download.mode.to_string(),
            source: BlobSource::Url(download.url.clone()),
        }));
    }
    for sent in &wanted.uploads {
        if let Some(here) = inputs.uploads.get(&sent.from) {
            all.push(Resource::Blob(Blob {
                path: sent.path.clone(),
                sha256: here.sha256.clone(),
                mode: sent.mode.to_string(),
                source: BlobSource::Upload(here.path.clone()),
            }));
        }
    }
    for service in &wanted.services {
        readers.entry(service).or_default();
    }
    all.extend(readers.into_iter().map(|(unit, files)| Resource::Unit(Unit::new(unit, files))));
    all
}

/// Gives what a node may have of earlier cluster files.
fn cleanups() -> [Cleanup; 8] {
    let [nfs, gluster] = storage::cleanups();
    let settings = Cleanup {
        what: "what was set against wear and for the watchdog".to_owned(),
        units: vec!["bramble-wear.service".to_owned(), "fstrim.timer".to_owned()],
        files: [WATCHDOG_FILE, JOURNAL_FILE, WEAR_UNIT].map(str::to_owned).to_vec(),
        steps: vec![WATCHDOG],
        ..Cleanup::default()
    };
    [
        nfs,
        gluster,
        addon::cleanup(),
        gateway::cleanup(),
        distribution::cleanup(),
        automatic::cleanup(),
        ups::cleanup(),
        settings,
    ]
}
