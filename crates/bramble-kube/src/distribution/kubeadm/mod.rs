//! The distribution `kubeadm`: upstream Kubernetes.

mod config;
pub(crate) mod routed;

use bramble_shell::Commands;
use bramble_spec::{Arch, Cluster, Cni, Component, Distribution, KubeadmSource, Node, Problem, Role, hex, published};
use bramble_state::{Blob, BlobSource, Certificates, File, Observation, Resource, STEPS, Step, Unit};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::bundle::BundleFile;
use crate::distribution::facts::{CniManifest, DistributionFacts, Programs};
use crate::distribution::kubeadm::config::{
    API_PORT, CERTIFICATE_KEY, Kubeadm, PATCHES, TOKEN, api_version, documents, systemd_cgroup,
};
use crate::distribution::upstream::BUSYBOX;
use crate::distribution::{containerd, keepalived};
use crate::images::{Image, Images};
use crate::inputs::Inputs;
use crate::lifecycle::{JoinFacts, Lifecycle, MEMBER, MissingFact, Packages, VERSION, member};

/// The facts of kubeadm.
pub(super) struct Facts;

impl DistributionFacts for Facts {
    fn name(&self) -> &'static str {
        "kubeadm"
    }

    fn programs<'c>(&self, cluster: &'c Cluster) -> Option<Programs<'c>> {
        let Distribution::Kubeadm(config) = &cluster.distribution else { return None };
        let version = config.version;
        Some(match &config.source {
            KubeadmSource::Apt(repository) => Programs::Apt { version, repository },
            KubeadmSource::Bundle(folder) => Programs::Bundle { version, folder },
        })
    }

    fn cni_manifests(&self) -> &'static [CniManifest] {
        &[
            CniManifest {
                cni: Cni::Flannel,
                url: published::FLANNEL,
                // Its one constant that a cluster file can contradict.
                pods: Some("10.244.0.0/16"),
            },
            CniManifest { cni: Cni::Calico, url: published::CALICO, pods: None },
        ]
    }

    fn pod_units(&self) -> &'static [&'static str] {
        &["kubelet.service"]
    }

    fn optional_files(&self) -> &'static [&'static str] {
        &["/etc/containerd/certs.d/", KUBELET_DEFAULTS]
    }

    fn lifecycle<'c>(&self, cluster: &'c Cluster, inputs: &'c Inputs) -> Option<Box<dyn Lifecycle + 'c>> {
        let Distribution::Kubeadm(config) = &cluster.distribution else { return None };
        Some(Box::new(Kubeadm { cluster, config, inputs }))
    }
}

const CONFIG: &str = "/run/bramble/kubeadm.yaml";
/// What Debian's way of starting the kubelet adds to its command line (kubernetes/release, 10-kubeadm.conf).
const KUBELET_DEFAULTS: &str = "/etc/default/kubelet";
/// The mark that says with which settings of this node's own the programs of Kubernetes run.
const SETTINGS: &str = "settings";

fn token(random: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let text: String = random.iter().take(22).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    format!("{}.{}", &text[..6], &text[6..])
}

const PROGRAMS: &str = "/usr/local/bin/";
const APT_LIST: &str = "/etc/apt/sources.list.d/kubernetes.list";
/// The packages of the Kubernetes project that have its version.
const OWN_PACKAGES: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];

