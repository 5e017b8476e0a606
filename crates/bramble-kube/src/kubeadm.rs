//! The distribution `kubeadm`: upstream Kubernetes.

use bramble_shell::Commands;
use bramble_spec::{Cluster, Cni, KubeVersion, Kubeadm as Config, KubeadmSource, Node, Role, hex};
use bramble_state::{Blob, BlobSource, Certificates, ENDS, File, Observation, Resource, Step, Unit};
use serde_json::{Value, json};

use crate::bundle::{Bundle, BundleFile};
use crate::images::{Image, Images};
use crate::lifecycle::{JoinFacts, Lifecycle, MEMBER, MissingFact, Packages, VERSION, member};
use crate::prepare::Inputs;
use crate::release::BUSYBOX;
use crate::{containerd, keepalived, routed};

/// kubeadm's part of a cluster's life.
pub(crate) struct Kubeadm<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) config: &'a Config,
    pub(crate) inputs: &'a Inputs,
}

/// The name of the fact that lets a node in, for a short time: a bootstrap token, `abcdef.0123456789abcdef`.
const TOKEN: &str = "token";
/// The name of the fact that decrypts the control planes' certificates, for control planes only: 32 bytes in hexadecimal.
const CERTIFICATE_KEY: &str = "certificate-key";
const CONFIG: &str = "/run/bramble/kubeadm.yaml";

fn token(random: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let text: String = random.iter().take(22).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    format!("{}.{}", &text[..6], &text[6..])
}

const PROGRAMS: &str = "/usr/local/bin/";
const APT_LIST: &str = "/etc/apt/sources.list.d/kubernetes.list";
/// The packages of the Kubernetes project that have its version.
const OWN_PACKAGES: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];

/// How many seconds before their end certificates are renewed; kubeadm makes them for a year.
const RENEWAL: i64 = 30 * 24 * 3600;
const API_PORT: u16 = 6443;

