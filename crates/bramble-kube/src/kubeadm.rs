//! The distribution `kubeadm`: upstream Kubernetes.

use bramble_spec::{Cluster, Cni, Distribution, KubeVersion, Kubeadm, KubeadmSource, Node, Role, TaintEffect, hex};
use bramble_state::{File, Observation, Resource, Script, Step, Unit};
use serde_json::{Value, json};

use crate::prepare::Inputs;

/// The name of the mark that a node is part of the cluster.
pub const INIT: &str = "kubernetes";

/// A bootstrap token, `abcdef.0123456789abcdef`. It never stands in an argument or a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Makes a token from 22 random bytes.
    pub fn new(random: [u8; 22]) -> Token {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let text: String = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
        Token(format!("{}.{}", &text[..6], &text[6..]))
    }

    /// Takes one that kubeadm made.
    pub fn parse(text: &str) -> Option<Token> {
        let (id, secret) = text.split_once('.')?;
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then(|| Token(text.to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a node needs to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinFacts {
    /// Lets it in, for a short time.
    pub token: Token,
    /// The digest of the cluster's CA key, `sha256:…`: the node talks to no other cluster.
    pub ca_hash: String,
    /// Decrypts the control planes' certificates, for control planes only (64 hexadecimal digits).
    pub certificate_key: Option<Token32>,
}

/// 32 secret bytes as hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token32(pub(crate) String);

impl Token32 {
    /// From random bytes.
    pub fn new(random: [u8; 32]) -> Token32 {
        Token32(hex(&random))
    }
}

impl std::fmt::Debug for Token32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token32(…)")
    }
}

/// Software that bramble installs keeps its things here.
pub(crate) fn owned_folders() -> Vec<Resource> {
    let folders = [
        "/etc/kubernetes",
        "/var/lib/kubelet",
        "/var/lib/etcd",
        "/var/lib/containerd",
        "/var/lib/cni",
        "/etc/cni",
        "/opt/cni",
        "/opt/containerd",
        "/etc/containerd",
        "/etc/bramble",
        "/var/log/pods",
        "/var/log/containers",
        "/run/containerd",
        "/run/bramble",
        "/usr/libexec/kubernetes",
    ];
    folders.iter().map(|path| Resource::OwnedFolder((*path).to_owned())).collect()
}

/// The apt repository's files, the packages, and those of them that are held.
pub(crate) fn packages(config: &Kubeadm, inputs: &Inputs, seen: &Observation) -> (Vec<File>, Vec<String>, Vec<String>) {
    // Docker's own repository calls it containerd.io; the two cannot be installed together.
    let containerd = if seen.package_version("containerd.io").is_some() { "containerd.io" } else { "containerd" };
    let mut packages: Vec<String> =
        [containerd, "conntrack", "ethtool", "iptables", "nftables", "openssl", "socat"].map(str::to_owned).to_vec();
    let mut files = Vec::new();
    let mut hold = Vec::new();
    match &config.source {
        KubeadmSource::Bundle(_) => packages.push("containernetworking-plugins".into()),
        KubeadmSource::Apt(repository) => {
            const KEY: &str = "/etc/apt/keyrings/kubernetes-apt-keyring.asc";
            if let Some(key) = &inputs.apt_key {
                files.push(File::new(KEY, key));
            }
            let text = format!("deb [signed-by={KEY}] {} /\n", repository.url);
            files.push(File::new("/etc/apt/sources.list.d/kubernetes.list", text));
            for package in ["kubeadm", "kubelet", "kubectl"] {
                packages.push(package.to_owned());
                hold.push(package.to_owned());
            }
            packages.extend(["kubernetes-cni".to_owned(), "cri-tools".to_owned()]);
        }
    }
    (files, packages, hold)
}

pub(crate) fn pause_image(config: &Kubeadm, inputs: &Inputs) -> String {
    match &inputs.bundle {
        Some(bundle) => bundle.manifest.pause_image.clone(),
        // The tag that kubeadm of this minor lists (`kubeadm config images list`); a newer one works as well, but
        // would be pulled beside it.
        None => {
            let tag = match config.version.minor {
                ..=21 => "3.4.1",
                22 => "3.5",
                23 => "3.6",
                24 => "3.7",
                25 => "3.8",
                26..=29 => "3.9",
                30..=33 => "3.10",
                _ => "3.10.1",
            };
            format!("registry.k8s.io/pause:{tag}")
        }
    }
}

/// systemd owns the one hierarchy of cgroup v2; on v1 the kubelet's own driver is the one that never disagrees with it.
pub(crate) fn systemd_cgroup(seen: &Observation) -> bool {
    seen.facts.cgroup == 2
}

/// The kubelet's unit. The project's packages bring one; a bundle has only the program.
pub(crate) fn kubelet_unit(config: &Kubeadm) -> Vec<Resource> {
    let unit = Resource::Unit(Unit { running: false, ..Unit::new("kubelet", Vec::new()) });
    if matches!(config.source, KubeadmSource::Apt(_)) {
        return vec![unit];
    }
    // As kubeadm expects it: kubernetes/release, cmd/krel/templates/latest/kubeadm/10-kubeadm.conf.
    let text = "\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target
After=network-online.target containerd.service
ConditionPathExists=/var/lib/kubelet/config.yaml

[Service]
Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"
Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
Restart=always
StartLimitInterval=0
RestartSec=2

[Install]
WantedBy=multi-user.target
";
    vec![Resource::File(File::new("/etc/systemd/system/kubelet.service", text)), unit]
}

fn api_version(version: KubeVersion) -> &'static str {
    match version.minor {
        ..=21 => "kubeadm.k8s.io/v1beta2",
        22..=30 => "kubeadm.k8s.io/v1beta3",
        _ => "kubeadm.k8s.io/v1beta4",
    }
}

