//! What can be written in a cluster file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cluster::{Cni, Datastore, Images, Role, Setting, Sudo, Swap};
use crate::de::{HELP, Spanned};
use crate::hardware::Holds;
use crate::names::{ClusterName, DeviceName, FileMode, KubeVersion, MacAddr, NodeName, Release, Sha256Digest};

/// One cluster. A file may hold several, separated by lines of `---`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterDocument {
    /// The name of the cluster.
    #[schemars(required)]
    pub(crate) cluster: Option<Spanned<ClusterName>>,
    /// How bramble reaches the nodes.
    #[serde(default)]
    pub(crate) access: AccessSection,
    /// Addresses.
    #[schemars(required)]
    pub(crate) network: Option<Spanned<NetworkSection>>,
    /// Which Kubernetes.
    #[schemars(required)]
    pub(crate) distribution: Option<Spanned<DistributionSection>>,
    /// The system that is written onto the boards' disks.
    pub(crate) image: Option<Spanned<ImageSection>>,
    /// Where the images of a registry come from instead, such as `docker.io: http://10.0.0.10:5000`.
    #[serde(default)]
    pub(crate) registries: BTreeMap<String, Spanned<String>>,
    /// Archives of container images (`docker save`) that every node gets: it need not pull them.
    #[serde(default)]
    pub(crate) archives: Vec<Spanned<String>>,
    /// Folders that all nodes share.
    #[serde(default)]
    pub(crate) storage: StorageSection,
    /// What the cluster has besides Kubernetes.
    #[serde(default)]
    pub(crate) addons: AddonsSection,
    /// What every node gets before Kubernetes.
    #[serde(default)]
    pub(crate) prepare: PrepareSection,
    /// How nodes that run pods are changed.
    #[serde(default)]
    pub(crate) update: UpdateSection,
    /// What stands beside the boards, and what is attached to them: for `bramble design`.
    pub(crate) hardware: Option<Spanned<HardwareSection>>,
    /// The machines.
    #[schemars(required)]
    pub(crate) nodes: Option<Spanned<Vec<Spanned<NodeSection>>>>,
}

/// An image of a system, plain or compressed (xz, gzip, Zstandard).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSection {
    /// A file here.
    pub(crate) file: Option<Spanned<String>>,
    /// Where it is fetched from, once.
    pub(crate) url: Option<Spanned<String>>,
    /// What it is called in a catalogue, such as `Raspberry Pi OS Lite (64-bit)`; `bramble image list` shows the names.
    pub(crate) name: Option<Spanned<String>>,
    /// The catalogue that has the name; that of Raspberry Pi Imager if not given.
    pub(crate) catalogue: Option<Spanned<String>>,
    /// The SHA-256 of the file as it is published. With a `url` alone, the digest that stands beside the file is taken, and
    /// pinned in bramble.lock.
    pub(crate) sha256: Option<Spanned<Sha256Digest>>,
}

/// How nodes that run pods are changed: upgraded, or booted again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateSection {
    /// How many workers are taken out of service at once; 1 if not given. Control planes always go one by one.
    pub(crate) workers: Option<Spanned<u16>>,
    /// How many seconds the pods of a node have to go elsewhere; 300 if not given.
    pub(crate) drain: Option<Spanned<u32>>,
}

/// How bramble reaches the nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessSection {
    /// The user to log in as; `pi` if not given.
    pub(crate) user: Option<Spanned<String>>,
    /// Key files, public or private: the private half is used to log in, beside those that the SSH agent holds.
    #[serde(default)]
    pub(crate) keys: Vec<Spanned<String>>,
    /// The port of sshd; 22 if not given.
    pub(crate) port: Option<Spanned<u16>>,
    /// A host to go through, as `[user@]host[:port]`.
    pub(crate) jump: Option<Spanned<String>>,
    /// Whether sudo asks for a password; `passwordless` if not given.
    pub(crate) sudo: Option<Sudo>,
}

