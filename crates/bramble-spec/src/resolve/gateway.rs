//! The node that gives the others their addresses and their way out.

use std::net::SocketAddrV4;

use super::network::NetworkRanges;
use super::resolver::Resolver;
use super::text::is_user_byte;
use crate::cluster::*;
use crate::de::Spanned;
use crate::document::UplinkSection;
use crate::problem::{Problem, Span};

impl Resolver<'_> {
    /// The outside of the gateway `node`.
    pub(super) fn uplink(
        &mut self,
        node: &str,
        section: Spanned<UplinkSection>,
        network: Option<&NetworkRanges>,
        port: u16,
    ) -> Option<Uplink> {
        let whole = section.span;
        let UplinkSection { interface, inside, reach, open, publish } = section.value;
        let Some(interface) = interface else {
            self.missing("interface", whole, whole, "name the interface towards the outside: `interface: wlan0`");
            return None;
        };
        let other = if interface.value == "eth0" { "eth1" } else { "eth0" };
        let inside = inside.unwrap_or(Spanned { value: other.to_owned(), span: interface.span });
        for name in [&interface, &inside] {
            // netdevice(7): 15 bytes.
            if name.value.is_empty() || name.value.len() > 15 || !name.value.bytes().all(is_user_byte) {
                self.error(
                    format!("{node}: `{}` is no network interface", name.value),
                    name.span,
                    "`ip link` on the board lists them, such as eth0, eth1 and wlan0",
                );
            }
        }
        if interface.value == inside.value {
            self.error(
                format!("{node}: {} cannot be its inside and its outside", inside.value),
                inside.span,
                "a gateway stands between two networks: give it two interfaces",
            );
        }
        if let Some(reach) = &reach
            && (reach.value.is_empty() || reach.value.starts_with('-') || !reach.value.bytes().all(is_user_byte))
        {
            self.error(
                format!("{node}: `{}` is no name or address", reach.value),
                reach.span,
                "write the gateway's address outside, such as 192.168.1.20",
            );
        }
        let mut published = Vec::new();
        for (port, to) in publish {
            let target = to.value.parse::<SocketAddrV4>().ok().filter(|to| to.port() != 0);
            match (port.parse::<u16>(), target) {
                (Ok(port), Some(target)) if port != 0 => {
                    if let Some(network) = network.filter(|network| !network.subnet.contains(target.ip())) {
                        self.error(
                            format!("{node}: {} is not within the subnet {}", target.ip(), network.subnet),
                            to.span,
                            "publish an address of a node, or one of `network.pool`",
                        );
                    }
                    published.push(Published { port, to: target });
                }
                _ => self.error(
                    format!("{node}: `{port}: {}` publishes nothing", to.value),
                    to.span,
                    "write a port outside and an address with its port inside: `443: 10.0.0.240:443`",
                ),
            }
        }
        let open: Vec<u16> = open.into_iter().map(|port| port.value).collect();
        let own = reach.as_ref().map(|_| port);
        for (at, one) in published.iter().enumerate() {
            let twice = published[..at].iter().any(|other| other.port == one.port);
            if twice || open.contains(&one.port) || own == Some(one.port) {
                self.error(
                    format!("{node}: port {} outside would lead to two places", one.port),
                    whole,
                    "publish another port: that of sshd and those in `open` are the gateway's own",
                );
            }
        }
        Some(Uplink {
            interface: interface.value,
            inside: inside.value,
            reach: reach.map(|reach| reach.value),
            open,
            publish: published,
        })
    }

    /// What a gateway asks of the other nodes. `gateways`: where the role is given.
    pub(super) fn behind_gateway(&mut self, nodes: &[Node], network: &NetworkRanges, at: Span, gateways: &[Span]) {
        if let [first, .., second] = gateways {
            self.found.push(
                Problem::error("a rack has one gateway", *second)
                    .with(*first, "the first")
                    .next("two machines that give away addresses would disagree"),
            );
        }
        let Some(gateway) = nodes.iter().find(|node| node.role == Role::Gateway) else { return };
        match network.gateway {
            Some(known) if known != gateway.address => self.error(
                format!("the way out is {known}, and the gateway {} is {}", gateway.name, gateway.address),
                gateways.first().copied().unwrap_or(at),
                "remove `network.gateway`, or give it the gateway's address",
            ),
            Some(_) => {}
            None => {
                let without: Vec<&str> = nodes
                    .iter()
                    .filter(|node| node.mac.is_none() && node.role != Role::Gateway)
                    .map(|node| node.name.as_str())
                    .collect();
                if !without.is_empty() {
                    self.error(
                        format!(
                            "{} gives each board its address by its MAC address, which {} lack",
                            gateway.name,
                            crate::name_ranges(without)
                        ),
                        gateways.first().copied().unwrap_or(at),
                        "add `mac: …` (`bramble discover` shows them), or let images tell boards their addresses: \
                         `network: { gateway: … }`",
                    );
                }
            }
        }
    }
}