/// Extra arguments: a map up to v1beta3, a list of name and value from v1beta4 on.
fn arguments(version: KubeVersion, pairs: &[(&str, String)]) -> Value {
    if version.minor <= 30 {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    } else {
        pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>().into()
    }
}

fn registration(config: &Kubeadm, node: &Node, inputs: &Inputs) -> Value {
    let mut kubelet = vec![("node-ip", node.address.to_string())];
    if !node.labels.is_empty() {
        let labels: Vec<String> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        kubelet.push(("node-labels", labels.join(",")));
    }
    let socket = "/run/containerd/containerd.sock";
    let mut value = json!({
        "name": node.name,
        "criSocket": if config.version.minor < 24 { socket.to_owned() } else { format!("unix://{socket}") },
        "kubeletExtraArgs": arguments(config.version, &kubelet),
    });
    if let Some(taints) = &node.taints {
        let effect = |effect: TaintEffect| match effect {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        };
        value["taints"] = taints
            .iter()
            .map(|taint| json!({ "key": taint.key, "value": taint.value, "effect": effect(taint.effect) }))
            .collect();
    }
    if inputs.bundle.is_some() && config.version.minor <= 30 {
        // Up to 1.30 kubeadm looks at the runtime through crictl, which Debian does not have.
        value["ignorePreflightErrors"] = json!(["FileExisting-crictl"]);
    }
    value
}

const API_PORT: u16 = 6443;

fn endpoint(cluster: &Cluster) -> String {
    format!("{}:{API_PORT}", cluster.network.api)
}

/// The documents of `kubeadm init --config`. JSON is YAML.
pub(crate) fn init_config(
    cluster: &Cluster,
    config: &Kubeadm,
    node: &Node,
    seen: &Observation,
    inputs: &Inputs,
    facts: &JoinFactsSeed,
) -> String {
    let api = api_version(config.version);
    let version = inputs.bundle.as_ref().map_or(config.version, |bundle| bundle.manifest.kubernetes);
    let mut init = json!({
        "apiVersion": api, "kind": "InitConfiguration",
        "bootstrapTokens": [{
            "token": facts.token.0, "ttl": "1h0m0s", "usages": ["signing", "authentication"],
            "groups": ["system:bootstrappers:kubeadm:default-node-token"],
        }],
        "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT },
        "nodeRegistration": registration(config, node, inputs),
    });
    if let Some(key) = &facts.certificate_key {
        init["certificateKey"] = json!(key.0);
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
        "controlPlaneEndpoint": endpoint(cluster),
        "apiServer": { "certSANs": names },
        "controllerManager": { "extraArgs": arguments(config.version, &manager) },
        "networking": { "podSubnet": cluster.network.pods, "serviceSubnet": cluster.network.services },
    });
    if let Some(bundle) = &inputs.bundle {
        whole["imageRepository"] = json!(bundle.manifest.image_repository);
        whole["etcd"] = json!({ "local": { "imageTag": bundle.manifest.etcd_tag, "dataDir": "/var/lib/etcd" } });
    }
    let mut kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "cgroupDriver": if systemd_cgroup(seen) { "systemd" } else { "cgroupfs" },
    });
    if seen.facts.cgroup == 1 && config.version.minor >= 31 {
        kubelet["failCgroupV1"] = json!(false);
    }
    // Up to 1.21 a pod whose startup probe succeeded is called ready only at its next turn, a minute later.
    if config.version.minor <= 21 {
        kubelet["syncFrequency"] = json!("5s");
    }
    // With systemd-resolved, /etc/resolv.conf points to the node itself, and cluster DNS to itself (coredns#2087).
    if seen.facts.resolved {
        kubelet["resolvConf"] = json!("/run/systemd/resolve/resolv.conf");
    }
    let mut proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "iptables", "clusterCIDR": cluster.network.pods,
    });
    if seen.facts.container {
        // The connection table belongs to the machine below.
        proxy["conntrack"] = json!({ "maxPerCore": 0 });
    }
    documents(&[init, whole, kubelet, proxy])
}