impl Lifecycle for Kubeadm<'_> {
    fn name(&self) -> &'static str {
        "kubeadm"
    }

    fn version(&self) -> String {
        self.exact().to_string()
    }

    fn folders(&self) -> &'static [&'static str] {
        &[
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
            keepalived::FOLDER,
            "/var/log/pods",
            "/var/log/containers",
            "/run/containerd",
            "/run/bramble",
            "/usr/libexec/kubernetes",
        ]
    }

    fn packages(&self, node: &Node, seen: &Observation) -> Packages {
        // Docker's own repository calls it containerd.io; the two cannot be installed together.
        let containerd = if seen.package_version("containerd.io").is_some() { "containerd.io" } else { "containerd" };
        let mut packages = Packages::default();
        packages.install.extend(
            [containerd, "conntrack", "ethtool", "iptables", "nftables", "openssl", "socat"].map(str::to_owned),
        );
        if keepalived::holds(self.cluster, node) {
            packages.install.extend(keepalived::PACKAGES.map(str::to_owned));
        }
        match &self.config.source {
            KubeadmSource::Bundle(_) => packages.install.push("containernetworking-plugins".into()),
            KubeadmSource::Apt(repository) => {
                const KEY: &str = "/etc/apt/keyrings/kubernetes-apt-keyring.asc";
                if let Some(key) = &self.inputs.apt_key {
                    packages.sources.push(File::new(KEY, key));
                }
                let text = format!("deb [signed-by={KEY}] {} /\n", repository.url);
                packages.sources.push(File::new(APT_LIST, text));
                // Its revisions (`-1.1`) differ only in the packaging.
                let version = self.exact();
                for package in OWN_PACKAGES {
                    packages.install.push(match version.patch {
                        Some(_) => format!("{package}={version}-*"),
                        None => package.to_owned(),
                    });
                    packages.hold.push(package.to_owned());
                }
                packages.install.extend(["kubernetes-cni".to_owned(), "cri-tools".to_owned()]);
            }
        }
        packages
    }

    fn resources(&self, node: &Node, seen: &Observation) -> Vec<Resource> {
        let mut all = Vec::new();
        let text = containerd::config(
            containerd::version(seen).0,
            &self.pause_image(),
            systemd_cgroup(seen),
            self.cni_bin(),
            seen.facts.container,
            !self.cluster.registries.is_empty(),
        );
        all.push(Resource::File(File::new(containerd::CONFIG, text)));
        all.extend(containerd::registry_files(self.cluster, containerd::REGISTRIES));
        all.push(Resource::Unit(Unit::new("containerd", vec![containerd::CONFIG.into()])));
        if let Some(bundle) = &self.inputs.bundle {
            for program in &bundle.manifest.programs {
                all.push(Resource::Blob(Blob {
                    path: format!("{PROGRAMS}{}", program.name),
                    sha256: program.sha256.clone(),
                    mode: "755".into(),
                    source: BlobSource::Upload(bundle.dir.join(&program.path)),
                }));
            }
            let images = bundle.manifest.images.iter();
            let images = images.filter(|image| node.role == Role::ControlPlane || !image.control_plane_only);
            let image = |image: &BundleFile| Image {
                names: vec![image.name.clone()],
                sha256: image.sha256.clone(),
                archive: bundle.dir.join(&image.path),
            };
            all.push(Resource::other(Images(images.map(image).collect())));
        }
        let archives = self.inputs.archives.iter().map(|archive| Image {
            names: archive.images.iter().map(|(name, _)| name.clone()).collect(),
            sha256: archive.sha256.clone(),
            archive: archive.path.clone(),
        });
        let archives: Vec<Image> = archives.collect();
        if !archives.is_empty() {
            all.push(Resource::other(Images(archives)));
        }
        all.extend(self.kubelet_unit(seen));
        if self.cluster.network.cni == Cni::Routed {
            all.extend(routed::resources(self.cluster, node));
        }
        if keepalived::holds(self.cluster, node) {
            all.extend(keepalived::resources(self.cluster, node, seen, self));
        }
        all.push(Resource::Certificates(self.certificates(node)));
        all
    }

    fn is_program(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Blob(blob) => blob.path.starts_with(PROGRAMS),
            // The repository of another minor, and what comes from there.
            Resource::File(file) => file.path == APT_LIST,
            Resource::Packages(names) => names.iter().any(|name| name.contains('=')),
            _ => false,
        }
    }

    fn check(&self, node: &Node, seen: &Observation) -> Vec<String> {
        let mut found = Vec::new();
        let facts = &seen.facts;
        match facts.arch.as_str() {
            "arm64" | "amd64" => {}
            "armhf" | "armel" => found.push(
                "its system is 32-bit, and Kubernetes has no 32-bit programs since 1.27: flash a 64-bit image".into(),
            ),
            other => {
                found.push(format!("its system is {other}, a {} is {}", node.board.name, node.board.arch));
            }
        }
        if let Some(bundle) = &self.inputs.bundle
            && bundle.manifest.arch.to_string() != facts.arch
        {
            found.push(format!("the bundle is for {}, the node runs {}", bundle.manifest.arch, facts.arch));
        }
        // kubeadm's own least is 1700 MB; the kernel keeps some of what was sold.
        if node.role == Role::ControlPlane && facts.memory < 1_600 * 1024 {
            found.push(format!("a control plane needs 1700 MB of memory, it has {} MB", facts.memory / 1024));
        }
        found
    }

    fn secrets(&self, random: [u8; 64]) -> JoinFacts {
        let mut secrets = JoinFacts::default();
        secrets.set(TOKEN, &token(&random[32..]));
        secrets.set(CERTIFICATE_KEY, &hex(&random[..32]));
        secrets
    }

    fn init(
        &self,
        node: &Node,
        seen: &Observation,
        secrets: &JoinFacts,
        restored: Option<&str>,
    ) -> Result<Step, MissingFact> {
        let text = self.cluster_config(node, seen, secrets, restored.is_some())?;
        let skip = if self.without_dns() { "addon/coredns" } else { "" };
        let mut apply = self.kubectl();
        apply.call("private_file", [CONFIG, &text]);
        let upload = if self.several() { "--upload-certs" } else { "--" };
        apply.call("kubeadm_init", [upload, skip, &node.address.to_string(), restored.unwrap_or_default()]);
        if let Some(manifest) = &self.inputs.cni_manifest {
            apply
                .call("private_file", ["/run/bramble/cni.yaml", manifest])
                .fixed("kubectl_admin apply -f /run/bramble/cni.yaml");
        }
        let title = format!("make the cluster {} (kubeadm init)", self.cluster.name);
        Ok(member(self, node, None, title, apply, self.undo()))
    }

    fn join(&self, node: &Node, seen: &Observation, facts: &JoinFacts) -> Result<Step, MissingFact> {
        let ca = facts.get(JoinFacts::CA)?;
        let mut join = json!({
            "apiVersion": api_version(self.config.version), "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "apiServerEndpoint": self.endpoint(), "token": facts.get(TOKEN)?, "caCertHashes": [ca],
                },
            },
            "nodeRegistration": self.registration(node, seen, false),
        });
        if node.role == Role::ControlPlane {
            join["controlPlane"] = json!({
                "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT },
                "certificateKey": facts.get(CERTIFICATE_KEY)?,
            });
        }
        let mut apply = self.kubectl();
        apply.call("private_file", [CONFIG, &documents(&[join])]);
        apply.fixed("kubeadm_join");
        let title = format!("join the cluster {} (kubeadm join)", self.cluster.name);
        Ok(member(self, node, Some(ca), title, apply, self.undo()))
    }

    fn join_facts(
        &self,
        plane: &Node,
        seen: &Observation,
        joining: &[&Node],
        secrets: &JoinFacts,
    ) -> Result<Commands, MissingFact> {
        let mut script = Commands::new();
        if joining.iter().any(|node| node.role == Role::ControlPlane) {
            script.call("private_file", [CONFIG, &self.cluster_config(plane, seen, secrets, false)?]);
            script.fixed("upload_certificates");
        }
        script.fixed("tell_token");
        Ok(script)
    }

    fn settle(&self) -> Option<Commands> {
        // Before etcd had learners (kubeadm takes them from 1.29 on), the second member counts before it runs, and etcd
        // has no leader for some seconds. Watches of the API that was there may hang for ever after that (seen with
        // 1.20): services get no endpoints, kube-proxy hears nothing.
        let mut script = self.kubectl();
        script.fixed("restart_system kube-apiserver\nsleep 2");
        (self.exact().minor < 29).then_some(script)
    }

    fn refresh(&self, _: &Node) -> Commands {
        let mut script = self.kubectl();
        script.fixed("mkdir -p /run/bramble\nsystemctl restart kubelet\nrestart_system");
        script
    }

    fn upgrade(&self, node: &Node, first: bool) -> Step {
        let mut apply = self.kubectl();
        let how = if first { "apply" } else { "node" };
        apply.call("kubeadm_upgrade", [how, &self.version()]);
        Step {
            id: VERSION,
            title: format!("upgrade {} to Kubernetes {} (kubeadm upgrade {how})", node.name, self.version()),
            version: self.version(),
            apply,
            undo: None,
        }
    }

    fn kubectl(&self) -> Commands {
        let mut script = Commands::new();
        script.set("minor", &self.config.version.minor.to_string()).set("service", "kubelet");
        script.fixed(ENDS).fixed(include_str!("cluster.sh")).fixed(include_str!("kubeadm.sh"));
        script
    }

    fn admin_config(&self) -> &'static str {
        "/etc/kubernetes/admin.conf"
    }

    fn smoke_image(&self) -> Option<String> {
        Some(match &self.inputs.bundle {
            Some(bundle) => bundle.manifest.smoke_image.clone(),
            None => BUSYBOX.to_owned(),
        })
    }

    fn certificates(&self, node: &Node) -> Certificates {
        match node.role {
            Role::ControlPlane => {
                let mut renew = self.kubectl();
                renew.fixed("renew_certificates");
                // Authorities live for ten years, and `kubeadm certs renew` leaves them alone.
                Certificates {
                    files: &[
                        "/etc/kubernetes/pki/apiserver*.crt",
                        "/etc/kubernetes/pki/front-proxy-client.crt",
                        "/etc/kubernetes/pki/etcd/[!c]*.crt",
                    ],
                    before: RENEWAL,
                    renew,
                }
            }
            // The kubelet renews its own.
            _ => Certificates {
                files: &["/var/lib/kubelet/pki/kubelet-client-current.pem"],
                before: RENEWAL,
                renew: Commands::new(),
            },
        }
    }
}

