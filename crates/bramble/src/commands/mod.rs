//! One file for each command.

pub(crate) mod backup;
pub(crate) mod boot_order;
pub(crate) mod bundle;
pub(crate) mod discover;
pub(crate) mod down;
pub(crate) mod flash;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod kubeconfig;
pub(crate) mod lab;
pub(crate) mod move_root;
pub(crate) mod plan;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod up;

use crate::Done;
use crate::output::{Format, Printer};

/// Lists the catalogue.
pub(crate) fn boards(printer: &Printer) -> anyhow::Result<Done> {
    let boards = bramble_spec::catalogue();
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
