//! What a cluster file means: everything filled in, looked up and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addon::Addon;
use crate::catalogue::Board;
use crate::hardware::{AddressRange, Fitting, Hardware};
use crate::names::{ClusterName, FileMode, KubeVersion, MacAddr, NodeName, Release, Sha256Digest};

/// A cluster without open questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// How its nodes are reached.
    pub access: Access,
    /// Its addresses.
    pub network: Network,
    /// Which Kubernetes.
    pub distribution: Distribution,
    /// The system that is written onto the boards' disks.
    pub image: Option<ImageSource>,
    /// Where the images of a registry come from instead: a URL without a `/` at its end, by the registry's host.
    pub registries: BTreeMap<String, String>,
    /// Archives of container images that every node gets, as written.
    pub archives: Vec<String>,
    /// Folders that all nodes share.
    pub storage: Storage,
    /// What it has besides Kubernetes.
    pub addons: Vec<Addon>,
    /// What every node gets first.
    pub preparation: Preparation,
    /// How nodes that run pods are changed.
    pub update: Update,
    /// What stands beside the boards.
    pub hardware: Hardware,
    /// Its nodes in the order of the file: at least one, and a control plane among them if there is Kubernetes.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// The nodes that Kubernetes runs on, in the order of the file: all but the gateway.
    pub fn members(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role != Role::Gateway)
    }

    /// The node that gives the others their addresses and their way out, with its outside.
    pub fn gateway(&self) -> Option<(&Node, &Uplink)> {
        self.nodes.iter().find_map(|node| node.uplink.as_ref().map(|uplink| (node, uplink)))
    }

    /// The control planes in the order of the file.
    pub fn control_planes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::ControlPlane)
    }
}

/// Folders that all nodes share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// A folder of one node, which the others mount.
    pub nfs: Option<Nfs>,
    /// A volume that several nodes hold.
    pub glusterfs: Option<Gluster>,
}

impl Storage {
    /// The disks of a node that the cluster file gives to storage.
    pub fn disks_of(&self, node: &NodeName) -> Vec<&str> {
        let nfs = self.nfs.iter().filter(|nfs| nfs.server == *node).filter_map(|nfs| nfs.disk.as_deref());
        let bricks = self.glusterfs.iter().filter(|gluster| gluster.nodes.contains(node));
        nfs.chain(bricks.filter_map(|gluster| gluster.disk.as_deref())).collect()
    }
}

/// A folder of one node, which the others mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nfs {
    /// The node that has it.
    pub server: NodeName,
    /// The folder there.
    pub folder: String,
    /// A disk of its own for the folder.
    pub disk: Option<String>,
    /// Where every node has it.
    pub mount: String,
}

/// A volume that several nodes hold, each a whole copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gluster {
    /// The nodes that hold it.
    pub nodes: Vec<NodeName>,
    /// Its name.
    pub volume: String,
    /// The folder with each node's copy.
    pub brick: String,
    /// A disk of its own for it on each of these nodes.
    pub disk: Option<String>,
    /// Where every node has it.
    pub mount: String,
}

/// How nodes that run pods are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Update {
    /// How many workers are taken out of service at once; at least 1.
    pub workers: u16,
    /// How many seconds the pods of a node have to go elsewhere.
    pub drain: u32,
}

/// How nodes are reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Access {
    /// The user to log in as.
    pub user: String,
    /// Key files as written, `~` not yet expanded.
    pub keys: Vec<String>,
    /// sshd's port.
    pub port: u16,
    /// A host to go through.
    pub jump: Option<Jump>,
    /// How root is reached.
    pub sudo: Sudo,
}

/// A host to go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jump {
    /// The user there, if it is another.
    pub user: Option<String>,
    /// Its name or address.
    pub host: String,
    /// sshd's port there, if it is not the usual one.
    pub port: Option<u16>,
}

impl Jump {
    /// Takes `[user@]host[:port]` apart; `None` if the port is no number. Whether the host makes sense is not looked at.
    pub fn split(text: &str) -> Option<Jump> {
        let (user, rest) = match text.split_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (rest, None),
        };
        Some(Jump { user, host: host.to_owned(), port })
    }
}

/// Whether sudo asks for a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sudo {
    /// It does not.
    #[default]
    Passwordless,
    /// It does: bramble asks once.
    Password,
}