impl Kubeadm<'_> {
    /// The version with its patch, as far as it is known.
    fn exact(&self) -> KubeVersion {
        match &self.inputs.bundle {
            Some(bundle) => bundle.manifest.kubernetes,
            None => self.inputs.kubernetes.unwrap_or(self.config.version),
        }
    }

    fn several(&self) -> bool {
        self.cluster.control_planes().count() > 1
    }

    fn undo(&self) -> Commands {
        let mut undo = self.kubectl();
        undo.fixed("reset_kubernetes");
        undo
    }

    /// Whether programs and images come from a bundle that has no cluster DNS.
    fn without_dns(&self) -> bool {
        let has = |bundle: &Bundle| bundle.manifest.images.iter().any(|image| image.name.contains("coredns"));
        self.inputs.bundle.as_ref().is_some_and(|bundle| !has(bundle))
    }

    /// Debian's plugins lie in /usr/lib/cni; those of the Kubernetes project, of flannel and of Calico in /opt/cni/bin.
    fn cni_bin(&self) -> &'static str {
        match (&self.config.source, self.cluster.network.cni) {
            (KubeadmSource::Bundle(_), Cni::Routed) => "/usr/lib/cni",
            _ => "/opt/cni/bin",
        }
    }

    fn pause_image(&self) -> String {
        match &self.inputs.bundle {
            Some(bundle) => bundle.manifest.pause_image.clone(),
            // The tag that kubeadm of this minor lists (`kubeadm config images list`); a newer one works as well, but
            // would be pulled beside it.
            None => {
                let tag = match self.config.version.minor {
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

    /// The kubelet's unit. The project's packages bring one; a bundle has only the program.
    fn kubelet_unit(&self, seen: &Observation) -> Vec<Resource> {
        // Before it is a member there is nothing that it could run with.
        let member = seen.done(MEMBER).is_some();
        let unit = Resource::Unit(Unit { running: member, ..Unit::new("kubelet", Vec::new()) });
        if matches!(self.config.source, KubeadmSource::Apt(_)) {
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

    fn registration(&self, node: &Node, seen: &Observation, restored: bool) -> Value {
        let config = self.config;
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
            value["taints"] = taints
                .iter()
                .map(|taint| json!({ "key": taint.key, "value": taint.value, "effect": taint.effect.to_string() }))
                .collect();
        }
        let mut ignored = Vec::new();
        if seen.facts.container {
            // Of the machine below a container knows neither its kernel's configuration nor its modules.
            ignored.push("SystemVerification");
        }
        if self.without_dns() {
            // It would pull the one image that is not there and is not needed.
            ignored.push("ImagePull");
        }
        if restored {
            ignored.push("DirAvailable--var-lib-etcd");
        }
        if !ignored.is_empty() {
            value["ignorePreflightErrors"] = json!(ignored);
        }
        value
    }

    fn endpoint(&self) -> String {
        format!("{}:{API_PORT}", self.cluster.network.api)
    }

    /// The documents of `kubeadm init --config`. JSON is YAML.
    fn cluster_config(
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
        // What came from a bundle cannot be pulled again. It is pinned, which containerd tells from 1.7 on and the kubelet
        // heeds from 1.23 on; the older ones delete even the pause image when the disk is 85 % full (rke2#1830).
        let heeds_pins = containerd::version(seen) >= (1, 7) && config.version.minor >= 23;
        if seen.facts.container || (self.inputs.bundle.is_some() && !heeds_pins) {
            kubelet["imageGCHighThresholdPercent"] = json!(100);
        }
        if seen.facts.container {
            // How full the disk is belongs to the machine below.
            let left = json!({ "memory.available": "100Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" });
            kubelet["evictionHard"] = left;
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
        Ok(documents(&[init, whole, kubelet, proxy]))
    }
}

/// systemd owns the one hierarchy of cgroup v2; on v1 the kubelet's own driver is the one that never disagrees with it.
pub(crate) fn systemd_cgroup(seen: &Observation) -> bool {
    seen.facts.cgroup == 2
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

fn documents(all: &[Value]) -> String {
    all.iter().map(|value| format!("{value:#}\n")).collect::<Vec<_>>().join("---\n")
}
