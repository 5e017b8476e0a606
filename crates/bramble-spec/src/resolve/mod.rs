//! From what was written to what it means, with everything that is wrong found in one go.

mod addons;
mod gateway;
mod hardware;
mod images;
mod network;
mod preparation;
mod releases;
mod storage;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use ipnet::Ipv4Net;

use self::network::NetworkRanges;
use crate::catalogue::{Board, Catalogue};
use crate::cluster::*;
use crate::de::{self, Spanned, nearest};
use crate::diagnostic::{Diagnostic, Report, Span};
use crate::document::*;
use crate::hardware::{Fitting, Hardware};
use crate::names::KubeVersion;
use crate::yaml;

/// What a cluster file came to.
#[derive(Debug)]
pub struct Loaded {
    /// Its clusters; empty if the report has errors.
    pub clusters: Vec<Cluster>,
    /// Errors and warnings.
    pub report: Report,
}

/// A value that takes the place of one in the cluster file, as `bramble design --set` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Keys with dots between them. A thing of a list goes by its name, and `*` are all of them: `nodes.*.board`.
    pub path: String,
    /// What it is instead, in YAML.
    pub value: String,
}

/// Reads a cluster file that names no file of parts. `path` is only for messages.
pub fn load(path: &Path, text: &str) -> Loaded {
    load_with(path, text, &[], &|_| Err(std::io::ErrorKind::Unsupported.into()))
}

/// Reads a cluster file, with some of its values given anew. `read` gives the text of a file of parts, by its path as
/// written.
pub fn load_with(
    path: &Path,
    text: &str,
    overrides: &[Override],
    read: &dyn Fn(&str) -> std::io::Result<String>,
) -> Loaded {
    let (mut trees, mut diagnostics) = yaml::parse(text);
    let broken = !diagnostics.is_empty();
    for Override { path, value } in overrides {
        if let Err(message) = yaml::set(&mut trees, path, value) {
            diagnostics.push(Diagnostic::error(format!("cannot set {path}={value}: {message}"), Span::default()).help(
                "keys have dots between them, such as `nodes.kube1.board`, `nodes.*.board` or `hardware.each.hat`",
            ));
        }
    }
    let catalogue = Catalogue::built_in().clone();
    let mut resolver = Resolver { found: diagnostics, skipped: Vec::new(), datastore: None, catalogue, read };
    if trees.is_empty() && !broken {
        resolver.found.push(
            Diagnostic::error("this file holds no cluster", Span::default()).help("`bramble init` writes a first one"),
        );
    }
    let mut clusters = Vec::new();
    let mut places: Vec<Places> = Vec::new();
    for tree in &trees {
        let reading = de::from_tree::<ClusterDocument>(tree);
        resolver.found.extend(reading.diagnostics);
        resolver.skipped = reading.skipped;
        if let Some(document) = reading.value {
            let start = Span { start: tree.span.start, end: tree.span.start };
            let (cluster, place) = resolver.cluster(document, start, tree.span);
            resolver.across(&places, &place);
            places.push(place);
            clusters.extend(cluster);
        }
    }
    let report = Report::new(path, text, resolver.found);
    if report.has_errors() {
        clusters.clear();
    }
    hardware::share(&mut clusters);
    Loaded { clusters, report }
}

/// Where a cluster names its boards, for the comparison with the other clusters of the file.
struct Places {
    cluster: Option<Spanned<String>>,
    addresses: Vec<Spanned<Ipv4Addr>>,
    macs: Vec<Spanned<String>>,
    control_planes: Vec<Span>,
    gateways: Vec<Span>,
}

/// What nodes are read against.
struct Shelf<'a> {
    network: Option<&'a NetworkRanges>,
    distribution: Option<&'a Distribution>,
    hardware: &'a Hardware,
    /// What every node has that does not say otherwise.
    each: Fitting,
    /// sshd's.
    port: u16,
}

