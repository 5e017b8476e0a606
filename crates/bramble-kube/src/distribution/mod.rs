//! The distributions of Kubernetes: the one place that lists them.

pub(crate) mod containerd;
pub(crate) mod facts;
mod k0s;
mod k3s;
pub(crate) mod keepalived;
pub(crate) mod kubeadm;
mod kubelet;
mod microk8s;
mod one_service;
pub(crate) mod upstream;

use bramble_spec::Cluster;
use bramble_state::Cleanup;

use crate::distribution::facts::{CniManifest, DistributionFacts};
use crate::distribution::upstream::Upstream;
use crate::inputs::Inputs;
use crate::lifecycle::Lifecycle;

static DISTRIBUTIONS: [&dyn DistributionFacts; 4] = [&kubeadm::Facts, &k3s::Facts, &k0s::Facts, &microk8s::Facts];

/// Lists all distributions.
pub fn distributions() -> &'static [&'static dyn DistributionFacts] {
    &DISTRIBUTIONS
}

/// Finds a cluster's distribution; `None` if the nodes are only prepared.
pub fn distribution(cluster: &Cluster) -> Option<&'static dyn DistributionFacts> {
    let name = cluster.distribution.name()?;
    DISTRIBUTIONS.into_iter().find(|distribution| distribution.name() == name)
}

/// Finds the manifest of a cluster's CNI, if its distribution leaves that to bramble and there is one.
pub fn cni_manifest(cluster: &Cluster) -> Option<&'static CniManifest> {
    distribution(cluster)?.cni_manifests().iter().find(|manifest| manifest.cni == cluster.network.cni)
}

/// Lists those who publish releases of their own.
pub fn upstreams() -> impl Iterator<Item = &'static Upstream> {
    DISTRIBUTIONS.into_iter().filter_map(DistributionFacts::upstream)
}

/// Finds who publishes the releases of the distribution with this name in a cluster file.
pub fn upstream(name: &str) -> Option<&'static Upstream> {
    upstreams().find(|upstream| upstream.name == name)
}

/// Gives the lifecycle of a cluster's distribution; `None` if the nodes are only prepared.
pub fn lifecycle<'c>(cluster: &'c Cluster, inputs: &'c Inputs) -> Option<Box<dyn Lifecycle + 'c>> {
    distribution(cluster)?.lifecycle(cluster, inputs)
}

/// Lists the units of all distributions that start pods, with spaces between.
pub(crate) fn pod_units() -> String {
    let units: Vec<&str> = DISTRIBUTIONS.into_iter().flat_map(DistributionFacts::pod_units).copied().collect();
    units.join(" ")
}

/// Gives what any node may have of registries, archives of images and settings that the cluster file no longer has.
pub(crate) fn cleanup() -> Cleanup {
    let files = DISTRIBUTIONS.into_iter().flat_map(DistributionFacts::optional_files);
    Cleanup {
        what: "what the cluster file no longer says of registries, archives and settings".to_owned(),
        files: files.map(|file| (*file).to_owned()).collect(),
        ..Cleanup::default()
    }
}
