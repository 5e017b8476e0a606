//! The distributions that there are stand-ins for: all that the lab knows of each.

use bramble_kube::{K0S, K3S, MICROK8S, Upstream};
use bramble_lab::NodePackage;
use bramble_spec::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS};

use crate::snaps;

/// What all stand-ins have in common, for the place `@INNER@` in each.
pub(crate) const INNER: &str = include_str!("standins/inner.sh");

/// A distribution that there is a stand-in for.
#[derive(Debug)]
pub struct Standin {
    pub(crate) upstream: &'static Upstream,
    /// The build of its releases, behind the `+` of their versions.
    pub(crate) build: &'static str,
    /// The build that its kubelet gives as its own, if that is not kubeadm's, which has none.
    pub(crate) kubelet: Option<&'static str>,
    pub(crate) script: &'static str,
    /// Texts beside the programs.
    pub(crate) texts: &'static [(&'static str, &'static [&'static str])],
    settings: &'static [&'static str],
    cni: Option<&'static str>,
    packages: fn() -> Vec<NodePackage>,
}

impl Standin {
    /// The distribution's name in a cluster file.
    pub fn name(&self) -> &'static str {
        self.upstream.name
    }

    /// Settings that it needs in a cluster file beside `version`, each a line.
    pub fn settings(&self) -> &'static [&'static str] {
        self.settings
    }

    /// The `cni` of a cluster file, for distributions that let it be chosen.
    pub fn cni(&self) -> Option<&'static str> {
        self.cni
    }

    /// Packages that it needs on the nodes of a rack.
    pub fn packages(&self) -> Vec<NodePackage> {
        (self.packages)()
    }
}

/// All stand-ins.
pub const STANDINS: [Standin; 3] = [
    Standin {
        upstream: &K3S,
        build: "k3s1",
        kubelet: Some("k3s1"),
        script: include_str!("standins/k3s.sh"),
        texts: &[("flags.server", K3S_SERVER_FLAGS), ("flags.agent", K3S_AGENT_FLAGS)],
        // There is no image of a cluster DNS.
        settings: &["disable: [coredns]"],
        cni: Some("routed"),
        packages: Vec::new,
    },
    Standin {
        upstream: &K0S,
        build: "k0s.0",
        kubelet: Some("k0s"),
        script: include_str!("standins/k0s.sh"),
        texts: &[],
        settings: &[],
        cni: Some("routed"),
        packages: Vec::new,
    },
    Standin {
        upstream: &MICROK8S,
        build: "r1",
        kubelet: None,
        script: include_str!("standins/microk8s.sh"),
        texts: snaps::TEXTS,
        settings: &[],
        cni: None,
        packages: || vec![snaps::snapd()],
    },
];
