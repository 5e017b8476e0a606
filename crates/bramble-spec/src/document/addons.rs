//! The section `addons`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::de::Spanned;

/// What the cluster has besides Kubernetes. What is taken out again is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddonsSection {
    /// CoreDNS, for clusters whose bundle has none: names of services are found by pods.
    pub(crate) dns: Option<Spanned<ImageOfSection>>,
    /// MetalLB: services of type LoadBalancer get addresses of `network.pool`.
    pub(crate) metallb: Option<Spanned<UpstreamSection>>,
    /// Traefik on every node, at ports 80 and 443.
    pub(crate) traefik: Option<Spanned<TraefikSection>>,
    /// The ingress of the Kubernetes project. It is retired: no mend comes any more.
    #[serde(rename = "ingress-nginx")]
    pub(crate) ingress_nginx: Option<Spanned<UpstreamSection>>,
    /// cert-manager, with a certificate authority of the cluster's own (`ClusterIssuer` bramble-ca).
    #[serde(rename = "cert-manager")]
    pub(crate) cert_manager: Option<Spanned<CertManagerSection>>,
    /// Volumes in a folder of the node that a pod runs on (storage class `local-path`).
    #[serde(rename = "local-path")]
    pub(crate) local_path: Option<Spanned<UpstreamSection>>,
    /// Longhorn: volumes that are kept on several nodes.
    pub(crate) longhorn: Option<Spanned<UpstreamSection>>,
    /// Figures of pods and nodes for `kubectl top` and autoscalers.
    #[serde(rename = "metrics-server")]
    pub(crate) metrics_server: Option<Spanned<UpstreamSection>>,
    /// Prometheus and Grafana, with figures and alerts for boards: temperature, throttling, under-voltage, disks, certificates.
    pub(crate) monitoring: Option<Spanned<MonitoringSection>>,
    /// A device plugin, so that pods get the accelerators that nodes have `with` them: `resources: { limits: { bramble/coral-usb: 1 } }`.
    pub(crate) accelerators: Option<Spanned<ImageOfSection>>,
    /// What containers get that do not say what they need.
    pub(crate) limits: Option<Spanned<LimitsSection>>,
    /// Add-ons of MicroK8s' own, such as `dns` and `metallb:10.0.0.240-10.0.0.250`.
    #[serde(default)]
    pub(crate) microk8s: Vec<Spanned<String>>,
    /// OpenEBS Mayastor: volumes on several nodes, over NVMe. Only MicroK8s has it as manifests.
    pub(crate) mayastor: Option<Spanned<NothingSection>>,
    /// Manifests of your own, by names that you choose.
    #[serde(default)]
    pub(crate) own: BTreeMap<String, Spanned<OwnSection>>,
}

/// Nothing to say.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NothingSection {}

/// An add-on that its project publishes as a manifest.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamSection {
    /// The manifest, a URL or a file, instead of the release that bramble names. A URL is pinned in bramble.lock.
    pub(crate) manifest: Option<Spanned<String>>,
}

/// An add-on whose manifest is bramble's.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageOfSection {
    /// The image, instead of the one that bramble names.
    pub(crate) image: Option<Spanned<String>>,
}

/// Traefik.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraefikSection {
    /// The image, instead of the one that bramble names.
    pub(crate) image: Option<Spanned<String>>,
    /// The definitions of its own objects (IngressRoute, Middleware and others), a URL or a file, instead of those of the
    /// release that bramble names.
    pub(crate) manifest: Option<Spanned<String>>,
}

/// cert-manager.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertManagerSection {
    /// The manifest, a URL or a file, instead of the release that bramble names.
    pub(crate) manifest: Option<Spanned<String>>,
    /// Whether there is an authority of the cluster's own; there is if not given.
    pub(crate) ca: Option<bool>,
}

/// Prometheus and Grafana.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitoringSection {
    /// The image of Prometheus, instead of the one that bramble names.
    pub(crate) prometheus: Option<Spanned<String>>,
    /// The image of Grafana, instead of the one that bramble names; `none` leaves it out.
    pub(crate) grafana: Option<Spanned<String>>,
    /// For how long figures are kept; `15d` if not given.
    pub(crate) retention: Option<Spanned<String>>,
    /// How many GiB of them are kept at most; 2 if not given.
    pub(crate) size: Option<Spanned<u32>>,
    /// The storage class of the volume for them; without one they go with the pod.
    pub(crate) class: Option<Spanned<String>>,
    /// Alertmanagers that hear of alerts, as host:port.
    #[serde(default)]
    pub(crate) alertmanagers: Vec<Spanned<String>>,
}

/// What containers get that do not say what they need.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsSection {
    /// In which namespaces; `default` if not given.
    #[serde(default)]
    pub(crate) namespaces: Vec<Spanned<String>>,
    /// What is reserved; `cpu: 50m, memory: 64Mi` if not given.
    pub(crate) requests: Option<BTreeMap<String, Spanned<String>>>,
    /// What is the most; `memory: 256Mi` if not given.
    pub(crate) limits: Option<BTreeMap<String, Spanned<String>>>,
}

/// Manifests of your own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnSection {
    /// A file or a folder here, or the URL of a manifest, which is pinned in bramble.lock.
    pub(crate) from: Option<Spanned<String>>,
    /// The URL of a git repository; its commit is pinned in bramble.lock.
    pub(crate) git: Option<Spanned<String>>,
    /// A branch, tag or commit there; what it calls HEAD if not given.
    pub(crate) revision: Option<Spanned<String>>,
    /// A file or folder there.
    pub(crate) path: Option<Spanned<String>>,
}