/// How pods reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// One route for each node's range of pods; all nodes share one Ethernet.
    #[default]
    Routed,
    /// The overlay of the flannel project.
    Flannel,
    /// The Calico project.
    Calico,
}

/// Addresses of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// The network of the nodes.
    pub subnet: Ipv4Net,
    /// The range of pod addresses.
    pub pods: Ipv4Net,
    /// The range of service addresses.
    pub services: Ipv4Net,
    /// The way out of the subnet, if boards are told their addresses by their images.
    pub gateway: Option<Ipv4Addr>,
    /// Who resolves names for such boards.
    pub dns: Vec<Ipv4Addr>,
    /// The addresses that the router hands out.
    pub dhcp: Option<AddressRange>,
    /// The addresses that services get from a load balancer.
    pub pool: Option<AddressRange>,
    /// The Wi-Fi that boards are in, if they are not on Ethernet.
    pub wifi: Option<Wifi>,
    /// How pods reach each other.
    pub cni: Cni,
    /// A manifest (URL or file) in place of the CNI project's own.
    pub cni_manifest: Option<String>,
    /// The address of the Kubernetes API.
    pub api: Ipv4Addr,
}

/// What boards are told of Wi-Fi by their images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wifi {
    /// The country whose rules for radio hold (ISO 3166-1, two letters).
    pub country: String,
    /// The network that they join, and the file with its passphrase, as written.
    pub join: Option<(String, String)>,
}

/// Where the image of a system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// A file here, as written.
    File {
        /// Its path.
        path: String,
        /// Its digest, if it is known.
        sha256: Option<Sha256Digest>,
    },
    /// A file elsewhere.
    Url {
        /// Its address.
        url: String,
        /// Its digest; without it, the one that is published beside the file.
        sha256: Option<Sha256Digest>,
    },
    /// One of a catalogue.
    Name {
        /// What it is called there.
        name: String,
        /// The catalogue's address, if it is not that of Raspberry Pi Imager.
        catalogue: Option<String>,
    },
}

/// Which Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Upstream, installed by kubeadm.
    Kubeadm(Kubeadm),
    /// k3s.
    K3s(K3s),
    /// k0s.
    K0s(K0s),
    /// MicroK8s.
    MicroK8s(MicroK8s),
    /// None: the nodes are only prepared.
    None,
}

/// Upstream Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kubeadm {
    /// Its version.
    pub version: KubeVersion,
    /// Where programs and images come from.
    pub source: KubeadmSource,
}

/// k3s.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct K3s {
    /// Its release.
    pub version: Release,
    /// Where releases come from, without a `/` at its end, if not from upstream.
    pub mirror: Option<String>,
    /// How its images reach the nodes.
    pub images: Images,
    /// Where the cluster's state is kept.
    pub datastore: Datastore,
    /// Packaged components that are not wanted.
    pub disable: Vec<String>,
    /// A file in the form of k3s' registries.yaml, as written.
    pub registries: Option<String>,
    /// Further settings of servers, by the name of their flag.
    pub server: BTreeMap<String, Setting>,
    /// Further settings of agents.
    pub agent: BTreeMap<String, Setting>,
}

/// k0s.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct K0s {
    /// Its release.
    pub version: Release,
    /// Where releases come from, without a `/` at its end, if not from upstream.
    pub mirror: Option<String>,
    /// How its images reach the nodes.
    pub images: Images,
}

/// MicroK8s.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MicroK8s {
    /// Its release.
    pub version: Release,
    /// Where releases come from, without a `/` at its end, if not from the store.
    pub mirror: Option<String>,
}

/// How a distribution's images reach the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// Each node pulls what it runs from the registries.
    #[default]
    Pull,
    /// The release's image archive is fetched once and passed from node to node.
    Upload,
}

/// Where the state of a cluster is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Datastore {
    /// A file on the only control plane.
    Sqlite,
    /// etcd, on every control plane.
    Etcd,
}

/// The value of a setting that a distribution's own configuration file knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Setting {
    /// One value; numbers and `true` are texts too.
    One(String),
    /// Several values.
    Many(Vec<String>),
}

/// A setting as it can be written.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

impl From<Written> for Setting {
    fn from(written: Written) -> Setting {
        match written {
            Written::Flag(flag) => Setting::One(flag.to_string()),
            Written::Number(number) => Setting::One(number.to_string()),
            Written::Text(text) => Setting::One(text),
            Written::List(list) => Setting::Many(list),
        }
    }
}