/// Addresses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkSection {
    /// The network of the nodes, such as 10.0.0.0/24.
    #[schemars(required)]
    pub(crate) subnet: Option<Spanned<String>>,
    /// The range of pod addresses; 10.244.0.0/16 if not given, and for MicroK8s its own 10.1.0.0/16.
    pub(crate) pods: Option<Spanned<String>>,
    /// The range of service addresses; 10.96.0.0/12 if not given, and for MicroK8s its own 10.152.183.0/24.
    pub(crate) services: Option<Spanned<String>>,
    /// The way out of the subnet: with it each board is told its address by its image, without it boards ask DHCP.
    pub(crate) gateway: Option<Spanned<String>>,
    /// Who resolves names for boards that are told their address; the gateway if not given.
    #[serde(default)]
    pub(crate) dns: Vec<Spanned<String>>,
    /// The addresses that the router hands out, as FIRST-LAST.
    pub(crate) dhcp: Option<Spanned<String>>,
    /// The addresses that services get from a load balancer, as FIRST-LAST.
    pub(crate) pool: Option<Spanned<String>>,
    /// The Wi-Fi that boards are in, if they are not on Ethernet.
    pub(crate) wifi: Option<Spanned<WifiSection>>,
    /// How pods reach each other; `routed` if not given, and `calico` for MicroK8s.
    pub(crate) cni: Option<Spanned<Cni>>,
    /// The manifest of the CNI, a URL or a file, instead of the one its project publishes.
    pub(crate) cni_manifest: Option<Spanned<String>>,
    /// The address of the Kubernetes API if it is not that of the first control plane: a free one of the subnet moves
    /// to a control plane whose API answers.
    pub(crate) api: Option<Spanned<String>>,
}

/// A Wi-Fi, which boards join at their first boot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WifiSection {
    /// The country whose rules for radio hold, by its two letters, such as DE.
    #[schemars(required)]
    pub(crate) country: Option<Spanned<String>>,
    /// Its name. Without one, only the country is set.
    pub(crate) ssid: Option<Spanned<String>>,
    /// A file with its passphrase, or with its key in 64 hexadecimal digits.
    pub(crate) password: Option<Spanned<String>>,
}

/// Which Kubernetes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DistributionSection {
    /// Upstream Kubernetes, installed by kubeadm.
    Kubeadm(KubeadmSection),
    /// No Kubernetes: the nodes are only prepared.
    None,
    #[schemars(skip)]
    OpenShift(OpenShift),
    /// k3s: one small program.
    K3s(K3sSection),
    /// k0s: one program with everything in it.
    K0s(K0sSection),
    /// MicroK8s: a snap.
    MicroK8s(MicroK8sSection),
}

/// Upstream Kubernetes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubeadmSection {
    /// The version of Kubernetes: a minor (the newest patch of it is taken once and then kept) or a patch.
    #[schemars(required)]
    pub(crate) version: Option<Spanned<KubeVersion>>,
    /// Where programs and images come from; `apt` if not given.
    pub(crate) source: Option<Spanned<SourceSection>>,
}

/// k3s.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct K3sSection {
    /// Its release: `stable`, `latest`, a minor such as 1.34 (one of these is taken once and then kept), or a release by
    /// its own name, such as v1.34.6+k3s1.
    #[schemars(required)]
    pub(crate) version: Option<Spanned<Release>>,
    /// A web server that has the releases as `<mirror>/<release>/<file>`, and in `<mirror>/channels/<channel>` the release
    /// of a channel.
    pub(crate) mirror: Option<Spanned<String>>,
    /// Whether each node pulls its images (`pull`), or the release's archive is passed from node to node (`upload`);
    /// `pull` if not given.
    #[serde(default)]
    pub(crate) images: Images,
    /// Where the cluster's state is kept: `sqlite` if there is one control plane, else `etcd`. One with `etcd` can become
    /// three.
    pub(crate) datastore: Option<Spanned<Datastore>>,
    /// Packaged components that are not wanted, such as `traefik` or `servicelb`.
    #[serde(default)]
    pub(crate) disable: Vec<Spanned<String>>,
    /// A file in the form of k3s' own registries.yaml.
    pub(crate) registries: Option<Spanned<String>>,
    /// Further settings of servers, by the names of k3s' own flags, such as `etcd-expose-metrics: true`.
    #[serde(default)]
    pub(crate) server: BTreeMap<String, Spanned<Setting>>,
    /// Further settings of agents.
    #[serde(default)]
    pub(crate) agent: BTreeMap<String, Spanned<Setting>>,
}

