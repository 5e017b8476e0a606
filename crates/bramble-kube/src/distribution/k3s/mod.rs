//! The distribution `k3s`. What its source says is gathered in docs/distributions/k3s.md.

use std::collections::BTreeMap;

use bramble_shell::Commands;
use bramble_spec::{
    Cluster, Cni, Component, Datastore, Distribution, Images, K3s as Config, Node, Problem, Role, Setting,
};
use bramble_state::{Certificates, File, Observation, Resource, STEPS, Step};
use serde_json::json;

use crate::distribution::facts::{DistributionFacts, Programs};
use crate::distribution::keepalived;
use crate::distribution::kubelet;
use crate::distribution::one_service;
use crate::distribution::upstream::{Release, Upstream, arch, minor};
use crate::inputs::Inputs;
use crate::lifecycle::{JoinFacts, Lifecycle, MEMBER, MissingFact, Packages, Secret, member};
use crate::template::fill;

/// The facts of k3s.
pub(super) struct Facts;

impl DistributionFacts for Facts {
    fn name(&self) -> &'static str {
        K3S.name
    }

    fn upstream(&self) -> Option<&'static Upstream> {
        Some(&K3S)
    }

    fn programs<'c>(&self, cluster: &'c Cluster) -> Option<Programs<'c>> {
        let Distribution::K3s(config) = &cluster.distribution else { return None };
        Some(Programs::Release { upstream: &K3S, wanted: &config.version, mirror: config.mirror.as_deref() })
    }

    fn registries_file<'c>(&self, cluster: &'c Cluster) -> Option<&'c str> {
        let Distribution::K3s(config) = &cluster.distribution else { return None };
        config.registries.as_deref()
    }

    fn pod_units(&self) -> &'static [&'static str] {
        &["k3s.service", "k3s-agent.service"]
    }

    fn optional_files(&self) -> &'static [&'static str] {
        &[REGISTRIES, SECRETS, "/var/lib/rancher/k3s/agent/images/bramble-"]
    }

    fn lifecycle<'c>(&self, cluster: &'c Cluster, inputs: &'c Inputs) -> Option<Box<dyn Lifecycle + 'c>> {
        let Distribution::K3s(config) = &cluster.distribution else { return None };
        Some(Box::new(K3s { cluster, config, inputs }))
    }
}

/// k3s' part of a cluster's life.
struct K3s<'a> {
    cluster: &'a Cluster,
    config: &'a Config,
    inputs: &'a Inputs,
}

/// The publisher of k3s (docs.k3s.io, "Air-Gap Install"; channels: k3s, install.sh).
static K3S: Upstream = Upstream {
    name: "k3s",
    downloads: "https://github.com/k3s-io/k3s/releases/download",
    channel: |channel| Some(format!("https://update.k3s.io/v1-release/channels/{channel}")),
    digests: |arch| match arch {
        "amd64" => "sha256sum-amd64.txt",
        "arm64" => "sha256sum-arm64.txt",
        _ => "sha256sum-arm.txt",
    },
    images: |_| "k3s-images.txt",
    architectures: &["amd64", "arm64", "armhf"],
    program: |_, arch| match arch {
        "amd64" => "k3s".to_owned(),
        arch => format!("k3s-{arch}"),
    },
    archive: |_, arch| format!("k3s-airgap-images-{}.tar.zst", if arch == "armhf" { "arm" } else { arch }),
    store: false,
};

/// The name of the fact that lets servers in.
const TOKEN: &str = "token";
/// The name of the fact that lets agents in.
const AGENT_TOKEN: &str = "agent-token";
/// The name of the fact that says where a node that joins finds the cluster.
const SERVER: &str = "server";

/// The mark that says where the cluster's state is kept.
const DATASTORE: &str = "datastore";
/// The mark of the release whose programs are unpacked.
const UNPACKED: &str = "unpacked";

