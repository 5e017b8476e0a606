//! `bramble parts`, and `bramble boards`: the catalogue.

use bramble_spec::{Catalogue, Part, PartKind};

use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Parts {
    /// Only parts that have these words in their kind, id or name
    words: Vec<String>,
}

impl Parts {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        // A cluster file may add parts; without one there are those that come with bramble.
        let catalogue = match common.file.exists() {
            true => cluster_file::open(common, printer)?.cluster.hardware.catalogue,
            false => Catalogue::built_in().clone(),
        };
        let words: Vec<String> = self.words.iter().map(|word| word.to_lowercase()).collect();
        let found: Vec<&Part> = catalogue
            .parts()
            .map(AsRef::as_ref)
            .filter(|part| {
                let text = format!("{} {} {}", part.kind(), part.id(), part.name()).to_lowercase();
                words.iter().all(|word| text.contains(word.as_str()))
            })
            .collect();
        if printer.format == Format::Json {
            printer.json(&serde_json::to_value(found)?);
            return Ok(Done::Good);
        }
        let wide = found.iter().map(|part| part.id().len()).max().unwrap_or(0);
        let mut kind: Option<PartKind> = None;
        for part in found {
            if kind.replace(part.kind()) != Some(part.kind()) {
                printer.result(printer.style(Style::Bold, &part.kind().to_string()));
            }
            let price = part.price().map_or(String::new(), |price| price.to_string());
            printer.result(format!("  {:<wide$}  {price:>8}  {}", part.id(), part.name()));
        }
        Ok(Done::Good)
    }
}

/// Lists the boards.
pub(crate) fn boards(printer: &Printer) -> anyhow::Result<Done> {
    let boards: Vec<_> = Catalogue::built_in().boards().collect();
    if printer.format == Format::Json {
        printer.json(&serde_json::to_value(boards)?);
        return Ok(Done::Good);
    }
    for board in boards {
        let memory = board.memory.map_or("?".to_owned(), |memory| memory.to_string());
        printer.result(format!("{:<14} {:<24} {:>6} MiB", board.id, board.name, memory));
    }
    Ok(Done::Good)
}
