//! The distributions of Kubernetes: what a cluster file says of each, and what is the same in all clusters of one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cluster::network::Cni;
use crate::cluster::node::Role;
use crate::de::{HELP, Spanned};
use crate::names::{Invalid, KubeVersion, text_type};

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
    pub version: WantedRelease,
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
    pub version: WantedRelease,
    /// Where releases come from, without a `/` at its end, if not from upstream.
    pub mirror: Option<String>,
    /// How its images reach the nodes.
    pub images: Images,
}

/// MicroK8s.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MicroK8s {
    /// Its release.
    pub version: WantedRelease,
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
    /// A database that others look after, named by the setting `datastore-endpoint` of servers.
    #[serde(skip_deserializing)]
    External,
}

/// The value of a setting that a distribution's own configuration file knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Written")]
pub enum Setting {
    /// One value; numbers and `true` are texts too.
    One(String),
    /// Several values.
    Many(Vec<String>),
    /// One value that is in a file, as a secret should be; resolving makes a [`Setting::Secret`] of it.
    File(String),
    /// One value that nobody is shown.
    Secret(String),
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Setting, D::Error> {
        deserializer.deserialize_any(SettingVisitor)
    }
}

struct SettingVisitor;

impl<'de> Visitor<'de> for SettingVisitor {
    type Value = Setting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list of values, or `{ file: … }` with the file that has it")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Setting, E> {
        Ok(Setting::One(flag.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Setting, E> {
        Ok(Setting::One(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Setting, E> {
        Ok(Setting::One(text.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Setting, E> {
        Err(E::custom("it has no value: write one, or take the key out"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Setting, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = list.next_element::<Setting>()? {
            match item {
                Setting::One(text) => all.push(text),
                _ => return Err(de::Error::custom("expected a single value in this list")),
            }
        }
        Ok(Setting::Many(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Setting, A::Error> {
        let mut file = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "file" => file = Some(map.next_value()?),
                _ => return Err(de::Error::unknown_field(&key, &["file"])),
            }
        }
        file.map(Setting::File).ok_or_else(|| de::Error::missing_field("file"))
    }
}

/// A setting as it is shown.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    List(Vec<String>),
    File { file: String },
}

impl From<Setting> for Written {
    fn from(setting: Setting) -> Written {
        match setting {
            Setting::One(text) => Written::Text(text),
            Setting::Many(list) => Written::List(list),
            Setting::File(file) => Written::File { file },
            Setting::Secret(_) => Written::Text("(secret)".into()),
        }
    }
}

impl JsonSchema for Setting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Setting".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let single = ["boolean", "integer", "number", "string"];
        schemars::json_schema!({
            "anyOf": [
                { "type": single },
                { "type": "array", "items": { "type": single } },
                {
                    "description": "A value that is in a file beside the cluster file, such as a secret.",
                    "type": "object",
                    "properties": { "file": { "description": "The file.", "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false
                }
            ]
        })
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

/// What a cluster has of a distribution if its file says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Defaults {
    /// The range of pod addresses.
    pub(crate) pods: Ipv4Net,
    /// The range of service addresses.
    pub(crate) services: Ipv4Net,
    /// How pods reach each other.
    pub(crate) cni: Cni,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            pods: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16),
            services: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12),
            cni: Cni::Routed,
        }
    }
}

/// The folders of `/var/lib` that distributions keep their state in.
pub(crate) const STATE_FOLDERS: [&str; 6] = ["kubelet", "rancher", "k0s", "snapd", "containerd", "etcd"];

impl Distribution {
    /// Its name in a cluster file; none if there is no Kubernetes.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Distribution::Kubeadm(_) => Some("kubeadm"),
            Distribution::K3s(_) => Some("k3s"),
            Distribution::K0s(_) => Some("k0s"),
            Distribution::MicroK8s(_) => Some("microk8s"),
            Distribution::None => None,
        }
    }

    /// The entry of the catalogue (`Catalogue::needs`) for what it asks of a node: memory and disk.
    pub fn need(&self, role: Role) -> Option<String> {
        Some(format!("{}-{role}", self.name()?))
    }

    /// Tells if the state of the cluster is in etcd, which writes all the time.
    pub fn keeps_etcd(&self) -> bool {
        match self {
            Distribution::Kubeadm(_) | Distribution::K0s(_) => true,
            Distribution::K3s(k3s) => k3s.datastore == Datastore::Etcd,
            Distribution::MicroK8s(_) | Distribution::None => false,
        }
    }

    /// Tells if control planes get a taint that keeps workloads away, unless the cluster file gives others, or there is
    /// no other node.
    pub fn taints_control_planes(&self) -> bool {
        matches!(self, Distribution::Kubeadm(_) | Distribution::K0s(_))
    }

    /// Tells if it runs on 32-bit Arm: Kubernetes 1.27 was the first without it; k3s still has it.
    pub fn has_armhf(&self) -> bool {
        matches!(self, Distribution::K3s(_) | Distribution::None)
    }

    /// Tells if nodes that have joined know all control planes, without an address that moves between them.
    pub(crate) fn finds_control_planes(&self) -> bool {
        matches!(self, Distribution::K3s(_) | Distribution::K0s(_) | Distribution::MicroK8s(_))
    }

    /// Gives what holds if the cluster file says nothing else. MicroK8s: default-args/cni-env.
    pub(crate) fn defaults(&self) -> Defaults {
        match self {
            Distribution::MicroK8s(_) => Defaults {
                pods: Ipv4Net::new_assert(Ipv4Addr::new(10, 1, 0, 0), 16),
                services: Ipv4Net::new_assert(Ipv4Addr::new(10, 152, 183, 0), 24),
                cni: Cni::Calico,
            },
            _ => Defaults::default(),
        }
    }

    /// Says why it cannot have a CNI, and what to do instead.
    pub(crate) fn refuses(&self, cni: Cni) -> Option<(&'static str, &'static str)> {
        match (self, cni) {
            (Distribution::K3s(_), Cni::Calico) => {
                Some(("k3s brings its own network", "use `routed` (its host-gw) or `flannel` (its vxlan)"))
            }
            (Distribution::K0s(_), Cni::Flannel) => {
                Some(("k0s has no flannel", "use `routed` (its kube-router) or `calico`"))
            }
            (Distribution::MicroK8s(_), Cni::Flannel | Cni::Routed) => Some(("MicroK8s brings calico", "remove `cni`")),
            _ => None,
        }
    }

    /// Says where mirrors of registries are set, if that is not the cluster file's `registries`.
    pub(crate) fn registries_elsewhere(&self) -> Option<&'static str> {
        match self {
            Distribution::MicroK8s(_) => Some(
                "when it runs, put a hosts.toml into /var/snap/microk8s/current/args/certs.d of each node, by `bramble run`",
            ),
            Distribution::K3s(k3s) if k3s.registries.is_some() => Some("say it in the file that `k3s` names"),
            _ => None,
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Kubeadm(kubeadm) => write!(f, "Kubernetes {} by kubeadm", kubeadm.version),
            Distribution::K3s(k3s) => write!(f, "k3s {}", k3s.version),
            Distribution::K0s(k0s) => write!(f, "k0s {}", k0s.version),
            Distribution::MicroK8s(microk8s) => write!(f, "MicroK8s {}", microk8s.version),
            Distribution::None => f.write_str("no Kubernetes"),
        }
    }
}

text_type! {
    /// A release of a distribution: a channel (`stable`, `latest`, or a minor such as `1.34`), from which a release is
    /// taken once and then kept, or one by its own name, such as `v1.34.6+k3s1`.
    WantedRelease, r"^(stable|latest|1\.[0-9]+|v1\.[0-9]+\.[0-9]+(-rc[.0-9]+)?\+(k[03]s\.?|r)[0-9]+)$",
    |text| {
        let plain = text.strip_prefix('v').unwrap_or(&text);
        let numbers = |text: &str, count: usize| {
            let parts: Vec<&str> = text.split('.').collect();
            parts.len() == count && parts[0] == "1" && parts.iter().all(|part| part.parse::<u32>().is_ok())
        };
        let good = match plain.split_once('+') {
            None => text == "stable" || text == "latest" || numbers(plain, 2),
            Some((version, build)) => {
                let (version, candidate) = version.split_once("-rc").unwrap_or((version, ""));
                let build = ["k3s", "k0s.", "r"].iter().find_map(|own| build.strip_prefix(own)).unwrap_or("");
                numbers(version, 3) && candidate.bytes().all(|b| b.is_ascii_digit() || b == b'.') && build.parse::<u32>().is_ok()
            }
        };
        if good { Ok(plain.to_owned()) } else {
            Err(Invalid::new(
                format!("`{text}` is not a release"),
                "write `stable`, `latest`, a minor like \"1.34\", or a release with its build, like \"v1.34.6+k3s1\" or \"v1.34.6+k0s.0\"",
            ))
        }
    }
}

impl WantedRelease {
    /// What follows the `+` of a release's own name; `None` for a channel.
    pub fn build(&self) -> Option<&str> {
        self.0.split_once('+').map(|(_, build)| build)
    }

    /// The `34` of `1.34` and of `v1.34.6+k3s1`; `None` for `stable` and `latest`.
    pub fn minor(&self) -> Option<u32> {
        self.0.strip_prefix("1.")?.split(['.', '+', '-']).next()?.parse().ok()
    }
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
    pub(crate) version: Option<Spanned<WantedRelease>>,
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
    pub(crate) version: Option<Spanned<WantedRelease>>,
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
    pub(crate) version: Option<Spanned<WantedRelease>>,
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
