//! What kubeadm is told: the documents of its configuration.

use bramble_spec::{Cluster, Cni, KubeVersion, Kubeadm as Config, KubeadmSource, Node};
use bramble_state::{File, Observation, Step};
use serde_json::{Value, json};

use crate::distribution::containerd;
use crate::distribution::kubelet::GRACE;
use crate::inputs::Inputs;
use crate::lifecycle::{JoinFacts, Lifecycle, MissingFact};

/// kubeadm's part of a cluster's life.
pub(super) struct Kubeadm<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) config: &'a Config,
    pub(super) inputs: &'a Inputs,
}

/// The name of the fact that lets a node in, for a short time: a bootstrap token, `abcdef.0123456789abcdef`.
pub(super) const TOKEN: &str = "token";
/// The name of the fact that decrypts the control planes' certificates, for control planes only: 32 bytes in
/// hexadecimal.
pub(super) const CERTIFICATE_KEY: &str = "certificate-key";
pub(super) const API_PORT: u16 = 6443;
/// The folder of what differs from node to node in what kubeadm writes for the whole cluster.
pub(super) const PATCHES: &str = "/etc/bramble/kubeadm";
/// Where CNI plugins lie: those of the Kubernetes project, of flannel and of Calico, and those of Debian's package.
const PLUGINS: &str = "/opt/cni/bin";
const DEBIAN_PLUGINS: &str = "/usr/lib/cni";

