//! The wiring: who gives power and network to whom, with the load on each wire.

use std::collections::BTreeMap;

use bramble_spec::{BitRate, Cluster, Feed};

use super::shelf::role_class;
use super::svg::{Anchor, Svg, Theme};
use crate::Design;

const MARGIN: u32 = 16;
const ROW: u32 = 34;
/// A box of a device holds four lines of text.
const BOX: (u32, u32) = (138, 74);
const NODE: u32 = 150;
/// Wires to chargers and to switches: near the board they are straight, and what stands on them has room there; they bend
/// in the rest, where nothing is written.
const FEED: u32 = 142;
const LINK: u32 = 174;
const STRAIGHT: (u32, u32) = (96, 144);
/// A wire between devices.
const SHORT: u32 = 40;
const HOUSE: u32 = 84;
const HEAD: u32 = 30;

/// A box in a column, with the rows that it is wired to.
struct Column {
    /// For each device: the top of its box and its height.
    boxes: BTreeMap<usize, (u32, u32)>,
}

impl Column {
    /// Places boxes one below the other, each beside the first of its rows where there is room.
    fn place(devices: &[(usize, Vec<u32>)]) -> Column {
        let mut ordered: Vec<&(usize, Vec<u32>)> = devices.iter().collect();
        ordered.sort_by_key(|(device, rows)| (rows.iter().min().copied().unwrap_or(u32::MAX), *device));
        let mut boxes = BTreeMap::new();
        let mut free = HEAD;
        for (device, rows) in ordered {
            let first = rows.iter().min().map_or(free, |row| row - ROW / 2 + 3);
            let top = free.max(first);
            let height = BOX.1.max((rows.len() as u32 * ROW).saturating_sub(6));
            boxes.insert(*device, (top, height));
            free = top + height + 6;
        }
        Column { boxes }
    }

    /// Where the wire to a row meets its box: level with the row if the box reaches it.
    fn socket(&self, device: usize, row: u32, number: usize, of: usize) -> u32 {
        let (top, height) = self.boxes.get(&device).copied().unwrap_or((HEAD, BOX.1));
        if (top + 4..=top + height - 4).contains(&row) {
            return row;
        }
        top + (height * (2 * number as u32 + 1)) / (2 * of.max(1) as u32)
    }
}

