//! The distribution `k0s`. What its source says is gathered in docs/distributions/k0s.md.

use bramble_shell::Commands;
use bramble_spec::{Cluster, Cni, Component, Distribution, Images, K0s as Config, Node, Problem, Role};
use bramble_state::{Certificates, File, Observation, Resource, STEPS, Step};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::distribution::containerd;
use crate::distribution::facts::{DistributionFacts, Programs};
use crate::distribution::keepalived;
use crate::distribution::kubelet;
use crate::distribution::one_service;
use crate::distribution::upstream::{Release, Upstream, arch, minor};
use crate::inputs::Inputs;
use crate::lifecycle::{JoinFacts, Lifecycle, MissingFact, Packages, member};
use crate::template::fill;

/// The facts of k0s.
pub(super) struct Facts;

impl DistributionFacts for Facts {
    fn name(&self) -> &'static str {
        K0S.name
    }

    fn upstream(&self) -> Option<&'static Upstream> {
        Some(&K0S)
    }

    fn programs<'c>(&self, cluster: &'c Cluster) -> Option<Programs<'c>> {
        let Distribution::K0s(config) = &cluster.distribution else { return None };
        Some(Programs::Release { upstream: &K0S, wanted: &config.version, mirror: config.mirror.as_deref() })
    }

    fn pod_units(&self) -> &'static [&'static str] {
        &["k0scontroller.service", "k0sworker.service"]
    }

    fn optional_files(&self) -> &'static [&'static str] {
        &["/etc/k0s/certs.d/", CONTAINERD, "/var/lib/k0s/images/bramble-"]
    }

    fn lifecycle<'c>(&self, cluster: &'c Cluster, inputs: &'c Inputs) -> Option<Box<dyn Lifecycle + 'c>> {
        let Distribution::K0s(config) = &cluster.distribution else { return None };
        Some(Box::new(K0s { cluster, config, inputs }))
    }
}

/// k0s' part of a cluster's life.
struct K0s<'a> {
    cluster: &'a Cluster,
    config: &'a Config,
    inputs: &'a Inputs,
}

/// The publisher of k0s (k0s, .github/workflows/release.yml).
static K0S: Upstream = Upstream {
    name: "k0s",
    downloads: "https://github.com/k0sproject/k0s/releases/download",
    channel: |channel| match channel {
        "stable" | "latest" => Some(format!("https://docs.k0sproject.io/{channel}.txt")),
        _ => None,
    },
    digests: |_| "sha256sums.txt",
    images: |arch| match arch {
        "amd64" => "airgap-images-linux-amd64.txt",
        "arm64" => "airgap-images-linux-arm64.txt",
        _ => "airgap-images-linux-arm.txt",
    },
    architectures: &["amd64", "arm64", "armhf"],
    program: |version, arch| format!("k0s-v{version}-{}", short(arch)),
    archive: |version, arch| match minor(version) {
        ..=35 => format!("k0s-airgap-bundle-v{version}-{}", short(arch)),
        _ => format!("k0s-airgap-bundle-v{version}-linux-{}.tar", short(arch)),
    },
    store: false,
};

const PROGRAM: &str = "/usr/local/bin/k0s";
/// The addition to the configuration of its containerd, and the folder in which that looks for what is said of
/// registries.
const CONTAINERD: &str = "/etc/k0s/containerd.d/bramble.toml";
const REGISTRIES: &str = "/etc/k0s/certs.d";
const CONFIG: &str = "/etc/k0s/k0s.yaml";
/// The kubelet's settings for nodes that still have cgroup v1, which it refuses from 1.35 on.
const CGROUP1: &str = "bramble-cgroup1";
/// k0s makes its certificates for a year, and anew at each start (pkg/certificate/manager.go, `regenerateCert`).
const RENEWAL: i64 = 30 * 24 * 3600;

fn short(arch: &str) -> &str {
    if arch == "armhf" { "arm" } else { arch }
}

