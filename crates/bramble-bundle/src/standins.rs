//! The distributions that there are stand-ins for: all that the lab knows of each.

use bramble_kube::{Upstream, upstream};
use bramble_lab::NodePackage;
use bramble_spec::{K3S_AGENT_FLAGS, K3S_SERVER_FLAGS};

use crate::error::Error;
use crate::snaps;

/// The part that all stand-ins share; it goes where each says `@INNER@`.
pub(crate) const INNER: &str = include_str!("standins/inner.sh");

/// A distribution that there is a stand-in for.
#[derive(Debug)]
pub struct Standin {
    name: &'static str,
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
    /// Gives the distribution's name in a cluster file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Finds who publishes the releases that it stands for.
    pub(crate) fn upstream(&self) -> Result<&'static Upstream, Error> {
        upstream(self.name).ok_or_else(|| Error::Built(format!("{} has no releases of its own", self.name)))
    }

    /// Lists the settings that it needs in a cluster file beside `version`, each a line.
    pub fn settings(&self) -> &'static [&'static str] {
        self.settings
    }

    /// Gives the `cni` for a cluster file, if the distribution lets it be chosen.
    pub fn cni(&self) -> Option<&'static str> {
        self.cni
    }

    /// Lists the packages that it needs on the nodes of a rack.
    pub fn packages(&self) -> Vec<NodePackage> {
        (self.packages)()
    }
}

/// All stand-ins.
pub const STANDINS: [Standin; 3] = [
    Standin {
        name: "k3s",
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
        name: "k0s",
        build: "k0s.0",
        kubelet: Some("k0s"),
        script: include_str!("standins/k0s.sh"),
        texts: &[],
        settings: &[],
        cni: Some("routed"),
        packages: Vec::new,
    },
    Standin {
        name: "microk8s",
        build: "r1",
        kubelet: None,
        script: include_str!("standins/microk8s.sh"),
        texts: snaps::TEXTS,
        settings: &[],
        cni: None,
        packages: || vec![snaps::snapd()],
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_cluster_file_takes_each_stand_in_with_its_settings() {
        for standin in &STANDINS {
            let settings: String = standin.settings().iter().map(|line| format!("    {line}\n")).collect();
            let cni = standin.cni().map_or_else(String::new, |cni| format!(", cni: {cni}"));
            let text = format!(
                "cluster: lab\nnetwork: {{ subnet: 10.0.0.0/24{cni} }}\n\
                 distribution:\n  {}:\n    version: stable\n{settings}\
                 nodes:\n  - {{ name: lab-1, role: control-plane, board: generic-amd64, address: 10.0.0.50 }}\n",
                standin.name()
            );
            let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
            assert!(!loaded.report.has_errors(), "{}: {:?}", standin.name(), loaded.report.problems);
            let names: Vec<_> = loaded.clusters.iter().filter_map(|cluster| cluster.distribution.name()).collect();
            assert_eq!(names, [standin.name()]);
            assert_eq!(standin.upstream().unwrap().name, standin.name());
        }
    }
}