/// k0s.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct K0sSection {
    /// Its release: `stable` or `latest` (taken once and then kept), or a release by its own name, such as
    /// v1.36.3+k0s.2.
    #[schemars(required)]
    pub(crate) version: Option<Spanned<Release>>,
    /// A web server that has the releases as `<mirror>/<release>/<file>`, and in `<mirror>/channels/<channel>` the release
    /// of a channel.
    pub(crate) mirror: Option<Spanned<String>>,
    /// Whether each node pulls its images (`pull`), or the release's bundle is passed from node to node (`upload`); `pull`
    /// if not given.
    #[serde(default)]
    pub(crate) images: Images,
}

/// MicroK8s.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MicroK8sSection {
    /// Its release: a minor such as 1.36 or `stable` (what the store's channel of this name has is taken once and then
    /// kept), or a release with the revision of its snap, such as v1.36.3+r9123.
    #[schemars(required)]
    pub(crate) version: Option<Spanned<Release>>,
    /// A web server that has a bundle's folder `microk8s` below this address.
    pub(crate) mirror: Option<Spanned<String>>,
}

/// Where programs and images come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceSection {
    /// The apt repository of the Kubernetes project (or a mirror of it), and the images' registry.
    Apt(AptSection),
    /// A folder made by `bramble lab bundle`.
    Bundle(String),
}

/// An apt repository.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AptSection {
    /// The repository's URL, with `{minor}` where 1.NN goes.
    pub(crate) url: Option<Spanned<String>>,
    /// A file with the repository's signing key, instead of the one at `<url>Release.key`.
    pub(crate) key: Option<Spanned<String>>,
}

/// Refused, always.
#[derive(Debug)]
pub(crate) struct OpenShift;

impl<'de> Deserialize<'de> for OpenShift {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(format!(
            "OpenShift does not fit on small boards{HELP}its control planes need 16 GB of memory and four cores each; \
             use `kubeadm`"
        )))
    }
}

/// What every node gets before Kubernetes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrepareSection {
    /// A time zone such as Europe/Berlin.
    pub(crate) timezone: Option<Spanned<String>>,
    /// A locale such as en_GB.UTF-8.
    pub(crate) locale: Option<Spanned<String>>,
    /// Debian packages that must be there.
    #[serde(default)]
    pub(crate) packages: Vec<Spanned<String>>,
    /// Debian packages that must keep their version.
    #[serde(default)]
    pub(crate) hold: Vec<Spanned<String>>,
    /// Whether packages that nothing needs any more are removed.
    #[serde(default)]
    pub(crate) autoremove: bool,
    /// Kernel modules, loaded now and at each boot.
    #[serde(default)]
    pub(crate) modules: Vec<Spanned<String>>,
    /// Kernel settings, such as `vm.swappiness: 10`.
    #[serde(default)]
    pub(crate) sysctls: BTreeMap<String, Spanned<String>>,
    /// What the boot loader of a Raspberry Pi reads.
    #[serde(default)]
    pub(crate) boot: BootSection,
    /// Whether swap is turned off (`none`) or left alone (`keep`); `none` if not given and there is Kubernetes.
    pub(crate) swap: Option<Swap>,
    /// Settings of sshd, such as `PermitRootLogin: no`.
    #[serde(default)]
    pub(crate) sshd: BTreeMap<String, Spanned<String>>,
    /// Lines for sudoers.
    #[serde(default)]
    pub(crate) sudoers: Vec<Spanned<String>>,
    /// Files with their text.
    #[serde(default)]
    pub(crate) files: Vec<Spanned<FileSection>>,
    /// Files that each node fetches.
    #[serde(default)]
    pub(crate) downloads: Vec<Spanned<DownloadSection>>,
    /// Files from here that every node gets.
    #[serde(default)]
    pub(crate) uploads: Vec<Spanned<UploadSection>>,
    /// Services that are enabled and running.
    #[serde(default)]
    pub(crate) services: Vec<Spanned<String>>,
}

/// What the boot loader of a Raspberry Pi reads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootSection {
    /// Settings of config.txt, such as `gpu_mem: 16`.
    #[serde(default)]
    pub(crate) config: BTreeMap<String, Spanned<String>>,
    /// Arguments of the kernel command line.
    #[serde(default)]
    pub(crate) kernel_args: Vec<Spanned<String>>,
}

