//! The section `nodes`.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::network::NetworkRanges;
use super::resolver::Resolver;
use super::text::{is_label_key, is_label_value};
use crate::catalogue::Board;
use crate::cluster::{Cni, Node, Role, Taint, TaintEffect};
use crate::de::{Spanned, nearest};
use crate::distribution::Distribution;
use crate::document::NodeSection;
use crate::hardware::{Fitting, Hardware};
use crate::problem::{Problem, Span};

/// Where a cluster names its boards, for the comparison with the other clusters of the file.
pub(super) struct Places {
    pub(super) cluster: Option<Spanned<String>>,
    pub(super) addresses: Vec<Spanned<Ipv4Addr>>,
    pub(super) macs: Vec<Spanned<String>>,
    pub(super) control_planes: Vec<Span>,
    pub(super) gateways: Vec<Span>,
}

/// What nodes are read against.
pub(super) struct NodeContext<'a> {
    pub(super) network: Option<&'a NetworkRanges>,
    pub(super) distribution: Option<&'a Distribution>,
    pub(super) hardware: &'a Hardware,
    /// What every node has that does not say otherwise.
    pub(super) each: Fitting,
    /// sshd's.
    pub(super) port: u16,
}

impl Resolver<'_> {
    pub(super) fn nodes(
        &mut self,
        section: Spanned<Vec<Spanned<NodeSection>>>,
        context: NodeContext<'_>,
        places: &mut Places,
    ) -> Vec<Node> {
        let NodeContext { network, distribution, hardware, each, port } = context;
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
                let own = name.value.as_str();
                // A resolver takes numbers for addresses (inet_aton(3)), and this one is every machine.
                if own == "localhost"
                    || own.bytes().all(|byte| byte.is_ascii_digit())
                    || own.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
                {
                    self.error(
                        format!("no board can be called `{own}`"),
                        name.span,
                        "give it a name of its own, such as kube1",
                    );
                }
                self.unique("name", name.value.to_string(), name.span, &mut names);
            }
            if let Some(mac) = &node.mac {
                // IEEE 802, 8.2: the lowest bit of the first byte.
                let first = mac.value.to_string().get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
                if first.is_some_and(|byte| byte & 1 == 1) {
                    self.error(
                        format!("{label}: `{}` is the address of a group", mac.value),
                        mac.span,
                        "`ip link` shows the board's own",
                    );
                }
                self.unique("MAC address", mac.value.to_string(), mac.span, &mut macs);
                places.macs.push(Spanned { value: mac.value.to_string(), span: mac.span });
            }
            let address = node.address.as_ref().and_then(|text| {
                let address = self.address(&label, text, network)?;
                if let Some(first) = addresses.insert(address, text.span) {
                    self.found.push(
                        Problem::error(format!("two nodes have the address {address}"), text.span)
                            .with(first, "first given here")
                            .next("give each board its own"),
                    );
                }
                if let Some(pool) = network.and_then(|network| network.pool).filter(|pool| pool.value.contains(address))
                {
                    self.found.push(
                        Problem::error(format!("{label}: {address} is among the services' addresses"), text.span)
                            .with(pool.span, "given to services by the load balancer")
                            .next("choose another address, or another pool"),
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
            let mut labels: BTreeMap<String, String> =
                node.labels.into_iter().map(|(key, value)| (key, value.value)).collect();
            for (chip, count) in fitting.accelerators() {
                labels.entry(chip.resource()).or_insert_with(|| count.to_string());
            }
            nodes.push(Node {
                name: name.value,
                role: role.value,
                board,
                address,
                mac: node.mac.map(|mac| mac.value),
                labels,
                taints,
                pods,
                fitting,
                uplink,
            });
        }
        let mut members = nodes.iter_mut().filter(|node| node.role != Role::Gateway);
        if let (Some(only), None) = (members.next(), members.next())
            && only.role == Role::ControlPlane
            && distribution.is_some_and(Distribution::taints_control_planes)
        {
            // It is meant to run what it is given.
            only.taints.get_or_insert_default();
        }
        if let Some(network) = network {
            self.behind_gateway(&nodes, network, section.span, &places.gateways);
        }
        nodes
    }

    fn unique(&mut self, what: &str, value: String, span: Span, seen: &mut HashMap<String, Span>) {
        if let Some(first) = seen.get(&value) {
            self.found.push(
                Problem::error(format!("two nodes have the {what} `{value}`"), span)
                    .with(*first, "first given here")
                    .next("give each board its own"),
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
            let ids = || self.catalogue.boards().map(|known| known.id.as_str());
            let models: Vec<String> =
                ids().filter(|id| is_of_model(id, &board.value)).map(|id| format!("`{id}`")).collect();
            let help = match (models.as_slice(), nearest(&board.value, ids())) {
                ([_, ..], _) => format!("did you mean {}? `bramble boards` lists all", models.join(" or ")),
                ([], Some(near)) => format!("did you mean `{near}`? `bramble boards` lists all"),
                ([], None) => {
                    "`bramble boards` lists all; `generic-arm64` and `generic-amd64` stand for any other".to_owned()
                }
            };
            self.error(format!("no board is called `{}`", board.value), board.span, help);
        }
        found
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
}

fn first_host(net: Ipv4Net) -> Ipv4Addr {
    net.hosts().next().unwrap_or(net.network())
}

fn last_host(net: Ipv4Net) -> Ipv4Addr {
    if net.prefix_len() < 31 { Ipv4Addr::from(u32::from(net.broadcast()) - 1) } else { net.broadcast() }
}

/// Tells whether somebody who writes this may mean a board: the same letters and digits to some end of a model's name, however a
/// Raspberry Pi is called.
fn is_of_model(id: &str, written: &str) -> bool {
    let plain = |text: &str| -> String {
        let text = text.to_ascii_lowercase().replace("model", "");
        text.chars().filter(char::is_ascii_alphanumeric).collect()
    };
    let written = plain(written);
    let written =
        match written.strip_prefix("raspberrypi").or(written.strip_prefix("raspi")).or(written.strip_prefix("pi")) {
            Some(rest) => format!("rpi{rest}"),
            None => written,
        };
    let is_digit = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_digit());
    // A 4 is no 400.
    let goes_on = |rest: &str| is_digit(written.chars().next_back()) && is_digit(rest.chars().next());
    written.len() >= 4 && plain(id).strip_prefix(&written).is_some_and(|rest| !goes_on(rest))
}