const PROGRAM: &str = "/usr/local/bin/k3s";
const CONFIG: &str = "/etc/rancher/k3s/config.yaml";
/// What nobody but root may read, and no plan shows; k3s takes it with the file above (docs.k3s.io, "Configuration Options").
const SECRETS: &str = "/etc/rancher/k3s/config.yaml.d/bramble.yaml";
const REGISTRIES: &str = "/etc/rancher/k3s/registries.yaml";
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
const CONTAINERD: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/bramble.toml";
const TOKEN_FILE: &str = "/etc/rancher/k3s/token";
const ADMIN: &str = "/etc/rancher/k3s/k3s.yaml";
/// k3s makes its certificates for a year and renews them when it starts with less than 120 days left.
const RENEWAL: i64 = 30 * 24 * 3600;

impl Lifecycle for K3s<'_> {
    fn name(&self) -> &'static str {
        "k3s"
    }

    fn version(&self) -> String {
        one_service::version(self.inputs, &self.config.version)
    }

    fn folders(&self) -> &'static [&'static str] {
        &[
            "/etc/rancher",
            "/var/lib/rancher",
            "/var/lib/kubelet",
            "/var/lib/cni",
            "/etc/cni",
            "/etc/bramble",
            keepalived::FOLDER,
            "/var/log/pods",
            "/var/log/containers",
            "/run/k3s",
            "/run/flannel",
            "/run/bramble",
            "/usr/libexec/kubernetes",
        ]
    }

    fn packages(&self, node: &Node, _: &Observation) -> Packages {
        let mut packages = Packages::default();
        if keepalived::holds(self.cluster, node) {
            packages.install.extend(keepalived::PACKAGES.map(str::to_owned));
        }
        packages
    }

    fn resources(&self, node: &Node, seen: &Observation) -> Vec<Resource> {
        let mut all = Vec::new();
        if let Some(release) = &self.inputs.release {
            let arch = arch(node, seen);
            all.extend(release.blob(&(K3S.program)(&release.version, arch), PROGRAM, "755"));
            // While others wait for the first server, or the old release still runs.
            all.push(Resource::Step(self.unpack(node, &release.version)));
            if self.config.images == Images::Upload || release.offline {
                let name = (K3S.archive)(&release.version, arch);
                all.extend(release.blob(&name, &format!("{IMAGES}/{name}"), "644"));
            }
        }
        let own = |path: &str, text: String| File { mode: "600".into(), ..File::new(path, text) };
        all.push(Resource::File(own(CONFIG, self.settings(node, seen))));
        if let Some(text) = self.secret_settings(node, seen) {
            all.push(Resource::File(File { secret: true, ..own(SECRETS, text) }));
        }
        let shutdown = kubelet::drop_in();
        // Also when they go.
        let mut reads = vec![CONFIG.to_owned(), SECRETS.to_owned(), REGISTRIES.to_owned(), shutdown.path.clone()];
        all.push(Resource::File(shutdown));
        if seen.facts.container {
            // Releases since spring 2026 read it (k3s, pull request 13680); before that only a template of somebody's own.
            let text = "# Written by bramble: a container may not lower its own OOM score.\nversion = 3\n\n\
                        [plugins.'io.containerd.cri.v1.runtime']\n  disable_apparmor = true\n  restrict_oom_score_adj = true\n";
            all.push(Resource::File(File::new(CONTAINERD, text.to_owned())));
            reads.push(CONTAINERD.to_owned());
        }
        // docs.k3s.io, "Private Registry Configuration". JSON is YAML.
        let of = |(registry, mirror): (&String, &String)| (registry.clone(), json!({ "endpoint": [mirror] }));
        let mut mirrors: serde_json::Map<_, _> = self.cluster.registries.iter().map(of).collect();
        if self.config.server.get("embedded-registry") == Some(&Setting::One("true".into())) {
            // Nodes ask each other only for images of registries that are named (docs.k3s.io, "Embedded Registry Mirror").
            mirrors.entry("*").or_insert_with(|| json!({}));
        }
        let mirrors = (!mirrors.is_empty()).then(|| format!("{:#}\n", json!({ "mirrors": mirrors })));
        if let Some(text) = self.inputs.registries.clone().or(mirrors) {
            all.push(Resource::File(File { secret: true, ..own(REGISTRIES, text) }));
        }
        all.extend(one_service::archives(self.inputs, IMAGES));
        if node.role == Role::ControlPlane {
            all.push(one_service::kubectl(self.name()));
            all.push(Resource::Step(self.note_datastore(node)));
        }
        let service = service(node);
        let unit = format!("/etc/systemd/system/{service}.service");
        all.push(Resource::File(File::new(&unit, unit_text(node))));
        reads.push(unit);
        all.push(one_service::service(service, reads, seen));
        if keepalived::holds(self.cluster, node) {
            all.extend(keepalived::resources(self.cluster, node, seen, self));
        }
        all.push(Resource::Certificates(self.certificates(node)));
        all
    }

    fn is_program(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Blob(blob) => blob.path == PROGRAM,
            Resource::Step(step) => step.id == UNPACKED,
            _ => false,
        }
    }

    fn check(&self, node: &Node, seen: &Observation) -> Vec<Problem> {
        let mut problems: Vec<Problem> = K3S.check(self.inputs.release.as_ref(), node, seen).into_iter().collect();
        let (was, now) = (seen.done(DATASTORE).filter(|_| seen.done(MEMBER).is_some()), self.datastore());
        // k3s itself takes what is in SQLite into etcd, and nothing anywhere else.
        if let Some(was) = was.filter(|was| *was != now && (*was, now) != ("sqlite", "etcd")) {
            let (was, now) = (place(was), place(now));
            let message =
                format!("the cluster's state is kept {was}, and would begin anew {now}, without all that is there");
            problems.push(Problem::error(message, &node.name).next(
                "put the datastore of the cluster file back; to move, make another cluster and take your workloads there",
            ));
        }
        problems
    }

    fn secrets(&self, random: [u8; 64]) -> JoinFacts {
        let mut secrets = JoinFacts::default();
        secrets.set(TOKEN, &bramble_spec::hex(&random[..24]));
        secrets.set(AGENT_TOKEN, &bramble_spec::hex(&random[32..56]));
        secrets
    }

    fn init(
        &self,
        node: &Node,
        _: &Observation,
        secrets: &JoinFacts,
        restored: Option<&str>,
    ) -> Result<Step, MissingFact> {
        let dns = if self.config.disable.iter().any(|component| component == "coredns") { "" } else { "coredns" };
        let address = node.address.to_string();
        let mut apply = self.on(node);
        apply.call(
            "k3s_init",
            [secrets.get(TOKEN)?, secrets.get(AGENT_TOKEN)?, &address, restored.unwrap_or_default(), dns],
        );
        let title = format!("make the cluster {} (k3s server)", self.cluster.name);
        Ok(member(self, node, None, title, apply, self.undo(node)))
    }

    fn join(&self, node: &Node, _: &Observation, facts: &JoinFacts) -> Result<Step, MissingFact> {
        let ca = facts.get(JoinFacts::CA)?;
        let moving = format!("https://{}:6443", self.cluster.network.api);
        let elsewhere = self.config.datastore == Datastore::External && node.role == Role::ControlPlane;
        let server = match (elsewhere, keepalived::wanted(self.cluster)) {
            // Servers meet in the database.
            (true, _) => "",
            (_, true) => &moving,
            _ => facts.get(SERVER)?,
        };
        let etcd = if self.config.datastore == Datastore::Etcd { "etcd" } else { "" };
        let (token, agent_token) = self.tokens(node, facts)?;
        let mut apply = self.on(node);
        apply.call("k3s_join", [token.as_str(), agent_token, server, etcd]);
        let title = format!("join the cluster {} (k3s {})", self.cluster.name, kind(node));
        Ok(member(self, node, Some(ca), title, apply, self.undo(node)))
    }

    fn join_facts(&self, plane: &Node, _: &Observation, _: &[&Node], _: &JoinFacts) -> Result<Commands, MissingFact> {
        let mut script = Commands::new();
        script.call("tell_how_to_join", [plane.address.to_string()]);
        Ok(script)
    }

    fn refresh(&self, node: &Node, facts: &JoinFacts) -> Result<Commands, MissingFact> {
        self.take_tokens(node, facts)
    }

    fn upgrade(&self, node: &Node, _: &Observation, _: bool) -> Step {
        let mut step = one_service::upgrade(self, node, self.on(node));
        step.apply.fixed("forget_releases");
        step
    }

    fn kubectl(&self) -> Commands {
        self.script("k3s")
    }

    fn rotate(&self, secret: Secret) -> Result<Commands, &'static str> {
        let mut script = Commands::new();
        script.fixed(match secret {
            Secret::Tokens => "rotate_token",
            Secret::EncryptionKeys => "rotate_encryption",
        });
        Ok(script)
    }

    fn take(&self, secret: Secret, node: &Node, facts: &JoinFacts) -> Result<Option<Commands>, MissingFact> {
        if secret == Secret::EncryptionKeys {
            // Servers read them when they start.
            return Ok((node.role == Role::ControlPlane).then(|| one_service::restart(self.on(node))));
        }
        self.take_tokens(node, facts).map(Some)
    }

    fn state_elsewhere(&self) -> Option<&'static str> {
        let elsewhere = self.config.datastore == Datastore::External;
        elsewhere.then_some(
            "the state of this cluster is in the database of `datastore-endpoint`: save it and put it back there, with its own \
             tools (pg_dump, mariadb-dump), and keep a copy of .bramble/NAME.tokens with it (for clusters that were made before there was one, of \
             /etc/rancher/k3s/token), which opens it",
        )
    }

    fn admin_config(&self) -> &'static str {
        ADMIN
    }

    fn api_probe(&self) -> &'static str {
        // Nobody is let in without a certificate.
        " --cert /var/lib/rancher/k3s/server/tls/client-admin.crt --key /var/lib/rancher/k3s/server/tls/client-admin.key"
    }

    fn smoke_image(&self) -> Option<String> {
        self.inputs.release.as_ref().and_then(Release::small_image)
    }

    fn certificates(&self, node: &Node) -> Certificates {
        let renew = one_service::restart(self.on(node));
        Certificates {
            files: match node.role {
                Role::ControlPlane => &[
                    "/var/lib/rancher/k3s/server/tls/client-*.crt",
                    "/var/lib/rancher/k3s/server/tls/serving-*.crt",
                    "/var/lib/rancher/k3s/server/tls/etcd/*client*.crt",
                ],
                _ => &["/var/lib/rancher/k3s/agent/*kubelet.crt"],
            },
            before: RENEWAL,
            renew,
        }
    }
}

