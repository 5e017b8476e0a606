//! The releases of other projects that bramble names: the manifest that each publishes, the image that it runs, or its
//! version.

/// MetalLB.
pub const METALLB: &str =
    "https://raw.githubusercontent.com/metallb/metallb/v0.16.2/config/manifests/metallb-native.yaml";
/// ingress-nginx, which is retired.
pub const INGRESS_NGINX: &str = "https://raw.githubusercontent.com/kubernetes/ingress-nginx/controller-v1.13.3/deploy/static/provider/baremetal/deploy.yaml";
/// cert-manager.
pub const CERT_MANAGER: &str =
    "https://github.com/cert-manager/cert-manager/releases/download/v1.21.2/cert-manager.yaml";
/// local-path-provisioner.
pub const LOCAL_PATH: &str =
    "https://raw.githubusercontent.com/rancher/local-path-provisioner/v0.0.36/deploy/local-path-storage.yaml";
/// The same one's image, which can hand out folders of a shared one (rancher/local-path-provisioner, README).
pub const PROVISIONER_IMAGE: &str = "docker.io/rancher/local-path-provisioner:v0.0.36";
/// Longhorn.
pub const LONGHORN: &str = "https://raw.githubusercontent.com/longhorn/longhorn/v1.10.0/deploy/longhorn.yaml";
/// metrics-server.
pub const METRICS_SERVER: &str =
    "https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.9.0/components.yaml";
/// flannel.
pub const FLANNEL: &str = "https://github.com/flannel-io/flannel/releases/download/v0.28.10/kube-flannel.yml";
/// Calico.
pub const CALICO: &str = "https://raw.githubusercontent.com/projectcalico/calico/v3.31.0/manifests/calico.yaml";
/// containerd, for bundles of Kubernetes that bring their own.
pub const CONTAINERD: &str = "2.4.2";
/// CoreDNS.
pub const COREDNS_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.14.2";
/// Traefik.
pub const TRAEFIK_IMAGE: &str = "docker.io/library/traefik:v3.7.13";
/// The definitions of Traefik's own objects.
pub const TRAEFIK_DEFINITIONS: &str = "https://raw.githubusercontent.com/traefik/traefik/v3.7.13/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml";
/// The device plugin for accelerators (github.com/squat/generic-device-plugin).
pub const DEVICE_PLUGIN_IMAGE: &str = "ghcr.io/squat/generic-device-plugin:0.1.0";
/// Prometheus.
pub const PROMETHEUS_IMAGE: &str = "quay.io/prometheus/prometheus:v3.5.0";
/// Grafana.
pub const GRAFANA_IMAGE: &str = "docker.io/grafana/grafana:12.2.0";