/// The seconds before their end at which certificates are renewed; kubeadm makes them for a year.
const RENEWAL: i64 = 30 * 24 * 3600;

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
            _ if self.bundled() => packages.install.push("containernetworking-plugins".into()),
            KubeadmSource::Bundle(_) => {}
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
            containerd::version(seen, self.inputs.bundle.as_ref()),
            &self.pause_image(),
            systemd_cgroup(seen),
            self.cni_bin(),
            seen.facts.container,
            !self.cluster.registries.is_empty(),
        );
        all.push(Resource::File(File::new(containerd::CONFIG, text)));
        all.extend(containerd::registry_files(self.cluster, containerd::REGISTRIES));
        let mut reads = vec![containerd::CONFIG.to_owned()];
        let bundled = self.inputs.bundle.as_ref().and_then(|bundle| Some((bundle, bundle.files(&seen.facts.arch)?)));
        if let Some((bundle, files)) = bundled {
            for program in &files.programs {
                all.push(Resource::Blob(Blob {
                    path: format!("{PROGRAMS}{}", program.name),
                    sha256: program.sha256.clone(),
                    mode: "755".into(),
                    source: BlobSource::Upload(bundle.dir.join(&program.path)),
                }));
            }
            if self.own_containerd() {
                let program = format!("{PROGRAMS}containerd");
                all.push(Resource::File(containerd::drop_in(&program)));
                reads.extend([program, containerd::DROP_IN.to_owned()]);
            }
        }
        all.push(Resource::Unit(Unit::new("containerd", reads)));
        if let Some((bundle, files)) = bundled {
            let images =
                files.images.iter().filter(|image| node.role == Role::ControlPlane || !image.control_plane_only);
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
        all.push(Resource::File(self.kubelet_patch(seen)));
        let told = self.cluster.arguments.flags_of(Component::Kubelet);
        if !told.is_empty() {
            all.push(Resource::File(File::new(
                KUBELET_DEFAULTS,
                format!("KUBELET_EXTRA_ARGS=\"{}\"\n", told.join(" ")),
            )));
        }
        all.extend(self.kubelet_unit(seen));
        if seen.done(MEMBER).is_some() {
            all.push(Resource::Step(self.settings(node, seen)));
        }
        all.extend(self.plugin_links().map(Resource::Step));
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
            // One of another version is started while the node is drained.
            Resource::File(file) if self.own_containerd() && file.path == containerd::CONFIG => true,
            // The repository of another minor, and what comes from there.
            Resource::File(file) => [APT_LIST, containerd::DROP_IN].contains(&&*file.path),
            Resource::Packages(names) => names.iter().any(|name| name.contains('=')),
            _ => false,
        }
    }

    fn check(&self, node: &Node, seen: &Observation) -> Vec<Problem> {
        let mut found = Vec::new();
        let error = |message: String| Problem::error(message, &node.name);
        let facts = &seen.facts;
        match facts.arch.as_str() {
            "arm64" | "amd64" => {}
            "armhf" | "armel" => found.push(
                error("its system is 32-bit, and Kubernetes has no 32-bit programs since 1.27".into())
                    .next("flash a 64-bit image"),
            ),
            other => {
                found.push(error(format!("its system is {other}, a {} is {}", node.board.name, node.board.arch)));
            }
        }
        if let Some(bundle) = &self.inputs.bundle
            && bundle.files(&facts.arch).is_none()
        {
            let has: Vec<String> = bundle.manifest.files.keys().map(Arch::to_string).collect();
            found.push(
                error(format!("the bundle is for {}, the node runs {}", has.join(" and "), facts.arch))
                    .next("`bramble bundle create kubeadm:… --arch arm64,amd64` makes one for both"),
            );
        }
        // kubeadm's own least is 1700 MB; the kernel keeps some of what was sold.
        if node.role == Role::ControlPlane && facts.memory < 1_600 * 1024 {
            found.push(error(format!("a control plane needs 1700 MB of memory, it has {} MB", facts.memory / 1024)));
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
        self.write_patches(node, &mut apply);
        apply.call("private_file", [CONFIG, &text]);
        let upload = if self.several() { "--upload-certs" } else { "--" };
        apply.call("kubeadm_init", [upload, skip, &node.address.to_string(), restored.unwrap_or_default()]);
        if let Some(manifest) = &self.inputs.cni_manifest {
            apply
                .call("private_file", ["/run/bramble/cni.yaml", manifest])
                .fixed("kubectl_admin apply -f /run/bramble/cni.yaml");
        }
        apply.call("step_ends", [SETTINGS, &self.settings_digest(node, seen)]);
        let free = node.taints.as_ref().is_some_and(Vec::is_empty);
        let more = if free { ", without a taint: workloads run there" } else { "" };
        let title = format!("make the cluster {} (kubeadm init){more}", self.cluster.name);
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
            "patches": { "directory": PATCHES },
        });
        if node.role == Role::ControlPlane {
            join["controlPlane"] = json!({
                "localAPIEndpoint": { "advertiseAddress": node.address, "bindPort": API_PORT },
                "certificateKey": facts.get(CERTIFICATE_KEY)?,
            });
        }
        let mut apply = self.kubectl();
        self.write_patches(node, &mut apply);
        apply.call("private_file", [CONFIG, &documents(&[join])]);
        apply.fixed("kubeadm_join").call("step_ends", [SETTINGS, &self.settings_digest(node, seen)]);
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
        // has no leader for some seconds. Watches of the API that was there may hang for ever after that: services get
        // no endpoints, kube-proxy hears nothing.
        let mut script = self.kubectl();
        script.fixed("restart_system kube-apiserver\nsleep 2");
        (self.exact().minor < 29).then_some(script)
    }

    fn refresh(&self, _: &Node, _: &JoinFacts) -> Result<Commands, MissingFact> {
        let mut script = self.kubectl();
        script.fixed("mkdir -p /run/bramble\nsystemctl restart kubelet\nrestart_system");
        Ok(script)
    }

    fn upgrade(&self, node: &Node, seen: &Observation, first: bool) -> Step {
        let mut apply = self.kubectl();
        let how = if first { "apply" } else { "node" };
        let mut ignored = self.ignored(seen);
        ignored.extend(["ImagePull", "CoreDNSUnsupportedPlugins", "CoreDNSMigration"]);
        if let Some(bundle) = self.inputs.bundle.as_ref().filter(|_| first) {
            // The cluster keeps the tags that it began with, which the bundle before this one had.
            apply.call("set_image_tags", [&*bundle.manifest.etcd_tag, bundle.dns_tag().unwrap_or_default()]);
        }
        apply.call("kubeadm_upgrade", [how, &self.version(), &ignored.join(","), PATCHES]);
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
        script.set("service", "kubelet");
        script.fixed(STEPS).fixed(include_str!("../cluster.sh")).fixed(include_str!("lib.sh"));
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
    /// Tells whether containerd comes from the bundle, too.
    fn own_containerd(&self) -> bool {
        self.inputs.bundle.as_ref().is_some_and(|bundle| bundle.manifest.containerd.is_some())
    }

    fn undo(&self) -> Commands {
        let mut undo = self.kubectl();
        undo.fixed("reset_kubernetes").call("rm -rf --", [PATCHES]);
        undo
    }

    /// Gives what the programs of Kubernetes that run in pods on this node are told beside what kubeadm says: the name of a
    /// program, and a patch of its pod (kubernetes.io, "Customizing components with the kubeadm API", patches).
    fn pod_patches(&self, node: &Node) -> Vec<(&'static str, String)> {
        let of = |component: Component| {
            let add = |value: String| json!({ "op": "add", "path": "/spec/containers/0/command/-", "value": value });
            let told: Vec<_> = self.cluster.arguments.flags_of(component).into_iter().map(add).collect();
            (!told.is_empty()).then(|| (component.name(), json!(told).to_string()))
        };
        let pods = Component::ALL.into_iter().filter(|component| *component != Component::Kubelet);
        pods.filter(|_| node.role == Role::ControlPlane).filter_map(of).collect()
    }

    /// Writes the patches that kubeadm is about to read.
    fn write_patches(&self, node: &Node, script: &mut Commands) {
        let patches = self.pod_patches(node);
        let words = patches.iter().flat_map(|(name, patch)| [*name, patch]);
        script.call("pod_patches", [PATCHES].into_iter().chain(words));
    }

    fn settings_digest(&self, node: &Node, seen: &Observation) -> String {
        let all = json!([self.kubelet_patch(seen).content, self.pod_patches(node)]);
        bramble_spec::hex(&Sha256::digest(all.to_string()))
    }

    /// Gives a member the settings of its own that it has not yet: kubeadm reads them only when it makes or upgrades something.
    fn settings(&self, node: &Node, seen: &Observation) -> Step {
        let mut apply = self.kubectl();
        self.write_patches(node, &mut apply);
        let etcd = self.cluster.arguments.flags_of(Component::Etcd);
        apply.call("kubeadm_settings", [PATCHES].into_iter().chain(etcd.iter().map(String::as_str)));
        let patches = self.pod_patches(node);
        let programs: Vec<&str> = ["kubelet"].into_iter().chain(patches.iter().map(|(name, _)| *name)).collect();
        Step {
            id: SETTINGS,
            title: format!("give {} the settings of this node", programs.join(", ")),
            version: self.settings_digest(node, seen),
            apply,
            undo: None,
        }
    }

    /// Gives the kubelet's unit. The project's packages bring one; a bundle has only the program.
    fn kubelet_unit(&self, seen: &Observation) -> Vec<Resource> {
        // Before it is a member there is nothing that it could run with.
        let member = seen.done(MEMBER).is_some();
        let reads = vec![KUBELET_DEFAULTS.to_owned()];
        let unit = Resource::Unit(Unit { running: member, ..Unit::new("kubelet", reads) });
        if !self.bundled() {
            return vec![unit];
        }
        // As kubeadm expects it: kubernetes/release, cmd/krel/templates/latest/kubeadm/10-kubeadm.conf.
        let text = include_str!("kubelet.service");
        vec![Resource::File(File::new("/etc/systemd/system/kubelet.service", text)), unit]
    }
}
