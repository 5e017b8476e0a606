//! The distribution MicroK8s. What its source says is gathered in docs/distributions/microk8s.md.

use bramble_shell::Commands;
use bramble_spec::{Cluster, Component, Distribution, MicroK8s as Config, Node, Problem, Role};
use bramble_state::{Certificates, File, Observation, Resource, STEPS, Step, Unit};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::distribution::facts::{DistributionFacts, Programs};
use crate::distribution::keepalived;
use crate::distribution::kubelet;
use crate::distribution::one_service;
use crate::distribution::upstream::{Release, Upstream, arch};
use crate::inputs::Inputs;
use crate::lifecycle::{JoinFacts, Lifecycle, MEMBER, MissingFact, Packages, VERSION, member};

/// The facts of MicroK8s.
pub(super) struct Facts;

impl DistributionFacts for Facts {
    fn name(&self) -> &'static str {
        MICROK8S.name
    }

    fn upstream(&self) -> Option<&'static Upstream> {
        Some(&MICROK8S)
    }

    fn programs<'c>(&self, cluster: &'c Cluster) -> Option<Programs<'c>> {
        let Distribution::MicroK8s(config) = &cluster.distribution else { return None };
        Some(Programs::Release { upstream: &MICROK8S, wanted: &config.version, mirror: config.mirror.as_deref() })
    }

    fn pod_units(&self) -> &'static [&'static str] {
        &["snap.microk8s.daemon-kubelite.service"]
    }

    fn lifecycle<'c>(&self, cluster: &'c Cluster, inputs: &'c Inputs) -> Option<Box<dyn Lifecycle + 'c>> {
        let Distribution::MicroK8s(config) = &cluster.distribution else { return None };
        Some(Box::new(MicroK8s { cluster, config, inputs }))
    }
}

/// MicroK8s' part of a cluster's life.
struct MicroK8s<'a> {
    cluster: &'a Cluster,
    config: &'a Config,
    inputs: &'a Inputs,
}

/// The publisher of MicroK8s (snapd, store/store.go). A release is the snap, the snaps that it needs, and an assertion
/// for each.
static MICROK8S: Upstream = Upstream {
    name: "microk8s",
    downloads: "https://api.snapcraft.io",
    channel: |channel| match channel {
        "stable" => Some("latest/stable".to_owned()),
        minor => Some(format!("{}/stable", minor.trim_start_matches('v'))),
    },
    digests: |arch| match arch {
        "amd64" => "sha256sums-amd64.txt",
        _ => "sha256sums-arm64.txt",
    },
    images: |arch| match arch {
        "amd64" => "images-amd64.txt",
        _ => "images-arm64.txt",
    },
    architectures: &["amd64", "arm64"],
    program: |_, arch| format!("microk8s_{arch}.snap"),
    archive: |_, arch| format!("images_{arch}.tar"),
    store: true,
};

/// The folder of snaps that were sent.
const SNAPS: &str = "/var/lib/bramble/snaps";
/// The first of the places where MicroK8s looks for its launch configuration (microk8s, snap/hooks/install).
const LAUNCH: &str = "/etc/microk8s.yaml";
/// Its kubelet, proxy and, on control planes, everything else of Kubernetes.
const SERVICE: &str = "snap.microk8s.daemon-kubelite";
/// The names of the facts that say where and with what nodes join: `node=token` each.
const AGENT: &str = "agent";
const TOKENS: &str = "tokens";
/// The mark that says which further arguments the programs of Kubernetes have.
const ARGUMENTS: &str = "arguments";
/// Those of its certificates that do not last ten years are made for one (microk8s, actions/common/utils.sh).
const RENEWAL: i64 = 30 * 24 * 3600;
/// At or below so many KiB MicroK8s runs no control plane (microk8s, snap/hooks/install).
const GUARD: u64 = 512 * 1024;

