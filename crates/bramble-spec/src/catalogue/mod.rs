//! The catalogue: everything that a rack is made of, as dated data with its sources.
//!
//! The built-in files are beside this one; a cluster file can name more, in the same form, which add parts or
//! override single figures of known ones.

mod kinds;
mod part;
mod sources;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use kinds::{Arch, Chip, Connector, DiskKind, Poe, UasQuality, UsbBoot};
pub use part::{
    Accelerator, Adapter, Board, Cable, Case, Charger, Family, Fan, Hat, Heatsink, Medium, Need, NetworkDevice, Other,
    Part, PartKind, Supply,
};
use part::{BoardEntry, Overlay};
pub use sources::From;

use crate::de;
use crate::yaml;

/// The built-in files.
const BUILT_IN: &[(&str, &str)] = &[
    ("boards.yaml", include_str!("boards.yaml")),
    ("power.yaml", include_str!("power.yaml")),
    ("network.yaml", include_str!("network.yaml")),
    ("storage.yaml", include_str!("storage.yaml")),
    ("cooling.yaml", include_str!("cooling.yaml")),
    ("cables.yaml", include_str!("cables.yaml")),
    ("others.yaml", include_str!("others.yaml")),
    ("needs.yaml", include_str!("needs.yaml")),
];

/// Where figures come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is.
    pub title: String,
    /// Where it can be read.
    #[serde(default)]
    pub url: Option<String>,
    /// When it was read, or what it is of: a year, a month or a day.
    pub read: String,
}

/// A file of parts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PartsDocument {
    /// Where the figures come from, each under a word that parts name in `from`.
    sources: BTreeMap<String, Source>,
    /// What boards of one kind have in common.
    families: Vec<Family>,
    /// Boards.
    boards: Vec<BoardEntry>,
    /// What sits on a board and takes power out of its Ethernet cable.
    hats: Vec<Hat>,
    /// Power supplies for one board.
    supplies: Vec<Supply>,
    /// Power supplies with several ports.
    chargers: Vec<Charger>,
    /// Switches.
    switches: Vec<NetworkDevice>,
    /// Routers.
    routers: Vec<NetworkDevice>,
    /// Cards, sticks and drives.
    disks: Vec<Medium>,
    /// What is between a drive and a USB port.
    adapters: Vec<Adapter>,
    /// Fans.
    fans: Vec<Fan>,
    /// Heat sinks.
    heatsinks: Vec<Heatsink>,
    /// Cases.
    cases: Vec<Case>,
    /// Cables.
    cables: Vec<Cable>,
    /// Accelerators for neural networks.
    accelerators: Vec<Accelerator>,
    /// Everything else that is bought.
    others: Vec<Other>,
    /// What software asks of a node.
    needs: Vec<Need>,
}

/// All parts that can be named.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Catalogue {
    /// Where figures come from.
    pub sources: BTreeMap<String, Source>,
    /// What software asks of a node, by its name such as `k3s-control-plane`.
    pub needs: BTreeMap<String, Need>,
    families: BTreeMap<String, Family>,
    boards: Vec<BoardEntry>,
    parts: BTreeMap<String, Arc<Part>>,
    /// The order of the files.
    order: Vec<String>,
}

