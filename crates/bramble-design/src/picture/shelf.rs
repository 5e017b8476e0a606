//! The rack as it would stand: boards in towers, and below them what feeds and connects them.

use bramble_spec::{Cluster, Node, Part, Role};

use super::svg::{Anchor, Svg, Theme};
use crate::Design;

const MARGIN: u32 = 16;
/// A board in its tower.
const SLOT: (u32, u32) = (196, 44);
const GAP: u32 = 16;
/// A device on the shelf below.
const DEVICE: (u32, u32) = (232, 66);

pub(crate) fn role_class(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "plane",
        Role::Worker => "worker",
        Role::Gateway => "gateway",
    }
}

/// Draws the rack. `width` is in pixels, of at least 320; without a theme it is for a page that has the colours.
pub fn rack(cluster: &Cluster, design: &Design, width: u32, theme: Option<Theme>) -> String {
    let mut svg = Svg::new(width.max(320));
    let inner = svg.width - 2 * MARGIN;
    let across = ((inner + GAP) / (SLOT.0 + GAP)).max(1);
    let count = cluster.nodes.len() as u32;
    // Towers of eight are as high as they stand safely; fewer boards stand lower.
    let high = count.div_ceil(across).clamp(4, 8).min(count.max(1));
    let towers = count.div_ceil(high);
    let mut top = MARGIN;
    for row in 0..towers.div_ceil(across) {
        let here = across.min(towers - row * across);
        let boards = |tower: u32| {
            let first = ((row * across + tower) * high) as usize;
            &cluster.nodes[first..cluster.nodes.len().min(first + high as usize)]
        };
        let tallest = (0..here).map(|tower| boards(tower).len() as u32).max().unwrap_or(0);
        let bottom = top + tallest * (SLOT.1 + 4);
        for tower in 0..here {
            let x = MARGIN + tower * (SLOT.0 + GAP);
            // The first board stands at the bottom.
            for (level, node) in boards(tower).iter().enumerate() {
                board(&mut svg, node, (x, bottom - (level as u32 + 1) * (SLOT.1 + 4)));
            }
        }
        svg.path("line", 3, &format!("M{MARGIN} {bottom}H{}", MARGIN + inner));
        top = bottom + 18;
    }
    let across = ((inner + GAP) / (DEVICE.0 + GAP)).max(1);
    for (place, device) in cluster.hardware.devices.iter().enumerate() {
        let place = place as u32;
        let at = (MARGIN + (place % across) * (DEVICE.0 + GAP), top + (place / across) * (DEVICE.1 + 12));
        let source = &design.sources[place as usize];
        let traffic = &design.traffic[place as usize];
        svg.rect("card", at, DEVICE, 6);
        svg.text("b", (at.0 + 10, at.1 + 18), 12, Anchor::Start, DEVICE.0 - 20, device.name.as_str());
        svg.text("dim", (at.0 + 10, at.1 + 33), 10, Anchor::Start, DEVICE.0 - 20, device.part.name());
        let (sockets, used) = match (device.network(), device.charger()) {
            (Some(network), _) => (network.ports.unwrap_or(traffic.ports_needed), traffic.ports_needed),
            (_, Some(charger)) => (charger.ports.unwrap_or(0), source.consumers.len() as u32),
            _ => (0, 0),
        };
        let class = if device.charger().is_some() { "fpower" } else { "fdata" };
        let room = (DEVICE.0 - 20) / 14;
        for socket in 0..sockets.min(room) {
            let class = if socket < used { class } else { "free" };
            svg.rect(class, (at.0 + 10 + socket * 14, at.1 + 44), (10, 10), 2);
        }
    }
    let rows = (cluster.hardware.devices.len() as u32).div_ceil(across);
    let top = top + rows * (DEVICE.1 + 12) + 6;
    let fans: u32 = cluster
        .hardware
        .others
        .iter()
        .map(|line| match line.part.as_ref() {
            Part::Fan(_) => line.quantity,
            Part::Case(case) => case.fans.unwrap_or(0) * line.quantity,
            _ => 0,
        })
        .sum();
    legend(&mut svg, top, fans, inner);
    svg.finish(&format!("The rack of {}", cluster.name), theme)
}

fn board(svg: &mut Svg, node: &Node, (x, y): (u32, u32)) {
    let (w, h) = SLOT;
    svg.rect("card", (x, y), (w, h), 4);
    svg.rect(role_class(node.role), (x, y), (6, h), 3);
    svg.text("b", (x + 14, y + 16), 12, Anchor::Start, w - 24, node.name.as_str());
    svg.text("dim", (x + 14, y + 30), 10, Anchor::Start, w - 24, &node.board.name);
    // What is on it, from the left: HAT, disks.
    let mut at = x + 14;
    if node.fitting.hat.is_some() {
        svg.rect("hat", (at, y + 35), (44, 5), 2);
        at += 48;
    }
    for _ in node.fitting.disks.iter().take(4) {
        svg.rect("disk", (at, y + 35), (24, 5), 2);
        at += 28;
    }
}

fn legend(svg: &mut Svg, top: u32, fans: u32, inner: u32) {
    let mut entries: Vec<(&str, String)> = vec![
        ("plane", "control plane".into()),
        ("worker", "worker".into()),
        ("hat", "PoE HAT".into()),
        ("disk", "disk".into()),
        ("fpower", "port that gives power".into()),
        ("fdata", "network port".into()),
    ];
    match fans {
        0 => {}
        1 => entries.push(("fan", "a fan blows over all".into())),
        n => entries.push(("fan", format!("{n} fans blow over all"))),
    }
    let (mut x, mut y) = (MARGIN, top + 10);
    for (class, text) in entries {
        let wide = super::svg::width(&text, 10) + 34;
        if x > MARGIN && x + wide > MARGIN + inner {
            (x, y) = (MARGIN, y + 18);
        }
        if class == "fan" {
            svg.circle("card", (x + 5, y - 3), 6);
            svg.path("line", 2, &format!("M{} {}l6 6m0 -6l-6 6", x + 2, y - 6));
        } else {
            svg.rect(class, (x, y - 8), (10, 10), 2);
        }
        svg.text("dim", (x + 16, y + 1), 10, Anchor::Start, wide, &text);
        x += wide;
    }
}
