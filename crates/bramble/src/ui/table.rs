//! Rows below a heading.

use crate::ui::printer::{Printer, Style};

/// Writes rows in columns that are as wide as their widest cell, below a heading, without a newline at the end.
pub(crate) fn table<const N: usize>(printer: &Printer, head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let lines = std::iter::once(printer.style(Style::Dim, &line(&head))).chain(rows.iter().map(line));
    lines.collect::<Vec<_>>().join("\n")
}
