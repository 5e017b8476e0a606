//! How far a file has come, on a terminal: one line while it comes, gone afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ui::live::{Live, LiveLine};

/// The line of the file that is coming, if one is.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransferLine {
    line: Arc<Mutex<Option<LiveLine>>>,
}

impl TransferLine {
    /// Shows how many bytes of a file are here, and of how many where that is known.
    pub(crate) fn show(&self, live: &Live, what: &str, done: u64, total: Option<u64>) {
        if total == Some(done) {
            return self.end();
        }
        let mut shown = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let line = shown.get_or_insert_with(|| {
            let line = live.bytes(what.rsplit('/').next().unwrap_or(what), total);
            line.from(done);
            line
        });
        if let Some(total) = total {
            line.of(total);
        }
        line.at(done);
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        if let Some(line) = self.line.lock().unwrap_or_else(PoisonError::into_inner).take() {
            line.end();
        }
    }
}