/// A file with its text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSection {
    /// Where it is on the node.
    pub(crate) path: Spanned<String>,
    /// All of its text.
    pub(crate) content: String,
    /// Permission bits in octal; 0644 if not given.
    pub(crate) mode: Option<FileMode>,
    /// Units that read the file and are restarted when it changes.
    #[serde(default)]
    pub(crate) restart: Vec<Spanned<String>>,
}

/// A file that each node fetches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DownloadSection {
    /// http or https.
    pub(crate) url: Spanned<String>,
    /// The digest of its bytes.
    pub(crate) sha256: Sha256Digest,
    /// Where it goes on the node.
    pub(crate) path: Spanned<String>,
    /// Permission bits in octal; 0644 if not given.
    pub(crate) mode: Option<FileMode>,
}

/// A file from here that every node gets. It is sent once, and the nodes pass it on to each other, unless its mode says
/// that not everybody may read it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadSection {
    /// Where it is here; a relative path starts at the cluster file.
    pub(crate) from: Spanned<String>,
    /// Where it goes on the node.
    pub(crate) path: Spanned<String>,
    /// Permission bits in octal; 0644 if not given.
    pub(crate) mode: Option<FileMode>,
}

/// What stands beside the boards, and what is attached to them. Parts are named by the words of the catalogue (`bramble
/// parts`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HardwareSection {
    /// Files with further parts, or with other figures of known ones.
    #[serde(default)]
    pub(crate) catalogue: Vec<Spanned<String>>,
    /// Switches, routers, chargers, and boards that are no nodes, by their names.
    #[serde(default)]
    pub(crate) devices: BTreeMap<DeviceName, Spanned<DeviceSection>>,
    /// What every node has that does not say otherwise.
    #[serde(default)]
    pub(crate) each: FittingSection,
    /// What is bought besides.
    #[serde(default)]
    pub(crate) others: Vec<Spanned<Short<LineSection>>>,
    /// Rules of `bramble design` whose findings you know and take.
    #[serde(default)]
    pub(crate) accept: Vec<Spanned<String>>,
}

/// Something that stands beside the boards.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceSection {
    /// What it is.
    #[schemars(required)]
    pub(crate) part: Option<Spanned<String>>,
    /// The device that its way out goes through; the network of the house if not given.
    pub(crate) uplink: Option<Spanned<String>>,
    /// What gives it power, if not the mains: a device, or a power supply.
    pub(crate) power: Option<Spanned<String>>,
    /// What is attached to it.
    #[serde(default)]
    pub(crate) with: Vec<Spanned<Short<LineSection>>>,
}

/// What a node has besides its board.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FittingSection {
    /// What gives it power: a device, or a power supply.
    pub(crate) power: Option<Spanned<String>>,
    /// Its PoE HAT.
    pub(crate) hat: Option<Spanned<String>>,
    /// The device that it is plugged into.
    pub(crate) switch: Option<Spanned<String>>,
    /// Its disks. What none of them says to hold is on the first.
    pub(crate) disks: Option<Vec<Spanned<Short<DiskSection>>>>,
    /// What else is attached to it: fans, heat sinks, cables.
    pub(crate) with: Option<Vec<Spanned<Short<LineSection>>>>,
}

/// A part by its word alone, or with more about it.
#[derive(Debug)]
pub(crate) struct Short<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + From<String>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for WordOrMap<T> {
            type Value = Short<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part, or a map with `part`")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Short<T>, E> {
                Ok(Short(T::from(word.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Short)
            }
        }
        deserializer.deserialize_any(WordOrMap(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Short<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrWord", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<T>()] })
    }
}

impl From<String> for LineSection {
    fn from(part: String) -> LineSection {
        LineSection { part, quantity: None }
    }
}

impl From<String> for DiskSection {
    fn from(part: String) -> DiskSection {
        DiskSection { part, adapter: None, holds: None }
    }
}

/// A part, or so many of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineSection {
    /// What.
    pub(crate) part: String,
    /// How many pieces, or packs; 1 if not given.
    pub(crate) quantity: Option<u32>,
}

/// A disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskSection {
    /// What it is.
    pub(crate) part: String,
    /// What it is attached by.
    pub(crate) adapter: Option<String>,
    /// What is on it: `boot`, `system`, `state`, `volumes`.
    pub(crate) holds: Option<Vec<Holds>>,
}