impl K3s<'_> {
    fn script(&self, service: &str) -> Commands {
        let mut script = Commands::new();
        script.set("service", service);
        script
            .fixed(STEPS)
            .fixed(include_str!("../cluster.sh"))
            .fixed(include_str!("../own_runtime.sh"))
            .fixed(include_str!("lib.sh"));
        script
    }

    /// Begins a script for this node.
    fn on(&self, node: &Node) -> Commands {
        self.script(service(node))
    }

    fn undo(&self, node: &Node) -> Commands {
        let mut undo = self.on(node);
        undo.fixed("reset_kubernetes");
        undo
    }

    /// Gives the token that a node has, and on servers that of agents. The digest of the CA in it is what the cluster is
    /// known by.
    fn tokens<'f>(&self, node: &Node, facts: &'f JoinFacts) -> Result<(String, &'f str), MissingFact> {
        let ca = facts.get(JoinFacts::CA)?;
        Ok(match node.role {
            Role::ControlPlane => (format!("K10{ca}::server:{}", facts.get(TOKEN)?), facts.get(AGENT_TOKEN)?),
            _ => (format!("K10{ca}::node:{}", facts.get(AGENT_TOKEN)?), ""),
        })
    }

    /// Gives what lets a member go on by these tokens.
    fn take_tokens(&self, node: &Node, facts: &JoinFacts) -> Result<Commands, MissingFact> {
        let (token, agent_token) = self.tokens(node, facts)?;
        let mut script = self.on(node);
        script.call("take_tokens", [token.as_str(), agent_token]);
        Ok(script)
    }

    fn datastore(&self) -> &'static str {
        match self.config.datastore {
            Datastore::Sqlite => "sqlite",
            Datastore::Etcd => "etcd",
            Datastore::External => "external",
        }
    }

    fn note_datastore(&self, node: &Node) -> Step {
        let mut apply = self.on(node);
        apply.call("step_ends", [DATASTORE, self.datastore()]);
        let title = format!("note that the cluster's state is kept {}", place(self.datastore()));
        Step { id: DATASTORE, title, version: self.datastore().to_owned(), apply, undo: None }
    }

    fn unpack(&self, node: &Node, version: &str) -> Step {
        let mut apply = self.on(node);
        apply.fixed("unpack");
        Step { id: UNPACKED, title: format!("unpack k3s {version}"), version: version.to_owned(), apply, undo: None }
    }

    /// Gives what the cluster file says of k3s' own settings for such a node.
    fn further(&self, node: &Node) -> &BTreeMap<String, Setting> {
        if node.role == Role::ControlPlane { &self.config.server } else { &self.config.agent }
    }

    /// Gives the settings that are lists and that bramble has to do with, each with what it puts there itself.
    fn lists(&self, node: &Node, seen: &Observation) -> Vec<(&str, Vec<String>)> {
        let (cluster, config) = (self.cluster, self.config);
        let mut kubelet = vec![kubelet::argument()];
        kubelet.extend(cluster.arguments.of(Component::Kubelet));
        if seen.facts.cgroup == 1 && minor(&self.version()) >= 35 {
            kubelet.push("fail-cgroupv1=false".to_owned());
        }
        let mut proxy = Vec::new();
        if seen.facts.container {
            // The connection table belongs to the machine below.
            proxy.push("conntrack-max-per-core=0".to_owned());
        }
        let mut lists = vec![("kubelet-arg", kubelet), ("kube-proxy-arg", proxy)];
        let taints = node.taints.iter().flatten().map(ToString::to_string);
        lists.push(("node-taint", taints.collect()));
        if node.role == Role::ControlPlane {
            lists.push(("disable", config.disable.clone()));
            let moving = keepalived::wanted(cluster).then(|| cluster.network.api.to_string());
            lists.push(("tls-san", moving.into_iter().collect()));
            lists.push(("kube-apiserver-arg", cluster.arguments.of(Component::KubeApiserver)));
            lists.push(("kube-controller-manager-arg", cluster.arguments.of(Component::KubeControllerManager)));
            lists.push(("kube-scheduler-arg", cluster.arguments.of(Component::KubeScheduler)));
            let told = cluster.arguments.map_of(Component::Etcd);
            lists.push((
                "etcd-arg",
                told.iter().map(|(flag, value)| format!("{flag}={}", etcd_value(flag, value))).collect(),
            ));
        }
        lists
    }

    /// Writes those of them that are secrets.
    fn secret_settings(&self, node: &Node, seen: &Observation) -> Option<String> {
        let lists = self.lists(node, seen);
        let secret = |(key, setting): (&String, &Setting)| match setting {
            // Of a list bramble has values of its own, which a key without the sign would replace.
            Setting::Secret(value) if lists.iter().any(|(list, _)| list == key) => {
                Some(format!("{key}+:\n  - {}\n", quoted(value)))
            }
            Setting::Secret(value) => Some(format!("{key}: {}\n", quoted(value))),
            _ => None,
        };
        let text: String = self.further(node).iter().filter_map(secret).collect();
        (!text.is_empty()).then(|| format!("# Written by bramble.\n{text}"))
    }

    /// Writes config.yaml: for servers what must be the same on all of them, for each what is its own.
    fn settings(&self, node: &Node, seen: &Observation) -> String {
        let (cluster, config) = (self.cluster, self.config);
        let mut text = "# Written by bramble. The keys are the flags of `k3s server` and `k3s agent`.\n".to_owned();
        let mut one = |key: &str, value: &str| text.push_str(&format!("{key}: {}\n", quoted(value)));
        one("node-name", node.name.as_str());
        one("node-ip", &node.address.to_string());
        one("token-file", TOKEN_FILE);
        if seen.facts.resolved {
            // Its own /etc/resolv.conf points to the node itself, and k3s would put public servers in its place.
            one("resolv-conf", "/run/systemd/resolve/resolv.conf");
        }
        let server = node.role == Role::ControlPlane;
        if server {
            one("agent-token-file", "/etc/rancher/k3s/agent-token");
            if config.datastore == Datastore::Etcd {
                // It says nothing to a server that was told with whom to begin, and takes SQLite's data along.
                one("cluster-init", "true");
            }
            one("cluster-cidr", &cluster.network.pods.to_string());
            one("service-cidr", &cluster.network.services.to_string());
            one("cluster-dns", &cluster.network.service_address(10).to_string());
            one(
                "flannel-backend",
                match cluster.network.cni {
                    Cni::Routed => "host-gw",
                    Cni::Flannel | Cni::Calico => "vxlan",
                },
            );
        }
        let mut lists = self.lists(node, seen);
        for (key, setting) in self.further(node) {
            match (setting, lists.iter_mut().find(|(known, _)| known == key)) {
                (Setting::One(value), Some((_, list))) => list.push(value.clone()),
                (Setting::Many(values), Some((_, list))) => list.extend(values.iter().cloned()),
                (Setting::One(value), None) => text.push_str(&format!("{key}: {}\n", quoted(value))),
                (Setting::Many(values), None) => lists.push((key, values.clone())),
                // They have a file of their own.
                (Setting::File(_) | Setting::Secret(_), _) => {}
            }
        }
        for (key, values) in lists.iter().filter(|(_, values)| !values.is_empty()) {
            text.push_str(&format!("{key}:\n"));
            values.iter().for_each(|value| text.push_str(&format!("  - {}\n", quoted(value))));
        }
        text
    }
}

