//! The facts of a distribution: what is the same in all clusters that have it.

use bramble_spec::{AptRepository, Cluster, Cni, KubeVersion, WantedRelease};

use crate::distribution::upstream::Upstream;
use crate::inputs::Inputs;
use crate::lifecycle::Lifecycle;

/// The facts of a distribution. Whoever needs one asks here, and knows no distribution by name.
///
/// What a cluster file may say of a distribution, and what memory it takes, is known where the file is read
/// (`bramble_spec::Distribution`).
pub trait DistributionFacts: Sync {
    /// Gives its name in a cluster file.
    fn name(&self) -> &'static str;

    /// Says where it publishes releases of its own, if it has any.
    fn upstream(&self) -> Option<&'static Upstream> {
        None
    }

    /// Says where the programs of a cluster come from; `None` if the cluster is one of another distribution.
    fn programs<'c>(&self, cluster: &'c Cluster) -> Option<Programs<'c>>;

    /// Lists the CNIs that it takes from elsewhere.
    fn cni_manifests(&self) -> &'static [CniManifest] {
        &[]
    }

    /// Names the file in the distribution's own form that says where images come from, as written, if there is one.
    fn registries_file<'c>(&self, _: &'c Cluster) -> Option<&'c str> {
        None
    }

    /// Lists the units that start pods.
    fn pod_units(&self) -> &'static [&'static str];

    /// Lists the files that say something of registries, and the archives of images, that its nodes may have. One that
    /// ends with `/` or `-` stands for all that begin so.
    fn optional_files(&self) -> &'static [&'static str] {
        &[]
    }

    /// Gives its part in a cluster's life; `None` if the cluster is one of another distribution.
    fn lifecycle<'c>(&self, cluster: &'c Cluster, inputs: &'c Inputs) -> Option<Box<dyn Lifecycle + 'c>>;
}

/// The origin of a cluster's programs, by its file.
#[derive(Debug, Clone, Copy)]
pub enum Programs<'c> {
    /// A release of the distribution's own.
    Release {
        /// The publisher.
        upstream: &'static Upstream,
        /// The release.
        wanted: &'c WantedRelease,
        /// A web server that has it, too, without a `/` at its end.
        mirror: Option<&'c str>,
    },
    /// An apt repository.
    Apt {
        /// The version of Kubernetes.
        version: KubeVersion,
        /// The repository.
        repository: &'c AptRepository,
    },
    /// A bundle.
    Bundle {
        /// The version of Kubernetes.
        version: KubeVersion,
        /// Its folder, as written.
        folder: &'c str,
    },
}

/// A manifest that a CNI's project publishes.
#[derive(Debug, Clone, Copy)]
pub struct CniManifest {
    /// The CNI.
    pub cni: Cni,
    /// The address at which it is published.
    pub url: &'static str,
    /// The range of pods that it names, in whose place the cluster's belongs.
    pub pods: Option<&'static str>,
}