impl From<Setting> for Written {
    fn from(setting: Setting) -> Written {
        match setting {
            Setting::One(text) => Written::Text(text),
            Setting::Many(list) => Written::List(list),
        }
    }
}

impl JsonSchema for Setting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Setting".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

/// Where programs and images come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KubeadmSource {
    /// An apt repository.
    Apt(AptRepository),
    /// A folder, as written.
    Bundle(String),
}

/// An apt repository of one minor version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AptRepository {
    /// The flat repository's URL, ending with `/`.
    pub url: String,
    /// A file with the signing key; otherwise it is fetched from `<url>Release.key`.
    pub key: Option<String>,
}

/// What every node gets before Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preparation {
    /// A name of the time zone database.
    pub timezone: Option<String>,
    /// A locale.
    pub locale: Option<String>,
    /// Debian packages that must be there.
    pub packages: Vec<String>,
    /// Debian packages that keep their version.
    pub hold: Vec<String>,
    /// Whether packages that nothing needs are removed.
    pub autoremove: bool,
    /// Kernel modules.
    pub modules: Vec<String>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// What the boot loader reads.
    pub boot: BootSettings,
    /// What happens to swap.
    pub swap: Swap,
    /// Settings of sshd.
    pub sshd: BTreeMap<String, String>,
    /// Lines for sudoers.
    pub sudoers: Vec<String>,
    /// Files with their text.
    pub files: Vec<HeldFile>,
    /// Files to fetch.
    pub downloads: Vec<Download>,
    /// Files to send.
    pub uploads: Vec<Sent>,
    /// Services that run.
    pub services: Vec<String>,
}

/// What the boot loader of a Raspberry Pi reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BootSettings {
    /// Settings of config.txt.
    pub config: BTreeMap<String, String>,
    /// Arguments of the kernel.
    pub kernel_args: Vec<String>,
}

/// What happens to swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// It is turned off, for good.
    #[serde(rename = "none")]
    Off,
    /// It is left as it is.
    Keep,
}

/// A file that is kept as written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldFile {
    /// Its absolute path.
    pub path: String,
    /// All of its text.
    pub content: String,
    /// Its permission bits.
    pub mode: FileMode,
    /// Units that read it.
    pub restart: Vec<String>,
}

/// A file from here that every node gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Where it is here, as written.
    pub from: String,
    /// Where it goes.
    pub path: String,
    /// Permission bits.
    pub mode: FileMode,
}

/// A file that each node fetches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Download {
    /// http or https.
    pub url: String,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// Its absolute path on the node.
    pub path: String,
    /// Its permission bits.
    pub mode: FileMode,
}

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its hostname and its name in Kubernetes.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// Which board it is.
    pub board: Board,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Labels in Kubernetes.
    pub labels: BTreeMap<String, String>,
    /// Taints in Kubernetes, if the distribution's own are not wanted.
    pub taints: Option<Vec<Taint>>,
    /// Its part of the pods' range, where bramble decides it (CNI `routed`).
    pub pods: Option<Ipv4Net>,
    /// What it has besides its board.
    pub fitting: Fitting,
    /// Its outside, if it is a gateway.
    pub uplink: Option<Uplink>,
}

impl Node {
    /// Under which name or address bramble calls it.
    pub fn host(&self) -> String {
        let reach = self.uplink.as_ref().and_then(|uplink| uplink.reach.clone());
        reach.unwrap_or_else(|| self.address.to_string())
    }
}

/// The outside of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// The interface towards the outside.
    pub interface: String,
    /// The interface towards the rack.
    pub inside: String,
    /// Its name or address outside, if bramble works from there.
    pub reach: Option<String>,
    /// TCP ports of its own that are open to the outside, without sshd's.
    pub open: Vec<u16>,
    /// TCP ports outside that lead into the rack.
    pub publish: Vec<Published>,
}

/// A TCP port outside that leads into the rack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The port of the gateway's outside.
    pub port: u16,
    /// To whom it leads.
    pub to: SocketAddrV4,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It runs the Kubernetes API.
    ControlPlane,
    /// It runs workloads.
    Worker,
    /// It gives the others their addresses and their way out.
    Gateway,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::ControlPlane => "control-plane",
            Role::Worker => "worker",
            Role::Gateway => "gateway",
        })
    }
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// New pods only if there is no other place.
    PreferNoSchedule,
    /// No pods at all.
    NoExecute,
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.key, self.value, self.effect)
    }
}