impl Catalogue {
    /// The parts that come with bramble.
    pub fn built_in() -> &'static Arc<Catalogue> {
        static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
            let mut catalogue = Catalogue::default();
            for (name, text) in BUILT_IN {
                // A mistake in them is found by the tests.
                catalogue.extend(name, text);
            }
            Arc::new(catalogue)
        });
        &CATALOGUE
    }

    /// The part of this id.
    pub fn part(&self, id: &str) -> Option<&Arc<Part>> {
        self.parts.get(id)
    }

    /// All parts, in the order of the catalogue's files.
    pub fn parts(&self) -> impl Iterator<Item = &Arc<Part>> {
        self.order.iter().filter_map(|id| self.parts.get(id))
    }

    /// The board of this id.
    pub fn board(&self, id: &str) -> Option<Board> {
        match self.parts.get(id).map(Arc::as_ref) {
            Some(Part::Board(board)) => Some(board.clone()),
            _ => None,
        }
    }

    /// All boards.
    pub fn boards(&self) -> impl Iterator<Item = &Board> {
        self.parts().filter_map(|part| match part.as_ref() {
            Part::Board(board) => Some(board),
            _ => None,
        })
    }

    /// Takes the parts of a file in, over those that are there. Each mistake is a sentence that names file and line.
    pub(crate) fn extend(&mut self, file: &str, text: &str) -> Vec<String> {
        let (trees, mut found) = yaml::parse(text);
        let mut documents = Vec::new();
        for tree in &trees {
            let reading = de::from_tree::<PartsDocument>(tree);
            found.extend(reading.problems);
            documents.extend(reading.value);
        }
        let mut mistakes: Vec<String> = found
            .iter()
            .map(|problem| {
                let line = text[..problem.place.span().start.min(text.len())].matches('\n').count() + 1;
                let next = problem.next.as_ref().map_or(String::new(), |next| format!("; {next}"));
                format!("{file}, line {line}: {}{next}", problem.message)
            })
            .collect();
        for document in documents {
            self.take(document, file, &mut mistakes);
        }
        mistakes
    }

    fn take(&mut self, document: PartsDocument, file: &str, mistakes: &mut Vec<String>) {
        self.sources.extend(document.sources);
        for family in document.families {
            let family = match self.families.remove(&family.id) {
                Some(base) => family.over(&base),
                None => family,
            };
            self.families.insert(family.id.clone(), family);
        }
        for entry in document.boards {
            match self.boards.iter_mut().find(|known| known.id == entry.id) {
                Some(known) => *known = entry.over(known),
                None => self.boards.push(entry),
            }
        }
        for need in document.needs {
            let need = match self.needs.remove(&need.id) {
                Some(base) => need.over(&base),
                None => need,
            };
            self.needs.insert(need.id.clone(), need);
        }
        // Families may have changed: all boards are made anew.
        let boards: Vec<Part> = self
            .boards
            .iter()
            .filter_map(|entry| {
                let family = entry.family.as_ref().map(|id| (id, self.families.get(id)));
                if let Some((id, None)) = family {
                    mistakes.push(format!("{file}: the board `{}` is of no known family: `{id}`", entry.id));
                }
                let board = entry.board(family.and_then(|(_, family)| family).cloned());
                if board.is_none() {
                    mistakes.push(format!("{file}: the board `{}` needs an `arch`: arm64 or amd64", entry.id));
                }
                board.map(Part::Board)
            })
            .collect();
        let others = [
            document.hats.into_iter().map(Part::Hat).collect::<Vec<_>>(),
            document.supplies.into_iter().map(Part::Supply).collect(),
            document.chargers.into_iter().map(Part::Charger).collect(),
            document.switches.into_iter().map(Part::Switch).collect(),
            document.routers.into_iter().map(Part::Router).collect(),
            document.disks.into_iter().map(Part::Disk).collect(),
            document.adapters.into_iter().map(Part::Adapter).collect(),
            document.fans.into_iter().map(Part::Fan).collect(),
            document.heatsinks.into_iter().map(Part::Heatsink).collect(),
            document.cases.into_iter().map(Part::Case).collect(),
            document.cables.into_iter().map(Part::Cable).collect(),
            document.accelerators.into_iter().map(Part::Accelerator).collect(),
            document.others.into_iter().map(Part::Other).collect(),
        ];
        let mut own: BTreeMap<String, PartKind> = BTreeMap::new();
        for part in boards.into_iter().chain(others.into_iter().flatten()) {
            let (id, kind) = (part.id().to_owned(), part.kind());
            if kind != PartKind::Board
                && let Some(first) = own.insert(id.clone(), kind)
            {
                mistakes.push(format!(
                    "{file}: two parts are called `{id}` (a {first} and a {kind}); give each its own id"
                ));
                continue;
            }
            let part = match self.parts.get(&id).map(|known| part.over(known)) {
                None => {
                    self.order.push(id.clone());
                    part
                }
                Some(Some(merged)) => merged,
                Some(None) => {
                    mistakes.push(format!("{file}: `{id}` is the id of another kind of part; choose one of its own"));
                    continue;
                }
            };
            for source in part.from().words() {
                if !self.sources.contains_key(source) {
                    mistakes.push(format!(
                        "{file}: the source `{source}` of `{id}` is not listed; add `sources: {{ {source}: {{ title: …, read: … }} }}`"
                    ));
                }
            }
            self.parts.insert(id, Arc::new(part));
        }
    }
}

/// The JSON Schema (draft 2020-12) of a file of parts.
pub fn parts_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(PartsDocument);
    schema.insert("title".into(), "bramble parts".into());
    schema.to_value()
}

#[cfg(test)]
mod tests;