struct Resolver<'a> {
    found: Vec<Diagnostic>,
    /// Places whose value could not be read and was reported: nothing there is "missing".
    skipped: Vec<Span>,
    /// The datastore that was asked for: whether it fits is known with the nodes.
    datastore: Option<Spanned<Datastore>>,
    /// The parts that this cluster can name.
    catalogue: Arc<Catalogue>,
    /// The text of a file, by its path as written.
    read: &'a dyn Fn(&str) -> std::io::Result<String>,
}

/// kubeadm's own preflight asks for 1700 MB on a control plane.
const KUBEADM_CONTROL_PLANE_MIB: u32 = 1700;
/// What an agent of k3s and a worker of k0s need at least; a controller of k0s needs twice as much (docs.k3s.io,
/// "Requirements"; docs.k0sproject.io, "System requirements").
const SMALL_MIB: u32 = 512;
/// What MicroK8s needs at least (microk8s.io, "Getting started").
const MICROK8S_MIB: u32 = 540;
/// Where the Kubernetes project publishes Debian packages (kubernetes.io, "Installing kubeadm").
const KUBERNETES_APT: &str = "https://pkgs.k8s.io/core:/stable:/v{minor}/deb/";
/// The range of minors whose kubeadm configuration bramble knows.
const KUBEADM_MINORS: std::ops::RangeInclusive<u32> = 20..=37;