/// Draws the wiring; without a theme it is for a page that has the colours.
pub fn wiring(cluster: &Cluster, design: &Design, theme: Option<Theme>) -> String {
    let devices = &cluster.hardware.devices;
    // Nodes of one switch and one charger stand together.
    let mut order: Vec<usize> = (0..cluster.nodes.len()).collect();
    let feed = |node: usize| cluster.nodes[node].fitting.feed.as_ref().and_then(Feed::device);
    let switch = |node: usize| cluster.nodes[node].fitting.switch;
    order.sort_by_key(|node| (feed(*node), switch(*node), *node));
    // Devices that take power from another one have a row as well, behind the nodes of the same charger.
    let fed: Vec<usize> = (0..devices.len()).filter(|device| devices[*device].feed.is_some()).collect();
    let feed_of_device = |device: usize| devices[device].feed.as_ref().and_then(Feed::device);
    let mut rows: BTreeMap<usize, u32> = BTreeMap::new();
    let mut fed_rows: BTreeMap<usize, u32> = BTreeMap::new();
    let mut lines: Vec<(Option<usize>, bool, usize)> = order.iter().map(|node| (feed(*node), false, *node)).collect();
    lines.extend(fed.iter().map(|device| (feed_of_device(*device), true, *device)));
    lines.sort_by_key(|(feed, device, _)| (*feed, *device));
    for (place, (_, is_device, which)) in lines.iter().enumerate() {
        let y = HEAD + ROW / 2 + place as u32 * ROW;
        if *is_device {
            fed_rows.insert(*which, y)
        } else {
            rows.insert(*which, y)
        };
    }

    // Each consumer of a charger by its name, with its row.
    let chargers: Vec<(usize, Vec<(&str, u32)>)> = (0..devices.len())
        .filter(|device| devices[*device].charger().is_some())
        .map(|device| {
            let nodes = order
                .iter()
                .filter(|node| feed(**node) == Some(device))
                .map(|node| (cluster.nodes[*node].name.as_str(), rows[node]));
            let others = fed
                .iter()
                .filter(|other| feed_of_device(**other) == Some(device))
                .map(|other| (devices[*other].name.as_str(), fed_rows[other]));
            (device, nodes.chain(others).collect())
        })
        .collect();
    let level = levels(cluster);
    let highest = level.values().copied().max().unwrap_or(0);
    let has_left =
        !chargers.is_empty() || cluster.nodes.iter().any(|node| matches!(node.fitting.feed, Some(Feed::Supply(_))));
    let left = MARGIN;
    let middle = if has_left { left + BOX.0 + FEED } else { left };
    let right = |level: u32| middle + NODE + LINK + level * (BOX.0 + SHORT);
    let house = if level.is_empty() { None } else { Some(right(highest + 1)) };
    let width = house.map_or(middle + NODE, |x| x + HOUSE) + MARGIN;
    let mut svg = Svg::new(width.max(420));

    let rows_of = |consumers: &[(&str, u32)]| consumers.iter().map(|(_, row)| *row).collect();
    let left_column =
        Column::place(&chargers.iter().map(|(device, theirs)| (*device, rows_of(theirs))).collect::<Vec<_>>());
    let mut columns: Vec<Column> = Vec::new();
    for at in 0..=highest {
        let here: Vec<(usize, Vec<u32>)> = (0..devices.len())
            .filter(|device| level.get(device) == Some(&at))
            .map(|device| {
                let nodes = order.iter().filter(|node| switch(**node) == Some(device)).map(|node| rows[node]);
                let below = devices.iter().enumerate().filter(|(_, other)| other.uplink == Some(device)).filter_map(
                    |(other, _)| {
                        let (top, height) = columns.get(*level.get(&other)? as usize)?.boxes.get(&other)?;
                        Some(top + height / 2)
                    },
                );
                (device, nodes.chain(below).collect())
            })
            .collect();
        columns.push(Column::place(&here));
    }

    // Wires first, so that boxes lie on them.
    for (device, theirs) in &chargers {
        for (number, (name, to)) in theirs.iter().enumerate() {
            let from = left_column.socket(*device, *to, number, theirs.len());
            let Some(consumer) = design.sources[*device].consumers.iter().find(|consumer| consumer.name == *name)
            else {
                continue;
            };
            let over = design.sources[*device].port.is_some_and(|port| consumer.draw.load > port);
            svg.curve(if over { "over" } else { "power" }, 2, (left + BOX.0, from), (middle - STRAIGHT.0, *to));
            svg.curve(if over { "over" } else { "power" }, 2, (middle - STRAIGHT.0, *to), (middle, *to));
            let label = format!("{} · {}", consumer.draw.load, consumer.draw.worst);
            svg.text("dim", (middle - 8, to - 5), 9, Anchor::End, STRAIGHT.0 - 12, &label);
        }
    }
    for node in &order {
        let y = rows[node];
        if let Some(Feed::Supply(part)) = &cluster.nodes[*node].fitting.feed {
            svg.rect("card", (left, y - 12), (BOX.0, 24), 4);
            svg.text("dim", (left + 8, y + 4), 10, Anchor::Start, BOX.0 - 16, part.name());
            svg.curve("power", 2, (left + BOX.0, y), (middle, y));
            let draw = design.draws[*node];
            svg.text(
                "dim",
                (middle - 8, y - 5),
                9,
                Anchor::End,
                STRAIGHT.0 - 12,
                &format!("{} · {}", draw.load, draw.worst),
            );
        }
        let Some(device) = switch(*node) else { continue };
        let at = level.get(&device).copied().unwrap_or(0);
        let theirs: Vec<usize> = order.iter().copied().filter(|other| switch(*other) == Some(device)).collect();
        let number = theirs.iter().position(|other| other == node).unwrap_or(0);
        let to = columns[at as usize].socket(device, y, number, theirs.len());
        let powered = feed(*node) == Some(device);
        let class = if powered { "both" } else { "data" };
        let bend = middle + NODE + STRAIGHT.1;
        svg.curve(class, 2, (middle + NODE, y), (bend, y));
        svg.curve(class, 2, (bend, y), (right(at), to));
        let rate = design.ports[*node].rate.map_or(String::new(), |rate: BitRate| rate.to_string());
        let label = match design.sources[device]
            .consumers
            .iter()
            .find(|c| powered && c.name == cluster.nodes[*node].name.as_str())
        {
            Some(consumer) => format!("{rate} · {} · {}", consumer.draw.load, consumer.draw.worst),
            None => rate,
        };
        svg.text("dim", (middle + NODE + 8, y - 5), 9, Anchor::Start, STRAIGHT.1 - 10, &label);
    }
    for (device, at) in &level {
        let (top, height) = columns[*at as usize].boxes[device];
        let from = (right(*at) + BOX.0, top + height / 2);
        match devices[*device].uplink {
            Some(up) => {
                let above = level.get(&up).copied().unwrap_or(at + 1);
                let (top, height) = columns[above as usize].boxes[&up];
                svg.curve("data", 2, from, (right(above), top + height / 2));
            }
            None => {
                if let Some(x) = house {
                    svg.curve("data", 2, from, (x, HEAD + 24));
                }
            }
        }
    }
    if let Some(x) = house {
        svg.rect("card", (x, HEAD), (HOUSE, 48), 22);
        svg.text("", (x + HOUSE / 2, HEAD + 28), 11, Anchor::Middle, HOUSE - 8, "the house");
    }
    for (device, _) in &chargers {
        let (top, height) = left_column.boxes[device];
        device_box(&mut svg, design, cluster, *device, (left, top), height);
    }
    for (device, at) in &level {
        let (top, height) = columns[*at as usize].boxes[device];
        device_box(&mut svg, design, cluster, *device, (right(*at), top), height);
    }
    for (node, y) in &rows {
        let node = &cluster.nodes[*node];
        svg.rect("card", (middle, y - 14), (NODE, 28), 4);
        svg.rect(role_class(node.role), (middle, y - 14), (5, 28), 2);
        svg.text("b", (middle + 12, y - 2), 11, Anchor::Start, NODE - 18, node.name.as_str());
        svg.text("dim", (middle + 12, y + 10), 9, Anchor::Start, NODE - 18, &node.board.name);
    }
    for (device, y) in &fed_rows {
        svg.rect("card", (middle, y - 14), (NODE, 28), 14);
        svg.text("", (middle + 12, y + 4), 11, Anchor::Start, NODE - 18, devices[*device].name.as_str());
    }
    if has_left {
        svg.text("dim", (left, 16), 10, Anchor::Start, BOX.0, "power");
        svg.text("dim", (middle - 8, 16), 9, Anchor::End, FEED, "under load · at worst");
    }
    svg.text("dim", (middle, 16), 10, Anchor::Start, NODE, "boards");
    if !level.is_empty() {
        svg.text("dim", (right(0), 16), 10, Anchor::Start, BOX.0, "network");
    }
    svg.finish(&format!("The wiring of {}", cluster.name), theme)
}