impl Lifecycle for MicroK8s<'_> {
    fn name(&self) -> &'static str {
        "microk8s"
    }

    fn version(&self) -> String {
        one_service::version(self.inputs, &self.config.version)
    }

    fn kubelet_version(&self) -> String {
        self.version().split('+').next().unwrap_or_default().to_owned()
    }

    fn folders(&self) -> &'static [&'static str] {
        &[
            "/etc/apparmor.d/cri-containerd.apparmor.d",
            "/snap",
            "/root/snap",
            "/var/snap",
            "/var/lib/snapd",
            "/var/cache/snapd",
            "/var/lib/kubelet",
            "/var/lib/calico",
            "/var/lib/cni",
            "/etc/cni",
            "/opt/cni",
            "/etc/bramble",
            keepalived::FOLDER,
            "/var/log/pods",
            "/var/log/containers",
            "/run/bramble",
            "/run/calico",
            "/run/flannel",
            "/usr/libexec/kubernetes",
        ]
    }

    fn packages(&self, node: &Node, _: &Observation) -> Packages {
        // Its services call sudo, even as root (microk8s, actions/common/utils.sh, `run_with_sudo`).
        // Its own iptables writes into the old tables, which only Debian's package shows.
        let mut install = vec!["snapd".to_owned(), "sudo".to_owned(), "iptables".to_owned()];
        if keepalived::holds(self.cluster, node) {
            install.extend(keepalived::PACKAGES.map(str::to_owned));
        }
        Packages { install, ..Packages::default() }
    }

    fn resources(&self, node: &Node, seen: &Observation) -> Vec<Resource> {
        let mut all = Vec::new();
        if let Some(release) = &self.inputs.release {
            let arch = arch(node, seen);
            for name in MICROK8S.files(release, arch) {
                let place = format!("{SNAPS}/{}", name.replace(&format!("_{arch}."), "."));
                all.extend(release.blob(&name, &place, "644"));
            }
        }
        all.push(Resource::File(self.launch_file(node)));
        if node.role == Role::ControlPlane {
            all.push(one_service::kubectl("/snap/bin/microk8s"));
        }
        let file = kubelet::drop_in();
        let shutdown = file.path.clone();
        all.push(Resource::File(file));
        // They come with the snap, which begins a cluster of its own at once.
        if seen.done(MEMBER).is_some() {
            let services = [("snap.microk8s.daemon-containerd", vec![]), (SERVICE, vec![shutdown])];
            all.extend(services.map(|(name, reads)| Resource::Unit(Unit::new(name, reads))));
            all.push(Resource::Step(self.arguments(node)));
        }
        if keepalived::holds(self.cluster, node) {
            all.extend(keepalived::resources(self.cluster, node, seen, self));
        }
        all.push(Resource::Certificates(self.certificates(node)));
        all
    }

    fn is_program(&self, resource: &Resource) -> bool {
        matches!(resource, Resource::Blob(blob) if blob.path.starts_with(SNAPS))
    }

    fn check(&self, node: &Node, seen: &Observation) -> Vec<Problem> {
        let release = self.inputs.release.as_ref();
        let mut found: Vec<Problem> = MICROK8S.check(release, node, seen).into_iter().collect();
        if node.role == Role::ControlPlane && (1..=GUARD).contains(&seen.facts.memory) {
            let mib = seen.facts.memory / 1024;
            let message = format!("it has {mib} MiB of memory, with which MicroK8s runs no control plane");
            found.push(Problem::error(message, &node.name).next("make it a worker"));
        }
        let archive = (MICROK8S.archive)("", arch(node, seen));
        if let Some(release) = release.filter(|release| release.offline && !release.files.contains_key(&archive)) {
            let message = format!(
                "the bundle has no images of MicroK8s {} for it, and nobody publishes them in one archive",
                release.version
            );
            found.push(Problem::error(message, &node.name).next(format!(
                "pull them where there is a network (`microk8s images export-local`), and add them with `bramble bundle \
                 create --images {}=FILE`",
                arch(node, seen)
            )));
        }
        if seen.done(MEMBER).is_some() && seen.differs(&self.launch_file(node)) {
            let message = format!("{LAUNCH} would change, which MicroK8s reads once, when it is installed");
            found.push(
                Problem::error(message, &node.name).next(
                    "put addresses and ranges of `network` back, or take the node out of the cluster and in again",
                ),
            );
        }
        found
    }

    fn secrets(&self, _: [u8; 64]) -> JoinFacts {
        // A cluster that runs makes the tokens itself.
        JoinFacts::default()
    }

    fn init(&self, node: &Node, _: &Observation, _: &JoinFacts, restored: Option<&str>) -> Result<Step, MissingFact> {
        let mut apply = self.script();
        let dns = self.cluster.network.service_address(10).to_string();
        let address = node.address.to_string();
        // MicroK8s finds its own address for DNS if its range of services is the one that it knows.
        let own = self.cluster.network.services.to_string() == "10.152.183.0/24";
        let dns = if own { String::new() } else { format!("/etc/resolv.conf {dns}") };
        let others = self.cluster.members().filter(|other| other.name != node.name).map(|other| other.name.as_str());
        apply.call("microk8s_init", [restored.unwrap_or_default(), &address, &dns].into_iter().chain(others));
        self.begin_with_arguments(node, &mut apply);
        let title = format!("make the cluster {} (MicroK8s)", self.cluster.name);
        Ok(member(self, node, None, title, apply, self.undo()))
    }

    fn join(&self, node: &Node, _: &Observation, facts: &JoinFacts) -> Result<Step, MissingFact> {
        let (ca, agent) = (facts.get(JoinFacts::CA)?, facts.get(AGENT)?);
        let own = |pair: &str| {
            pair.split_once('=').filter(|(name, _)| *name == node.name.as_str()).map(|(_, t)| t.to_owned())
        };
        let token = facts.get(TOKENS)?.split(' ').find_map(own).ok_or(MissingFact(TOKENS))?;
        let address = node.address.to_string();
        let worker = if node.role == Role::ControlPlane { "" } else { "--worker" };
        let mut apply = self.script();
        apply.call("microk8s_join", [agent, &token, &address, worker]);
        self.begin_with_arguments(node, &mut apply);
        let title = format!("join the cluster {} (MicroK8s, {})", self.cluster.name, node.role);
        Ok(member(self, node, Some(ca), title, apply, self.undo()))
    }

    fn join_facts(
        &self,
        plane: &Node,
        _: &Observation,
        joining: &[&Node],
        _: &JoinFacts,
    ) -> Result<Commands, MissingFact> {
        let address = plane.address.to_string();
        let mut script = Commands::new();
        script.fixed("tell_ca");
        script.call("tell_tokens", [address.as_str()].into_iter().chain(joining.iter().map(|node| node.name.as_str())));
        Ok(script)
    }

    fn refresh(&self, _: &Node, _: &JoinFacts) -> Result<Commands, MissingFact> {
        Ok(one_service::restart(self.script()))
    }

    fn upgrade(&self, node: &Node, _: &Observation, _: bool) -> Step {
        let mut apply = self.script();
        apply.fixed("microk8s_upgrade");
        Step {
            id: VERSION,
            title: format!("upgrade {} to MicroK8s {} (refresh its snap)", node.name, self.version()),
            version: self.version(),
            apply,
            undo: None,
        }
    }

    fn kubectl(&self) -> Commands {
        self.script()
    }

    fn admin_config(&self) -> &'static str {
        "/var/snap/microk8s/current/credentials/client.config"
    }

    fn api_port(&self) -> u16 {
        16443
    }

    fn begins_alone(&self) -> bool {
        true
    }

    fn smoke_image(&self) -> Option<String> {
        self.inputs.release.as_ref().and_then(Release::small_image)
    }

    fn certificates(&self, node: &Node) -> Certificates {
        let mut renew = self.script();
        renew.fixed("renew_certificates");
        match node.role {
            Role::ControlPlane => Certificates {
                files: &[
                    "/var/snap/microk8s/current/certs/server.crt",
                    "/var/snap/microk8s/current/certs/front-proxy-client.crt",
                ],
                before: RENEWAL,
                renew,
            },
            // It gets a new one by joining again.
            _ => Certificates {
                files: &["/var/snap/microk8s/current/certs/kubelet.crt"],
                before: RENEWAL,
                renew: Commands::new(),
            },
        }
    }
}