impl Lifecycle for K0s<'_> {
    fn name(&self) -> &'static str {
        "k0s"
    }

    fn version(&self) -> String {
        one_service::version(self.inputs, &self.config.version)
    }

    fn kubelet_version(&self) -> String {
        // The number behind it is of k0s alone (k0s, embedded-bins/kubernetes/Dockerfile).
        self.version().split("+k0s").next().unwrap_or_default().to_owned() + "+k0s"
    }

    fn folders(&self) -> &'static [&'static str] {
        &[
            "/etc/k0s",
            "/var/lib/k0s",
            "/var/lib/kubelet",
            "/var/lib/cni",
            "/etc/cni",
            "/opt/cni",
            "/opt/containerd",
            "/etc/bramble",
            "/var/log/pods",
            "/var/log/containers",
            "/run/k0s",
            "/run/bramble",
            "/usr/libexec/k0s",
        ]
    }

    fn packages(&self, node: &Node, _: &Observation) -> Packages {
        // It moves the address itself; whether that answers is asked with curl.
        let install = keepalived::holds(self.cluster, node).then(|| "curl".to_owned());
        Packages { install: install.into_iter().collect(), ..Packages::default() }
    }

    fn resources(&self, node: &Node, seen: &Observation) -> Vec<Resource> {
        let mut all = Vec::new();
        if let Some(release) = &self.inputs.release {
            let arch = arch(node, seen);
            all.extend(release.blob(&(K0S.program)(&release.version, arch), PROGRAM, "755"));
            if self.config.images == Images::Upload || release.offline {
                // Archives of another release would be imported as well: their place has no version.
                let place = "/var/lib/k0s/images/bundle.tar";
                all.extend(release.blob(&(K0S.archive)(&release.version, arch), place, "644"));
            }
        }
        all.extend(one_service::archives(self.inputs, "/var/lib/k0s/images"));
        let service = service(node);
        let unit = format!("/etc/systemd/system/{service}.service");
        let mut reads = vec![CONTAINERD.to_owned()];
        if !self.cluster.registries.is_empty() {
            // docs.k0sproject.io, "containerd", drop-ins: from 1.36 on it starts with the third version of the format only.
            let (version, plugin) = match minor(&self.version()) {
                ..=35 => (2, "io.containerd.grpc.v1.cri"),
                _ => (3, "io.containerd.cri.v1.images"),
            };
            let text = format!(
                "# Written by bramble.\nversion = {version}\n\n[plugins.\"{plugin}\".registry]\n  config_path = \"{REGISTRIES}\"\n"
            );
            all.push(Resource::File(File::new(CONTAINERD, text)));
            all.extend(containerd::registry_files(self.cluster, REGISTRIES));
        }
        if node.role == Role::ControlPlane {
            all.push(Resource::File(File { mode: "600".into(), ..File::new(CONFIG, self.settings(node)) }));
            reads.push(CONFIG.to_owned());
            all.push(one_service::kubectl(self.name()));
        }
        let shutdown = kubelet::drop_in();
        reads.push(shutdown.path.clone());
        all.push(Resource::File(shutdown));
        all.push(Resource::File(File::new(&unit, self.unit(node, seen))));
        reads.push(unit);
        all.push(one_service::service(service, reads, seen));
        all.push(Resource::Certificates(self.certificates(node)));
        all
    }

    fn is_program(&self, resource: &Resource) -> bool {
        matches!(resource, Resource::Blob(blob) if blob.path == PROGRAM)
    }

    fn check(&self, node: &Node, seen: &Observation) -> Vec<Problem> {
        K0S.check(self.inputs.release.as_ref(), node, seen).into_iter().collect()
    }

    fn secrets(&self, _: [u8; 64]) -> JoinFacts {
        // A cluster that runs makes the tokens itself.
        JoinFacts::default()
    }

    fn init(&self, node: &Node, _: &Observation, _: &JoinFacts, restored: Option<&str>) -> Result<Step, MissingFact> {
        let mut apply = self.on(node);
        let others = self.cluster.members().filter(|other| other.name != node.name);
        let backup = [restored.unwrap_or_default()];
        apply.call("k0s_init", backup.into_iter().chain(roles(others)));
        let title = format!("make the cluster {} (k0s controller)", self.cluster.name);
        Ok(member(self, node, None, title, apply, self.undo(node)))
    }

    fn join(&self, node: &Node, _: &Observation, facts: &JoinFacts) -> Result<Step, MissingFact> {
        let ca = facts.get(JoinFacts::CA)?;
        let token = match node.role {
            Role::ControlPlane => facts.get("controller-token")?,
            _ => facts.get("worker-token")?,
        };
        let mut apply = self.on(node);
        apply.call("k0s_join", [token, &node.address.to_string()]);
        let title = format!("join the cluster {} (k0s {})", self.cluster.name, role(node));
        Ok(member(self, node, Some(ca), title, apply, self.undo(node)))
    }

    fn join_facts(&self, _: &Node, _: &Observation, joining: &[&Node], _: &JoinFacts) -> Result<Commands, MissingFact> {
        let mut script = Commands::new();
        script.fixed("tell_ca").call("tell_tokens", roles(joining.iter().copied()));
        Ok(script)
    }

    fn follows_control_planes(&self) -> bool {
        true
    }

    fn refresh(&self, node: &Node, _: &JoinFacts) -> Result<Commands, MissingFact> {
        Ok(one_service::restart(self.on(node)))
    }

    fn upgrade(&self, node: &Node, _: &Observation, _: bool) -> Step {
        one_service::upgrade(self, node, self.on(node))
    }

    fn kubectl(&self) -> Commands {
        self.script("k0scontroller")
    }

    fn admin_config(&self) -> &'static str {
        "/var/lib/k0s/pki/admin.conf"
    }

    fn smoke_image(&self) -> Option<String> {
        self.inputs.release.as_ref().and_then(Release::small_image)
    }

    fn certificates(&self, node: &Node) -> Certificates {
        let renew = one_service::restart(self.on(node));
        match node.role {
            Role::ControlPlane => Certificates {
                files: &[
                    "/var/lib/k0s/pki/admin.crt",
                    "/var/lib/k0s/pki/*server.crt",
                    "/var/lib/k0s/pki/k0s-api.crt",
                    "/var/lib/k0s/pki/*client.crt",
                    "/var/lib/k0s/pki/ccm.crt",
                    "/var/lib/k0s/pki/konnectivity.crt",
                    "/var/lib/k0s/pki/scheduler.crt",
                    "/var/lib/k0s/pki/etcd/peer.crt",
                    "/var/lib/k0s/pki/etcd/server.crt",
                ],
                before: RENEWAL,
                renew,
            },
            // The kubelet renews its own.
            _ => Certificates {
                files: &["/var/lib/k0s/kubelet/pki/kubelet-client-current.pem"],
                before: RENEWAL,
                renew: Commands::new(),
            },
        }
    }
}