impl Kubeadm<'_> {
    /// Gives the version with its patch, as far as it is known.
    pub(super) fn exact(&self) -> KubeVersion {
        match &self.inputs.bundle {
            Some(bundle) => bundle.manifest.kubernetes,
            None => self.inputs.kubernetes.unwrap_or(self.config.version),
        }
    }

    pub(super) fn several(&self) -> bool {
        self.cluster.control_planes().count() > 1
    }

    /// Tells whether programs and images come from a bundle that has no cluster DNS.
    pub(super) fn without_dns(&self) -> bool {
        self.inputs.bundle.as_ref().is_some_and(|bundle| bundle.dns_tag().is_none())
    }

    /// Tells whether programs and images come from a bundle, the cluster file's or the one of `--bundle`.
    pub(super) fn bundled(&self) -> bool {
        self.inputs.bundle.is_some() || matches!(self.config.source, KubeadmSource::Bundle(_))
    }

    /// Gives the folder in which containerd looks for CNI plugins.
    pub(super) fn cni_bin(&self) -> &'static str {
        if self.bundled() && self.cluster.network.cni == Cni::Routed { DEBIAN_PLUGINS } else { PLUGINS }
    }

    /// Shows Debian's plugins where flannel and Calico put theirs, which call them.
    pub(super) fn plugin_links(&self) -> Option<Step> {
        if !self.bundled() || self.cluster.network.cni == Cni::Routed {
            return None;
        }
        let mut apply = self.kubectl();
        apply.call("link_plugins", [DEBIAN_PLUGINS, PLUGINS]);
        let title = format!("link the CNI plugins of Debian into {PLUGINS}");
        Some(Step { id: "cni-plugins", title, version: "1".into(), apply, undo: None })
    }

    pub(super) fn pause_image(&self) -> String {
        match &self.inputs.bundle {
            Some(bundle) => bundle.manifest.pause_image.clone(),
            // The tag that kubeadm of this minor lists (`kubeadm config images list`); a newer one works as well, but
            // would be pulled beside it.
            None => {
                let tag = match self.config.version.minor {
                    ..=29 => "3.9",
                    30..=33 => "3.10",
                    34 => "3.10.1",
                    _ => "3.10.2",
                };
                format!("registry.k8s.io/pause:{tag}")
            }
        }
    }

    /// Lists the checks of kubeadm that say nothing true of a node, for joins and upgrades alike.
    pub(super) fn ignored(&self, seen: &Observation) -> Vec<&'static str> {
        let mut ignored = Vec::new();
        // Of the machine below a container knows neither its kernel's configuration nor its modules. A bundle is for
        // boards of any kind, also for those with cgroup v1, which the check refuses from 1.35 on; the kubelet is told.
        if seen.facts.container || seen.facts.cgroup == 1 {
            ignored.push("SystemVerification");
        }
        if self.without_dns() {
            // It would pull the one image that is not there and is not needed.
            ignored.push("ImagePull");
        }
        ignored
    }

    pub(super) fn registration(&self, node: &Node, seen: &Observation, restored: bool) -> Value {
        let config = self.config;
        let kubelet = [("node-ip", node.address.to_string())];
        let mut value = json!({
            "name": node.name,
            "criSocket": "unix:///run/containerd/containerd.sock",
            "kubeletExtraArgs": arguments(config.version, &kubelet),
        });
        if let Some(taints) = &node.taints {
            value["taints"] = taints
                .iter()
                .map(|taint| json!({ "key": taint.key, "value": taint.value, "effect": taint.effect.to_string() }))
                .collect();
        }
        let mut ignored = self.ignored(seen);
        if restored {
            ignored.push("DirAvailable--var-lib-etcd");
        }
        if !ignored.is_empty() {
            value["ignorePreflightErrors"] = json!(ignored);
        }
        value
    }

    /// Writes what this node's kubelet is told otherwise than those of other boards, which may be of another kind: kubeadm keeps one
    /// configuration for all of them, made on the first one (kubeadm, `--patches`).
    pub(super) fn kubelet_patch(&self, seen: &Observation) -> File {
        let mut kubelet = json!({
            "cgroupDriver": if systemd_cgroup(seen) { "systemd" } else { "cgroupfs" },
            // With systemd-resolved, /etc/resolv.conf points to the node itself, and cluster DNS to itself (coredns#2087).
            "resolvConf": if seen.facts.resolved { "/run/systemd/resolve/resolv.conf" } else { "/etc/resolv.conf" },
        });
        for (name, value) in GRACE {
            kubelet[name] = json!(value);
        }
        if seen.facts.cgroup == 1 && self.config.version.minor >= 31 {
            kubelet["failCgroupV1"] = json!(false);
        }
        // What came from a bundle cannot be pulled again. It is pinned, which containerd tells from 1.7 on; with older ones
        // the kubelet deletes even the pause image when the disk is 85 % full (rke2#1830).
        let heeds_pins = containerd::version(seen, self.inputs.bundle.as_ref()) >= (1, 7);
        if seen.facts.container || (self.inputs.bundle.is_some() && !heeds_pins) {
            kubelet["imageGCHighThresholdPercent"] = json!(100);
        }
        if seen.facts.container {
            // How full the disk is belongs to the machine below.
            let left = json!({ "memory.available": "100Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" });
            kubelet["evictionHard"] = left;
        }
        File::new(format!("{PATCHES}/kubeletconfiguration+merge.json"), format!("{kubelet:#}\n"))
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{}:{API_PORT}", self.cluster.network.api)
    }

    /// Writes the documents of `kubeadm init --config`. JSON is YAML.
    pub(super) fn cluster_config(
        &self,
        node: &Node,
        seen: &Observation,
        secrets: &JoinFacts,
        restored: bool,
    ) -> Result<String, MissingFact> {
        let (cluster, config) = (self.cluster, self.config);
        let api = api_version(config.version);
        let version = self.exact();
        let mut init = json!({
            "apiVersion": api, "kind": "InitConfiguration",
            "bootstrapTokens": [{
                "token": secrets.get(TOKEN)?, "description": "bramble", "ttl": "1h0m0s",
                "usages": ["signing", "authentication"],
                "groups": ["system:bootstrappers:kubeadm:default-node-token"],
            }],
            "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT },
            "nodeRegistration": self.registration(node, seen, restored),
            "patches": { "directory": PATCHES },
        });
        if self.several() {
            init["certificateKey"] = json!(secrets.get(CERTIFICATE_KEY)?);
        }
        let mut manager = Vec::new();
        if cluster.network.cni == Cni::Routed {
            // bramble has given each node its range already.
            manager.push(("allocate-node-cidrs", "false".to_owned()));
        }
        let mut names: Vec<String> = cluster.control_planes().map(|node| node.address.to_string()).collect();
        names.extend(cluster.control_planes().map(|node| node.name.to_string()));
        names.push(cluster.network.api.to_string());
        names.sort();
        names.dedup();
        let mut whole = json!({
            "apiVersion": api, "kind": "ClusterConfiguration",
            "clusterName": cluster.name,
            "kubernetesVersion": match version.patch {
                Some(_) => format!("v{version}"),
                None => format!("stable-{version}"),
            },
            "controlPlaneEndpoint": self.endpoint(),
            "apiServer": { "certSANs": names },
            "controllerManager": { "extraArgs": arguments(config.version, &manager) },
            "networking": { "podSubnet": cluster.network.pods, "serviceSubnet": cluster.network.services },
        });
        if let Some(bundle) = &self.inputs.bundle {
            whole["imageRepository"] = json!(bundle.manifest.image_repository);
            whole["etcd"] = json!({ "local": { "imageTag": bundle.manifest.etcd_tag, "dataDir": "/var/lib/etcd" } });
            if let Some(tag) = bundle.dns_tag() {
                whole["dns"] = json!({ "imageTag": tag });
            }
        }
        let mut proxy = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": "iptables", "clusterCIDR": cluster.network.pods,
        });
        if seen.facts.container {
            // The connection table belongs to the machine below.
            proxy["conntrack"] = json!({ "maxPerCore": 0 });
        }
        Ok(documents(&[init, whole, proxy]))
    }
}

/// Tells whether systemd is the cgroup driver: it owns the one hierarchy of cgroup v2; on v1 the kubelet's own driver
/// is the one that never disagrees with it.
pub(super) fn systemd_cgroup(seen: &Observation) -> bool {
    seen.facts.cgroup == 2
}

pub(super) fn api_version(version: KubeVersion) -> &'static str {
    match version.minor {
        ..=30 => "kubeadm.k8s.io/v1beta3",
        _ => "kubeadm.k8s.io/v1beta4",
    }
}

/// Writes extra arguments: a map up to v1beta3, a list of name and value from v1beta4 on.
fn arguments(version: KubeVersion, pairs: &[(&str, String)]) -> Value {
    if version.minor <= 30 {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    } else {
        pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>().into()
    }
}

pub(super) fn documents(all: &[Value]) -> String {
    all.iter().map(|value| format!("{value:#}\n")).collect::<Vec<_>>().join("---\n")
}