impl MicroK8s<'_> {
    /// Begins a script.
    fn script(&self) -> Commands {
        let mut script = Commands::new();
        let snaps: Vec<&str> = match &self.inputs.release {
            Some(release) => snaps(release),
            None => Vec::new(),
        };
        script.set("service", SERVICE).set("snaps", &snaps.join(" "));
        script.fixed(STEPS).fixed(include_str!("../cluster.sh")).fixed(include_str!("../own_runtime.sh"));
        script.fixed(include_str!("lib.sh"));
        script
    }

    fn undo(&self) -> Commands {
        let mut undo = self.script();
        undo.fixed("reset_kubernetes\nremove_snaps");
        undo
    }

    /// Lists the programs that a node has, each with its further arguments.
    fn told(&self, node: &Node) -> Vec<(&'static str, Vec<String>)> {
        let has = |component: &Component| match component {
            Component::Kubelet => true,
            // The state is kept in dqlite.
            Component::Etcd => false,
            _ => node.role == Role::ControlPlane,
        };
        let told = |component: Component| {
            let shutdown = (component == Component::Kubelet).then(|| format!("--{}", kubelet::argument()));
            let flags = self.cluster.arguments.flags_of(component);
            (component.name(), shutdown.into_iter().chain(flags).collect())
        };
        Component::ALL.into_iter().filter(has).map(told).collect()
    }

    /// Gives the programs of a node the arguments that they have not, and takes those away that they should not have any more.
    /// Returns the version of the step that does so.
    fn tell(&self, node: &Node, script: &mut Commands) -> String {
        let told = self.told(node);
        for (program, arguments) in &told {
            script.call("tell_arguments", [*program].into_iter().chain(arguments.iter().map(String::as_str)));
        }
        script.fixed("service_runs restart");
        bramble_spec::hex(&Sha256::digest(json!(told).to_string()))
    }

    fn arguments(&self, node: &Node) -> Step {
        let mut apply = self.script();
        let version = self.tell(node, &mut apply);
        Step { id: ARGUMENTS, title: "give Kubernetes' programs their arguments".into(), version, apply, undo: None }
    }

    /// The same for a node that has just become a member.
    fn begin_with_arguments(&self, node: &Node, script: &mut Commands) {
        let version = self.tell(node, script);
        script.call("step_ends", [ARGUMENTS, &version]);
    }

    /// Writes the launch configuration (microk8s-cluster-agent, pkg/k8sinit/schema.go). It replaces the one in the
    /// snap, so what that says is said again. JSON is YAML.
    fn launch_file(&self, node: &Node) -> File {
        let network = &self.cluster.network;
        let mut sans = vec![network.service_address(1)];
        if keepalived::wanted(self.cluster) {
            sans.push(network.api);
        }
        let launch = json!({
            "version": "0.2.0",
            "extraSANs": sans,
            // Without it everybody who reaches the API may do everything.
            "extraKubeAPIServerArgs": { "--authorization-mode": "RBAC,Node", "--advertise-address": node.address },
            "extraCNIEnv": {
                "IPv4_SUPPORT": true, "IPv4_CLUSTER_CIDR": network.pods, "IPv4_SERVICE_CIDR": network.services,
            },
            "extraKubeletArgs": {
                "--cluster-dns": network.service_address(10), "--cluster-domain": "cluster.local",
                "--node-ip": node.address,
            },
        });
        File { mode: "600".into(), ..File::new(LAUNCH, format!("{launch:#}\n")) }
    }
}

/// Lists the snaps of a release in the order in which they need each other.
fn snaps(release: &Release) -> Vec<&str> {
    let mut names: Vec<&str> = release
        .files
        .keys()
        .filter_map(|file| file.strip_suffix(".snap")?.rsplit_once('_').map(|(name, _)| name))
        .collect();
    names.sort_by_key(|name| (*name == "microk8s", *name != "snapd", *name));
    names.dedup();
    names
}
