//! The lines of a terminal that are redrawn while something goes on. Nothing else draws.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

const TICKS: [&str; 11] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "];
const TICK: Duration = Duration::from_millis(120);

/// The part of the terminal that is redrawn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    /// Another one after each piece of work, whose last lines stay where they are.
    multi: Arc<Mutex<MultiProgress>>,
}

/// One line of it.
#[derive(Debug, Clone)]
pub(crate) struct LiveLine {
    bar: ProgressBar,
}

impl Live {
    /// Adds a line that turns: what it is, for how long, and what goes on.
    pub(crate) fn spinner(&self, prefix: &str) -> LiveLine {
        self.turning(style("{spinner:.cyan} {prefix} {elapsed:>4} {wide_msg}"), prefix)
    }

    /// Adds a line for a long step, with the last words of the program that takes it.
    pub(crate) fn step(&self) -> LiveLine {
        self.turning(style("{spinner:.cyan} {elapsed:>4} {prefix} {wide_msg:.dim}"), "")
    }

    /// Adds a line whose text is asked for whenever it is drawn. `head`: whether it begins a group of lines.
    pub(crate) fn told(&self, head: Option<&str>, text: Arc<dyn Fn() -> String + Send + Sync>) -> LiveLine {
        let key = move |_: &ProgressState, out: &mut dyn Write| {
            out.write_str(&text()).ok();
        };
        let style = match head {
            Some(head) => style(&format!("{{spinner:.cyan}} {head} {{elapsed:>4}}  {{told}}")),
            None => style("    {told:.dim}"),
        };
        self.turning(style.with_key("told", key), "")
    }

    /// Adds a line for bytes that come or go, of so many if that is known.
    pub(crate) fn bytes(&self, prefix: &str, total: Option<u64>) -> LiveLine {
        let template = match total {
            Some(_) => "{prefix}  {msg:<11} {bar:20} {percent:>3} %  {bytes_per_sec:>12}  {eta:>4} left",
            None => "{prefix}  {msg:<11} {bytes:>10}  {bytes_per_sec:>12}  {elapsed:>4}",
        };
        let bar = self.multi().add(ProgressBar::no_length().with_style(style(template)).with_prefix(prefix.to_owned()));
        if let Some(total) = total {
            bar.set_length(total);
        }
        LiveLine { bar }
    }

    fn turning(&self, style: ProgressStyle, prefix: &str) -> LiveLine {
        let bar = self.multi().add(ProgressBar::new_spinner().with_style(style).with_prefix(prefix.to_owned()));
        bar.enable_steady_tick(TICK);
        LiveLine { bar }
    }

    /// Prints something above the lines.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        let multi = self.multi();
        multi.suspend(print)
    }

    /// Takes all lines away.
    pub(crate) fn clear(&self) {
        self.multi().clear().ok();
        self.close();
    }

    /// Leaves the lines that stay, and begins anew below them.
    pub(crate) fn close(&self) {
        *self.multi.lock().unwrap_or_else(PoisonError::into_inner) = MultiProgress::new();
    }

    fn multi(&self) -> MultiProgress {
        self.multi.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LiveLine {
    /// Says what goes on.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Begins another step on the same line.
    pub(crate) fn begin(&self, step: &str) {
        self.bar.reset_elapsed();
        self.bar.set_prefix(step.to_owned());
        self.bar.set_message("");
    }

    /// Says how many bytes there are.
    pub(crate) fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Says how many bytes there will be.
    pub(crate) fn of(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    /// Counts from here: what was there before has no speed.
    pub(crate) fn from(&self, bytes: u64) {
        self.bar.set_position(bytes);
        self.bar.reset_eta();
    }

    /// Counts from nothing again.
    pub(crate) fn again(&self) {
        self.bar.reset();
    }

    /// Leaves the line as it is, with these words.
    pub(crate) fn stay(&self, text: String) {
        self.bar.finish_with_message(text);
    }

    /// Takes the line away, unless it is to stay.
    pub(crate) fn end(&self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_strings(&TICKS)
}
