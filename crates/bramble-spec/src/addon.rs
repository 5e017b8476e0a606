//! Add-ons: what a cluster has besides Kubernetes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::names::NodeName;

/// Something that a cluster has besides Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Addon {
    /// What it is called: a DNS label.
    pub name: String,
    /// What it is.
    pub kind: AddonKind,
}

/// The kinds of add-ons. A text is the manifest (a URL, or a file as written), or the whole name of the image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddonKind {
    /// CoreDNS, where the distribution brings none.
    Dns(String),
    /// MetalLB: addresses for services, announced by the nodes.
    Metallb(String),
    /// Traefik on every node, at ports 80 and 443.
    Traefik {
        /// The image.
        image: String,
        /// The definitions of its own objects.
        manifest: String,
    },
    /// The ingress of the Kubernetes project, which is retired.
    IngressNginx(String),
    /// cert-manager, with a certificate authority of the cluster's own if that is wanted.
    CertManager {
        /// Its manifest.
        manifest: String,
        /// Whether there is an authority of the cluster's own.
        ca: bool,
    },
    /// Volumes in a folder of the node that a pod runs on.
    LocalPath(String),
    /// Volumes in a folder that all nodes share.
    Shared(SharedVolumes),
    /// Longhorn: volumes that are kept on several nodes.
    Longhorn(String),
    /// Figures of pods and nodes for `kubectl top` and autoscalers.
    MetricsServer(String),
    /// Prometheus, Grafana and alerts for boards.
    Monitoring(Monitoring),
    /// A device plugin: pods get the accelerators of nodes by `resources`. The image of it.
    Accelerators(String),
    /// What containers get that do not say what they need.
    Limits(Limits),
    /// An add-on of MicroK8s' own, with its argument.
    MicroK8s {
        /// Its name there.
        name: String,
        /// What follows the colon, such as a range of addresses.
        argument: Option<String>,
    },
    /// Manifests of the user's.
    Own(OwnSource),
}

/// Where the user's manifests are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnSource {
    /// A file or a folder here, as written, or a URL of one manifest.
    From(String),
    /// A git repository.
    Git {
        /// Its URL.
        url: String,
        /// A branch, tag or commit.
        revision: Option<String>,
        /// A file or folder in it.
        path: String,
    },
}

/// Prometheus, Grafana and alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Monitoring {
    /// The image of Prometheus.
    pub prometheus: String,
    /// The image of Grafana; without one there is none.
    pub grafana: Option<String>,
    /// For how long figures are kept, in Prometheus' notation.
    pub retention: String,
    /// How many GiB of them are kept at most.
    pub size: u32,
    /// The class of the volume for them; without one they go with the pod.
    pub class: Option<String>,
    /// Alertmanagers that hear of alerts, `host:port`.
    pub alertmanagers: Vec<String>,
}

/// What containers get that do not say what they need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// In which namespaces.
    pub namespaces: Vec<String>,
    /// What is reserved, by resource.
    pub requests: BTreeMap<String, String>,
    /// What is the most, by resource.
    pub limits: BTreeMap<String, String>,
}

/// Volumes in a folder that all nodes share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedVolumes {
    /// The only node on which root may do all in the folder, if there is one: volumes are made and removed there.
    pub owner: Option<NodeName>,
    /// The storage class.
    pub class: String,
    /// The folder on every node.
    pub folder: String,
    /// The image of the provisioner.
    pub image: String,
}

/// What an add-on needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// MiB of memory on every node.
    pub each: u32,
    /// MiB of memory on one of the nodes.
    pub one: u32,
    /// Debian packages on every node.
    pub packages: &'static [&'static str],
    /// Kernel modules on every node.
    pub modules: &'static [&'static str],
    /// Kernel settings on every node.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// MiB on the root disk of every node.
    pub disk_each: u32,
    /// MiB on the root disk of one of the nodes.
    pub disk_one: u32,
}

const MONITORED: &[&str] = &["prometheus-node-exporter", "smartmontools"];
const LONGHORN: &[&str] = &["nfs-common", "open-iscsi"];

/// All packages that add-ons need on nodes: those that no add-on needs any more go.
pub const ADDON_PACKAGES: [&[&str]; 2] = [MONITORED, LONGHORN];

impl Addon {
    /// What it needs. Memory: the requests in the manifests of the version that bramble names, or what its documents ask
    /// for.
    pub fn needs(&self) -> Needs {
        match &self.kind {
            // metallb, config/manifests/metallb-native.yaml: no requests; measured by its users at 20 to 50 MiB each.
            AddonKind::Metallb(_) => Needs { each: 50, one: 50, ..Needs::default() },
            // kubeadm's own manifest of it: `memory: 70Mi`.
            AddonKind::Dns(_) => Needs { one: 70, ..Needs::default() },
            AddonKind::Traefik { .. } => Needs { each: 64, ..Needs::default() },
            // kubernetes/ingress-nginx, deploy/static: `memory: 90Mi`.
            AddonKind::IngressNginx(_) => Needs { one: 90, ..Needs::default() },
            AddonKind::CertManager { .. } => Needs { one: 150, ..Needs::default() },
            AddonKind::LocalPath(_) | AddonKind::Shared(_) => Needs { one: 30, ..Needs::default() },
            // longhorn.io/docs, "Best Practices": 4 GiB per node, of which its own pods take about a quarter; its
            // volumes are iSCSI targets ("Quick Installation", requirements).
            AddonKind::Longhorn(_) => {
                Needs { each: 1024, packages: LONGHORN, modules: &["iscsi_tcp"], ..Needs::default() }
            }
            // metrics-server, components.yaml: `memory: 200Mi`.
            AddonKind::MetricsServer(_) => Needs { one: 200, ..Needs::default() },
            // The requests in the manifests that bramble writes; most nodes have none.
            AddonKind::Accelerators(_) => Needs { one: 16, ..Needs::default() },
            // The limits in the manifests that bramble writes.
            AddonKind::Monitoring(monitoring) => {
                let grafana = if monitoring.grafana.is_some() { 256 } else { 0 };
                Needs {
                    each: 30,
                    one: 512 + grafana,
                    packages: MONITORED,
                    // In the pod's own folder, if there is no volume for it.
                    disk_one: if monitoring.class.is_none() { (monitoring.size + 1) * 1024 } else { 0 },
                    ..Needs::default()
                }
            }
            AddonKind::MicroK8s { name, .. } if name == "mayastor" => {
                // microk8s.io/docs, "Addon: Mayastor": 2 MiB huge pages, 1024 of them on each node, without which it
                // refuses to be enabled, and nvme-tcp; a pool of 20 GB in a file on each.
                Needs {
                    each: 2048 + 1024,
                    modules: &["nvme-tcp"],
                    sysctls: &[("vm.nr_hugepages", "1024")],
                    disk_each: 20 * 1024,
                    ..Needs::default()
                }
            }
            AddonKind::Limits(_) | AddonKind::MicroK8s { .. } | AddonKind::Own(_) => Needs::default(),
        }
    }
}
