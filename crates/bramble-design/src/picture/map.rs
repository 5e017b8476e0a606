//! The network: the way out, the nodes with their addresses, the ranges.

use std::net::Ipv4Addr;

use bramble_spec::{Cluster, Distribution};

use super::shelf::role_class;
use super::svg::{Anchor, Svg, Theme};
use crate::Design;

const MARGIN: u32 = 16;
const CARD: (u32, u32) = (184, 58);
const GAP: u32 = 12;

fn class(by: &str) -> &'static str {
    match by {
        "nodes" => "worker",
        "gateway" => "gateway",
        "API" => "plane",
        "DHCP" => "disk",
        _ => "fdata",
    }
}

/// Draws the network. `width` is in pixels, of at least 320; without a theme it is for a page that has the colours.
pub fn network(cluster: &Cluster, design: &Design, width: u32, theme: Option<Theme>) -> String {
    let mut svg = Svg::new(width.max(320));
    let inner = svg.width - 2 * MARGIN;
    let network = &cluster.network;
    let mut y = MARGIN;

    // The way out, from the house inwards.
    let mut chain: Vec<(String, String)> = vec![("the house".to_owned(), "and the world behind it".to_owned())];
    let devices = &cluster.hardware.devices;
    let mut way: Vec<usize> = Vec::new();
    let mut at = cluster.nodes.iter().find_map(|node| node.fitting.switch);
    while let Some(device) = at {
        way.push(device);
        at = devices[device].uplink;
    }
    for device in way.iter().rev() {
        chain.push((devices[*device].name.to_string(), devices[*device].part.name().to_owned()));
    }
    match (cluster.gateway(), network.gateway) {
        (Some((node, uplink)), _) => {
            let about = format!("{}, out by {}", node.address, uplink.interface);
            chain.insert(1, (node.name.to_string(), about));
        }
        (None, Some(gateway)) => chain.insert(1, ("gateway".to_owned(), gateway.to_string())),
        (None, None) => {}
    }
    let members: Vec<_> = cluster.members().collect();
    for (number, (name, about)) in chain.iter().enumerate() {
        let x = MARGIN + (inner - CARD.0.min(inner)) / 2;
        if number > 0 {
            svg.path("data", 2, &format!("M{} {}v14", x + CARD.0 / 2, y));
            y += 14;
        }
        svg.rect("card", (x, y), (CARD.0, 40), if number == 0 { 20 } else { 6 });
        svg.text("b", (x + CARD.0 / 2, y + 17), 12, Anchor::Middle, CARD.0 - 16, name);
        svg.text("dim", (x + CARD.0 / 2, y + 32), 10, Anchor::Middle, CARD.0 - 16, about);
        y += 40;
    }
    svg.path("data", 2, &format!("M{} {}v14", MARGIN + inner / 2, y));
    y += 14;

    // The subnet with its nodes.
    let across = ((inner - GAP) / (CARD.0 + GAP)).max(1);
    let rows = (members.len() as u32).div_ceil(across);
    let frame = 34 + rows * (CARD.1 + GAP);
    svg.rect("line", (MARGIN, y), (inner, frame), 8);
    svg.text("b", (MARGIN + 12, y + 20), 12, Anchor::Start, inner / 2 - 16, &format!("subnet {}", network.subnet));
    let api = if design.addresses.claims.iter().any(|claim| claim.by == "API") { "moves" } else { "a control plane" };
    if cluster.distribution != Distribution::None {
        let text = format!("API {} ({api})", network.api);
        svg.text("dim", (MARGIN + inner - 12, y + 20), 10, Anchor::End, inner / 2 - 16, &text);
    }
    for (place, node) in members.iter().enumerate() {
        let place = place as u32;
        let (x, top) = (MARGIN + GAP + (place % across) * (CARD.0 + GAP), y + 34 + (place / across) * (CARD.1 + GAP));
        svg.rect("card", (x, top), CARD, 4);
        svg.rect(role_class(node.role), (x, top), (5, CARD.1), 2);
        svg.text("b", (x + 12, top + 17), 12, Anchor::Start, CARD.0 - 20, node.name.as_str());
        svg.text("", (x + 12, top + 33), 11, Anchor::Start, CARD.0 - 20, &node.address.to_string());
        let about = node.pods.map_or(node.role.to_string(), |pods| format!("pods {pods}"));
        svg.text("dim", (x + 12, top + 48), 10, Anchor::Start, CARD.0 - 20, &about);
    }
    y += frame + 26;

    // The addresses of the subnet on a ruler.
    svg.text(
        "b",
        (MARGIN, y),
        12,
        Anchor::Start,
        inner,
        &format!("{} of {} addresses are left", design.addresses.free, design.addresses.hosts),
    );
    y += 10;
    svg.rect("free", (MARGIN, y), (inner, 16), 3);
    let first = u64::from(u32::from(network.subnet.network()));
    let size = (u64::from(u32::from(network.subnet.broadcast())) - first + 1).max(1);
    let place =
        |address: Ipv4Addr| (u64::from(u32::from(address)).saturating_sub(first) * u64::from(inner) / size) as u32;
    for claim in &design.addresses.claims {
        let from = place(claim.range.first);
        let until = (place(claim.range.last) + (u64::from(inner) / size) as u32).max(from + 3).min(inner);
        svg.rect(class(claim.by), (MARGIN + from, y), (until.saturating_sub(from).max(2), 16), 1);
    }
    y += 34;
    let ranges = [("pods", network.pods.to_string()), ("services", network.services.to_string())];
    let claims = design.addresses.claims.iter().map(|claim| {
        let range = match claim.range.first == claim.range.last {
            true => claim.range.first.to_string(),
            false => claim.range.to_string(),
        };
        (class(claim.by), if claim.by == "services" { "load balancer" } else { claim.by }, range)
    });
    let ranges = ranges
        .into_iter()
        .filter(|_| cluster.distribution != Distribution::None)
        .map(|(by, range)| ("free", by, range));
    let wide = 250;
    let across = (inner / wide).max(1);
    for (place, (class, by, range)) in claims.chain(ranges).enumerate() {
        let place = place as u32;
        let (x, y) = (MARGIN + (place % across) * wide, y + (place / across) * 18);
        svg.rect(class, (x, y - 8), (10, 10), 2);
        svg.text("dim", (x + 16, y + 1), 10, Anchor::Start, wide - 24, &format!("{by} {range}"));
    }
    svg.finish(&format!("The network of {}", cluster.name), theme)
}
