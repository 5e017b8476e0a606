//! The bill of materials, and what else could stand in a line of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bramble_spec::{Cluster, Feed, Money, Part, PartKind, Price};
use serde::Serialize;

use crate::Design;
use crate::compare::Summary;

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BillLine {
    /// The word for the part.
    pub id: String,
    /// The name on its box.
    pub name: String,
    /// What it is.
    pub kind: PartKind,
    /// How many pieces or packs are bought.
    pub quantity: u64,
    /// What one costs, where known.
    pub price: Option<Price>,
    /// What all cost.
    pub sum: Option<Price>,
    /// Where the price is from, and of when.
    pub source: Option<String>,
    /// What else would do, the cheapest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// A part that could take the place of another, and what would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// The word for it.
    pub id: String,
    /// The name on its box.
    pub name: String,
    /// What one costs, where known.
    pub price: Option<Price>,
    /// Each figure that changes: what it is, and by how much.
    pub changes: Vec<(String, String)>,
}

/// What is bought.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Bill {
    /// Its lines, by kind of part.
    pub lines: Vec<BillLine>,
    /// What all lines with a price sum to.
    pub total: Money,
    /// How many lines have no price.
    pub unpriced: usize,
}

/// How many alternatives a line gets.
const ALTERNATIVES: usize = 3;

impl Bill {
    /// The parts of a cluster with their prices.
    pub fn of(cluster: &Cluster) -> Bill {
        let mut pieces: BTreeMap<(PartKind, String), (Arc<Part>, u64, u64)> = BTreeMap::new();
        // What is attached is counted in pieces, what is bought besides in packs.
        let mut count = |part: &Arc<Part>, attached: u64, packs: u64| {
            let line = pieces.entry((part.kind(), part.id().to_owned())).or_insert_with(|| (part.clone(), 0, 0));
            line.1 += attached;
            line.2 += packs;
        };
        let mut boards: BTreeMap<&str, (&bramble_spec::Board, u64)> = BTreeMap::new();
        for node in &cluster.nodes {
            boards.entry(&node.board.id).or_insert((&node.board, 0)).1 += 1;
            let fitting = &node.fitting;
            fitting.hat.iter().for_each(|part| count(part, 1, 0));
            if let Some(Feed::Supply(part)) = &fitting.feed {
                count(part, 1, 0);
            }
            for disk in &fitting.disks {
                count(&disk.part, 1, 0);
                disk.adapter.iter().for_each(|part| count(part, 1, 0));
            }
            fitting.with.iter().for_each(|line| count(&line.part, u64::from(line.quantity), 0));
        }
        for device in &cluster.hardware.devices {
            count(&device.part, 1, 0);
            if let Some(Feed::Supply(part)) = &device.feed {
                count(part, 1, 0);
            }
            device.with.iter().for_each(|line| count(&line.part, u64::from(line.quantity), 0));
        }
        cluster.hardware.others.iter().for_each(|line| count(&line.part, 0, u64::from(line.quantity)));
        for (board, number) in boards.into_values() {
            count(&Arc::new(Part::Board(board.clone())), number, 0);
        }
        let mut total = Money::default();
        let lines: Vec<BillLine> = pieces
            .into_values()
            .filter(|(_, attached, packs)| attached + packs > 0)
            .map(|(part, attached, packs)| {
                let quantity = packs + attached.div_ceil(in_pack(&part));
                let price = part.price();
                if let Some(price) = price {
                    total.add(price, quantity);
                }
                BillLine {
                    id: part.id().to_owned(),
                    name: part.name().to_owned(),
                    kind: part.kind(),
                    quantity,
                    price,
                    sum: price.map(|price| Price { cents: price.cents.saturating_mul(quantity), ..price }),
                    source: price.and_then(|_| {
                        let source = cluster.hardware.catalogue.sources.get(part.from().of("price")?)?;
                        Some(format!("{}, {}", source.title, source.read))
                    }),
                    alternatives: Vec::new(),
                }
            })
            .collect();
        let unpriced = lines.iter().filter(|line| line.price.is_none()).count();
        Bill { lines, total, unpriced }
    }

    /// The same with what else would do: parts of the same kind with which no more is wrong.
    pub fn with_alternatives(cluster: &Cluster, design: &Design) -> Bill {
        let mut bill = Bill::of(cluster);
        let now = Summary::of(cluster, design, &bill);
        for place in 0..bill.lines.len() {
            let line = &bill.lines[place];
            let mut found: Vec<(Option<u64>, Alternative)> = cluster
                .hardware
                .catalogue
                .parts()
                .filter(|other| other.kind() == line.kind && other.id() != line.id && other.price().is_some())
                .filter(|other| is_alike(cluster, &line.id, other))
                .filter_map(|other| {
                    let changed = swapped(cluster, &line.id, other);
                    let then = Summary::of(&changed, &Design::of(&changed), &Bill::of(&changed));
                    if then.errors > now.errors {
                        return None;
                    }
                    let mut changes = now.changes(&then);
                    // From a price that nobody knows there is no way to another.
                    changes.retain(|(name, _)| line.price.is_some() || name != "cost");
                    let alternative = Alternative {
                        id: other.id().to_owned(),
                        name: other.name().to_owned(),
                        price: other.price(),
                        changes,
                    };
                    Some((other.price().map(|price| price.cents), alternative))
                })
                .collect();
            found.sort_by_key(|(price, alternative)| (*price, alternative.id.clone()));
            found.truncate(ALTERNATIVES);
            bill.lines[place].alternatives = found.into_iter().map(|(_, alternative)| alternative).collect();
        }
        bill
    }