/// The column of every device that is part of the network: those with nodes alone are at 0, what they hang on is further
/// out.
fn levels(cluster: &Cluster) -> BTreeMap<usize, u32> {
    let devices = &cluster.hardware.devices;
    let mut level: BTreeMap<usize, u32> = BTreeMap::new();
    for (place, device) in devices.iter().enumerate() {
        let used = cluster.nodes.iter().any(|node| node.fitting.switch == Some(place));
        if device.network().is_some() && (used || device.uplink.is_some()) || device.board().is_some() {
            level.insert(place, 0);
        }
    }
    // An uplink is beyond all that hangs on it; there are no circles.
    for _ in devices {
        for (place, device) in devices.iter().enumerate() {
            if let (Some(up), Some(below)) = (device.uplink, level.get(&place).copied()) {
                let above = level.entry(up).or_insert(0);
                *above = (*above).max(below + 1);
            }
        }
    }
    level
}

fn device_box(svg: &mut Svg, design: &Design, cluster: &Cluster, device: usize, (x, y): (u32, u32), height: u32) {
    let (this, source, traffic) = (&cluster.hardware.devices[device], &design.sources[device], &design.traffic[device]);
    svg.rect("card", (x, y), (BOX.0, height), 6);
    svg.text("b", (x + 10, y + 18), 12, Anchor::Start, BOX.0 - 20, this.name.as_str());
    svg.text("dim", (x + 10, y + 33), 10, Anchor::Start, BOX.0 - 20, this.part.name());
    let mut lines: Vec<(&str, String)> = Vec::new();
    if traffic.ports_needed > 0 {
        let ports = traffic.ports.map_or("?".to_owned(), |ports| ports.to_string());
        let class = if traffic.ports.is_some_and(|ports| ports < traffic.ports_needed) { "bad" } else { "dim" };
        lines.push((class, format!("{} of {ports} ports", traffic.ports_needed)));
    }
    if !source.consumers.is_empty() {
        let limit = source.limit.map_or("?".to_owned(), |limit| limit.to_string());
        let class = if source.limit.is_some_and(|limit| source.sum.worst > limit) { "bad" } else { "dim" };
        lines.push((class, format!("{} of {limit}", source.sum.worst)));
    }
    for (number, (class, line)) in lines.iter().enumerate() {
        svg.text(class, (x + 10, y + 49 + number as u32 * 14), 10, Anchor::Start, BOX.0 - 20, line);
    }
}
