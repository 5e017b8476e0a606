//! Clusters side by side.

use bramble_spec::{Cluster, Money, Power, Severity};
use serde::Serialize;

use crate::{Bill, Design};

/// A cluster in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How many nodes it has.
    pub nodes: usize,
    /// What its parts cost, as far as prices are known.
    pub price: Money,
    /// How many parts have no price.
    pub unpriced: usize,
    /// Power with nothing to do.
    pub idle: Power,
    /// Power under load.
    pub load: Power,
    /// Power at worst.
    pub worst: Power,
    /// Memory for workloads, in MiB.
    pub memory: u64,
    /// Cores for workloads.
    pub cores: u64,
    /// How many parts take the cluster down when they fail alone.
    pub single_points: usize,
    /// How many findings are errors.
    pub errors: usize,
    /// How many findings are warnings.
    pub warnings: usize,
}

/// Two clusters side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// One row for each figure.
    pub rows: Vec<Row>,
}

/// A figure of two clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it is.
    pub figure: &'static str,
    /// In the one cluster.
    pub one: String,
    /// In the other.
    pub other: String,
    /// The way from the one to the other, if they differ and can be compared.
    pub change: Option<String>,
}

impl Summary {
    /// The figures of a cluster.
    pub fn of(cluster: &Cluster, design: &Design, bill: &Bill) -> Summary {
        let count = |severity| design.findings.iter().filter(|finding| finding.severity == severity).count();
        Summary {
            nodes: cluster.nodes.len(),
            price: bill.total.clone(),
            unpriced: bill.unpriced,
            idle: design.total.idle,
            load: design.total.load,
            worst: design.total.worst,
            memory: design.capacity.iter().map(|node| u64::from(node.free)).sum(),
            cores: design.capacity.iter().map(|node| u64::from(node.cores)).sum(),
            single_points: design.single_points.len(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
        }
    }

    /// What its parts cost, in words, with how many have no price.
    pub fn cost(&self) -> String {
        match (self.price.0.is_empty(), self.unpriced) {
            (false, 0) => self.price.to_string(),
            (false, 1) => format!("{} and one part without a price", self.price),
            (false, n) => format!("{} and {n} parts without a price", self.price),
            (true, 0) => "nothing".to_owned(),
            (true, _) => "no part has a price".to_owned(),
        }
    }

    /// Its rows: what it is, how it reads, and the number behind it with the way a difference of it reads.
    fn rows(&self) -> Vec<(&'static str, String, Number)> {
        let amount = match self.price.0.iter().next() {
            Some((currency, cents)) if self.price.0.len() == 1 => Number(*cents, Unit::Cents(currency.sign())),
            _ => Number(0, Unit::None),
        };
        let plain = |number: usize| Number(number as u64, Unit::Plain);
        vec![
            ("nodes", self.nodes.to_string(), plain(self.nodes)),
            ("cost", self.cost(), amount),
            ("power, nothing to do", self.idle.to_string(), Number(self.idle.0, Unit::Power)),
            ("power under load", self.load.to_string(), Number(self.load.0, Unit::Power)),
            ("power at worst", self.worst.to_string(), Number(self.worst.0, Unit::Power)),
            ("memory for workloads", format!("{} MiB", self.memory), Number(self.memory, Unit::Memory)),
            ("cores for workloads", self.cores.to_string(), Number(self.cores, Unit::Plain)),
            ("single points of failure", self.single_points.to_string(), plain(self.single_points)),
            ("errors", self.errors.to_string(), plain(self.errors)),
            ("warnings", self.warnings.to_string(), plain(self.warnings)),
        ]
    }

    /// What is different in another cluster: what it is, and by how much.
    pub fn changes(&self, other: &Summary) -> Vec<(String, String)> {
        let rows = self.against(other).rows.into_iter();
        rows.filter_map(|row| Some((row.figure.to_owned(), row.change?))).collect()
    }

    /// Side by side with another cluster.
    pub fn against(&self, other: &Summary) -> Comparison {
        let rows = self.rows().into_iter().zip(other.rows());
        let rows = rows.map(|((figure, one, x), (_, other, y))| Row { figure, one, other, change: x.to(&y) });
        Comparison { rows: rows.collect() }
    }
}

enum Unit {
    Cents(char),
    Power,
    Memory,
    Plain,
    /// It cannot be compared.
    None,
}

struct Number(u64, Unit);

impl Number {
    /// The way to another number, with its sign; `None` if they are the same.
    fn to(&self, other: &Number) -> Option<String> {
        let sign = match other.0.cmp(&self.0) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => '+',
            std::cmp::Ordering::Less => '-',
        };
        let distance = self.0.abs_diff(other.0);
        Some(match (&self.1, &other.1) {
            (Unit::Cents(a), Unit::Cents(b)) if a == b => format!("{sign}{a}{}.{:02}", distance / 100, distance % 100),
            (Unit::Power, _) => format!("{sign}{}", Power(distance)),
            (Unit::Memory, _) => format!("{sign}{distance} MiB"),
            (Unit::Plain, _) => format!("{sign}{distance}"),
            _ => return None,
        })
    }
}