impl Resolver<'_> {
    fn error(&mut self, message: impl Into<String>, span: Span, help: impl Into<String>) {
        self.found.push(Diagnostic::error(message, span).help(help));
    }

    /// Reports that something is missing in `within`, unless a value there was wrong and already reported.
    fn missing(&mut self, what: &str, within: Span, at: Span, help: &str) {
        if !self.skipped.iter().any(|span| within.contains(*span)) {
            self.error(format!("`{what}` is missing"), at, help);
        }
    }

    fn cluster(&mut self, document: ClusterDocument, start: Span, whole: Span) -> (Option<Cluster>, Places) {
        if document.cluster.is_none() {
            self.missing("cluster", whole, start, "name the cluster: `cluster: shelf`");
        }
        if document.network.is_none() {
            self.missing("network", whole, start, "add `network: { subnet: 10.0.0.0/24 }`");
        }
        if document.distribution.is_none() {
            self.missing("distribution", whole, start, "add `distribution: { kubeadm: { version: \"1.36\" } }`");
        }
        if document.nodes.is_none() {
            self.missing("nodes", whole, start, "list the machines under `nodes:`");
        }
        let access = self.access(document.access);
        let distribution = document.distribution.and_then(|section| self.distribution(section));
        let preparation = self.preparation(document.prepare, distribution.as_ref());
        let update = self.update(document.update);
        let registries = self.registries(document.registries, distribution.as_ref());
        let image = document.image.and_then(|section| self.image(section));
        let network = document.network.and_then(|section| self.network(section, distribution.as_ref()));
        let pool = network.as_ref().is_some_and(|network| network.pool.is_some());
        let addons = self.addons(document.addons, distribution.as_ref(), pool);
        let (hardware, each) = self.hardware(document.hardware);
        let nodes_span = document.nodes.as_ref().map_or(start, |nodes| nodes.span);
        let mut places = Places {
            cluster: document.cluster.as_ref().map(|n| Spanned { value: n.value.to_string(), span: n.span }),
            addresses: Vec::new(),
            macs: Vec::new(),
            control_planes: Vec::new(),
            gateways: Vec::new(),
        };
        let nodes = document.nodes.map(|nodes| {
            let shelf = Shelf {
                network: network.as_ref(),
                distribution: distribution.as_ref(),
                hardware: &hardware,
                each,
                port: access.port,
            };
            self.nodes(nodes, shelf, &mut places)
        });
        if let (Some(Distribution::MicroK8s(_)), Some(first)) = (&distribution, document.archives.first()) {
            self.error(
                "MicroK8s' images are not loaded from here",
                first.span,
                "`microk8s images import` on one node gives them to all",
            );
        }
        let archives = document.archives.into_iter().map(|archive| archive.value).collect();
        let (storage, classes) = self.storage(document.storage, nodes.as_deref().unwrap_or_default());
        let mut addons = addons;
        if distribution.as_ref() != Some(&Distribution::None) {
            addons.splice(0..0, classes);
        }
        let cluster = (|| {
            let (network, distribution, nodes) = (network?, distribution?, nodes?);
            let first = nodes.iter().find(|node| node.role == Role::ControlPlane);
            let api = match (network.api, first) {
                (Some(api), _) => {
                    let owner = nodes.iter().find(|node| node.address == api.value);
                    if owner.is_some_and(|node| node.role != Role::ControlPlane) {
                        self.error(
                            format!(
                                "the API's address {} is that of a {}",
                                api.value,
                                owner.map_or(Role::Worker, |n| n.role)
                            ),
                            api.span,
                            "use the address of a control plane, or a free one that moves between them",
                        );
                    }
                    api.value
                }
                (None, Some(node)) => node.address,
                (None, None) => nodes.first().map_or(Ipv4Addr::UNSPECIFIED, |node| node.address),
            };
            let mut distribution = distribution;
            if distribution != Distribution::None {
                let count = nodes.iter().filter(|node| node.role == Role::ControlPlane).count();
                if count == 0 && !self.skipped.iter().any(|span| nodes_span.contains(*span)) {
                    self.error(
                        "no node is a control plane",
                        Span { end: nodes_span.start, ..nodes_span },
                        "give one node `role: control-plane`",
                    );
                }
                if let Distribution::K3s(k3s) = &mut distribution {
                    let fits = if count == 1 { Datastore::Sqlite } else { Datastore::Etcd };
                    k3s.datastore = match self.datastore.take() {
                        Some(Spanned { value: Datastore::Sqlite, span }) if count > 1 => {
                            self.error(
                                format!("SQLite cannot be shared by {count} control planes"),
                                span,
                                "use `etcd`, or remove `datastore`",
                            );
                            fits
                        }
                        Some(asked) => asked.value,
                        None => fits,
                    };
                }
                if count > 1 && network.api.is_none() {
                    self.found.push(
                        Diagnostic::warning(
                            format!("the API of {count} control planes answers only at the first one's address, {api}"),
                            places.control_planes.first().copied().unwrap_or(nodes_span),
                        )
                        .help(match &distribution {
                            // Their workers know all control planes once they have joined.
                            Distribution::K3s(_) | Distribution::K0s(_) | Distribution::MicroK8s(_) => {
                                "its nodes find the others by themselves, your kubectl does not; a free address of the \
                                 subnet as `network: { api: … }` moves to a control plane that lives"
                            }
                            _ => {
                                "give a free address of the subnet as `network: { api: … }`: it moves to a control \
                                 plane that lives"
                            }
                        }),
                    );
                }
                if count > 1 && count.is_multiple_of(2) {
                    self.error(
                        format!("{count} control planes are worse than {}", count - 1),
                        places.control_planes.last().copied().unwrap_or(nodes_span),
                        format!(
                            "etcd needs a majority, so {count} members survive no more losses than {}; use {} or {}",
                            count - 1,
                            count - 1,
                            count + 1
                        ),
                    );
                }
            }
            let network = Network {
                subnet: network.subnet,
                pods: network.pods,
                services: network.services,
                gateway: network.gateway,
                dhcp: network.dhcp,
                pool: network.pool.map(|pool| pool.value),
                wifi: network.wifi,
                dns: network.dns,
                cni: network.cni,
                cni_manifest: network.cni_manifest,
                api,
            };
            Some(Cluster {
                name: document.cluster?.value,
                access,
                network,
                distribution,
                image,
                registries,
                archives,
                storage,
                addons,
                preparation,
                update,
                hardware,
                nodes,
            })
        })();
        (cluster, places)
    }

    fn access(&mut self, section: AccessSection) -> Access {
        if let Some(user) = &section.user
            && (user.value.is_empty() || user.value.starts_with('-') || !user.value.bytes().all(is_user_byte))
        {
            self.error(format!("`{}` is not a user name", user.value), user.span, "letters, digits, `.`, `_` and `-`");
        }
        if let Some(port) = &section.port
            && port.value == 0
        {
            self.error("port 0 does not exist", port.span, "sshd usually listens on 22");
        }
        let jump = section.jump.and_then(|jump| {
            let host_ok = |host: &str| !host.is_empty() && !host.starts_with('-') && host.bytes().all(is_user_byte);
            match Jump::split(&jump.value) {
                Some(split) if host_ok(&split.host) => Some(split),
                _ => {
                    self.error(
                        format!("`{}` is not a jump host", jump.value),
                        jump.span,
                        "write it as `user@host:port`; user and port may be left out",
                    );
                    None
                }
            }
        });
        Access {
            user: section.user.map_or_else(|| "pi".to_owned(), |user| user.value),
            keys: section.keys.into_iter().map(|key| key.value).collect(),
            port: section.port.map_or(22, |port| port.value),
            jump,
            sudo: section.sudo.unwrap_or_default(),
        }
    }

    fn update(&mut self, section: UpdateSection) -> Update {
        for (what, number) in [
            ("workers", section.workers.as_ref().map(|n| (u32::from(n.value), n.span))),
            ("drain", section.drain.as_ref().map(|n| (n.value, n.span))),
        ] {
            if let Some((0, span)) = number {
                self.error(format!("`{what}: 0` would wait for ever"), span, "use at least 1");
            }
        }
        Update { workers: section.workers.map_or(1, |n| n.value), drain: section.drain.map_or(300, |n| n.value) }
    }

    fn distribution(&mut self, section: Spanned<DistributionSection>) -> Option<Distribution> {
        let kubeadm = match section.value {
            DistributionSection::Kubeadm(kubeadm) => kubeadm,
            DistributionSection::K3s(k3s) => return self.k3s(k3s, section.span),
            DistributionSection::K0s(k0s) => return self.k0s(k0s, section.span),
            DistributionSection::None => return Some(Distribution::None),
            DistributionSection::MicroK8s(microk8s) => return self.microk8s(microk8s, section.span),
            // This never comes out of the parser: reading it is the error.
            DistributionSection::OpenShift(_) => return None,
        };
        let Some(version) = kubeadm.version else {
            self.missing("version", section.span, section.span, "add `version: \"1.36\"`");
            return None;
        };
        if !KUBEADM_MINORS.contains(&version.value.minor) {
            self.error(
                format!("kubeadm {} is outside of what bramble knows", version.value),
                version.span,
                format!("versions 1.{} to 1.{} can be installed", KUBEADM_MINORS.start(), KUBEADM_MINORS.end()),
            );
        }
        let source = match kubeadm.source.map(|source| source.value) {
            None => KubeadmSource::Apt(self.apt(AptSection::default(), version.value)),
            Some(SourceSection::Apt(apt)) => KubeadmSource::Apt(self.apt(apt, version.value)),
            Some(SourceSection::Bundle(path)) => KubeadmSource::Bundle(path),
        };
        Some(Distribution::Kubeadm(Kubeadm { version: version.value, source }))
    }

    fn apt(&mut self, section: AptSection, version: KubeVersion) -> AptRepository {
        if let Some(url) = &section.url
            && !is_http(&url.value)
        {
            self.error(format!("`{}` is not a URL", url.value), url.span, "it starts with https:// or http://");
        }
        let url = section.url.map_or_else(|| KUBERNETES_APT.to_owned(), |url| url.value);
        let url = url.replace("{minor}", &format!("1.{}", version.minor));
        let url = if url.ends_with('/') { url } else { url + "/" };
        AptRepository { url, key: section.key.map(|key| key.value) }
    }

    fn nodes(
        &mut self,
        section: Spanned<Vec<Spanned<NodeSection>>>,
        shelf: Shelf<'_>,
        places: &mut Places,
    ) -> Vec<Node> {
        let Shelf { network, distribution, hardware, each, port } = shelf;
        if section.value.is_empty() {
            self.missing("nodes", section.span, section.span, "list at least one machine");
        }
        let mut names: HashMap<String, Span> = HashMap::new();
        let mut addresses: HashMap<Ipv4Addr, Span> = HashMap::new();
        let mut macs: HashMap<String, Span> = HashMap::new();
        let mut nodes = Vec::new();
        for Spanned { value: node, span } in section.value {
            let at = Span { start: span.start, end: span.start };
            let label = node.name.as_ref().map_or("this node".to_owned(), |name| name.value.to_string());
            for (there, key, example) in [
                (node.name.is_some(), "name", "kube1"),
                (node.role.is_some(), "role", "worker"),
                (node.board.is_some(), "board", "rpi-4b-4gb"),
                (node.address.is_some(), "address", "10.0.0.50"),
            ] {
                if !there {
                    self.missing(key, span, at, &format!("{label} needs one, such as `{key}: {example}`"));
                }
            }
            if let Some(name) = &node.name {
                self.unique("name", name.value.to_string(), name.span, &mut names);
            }
            if let Some(mac) = &node.mac {
                self.unique("MAC address", mac.value.to_string(), mac.span, &mut macs);
                places.macs.push(Spanned { value: mac.value.to_string(), span: mac.span });
            }
            let address = node.address.as_ref().and_then(|text| {
                let address = self.address(&label, text, network)?;
                if let Some(first) = addresses.insert(address, text.span) {
                    self.found.push(
                        Diagnostic::error(format!("two nodes have the address {address}"), text.span)
                            .note(first, "first given here")
                            .help("give each board its own"),
                    );
                }
                if let Some(pool) = network.and_then(|network| network.pool).filter(|pool| pool.value.contains(address))
                {
                    self.found.push(
                        Diagnostic::error(format!("{label}: {address} is among the services' addresses"), text.span)
                            .note(pool.span, "given to services by the load balancer")
                            .help("choose another address, or another pool"),
                    );
                }
                places.addresses.push(Spanned { value: address, span: text.span });
                Some(address)
            });
            let board = node.board.as_ref().and_then(|board| self.board(board));
            places.gateways.extend(node.role.as_ref().filter(|r| r.value == Role::Gateway).map(|r| r.span));
            places.control_planes.extend(node.role.as_ref().filter(|r| r.value == Role::ControlPlane).map(|r| r.span));
            if let (Some(role), Some(distribution)) = (&node.role, distribution) {
                self.role(&label, role, distribution, board.as_ref(), node.board.as_ref().map(|b| b.span));
            }
            for (key, value) in &node.labels {
                if !is_label_key(key) || !is_label_value(&value.value) {
                    self.error(
                        format!("{label}: `{key}: {}` is not a Kubernetes label", value.value),
                        value.span,
                        "key: `[prefix/]name`, value: at most 63 letters, digits, `-`, `_`, `.`",
                    );
                }
            }
            let uplink = match (node.uplink, node.role.as_ref().filter(|role| role.value == Role::Gateway)) {
                (Some(uplink), Some(_)) => self.uplink(&label, uplink, network, port),
                (Some(uplink), None) => {
                    self.error(
                        format!("{label}: only a gateway has an uplink"),
                        uplink.span,
                        "give it `role: gateway`, or remove `uplink`",
                    );
                    None
                }
                (None, Some(role)) => {
                    self.missing(
                        "uplink",
                        span,
                        role.span,
                        &format!("{label} needs a way out: `uplink: {{ interface: wlan0 }}`"),
                    );
                    None
                }
                (None, None) => None,
            };
            let fitting = self.fitting(&label, node.hardware, hardware, Some(&each));
            if let Some(name) = &node.name
                && hardware.device(name.value.as_str()).is_some()
            {
                self.error(
                    format!("a device and a node are both called `{}`", name.value),
                    name.span,
                    "give the device another name",
                );
            }
            let taints =
                node.taints.map(|taints| taints.iter().filter_map(|taint| self.taint(&label, taint)).collect());
            let (Some(name), Some(role), Some(board), Some(address)) = (node.name, node.role, board, address) else {
                continue;
            };
            let ours = matches!(distribution, Some(Distribution::Kubeadm(_) | Distribution::None) | None);
            let ours = ours && role.value != Role::Gateway;
            let pods = network.filter(|n| ours && n.cni == Cni::Routed).and_then(|n| n.pod_range(address));
            nodes.push(Node {
                name: name.value,
                role: role.value,
                board,
                address,
                mac: node.mac.map(|mac| mac.value),
                labels: node.labels.into_iter().map(|(key, value)| (key, value.value)).collect(),
                taints,
                pods,
                fitting,
                uplink,
            });
        }
        if let Some(network) = network {
            self.behind_gateway(&nodes, network, section.span, &places.gateways);
        }
        nodes
    }

    fn unique(&mut self, what: &str, value: String, span: Span, seen: &mut HashMap<String, Span>) {
        if let Some(first) = seen.get(&value) {
            self.found.push(
                Diagnostic::error(format!("two nodes have the {what} `{value}`"), span)
                    .note(*first, "first given here")
                    .help("give each board its own"),
            );
        } else {
            seen.insert(value, span);
        }
    }

    fn address(&mut self, node: &str, text: &Spanned<String>, network: Option<&NetworkRanges>) -> Option<Ipv4Addr> {
        let Ok(address) = text.value.parse::<Ipv4Addr>() else {
            self.error(
                format!("{node}: `{}` is not an IPv4 address", text.value),
                text.span,
                "write it like 10.0.0.50; nodes join by address, not by name",
            );
            return None;
        };
        if let Some(network) = network {
            let subnet = network.subnet;
            if !subnet.contains(&address) {
                self.error(
                    format!("{node}: {address} is outside of the subnet {subnet}"),
                    text.span,
                    format!("addresses from {} to {} fit", first_host(subnet), last_host(subnet)),
                );
            } else if subnet.prefix_len() < 31 && (address == subnet.network() || address == subnet.broadcast()) {
                self.error(
                    format!("{node}: {address} cannot belong to a machine"),
                    text.span,
                    format!("addresses from {} to {} fit", first_host(subnet), last_host(subnet)),
                );
            }
        }
        Some(address)
    }

    fn board(&mut self, board: &Spanned<String>) -> Option<Board> {
        let found = self.catalogue.board(&board.value);
        if found.is_none() {
            let help = match nearest(&board.value, self.catalogue.boards().map(|known| known.id.as_str())) {
                Some(near) => format!("did you mean `{near}`? `bramble boards` lists all"),
                None => {
                    "`bramble boards` lists all; `generic-arm64` and `generic-amd64` stand for any other".to_owned()
                }
            };
            self.error(format!("no board is called `{}`", board.value), board.span, help);
        }
        found
    }

    fn role(
        &mut self,
        node: &str,
        role: &Spanned<Role>,
        distribution: &Distribution,
        board: Option<&Board>,
        at: Option<Span>,
    ) {
        match (distribution, role.value) {
            (_, Role::Gateway) => {}
            (Distribution::None, Role::ControlPlane) => self.error(
                format!("{node}: without a distribution there is no control plane"),
                role.span,
                "use `worker`, or choose a distribution",
            ),
            (Distribution::Kubeadm(_), role) => {
                if let (Some(board), Some(memory)) = (board, board.and_then(|board| board.memory)) {
                    let span = at.unwrap_or_default();
                    if role == Role::ControlPlane && memory < KUBEADM_CONTROL_PLANE_MIB {
                        self.error(
                            format!("{node}: a {} has {memory} MiB, too little for a kubeadm control plane", board.name),
                            span,
                            format!("it needs {KUBEADM_CONTROL_PLANE_MIB} MiB; make it a worker, or use a board with 2 GB or more"),
                        );
                    } else if role == Role::Worker && memory < 1024 {
                        self.found.push(
                            Diagnostic::warning(
                                format!("{node}: {memory} MiB leave little for pods beside kubelet and containerd"),
                                span,
                            )
                            .help("1 GB is the least that is useful"),
                        );
                    }
                }
            }
            (Distribution::K3s(_) | Distribution::K0s(_) | Distribution::MicroK8s(_), role) => {
                let (name, least) = match (distribution, role) {
                    (Distribution::K0s(_), Role::ControlPlane) => ("a controller of k0s", 2 * SMALL_MIB),
                    (Distribution::K0s(_), _) => ("k0s", SMALL_MIB),
                    (Distribution::MicroK8s(_), _) => ("MicroK8s", MICROK8S_MIB),
                    _ => ("k3s", SMALL_MIB),
                };
                if let Some((board, memory)) = board.and_then(|board| board.memory.map(|memory| (board, memory)))
                    && memory < least
                {
                    self.error(
                        format!("{node}: a {} has {memory} MiB, too little for {name}", board.name),
                        at.unwrap_or_default(),
                        format!("it needs {least} MiB"),
                    );
                }
            }
            (Distribution::None, Role::Worker) => {}
        }
    }

    fn taint(&mut self, node: &str, text: &Spanned<String>) -> Option<Taint> {
        let parsed = text.value.rsplit_once(':').and_then(|(key, effect)| {
            let (key, value) = key.split_once('=').unwrap_or((key, ""));
            let effect = match effect {
                "NoSchedule" => TaintEffect::NoSchedule,
                "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
                "NoExecute" => TaintEffect::NoExecute,
                _ => return None,
            };
            (is_label_key(key) && is_label_value(value)).then(|| Taint {
                key: key.to_owned(),
                value: value.to_owned(),
                effect,
            })
        });
        if parsed.is_none() {
            self.error(
                format!("{node}: `{}` is not a taint", text.value),
                text.span,
                "write `key=value:NoSchedule`; effects: NoSchedule, PreferNoSchedule, NoExecute",
            );
        }
        parsed
    }

    /// A board belongs to one cluster: it is known by its MAC address and by its IP address.
    fn across(&mut self, earlier: &[Places], this: &Places) {
        for other in earlier {
            if let (Some(a), Some(b)) = (&other.cluster, &this.cluster)
                && a.value == b.value
            {
                self.found.push(
                    Diagnostic::error(format!("two clusters are called `{}`", b.value), b.span)
                        .note(a.span, "the first")
                        .help("give each its own name"),
                );
            }
            let name =
                |p: &Places| p.cluster.as_ref().map_or("another cluster".to_owned(), |c| format!("`{}`", c.value));
            let both = format!("{} and {}", name(other), name(this));
            let help = "a board belongs to one cluster: remove it from the other";
            for mac in &this.macs {
                if let Some(first) = other.macs.iter().find(|o| o.value == mac.value) {
                    self.found.push(
                        Diagnostic::error(format!("the board {} is in {both}", mac.value), mac.span)
                            .note(first.span, "first given here")
                            .help(help),
                    );
                }
            }
            for address in &this.addresses {
                if let Some(first) = other.addresses.iter().find(|o| o.value == address.value) {
                    self.found.push(
                        Diagnostic::error(format!("the board at {} is in {both}", address.value), address.span)
                            .note(first.span, "first given here")
                            .help(help),
                    );
                }
            }
        }
    }
}

fn first_host(net: Ipv4Net) -> Ipv4Addr {
    net.hosts().next().unwrap_or(net.network())
}

fn last_host(net: Ipv4Net) -> Ipv4Addr {
    if net.prefix_len() < 31 { Ipv4Addr::from(u32::from(net.broadcast()) - 1) } else { net.broadcast() }
}

fn is_user_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._-".contains(&b)
}

fn is_http(url: &str) -> bool {
    url.strip_prefix("https://")
        .or(url.strip_prefix("http://"))
        .is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
}

fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').unwrap_or(("", text));
    let prefix_ok = prefix.len() <= 253
        && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    let has_prefix = text.contains('/');
    prefix_ok && (!has_prefix || !prefix.is_empty()) && !name.is_empty() && is_label_value(name)
}
