//! What Kubernetes' own programs are told on their command line, beside what bramble and the distribution say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::de::Spanned;
use crate::distribution::Setting;

/// A program of Kubernetes that takes arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The agent of every node.
    Kubelet,
    /// The API of every control plane.
    KubeApiserver,
    /// The control loops of every control plane.
    KubeControllerManager,
    /// The scheduler of every control plane.
    KubeScheduler,
    /// The store of every control plane, where the state of the cluster is in it.
    Etcd,
}

impl Component {
    /// All of them, the one that every node has first.
    pub const ALL: [Component; 5] = [
        Component::Kubelet,
        Component::KubeApiserver,
        Component::KubeControllerManager,
        Component::KubeScheduler,
        Component::Etcd,
    ];

    /// Gives the name of its program, which is its name in a cluster file, too.
    pub fn name(self) -> &'static str {
        match self {
            Component::Kubelet => "kubelet",
            Component::KubeApiserver => "kube-apiserver",
            Component::KubeControllerManager => "kube-controller-manager",
            Component::KubeScheduler => "kube-scheduler",
            Component::Etcd => "etcd",
        }
    }

    /// Lists its flags, as `--help` of the programs of Kubernetes 1.36 and 1.37, and of etcd 3.6, names them.
    pub(crate) fn flags(self) -> impl Iterator<Item = &'static str> {
        match self {
            Component::Kubelet => include_str!("flags/kubelet.txt"),
            Component::KubeApiserver => include_str!("flags/kube-apiserver.txt"),
            Component::KubeControllerManager => include_str!("flags/kube-controller-manager.txt"),
            Component::KubeScheduler => include_str!("flags/kube-scheduler.txt"),
            Component::Etcd => include_str!("flags/etcd.txt"),
        }
        .lines()
    }

    /// Lists the flags that follow from the cluster file, each with where they are said there.
    pub(crate) fn ours(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Component::Kubelet => &[
                ("bootstrap-kubeconfig", "the distribution makes it"),
                ("cert-dir", "the distribution looks after the certificates"),
                ("cgroup-driver", "it follows from the board's cgroups"),
                ("cluster-dns", "it follows from `network: { services: … }`"),
                ("config", "say each setting by its flag"),
                ("config-dir", "say each setting by its flag"),
                ("container-runtime-endpoint", "the distribution has its containerd"),
                ("hostname-override", "it is the node's `name`"),
                ("kubeconfig", "the distribution makes it"),
                ("node-ip", "it is the node's `address`"),
                ("node-labels", "say `labels:` of a node"),
                ("register-with-taints", "say `taints:` of a node"),
                ("root-dir", "the distribution looks after its folder"),
            ],
            Component::KubeApiserver => &[
                ("advertise-address", "it is the node's `address`"),
                ("client-ca-file", "the distribution makes the certificates"),
                ("etcd-servers", "the distribution has its datastore"),
                ("secure-port", "the distribution has its port"),
                ("service-account-key-file", "the distribution makes the keys"),
                ("service-account-signing-key-file", "the distribution makes the keys"),
                ("service-cluster-ip-range", "say `network: { services: … }`"),
                ("tls-cert-file", "the distribution makes the certificates"),
                ("tls-private-key-file", "the distribution makes the certificates"),
            ],
            Component::KubeControllerManager => &[
                ("allocate-node-cidrs", "it follows from `network: { cni: … }`"),
                ("cluster-cidr", "say `network: { pods: … }`"),
                ("kubeconfig", "the distribution makes it"),
                ("root-ca-file", "the distribution makes the certificates"),
                ("service-account-private-key-file", "the distribution makes the keys"),
                ("service-cluster-ip-range", "say `network: { services: … }`"),
            ],
            Component::KubeScheduler => &[("kubeconfig", "the distribution makes it")],
            Component::Etcd => &[
                ("advertise-client-urls", "it follows from the node's `address`"),
                ("cert-file", "the distribution makes the certificates"),
                ("client-cert-auth", "the distribution makes the certificates"),
                ("data-dir", "the distribution looks after its folder"),
                ("force-new-cluster", "`bramble restore` begins anew with what is left"),
                ("initial-advertise-peer-urls", "it follows from the node's `address`"),
                ("initial-cluster", "it follows from the control planes in `nodes`"),
                ("initial-cluster-state", "it follows from the control planes in `nodes`"),
                ("key-file", "the distribution makes the certificates"),
                ("listen-client-urls", "it follows from the node's `address`"),
                ("listen-peer-urls", "it follows from the node's `address`"),
                ("name", "it is the node's `name`"),
                ("peer-cert-file", "the distribution makes the certificates"),
                ("peer-client-cert-auth", "the distribution makes the certificates"),
                ("peer-key-file", "the distribution makes the certificates"),
                ("peer-trusted-ca-file", "the distribution makes the certificates"),
                ("trusted-ca-file", "the distribution makes the certificates"),
                ("unsafe-no-fsync", "the first power cut would cost the cluster"),
                ("wal-dir", "the distribution looks after its folder"),
            ],
        }
    }
}