/// A machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSection {
    /// Its name, which becomes its hostname.
    #[schemars(required)]
    pub(crate) name: Option<Spanned<NodeName>>,
    /// What it does in the cluster.
    #[schemars(required)]
    pub(crate) role: Option<Spanned<Role>>,
    /// Which board it is, by the word of the catalogue (`bramble boards`).
    #[schemars(required)]
    pub(crate) board: Option<Spanned<String>>,
    /// Its IPv4 address.
    #[schemars(required)]
    pub(crate) address: Option<Spanned<String>>,
    /// Its Ethernet address.
    pub(crate) mac: Option<Spanned<MacAddr>>,
    /// Labels of the node in Kubernetes.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, Spanned<String>>,
    /// Taints of the node in Kubernetes, as `key[=value]:Effect`.
    pub(crate) taints: Option<Vec<Spanned<String>>>,
    /// What it has besides its board, where that differs from `hardware.each`.
    #[serde(default)]
    pub(crate) hardware: FittingSection,
    /// The outside of a gateway.
    pub(crate) uplink: Option<Spanned<UplinkSection>>,
}

/// The outside of a gateway: it lets the rack out, and in only what is named here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UplinkSection {
    /// The interface towards the outside, such as wlan0; its address comes from the network there.
    #[schemars(required)]
    pub(crate) interface: Option<Spanned<String>>,
    /// The interface towards the rack; eth0 if not given, and eth1 if that is the outside.
    pub(crate) inside: Option<Spanned<String>>,
    /// The gateway's name or address outside, if bramble works from there: it goes through the gateway to the other nodes.
    pub(crate) reach: Option<Spanned<String>>,
    /// TCP ports of the gateway itself that are open to the outside. That of sshd is, where `reach` is given.
    #[serde(default)]
    pub(crate) open: Vec<Spanned<u16>>,
    /// TCP ports outside that lead into the rack, such as `443: 10.0.0.240:443`.
    #[serde(default)]
    pub(crate) publish: BTreeMap<String, Spanned<String>>,
}

/// What the cluster has besides Kubernetes. What is taken out again is removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddonsSection {
    /// CoreDNS, for clusters whose bundle has none: names of services are found by pods.
    pub(crate) dns: Option<Spanned<ImageOfSection>>,
    /// MetalLB: services of type LoadBalancer get addresses of `network.pool`.
    pub(crate) metallb: Option<Spanned<UpstreamSection>>,
    /// Traefik on every node, at ports 80 and 443.
    pub(crate) traefik: Option<Spanned<ImageOfSection>>,
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

/// Folders that all nodes share.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageSection {
    /// A folder of one node, which the others mount.
    pub(crate) nfs: Option<Spanned<NfsSection>>,
    /// A volume that several nodes hold, each a whole copy.
    pub(crate) glusterfs: Option<Spanned<GlusterSection>>,
}

/// A folder of one node, which the others mount.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NfsSection {
    /// The node that has it.
    #[schemars(required)]
    pub(crate) server: Option<Spanned<NodeName>>,
    /// The folder there; /srv/nfs if not given.
    pub(crate) folder: Option<Spanned<String>>,
    /// A disk of its own for the folder, such as /dev/sda. It is formatted if it is blank.
    pub(crate) disk: Option<Spanned<String>>,
    /// Where every node has it; /mnt/nfs if not given.
    pub(crate) mount: Option<Spanned<String>>,
    /// The storage class whose volumes are folders in it; `nfs` if not given, `none` for none.
    pub(crate) class: Option<Spanned<String>>,
}

/// A volume that several nodes hold, each a whole copy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GlusterSection {
    /// The nodes that hold it: three, so that any one may be lost.
    #[serde(default)]
    pub(crate) nodes: Vec<Spanned<NodeName>>,
    /// The volume's name; `shared` if not given.
    pub(crate) volume: Option<Spanned<String>>,
    /// The folder with each node's copy; /srv/brick if not given.
    pub(crate) brick: Option<Spanned<String>>,
    /// A disk of its own for it on each of these nodes, such as /dev/sda. It is formatted if it is blank.
    pub(crate) disk: Option<Spanned<String>>,
    /// Where every node has the volume; /mnt/shared if not given.
    pub(crate) mount: Option<Spanned<String>>,
    /// The storage class whose volumes are folders in it; `shared` if not given, `none` for none.
    pub(crate) class: Option<Spanned<String>>,
}
