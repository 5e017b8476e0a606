//! From what was written to what it means, with everything that is wrong found in one go.

mod access;
mod addons;
mod arguments;
mod backup;
mod distribution;
mod gateway;
mod hardware;
mod images;
mod network;
mod nodes;
mod power;
mod preparation;
mod resolver;
mod storage;
mod text;

use std::net::Ipv4Addr;
use std::path::Path;

use self::nodes::{NodeContext, Places};
use self::resolver::Resolver;
use crate::catalogue::Catalogue;
use crate::cluster::{Cluster, Network, Node, Role};
use crate::de::{self, Spanned};
use crate::distribution::{Datastore, Distribution};
use crate::document::ClusterDocument;
use crate::problem::{Problem, Severity, Span};
use crate::report::Report;
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
    let (mut trees, mut problems) = yaml::parse(text);
    let broken = !problems.is_empty();
    for Override { path, value } in overrides {
        if let Err(message) = yaml::set(&mut trees, path, value) {
            problems.push(Problem::error(format!("cannot set {path}={value}: {message}"), Span::default()).next(
                "keys have dots between them, such as `nodes.kube1.board`, `nodes.*.board` or `hardware.each.hat`",
            ));
        }
    }
    let catalogue = Catalogue::built_in().clone();
    let mut resolver =
        Resolver { found: problems, skipped: Vec::new(), nodes_broken: false, datastore: None, catalogue, read };
    if trees.is_empty() && !broken {
        resolver.found.push(
            Problem::error("this file holds no cluster", Span::default()).next("`bramble init` writes a first one"),
        );
    }
    let mut clusters = Vec::new();
    let mut places: Vec<Places> = Vec::new();
    for tree in &trees {
        let reading = de::from_tree::<ClusterDocument>(tree);
        // What is no YAML of ours is not called wrong a second time.
        let unread: Vec<Span> = resolver.found.iter().map(|problem| problem.place.span()).collect();
        resolver.found.extend(reading.problems.into_iter().filter(|problem| !unread.contains(&problem.place.span())));
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

impl Resolver<'_> {
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
        let of_etcd = document.arguments.etcd.values().next().map(|setting| setting.span);
        let arguments = self.arguments(document.arguments, distribution.as_ref());
        let preparation = self.preparation(document.prepare, distribution.as_ref());
        let update = self.update(document.update);
        let ups = self.ups(document.power);
        let registries = self.registries(document.registries, distribution.as_ref());
        let image = document.image.and_then(|section| self.image(section));
        let network = document.network.and_then(|section| self.network(section, distribution.as_ref()));
        let pool = network.as_ref().is_some_and(|network| network.pool.is_some());
        let own = |name: &Spanned<String>| name.value.split(':').next() == Some("metallb");
        let announcing = document.addons.metallb.as_ref().map(|section| section.span);
        let announcing =
            announcing.or_else(|| document.addons.microk8s.iter().find(|name| own(name)).map(|name| name.span));
        let accelerators = document.addons.accelerators.as_ref().map(|section| section.span);
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
            let context = NodeContext {
                network: network.as_ref(),
                distribution: distribution.as_ref(),
                hardware: &hardware,
                each,
                port: access.port,
            };
            self.nodes(nodes, context, &mut places)
        });
        let wrong =
            |problem: &Problem| problem.severity == Severity::Error && nodes_span.contains(problem.place.span());
        self.nodes_broken = self.found.iter().any(wrong);
        let has = |node: &Node| node.role != Role::Gateway && !node.fitting.accelerators().is_empty();
        let none = |nodes: &[Node]| !nodes.iter().any(has);
        if let Some(span) = accelerators.filter(|_| !self.nodes_broken && nodes.as_deref().is_some_and(none)) {
            self.error(
                "no node has an accelerator",
                span,
                "say which has one: `hardware: { with: [coral-usb] }`; `bramble parts accelerator` lists them",
            );
        }
        self.archives(&document.archives, distribution.as_ref());
        let archives = document.archives.into_iter().map(|archive| archive.value).collect();
        let (storage, classes) = self.storage(document.storage, nodes.as_deref().unwrap_or_default());
        let backups = self.backups(document.backup, distribution.as_ref(), nodes.as_deref().unwrap_or_default());
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
                // One that is wrong in another way was told of.
                if count == 0 && places.control_planes.is_empty() && !self.nodes_broken {
                    self.error(
                        "no node is a control plane",
                        Span { end: nodes_span.start, ..nodes_span },
                        "give one node `role: control-plane`",
                    );
                }
                self.settle_datastore(&mut distribution, count);
                if count > 1 && network.api.is_none() && !self.nodes_broken {
                    self.found.push(
                        Problem::warning(
                            format!("the API of {count} control planes answers only at the first one's address, {api}"),
                            places.control_planes.first().copied().unwrap_or(nodes_span),
                        )
                        .next(if distribution.finds_control_planes() {
                            "its nodes find the others by themselves, your kubectl does not; a free address of the \
                             subnet as `network: { api: … }` moves to a control plane that lives"
                        } else {
                            "give a free address of the subnet as `network: { api: … }`: it moves to a control plane \
                             that lives"
                        }),
                    );
                }
                if let Some(span) = of_etcd.filter(|_| !distribution.keeps_etcd()) {
                    let help = "remove `arguments.etcd`, or choose a distribution or a `datastore` that has it";
                    self.error("the state of this cluster is not kept in etcd", span, help);
                }
                let votes = !matches!(&distribution, Distribution::K3s(k3s) if k3s.datastore == Datastore::External);
                if count > 1 && count.is_multiple_of(2) && votes && !self.nodes_broken {
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
            let mut arguments = arguments;
            if preparation.wear.is_some() && distribution != Distribution::None {
                let control_planes = nodes.iter().filter(|node| node.role == Role::ControlPlane).count();
                arguments.write_less(control_planes, distribution.keeps_etcd());
            }
            self.shared_outlets(&hardware, &nodes, nodes_span);
            let hosts: String = nodes.iter().map(|node| format!("{} {}\n", node.address, node.name)).collect();
            let cluster = Cluster {
                name: document.cluster?.value,
                access,
                network,
                distribution,
                arguments,
                image,
                registries,
                archives,
                storage,
                addons,
                preparation,
                backups,
                ups,
                update,
                hardware,
                nodes,
                hosts: hosts.into(),
            };
            if let Some(span) = announcing.filter(|_| cluster.nodes.iter().any(|node| cluster.in_wifi(node))) {
                // metallb.io/troubleshooting, "Using WiFi and can't reach the service?".
                self.error(
                    "MetalLB announces addresses by ARP, and boards in a Wi-Fi answer for none but their own",
                    span,
                    "put the boards on Ethernet, or remove it: an ingress answers at each node's own address",
                );
            }
            Some(cluster)
        })();
        (cluster, places)
    }

    /// A board belongs to one cluster: it is known by its MAC address and by its IP address.
    fn across(&mut self, earlier: &[Places], this: &Places) {
        for other in earlier {
            if let (Some(a), Some(b)) = (&other.cluster, &this.cluster)
                && a.value == b.value
            {
                self.found.push(
                    Problem::error(format!("two clusters are called `{}`", b.value), b.span)
                        .with(a.span, "the first")
                        .next("give each its own name"),
                );
            }
            let name =
                |p: &Places| p.cluster.as_ref().map_or("another cluster".to_owned(), |c| format!("`{}`", c.value));
            let both = format!("{} and {}", name(other), name(this));
            let help = "a board belongs to one cluster: remove it from the other";
            for mac in &this.macs {
                if let Some(first) = other.macs.iter().find(|o| o.value == mac.value) {
                    self.found.push(
                        Problem::error(format!("the board {} is in {both}", mac.value), mac.span)
                            .with(first.span, "first given here")
                            .next(help),
                    );
                }
            }
            for address in &this.addresses {
                if let Some(first) = other.addresses.iter().find(|o| o.value == address.value) {
                    self.found.push(
                        Problem::error(format!("the board at {} is in {both}", address.value), address.span)
                            .with(first.span, "first given here")
                            .next(help),
                    );
                }
            }
        }
    }
}