/// Arguments, by the name of their flag, which may come once for each program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Arguments(pub(crate) BTreeMap<Component, BTreeMap<String, String>>);

impl Arguments {
    /// Lists what a program is told, `flag=value` each, sorted.
    pub fn of(&self, component: Component) -> Vec<String> {
        self.0.get(&component).into_iter().flatten().map(|(flag, value)| format!("{flag}={value}")).collect()
    }

    /// Lists what a program is told as its command line has it: `--flag=value`.
    pub fn flags_of(&self, component: Component) -> Vec<String> {
        self.of(component).into_iter().map(|pair| format!("--{pair}")).collect()
    }

    /// Adds what lets an idle cluster write less, where the cluster file says nothing of it: short logs of containers, controllers
    /// that say less often, or not at all where there is one control plane, that they lead, and an etcd that takes what is in its
    /// log into its database less often: nothing is lost by that, the log is written through at once (etcd, server/storage/backend).
    pub(crate) fn write_less(&mut self, control_planes: usize, etcd: bool) {
        let leases: &[(&str, &str)] = match control_planes {
            1 => &[("leader-elect", "false")],
            _ => &[
                ("leader-elect-lease-duration", "60s"),
                ("leader-elect-renew-deadline", "40s"),
                ("leader-elect-retry-period", "15s"),
            ],
        };
        let logs: &[(&str, &str)] = &[("container-log-max-files", "2"), ("container-log-max-size", "5Mi")];
        let batches: &[(&str, &str)] = if etcd { &[("backend-batch-interval", "5s")] } else { &[] };
        let all = [
            (Component::Kubelet, logs),
            (Component::KubeControllerManager, leases),
            (Component::KubeScheduler, leases),
            (Component::Etcd, batches),
        ];
        for (component, flags) in all {
            let told = self.0.entry(component).or_default();
            for (flag, value) in flags {
                told.entry((*flag).to_owned()).or_insert_with(|| (*value).to_owned());
            }
        }
    }

    /// Gives what a program is told, by its flags.
    pub fn map_of(&self, component: Component) -> BTreeMap<String, String> {
        self.0.get(&component).cloned().unwrap_or_default()
    }
}

/// Arguments of Kubernetes' own programs, by their flags without `--`. They come behind those of the distribution.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ArgumentsSection {
    /// Those of the kubelet on every node, such as `max-pods: 60`.
    #[serde(default)]
    pub(crate) kubelet: BTreeMap<String, Spanned<Setting>>,
    /// Those of the API on every control plane, such as `audit-log-maxage: 7`.
    #[serde(default)]
    pub(crate) kube_apiserver: BTreeMap<String, Spanned<Setting>>,
    /// Those of the controller manager on every control plane, such as `node-monitor-grace-period: 20s`.
    #[serde(default)]
    pub(crate) kube_controller_manager: BTreeMap<String, Spanned<Setting>>,
    /// Those of the scheduler on every control plane.
    #[serde(default)]
    pub(crate) kube_scheduler: BTreeMap<String, Spanned<Setting>>,
    /// Those of etcd on every control plane, such as `heartbeat-interval: 500` (ms) and `election-timeout: 5000` for slow cards.
    #[serde(default)]
    pub(crate) etcd: BTreeMap<String, Spanned<Setting>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_that_follows_from_the_cluster_file_is_one() {
        // The lists are what the programs' own --help says, and sorted.
        for component in Component::ALL {
            let flags: Vec<&str> = component.flags().collect();
            assert!(flags.is_sorted() && flags.len() > 20, "{component:?}");
            for (ours, _) in component.ours() {
                assert!(flags.contains(ours), "{component:?} has no {ours}");
            }
        }
    }
}