impl K0s<'_> {
    fn script(&self, service: &str) -> Commands {
        let mut script = Commands::new();
        script.set("service", service);
        script.fixed(STEPS).fixed(include_str!("../cluster.sh")).fixed(include_str!("../own_runtime.sh"));
        script.fixed(include_str!("lib.sh"));
        script
    }

    /// Begins a script for this node.
    fn on(&self, node: &Node) -> Commands {
        self.script(service(node))
    }

    fn undo(&self, node: &Node) -> Commands {
        let mut undo = self.on(node);
        undo.fixed("reset_kubernetes\nremove_users");
        undo
    }

    /// Whether each worker has a way of its own to every controller.
    fn balances(&self) -> bool {
        self.cluster.control_planes().count() > 1
    }

    /// Writes k0s.yaml. Beneath `api`, `storage` and `network` k0s ignores keys that it does not know, so what is
    /// written here must be right. JSON is YAML.
    fn settings(&self, node: &Node) -> String {
        let cluster = self.cluster;
        let network = &cluster.network;
        let moving = keepalived::wanted(cluster);
        let mut api = json!({ "address": node.address });
        if moving {
            // No `externalAddress`: konnectivity's agents would all go where the address is, and the other controllers could
            // reach no kubelet (docs.k0sproject.io, "Control plane load balancing").
            api["sans"] = json!([network.api]);
        }
        let mut net = json!({
            "podCIDR": network.pods, "serviceCIDR": network.services,
            "provider": if network.cni == Cni::Calico { "calico" } else { "kuberouter" },
        });
        if moving {
            let peers: Vec<_> =
                cluster.control_planes().filter(|other| other.name != node.name).map(|other| other.address).collect();
            // It only keeps clusters on the same network apart, and passes it in the clear.
            let word = &bramble_spec::hex(&Sha256::digest(cluster.name.as_str()))[..8];
            net["controlPlaneLoadBalancing"] = json!({
                "enabled": true, "type": "Keepalived",
                "keepalived": { "vrrpInstances": [{
                    "virtualIPs": [format!("{}/{}", network.api, network.subnet.prefix_len())],
                    "virtualRouterID": network.api.octets()[3].max(1), "authPass": word,
                    "unicastSourceIP": node.address, "unicastPeers": peers,
                }] },
            });
        }
        if self.balances() {
            net["nodeLocalLoadBalancing"] = json!({ "enabled": true });
        }
        let mut spec = json!({
            "api": api, "network": net,
            "storage": { "type": "etcd", "etcd": { "peerAddress": node.address } },
            "telemetry": { "enabled": false },
        });
        let sections = [
            ("api", Component::KubeApiserver),
            ("controllerManager", Component::KubeControllerManager),
            ("scheduler", Component::KubeScheduler),
        ];
        for (section, component) in sections {
            let told = cluster.arguments.map_of(component);
            if !told.is_empty() {
                spec[section]["extraArgs"] = json!(told);
            }
        }
        let told = cluster.arguments.map_of(Component::Etcd);
        if !told.is_empty() {
            spec["storage"]["etcd"]["extraArgs"] = json!(told);
        }
        if minor(&self.version()) >= 35 {
            spec["workerProfiles"] = json!([{ "name": CGROUP1, "values": { "failCgroupV1": false } }]);
        }
        let whole = json!({
            "apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig", "metadata": { "name": "k0s" }, "spec": spec,
        });
        format!("{whole:#}\n")
    }

    /// Writes the unit as `k0s install` does (k0s, pkg/install/systemd_linux.go), but that a boot before it has joined
    /// does not let it begin alone.
    fn unit(&self, node: &Node, seen: &Observation) -> String {
        let mut words = vec![PROGRAM.to_owned(), role(node).to_owned()];
        if node.role == Role::ControlPlane {
            words.extend([format!("--config={CONFIG}"), "--enable-worker".to_owned()]);
            if node.taints.is_some() {
                words.push("--no-taints".into());
            }
        }
        for taint in node.taints.iter().flatten() {
            words.push(format!("--taints={taint}"));
        }
        if seen.facts.cgroup == 1 && minor(&self.version()) >= 35 {
            words.extend([format!("--profile={CGROUP1}"), "--ignore-pre-flight-checks".to_owned()]);
        }
        let mut told = vec![format!("--node-ip={}", node.address), format!("--{}", kubelet::argument())];
        told.extend(self.cluster.arguments.flags_of(Component::Kubelet));
        // One word to systemd, in which % begins a specifier (systemd.service, "Command lines").
        words.push(format!("\"--kubelet-extra-args={}\"", told.join(" ").replace('%', "%%")));
        let arm = if seen.facts.arch == "armhf" && node.role == Role::ControlPlane {
            "Environment=ETCD_UNSUPPORTED_ARCH=arm\n"
        } else {
            ""
        };
        // A worker makes that way when it starts, and not before (docs.k0sproject.io, "Node-local load balancing").
        let way = match self.balances() && node.role != Role::ControlPlane {
            true => "# With a way of its own to each controller.\n",
            false => "",
        };
        let (command, environment) = (words.join(" "), way.to_owned() + arm);
        let values =
            [("ROLE", role(node)), ("PROGRAM", PROGRAM), ("ENVIRONMENT", &*environment), ("COMMAND", &command)];
        fill(include_str!("k0s.service"), &values)
    }
}

fn role(node: &Node) -> &'static str {
    if node.role == Role::ControlPlane { "controller" } else { "worker" }
}

fn service(node: &Node) -> &'static str {
    if node.role == Role::ControlPlane { "k0scontroller" } else { "k0sworker" }
}

/// Lists the kinds of tokens that these nodes need.
fn roles<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Vec<&'static str> {
    let mut roles: Vec<_> = nodes.into_iter().map(role).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}