fn documents(all: &[Value]) -> String {
    all.iter().map(|value| format!("{value:#}\n")).collect::<Vec<_>>().join("---\n")
}

/// The secrets of a cluster that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinFactsSeed {
    /// The first token.
    pub token: Token,
    /// The key of the control planes' certificates, if there is more than one.
    pub certificate_key: Option<Token32>,
}

fn kubeadm(cluster: &Cluster) -> Option<&Kubeadm> {
    match &cluster.distribution {
        Distribution::Kubeadm(config) => Some(config),
        Distribution::None => None,
    }
}

/// The step that makes the cluster, on its first control plane. While it runs it says `@fact ca-hash …` as soon as
/// there is a CA, and `@fact joinable yes` as soon as other nodes can join.
pub fn init(cluster: &Cluster, node: &Node, seen: &Observation, inputs: &Inputs, seed: &JoinFactsSeed) -> Option<Step> {
    let config = kubeadm(cluster)?;
    let text = init_config(cluster, config, node, seen, inputs, seed);
    let mut skip = Vec::new();
    if let Some(bundle) = &inputs.bundle {
        if config.version.minor <= 30 {
            skip.push("preflight");
        }
        if !bundle.manifest.images.iter().any(|image| image.name.contains("coredns")) {
            skip.push("addon/coredns");
        }
    }
    let mut apply = Script::new();
    apply.fixed(include_str!("kubernetes.sh"));
    apply.call("private_file", ["/run/bramble/kubeadm.yaml", &text]);
    let upload = if seed.certificate_key.is_some() { "--upload-certs" } else { "--" };
    apply.call("kubeadm_init", [upload, &skip.join(",")]);
    if let Some(manifest) = &inputs.cni_manifest {
        apply
            .call("private_file", ["/run/bramble/cni.yaml", manifest])
            .fixed("kubectl_admin apply -f /run/bramble/cni.yaml");
    }
    Some(Step {
        id: INIT,
        title: format!("make the cluster {} (kubeadm init)", cluster.name),
        version: "control-plane".into(),
        apply,
        undo: Some(undo()),
    })
}

fn undo() -> Script {
    let mut undo = Script::new();
    undo.fixed(include_str!("kubernetes.sh")).fixed("reset_kubernetes");
    undo
}

/// The step that lets a node join.
pub fn join(cluster: &Cluster, node: &Node, inputs: &Inputs, facts: &JoinFacts) -> Option<Step> {
    let config = kubeadm(cluster)?;
    let mut join = json!({
        "apiVersion": api_version(config.version), "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "apiServerEndpoint": endpoint(cluster), "token": facts.token.0, "caCertHashes": [facts.ca_hash],
            },
        },
        "nodeRegistration": registration(config, node, inputs),
    });
    if node.role == Role::ControlPlane {
        join["controlPlane"] = json!({
            "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT },
            "certificateKey": facts.certificate_key.as_ref().map(|key| key.0.as_str()),
        });
    }
    let mut apply = Script::new();
    apply.fixed(include_str!("kubernetes.sh"));
    apply.call("private_file", ["/run/bramble/kubeadm.yaml", &documents(&[join])]);
    let skip = if inputs.bundle.is_some() && config.version.minor <= 30 { "preflight" } else { "" };
    apply.call("kubeadm_join", [skip]);
    Some(Step {
        id: INIT,
        title: format!("join the cluster {} (kubeadm join)", cluster.name),
        version: join_version(node, &facts.ca_hash),
        apply,
        undo: Some(undo()),
    })
}

/// What the mark of a node that joined says: it belongs to the cluster with this CA.
pub(crate) fn join_version(node: &Node, ca_hash: &str) -> String {
    format!("{} {ca_hash}", node.role)
}

/// Makes a fresh token on a cluster that runs, for these nodes; it says `@fact token …`. The CA's hash is known from the
/// node's marks.
pub fn join_facts_script(nodes: &[&Node]) -> String {
    let mut script = Script::new();
    script.fixed(include_str!("kubernetes.sh"));
    // A node that joins under an old name is refused while its old record says Ready.
    for node in nodes {
        script.call("kubectl_admin delete node --ignore-not-found --wait=false", [node.name.as_str()]);
    }
    script.fixed("printf '@fact token '; kubeadm token create --ttl 30m --description 'bramble' --kubeconfig /etc/kubernetes/admin.conf");
    script.as_str().to_owned()
}