/// Writes a value for etcd as k3s can pass it on: durations as numbers of nanoseconds. It writes what it takes for one itself in a form
/// that etcd's configuration file does not know, and does not start then (seen with 1.36.3; pkg/daemons/executor, `ToConfigFile`).
fn etcd_value(flag: &str, value: &str) -> String {
    let is_duration = ["time", "duration", "interval"].iter().any(|word| flag.contains(word));
    match nanoseconds(value).filter(|_| is_duration) {
        Some(number) => number.to_string(),
        None => value.to_owned(),
    }
}

/// Reads a duration as Go writes it, such as `1m30s`; `None` for anything else, also for a number without a unit.
fn nanoseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 6] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &behind[..letters])?;
        sum += number.parse::<f64>().ok()? * factor;
        rest = &behind[letters..];
    }
    (!text.is_empty()).then_some(sum as u64)
}

/// Says in words where the state of a cluster is.
fn place(datastore: &str) -> &'static str {
    match datastore {
        "sqlite" => "in SQLite",
        "etcd" => "in etcd",
        _ => "in a database elsewhere",
    }
}

/// Quotes a text for YAML, as JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn kind(node: &Node) -> &'static str {
    if node.role == Role::ControlPlane { "server" } else { "agent" }
}

fn service(node: &Node) -> &'static str {
    if node.role == Role::ControlPlane { "k3s" } else { "k3s-agent" }
}

/// Writes the unit as k3s' own installer does (k3s, install.sh, `create_systemd_service_file`), but for the end of
/// patience, and that a boot before it was told with whom to begin does not let it begin alone.
fn unit_text(node: &Node) -> String {
    fill(include_str!("k3s.service"), &[("KIND", kind(node)), ("PROGRAM", PROGRAM), ("TOKEN_FILE", TOKEN_FILE)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_etcd_are_numbers() {
        for (flag, value, written) in [
            ("backend-batch-interval", "5s", "5000000000"),
            ("grpc-keepalive-timeout", "1m30s", "90000000000"),
            ("warning-apply-duration", "1.5ms", "1500000"),
            ("heartbeat-interval", "500", "500"),
            ("election-timeout", "5000", "5000"),
            ("auto-compaction-retention", "1h", "1h"),
            ("log-level", "s", "s"),
            ("corrupt-check-time", "", ""),
        ] {
            assert_eq!(etcd_value(flag, value), written, "{flag}");
        }
    }
}