    /// The bill as comma-separated values (RFC 4180), amounts as numbers with a column for the currency.
    pub fn csv(&self) -> String {
        let mut text = String::from("kind,id,name,quantity,price,sum,currency,source\r\n");
        for line in &self.lines {
            let amount = |price: Option<Price>| {
                price.map_or(String::new(), |price| format!("{}.{:02}", price.cents / 100, price.cents % 100))
            };
            let fields = [
                line.kind.to_string(),
                line.id.clone(),
                line.name.clone(),
                line.quantity.to_string(),
                amount(line.price),
                amount(line.sum),
                line.price.map_or(String::new(), |price| price.currency.sign().to_string()),
                line.source.clone().unwrap_or_default(),
            ];
            let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
            text.push_str(&fields.join(","));
            text.push_str("\r\n");
        }
        text
    }
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// How many pieces one pack has.
fn in_pack(part: &Part) -> u64 {
    let pack = match part {
        Part::Cable(cable) => cable.pack,
        Part::Heatsink(heatsink) => heatsink.boards,
        Part::Case(case) => case.boards,
        _ => None,
    };
    u64::from(pack.unwrap_or(1).max(1))
}

/// Whether a part is what somebody could buy instead: it is known as well as the other, a board has the same kind of
/// processor, a disk is of the same kind and at least half the size, and what is made for certain boards is made for these.
fn is_alike(cluster: &Cluster, id: &str, other: &Part) -> bool {
    let boards: Vec<&bramble_spec::Board> = cluster.nodes.iter().map(|node| &node.board).collect();
    if let Part::Board(other) = other {
        let Some(board) = boards.iter().find(|board| board.id == id) else { return false };
        let known =
            |board: &bramble_spec::Board| board.family.as_ref().map(bramble_spec::Family::figures).unwrap_or_default();
        let needed = ["idle", "load", "worst"];
        return board.arch == other.arch
            && needed.iter().all(|figure| known(other).contains(figure) || !known(board).contains(figure))
            && other.memory >= board.memory.map(|memory| memory / 2);
    }
    let Some(this) = cluster.hardware.catalogue.part(id) else { return false };
    let skipped =
        ["price", "from", "efficiency", "capacity", "control", "endurance", "read", "write", "length", "power"];
    let known = other.figures();
    if this.figures().iter().any(|figure| !skipped.contains(figure) && !known.contains(figure)) {
        return false;
    }
    let made_for = |fits: &Option<Vec<String>>| {
        fits.as_ref().is_none_or(|fits| {
            boards.iter().filter_map(|board| board.family.as_ref()).all(|family| fits.contains(&family.id))
        })
    };
    match (this.as_ref(), other) {
        (Part::Disk(a), Part::Disk(b)) => {
            a.kind == b.kind && b.size.map(|size| size.0) >= a.size.map(|size| size.0 / 2)
        }
        (Part::Cable(a), Part::Cable(b)) => a.kind == b.kind,
        (Part::Supply(a), Part::Supply(b)) => a.connector == b.connector,
        (Part::Fan(a), Part::Fan(b)) => a.size == b.size && made_for(&b.fits),
        (Part::Hat(_), Part::Hat(b)) => made_for(&b.fits),
        (Part::Heatsink(_), Part::Heatsink(b)) => made_for(&b.fits),
        (Part::Case(a), Part::Case(b)) => b.boards >= a.boards,
        (Part::Other(_), _) => false,
        _ => true,
    }
}

/// The cluster with one part in the place of another, everywhere.
fn swapped(cluster: &Cluster, id: &str, other: &Arc<Part>) -> Cluster {
    let mut cluster = cluster.clone();
    let swap = |part: &mut Arc<Part>| {
        if part.id() == id {
            *part = other.clone();
        }
    };
    for node in &mut cluster.nodes {
        if let (true, Part::Board(board)) = (node.board.id == id, other.as_ref()) {
            node.board = board.clone();
        }
        let fitting = &mut node.fitting;
        fitting.hat.iter_mut().for_each(swap);
        if let Some(Feed::Supply(part)) = &mut fitting.feed {
            swap(part);
        }
        for disk in &mut fitting.disks {
            swap(&mut disk.part);
            disk.adapter.iter_mut().for_each(swap);
        }
        fitting.with.iter_mut().for_each(|line| swap(&mut line.part));
    }
    for device in &mut cluster.hardware.devices {
        swap(&mut device.part);
        if let Some(Feed::Supply(part)) = &mut device.feed {
            swap(part);
        }
        device.with.iter_mut().for_each(|line| swap(&mut line.part));
    }
    cluster.hardware.others.iter_mut().for_each(|line| swap(&mut line.part));
    cluster
}
