//! How far a file has come, on a terminal: one line while it comes, gone afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

/// The line of the file that is coming, if one is.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransferLine {
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl TransferLine {
    /// Shows how many bytes of a file are here, and of how many where that is known.
    pub(crate) fn show(&self, what: &str, done: u64, total: Option<u64>) {
        if total == Some(done) {
            return self.end();
        }
        let mut shown = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(match total {
                Some(_) => "{msg}  {bar:20} {percent:>3} %  {bytes_per_sec:>12}  {eta:>4} left",
                None => "{msg}  {bytes:>10}  {bytes_per_sec:>12}  {elapsed:>4}",
            });
            let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(what.rsplit('/').next().unwrap_or(what).to_owned());
            // What was here before has no speed.
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    /// Takes the line away, before anything else is printed.
    pub(crate) fn end(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}
