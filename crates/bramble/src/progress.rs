//! What goes on at each node: one live line each on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{Printer, Style};

/// Something that happened at a node.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Connecting,
    Looking,
    Upload(String),
    Change { number: usize, total: usize, title: String },
    Line(String),
    Undo(String),
    Rebooting(String),
    Waiting(String),
    Done(String),
    Failed(String),
}

/// The lines of all nodes.
#[derive(Clone)]
pub(crate) struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    printer: Printer,
    bars: BTreeMap<String, ProgressBar>,
    multi: MultiProgress,
    width: usize,
    started: Instant,
}

impl Progress {
    pub(crate) fn new<'a>(printer: &Printer, names: impl IntoIterator<Item = &'a str>) -> Progress {
        let names: Vec<&str> = names.into_iter().collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let multi = MultiProgress::new();
        let mut bars = BTreeMap::new();
        if printer.live && !printer.verbose {
            let style = ProgressStyle::with_template("{spinner:.cyan} {prefix} {elapsed:>4} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner())
                .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]);
            for name in &names {
                let bar = multi
                    .add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix(format!("{name:width$}")));
                bar.enable_steady_tick(Duration::from_millis(120));
                bars.insert((*name).to_owned(), bar);
            }
        }
        Progress { inner: Arc::new(Inner { printer: printer.clone(), bars, multi, width, started: Instant::now() }) }
    }

    pub(crate) fn event(&self, name: &str, event: Event) {
        let inner = &*self.inner;
        let printer = &inner.printer;
        let text = match &event {
            Event::Connecting => "connecting".to_owned(),
            Event::Looking => "looking".to_owned(),
            Event::Upload(what) => format!("uploading {what}"),
            Event::Change { number, total, title } => format!("[{number}/{total}] {title}"),
            Event::Line(line) => {
                if printer.verbose {
                    printer.info(format!("{name:width$}   {}", printer.style(Style::Dim, line), width = inner.width));
                }
                return;
            }
            Event::Undo(what) => what.clone(),
            Event::Rebooting(why) => format!("rebooting: {why}"),
            Event::Waiting(what) => format!("waiting for {what}"),
            Event::Done(what) => what.clone(),
            Event::Failed(why) => format!("failed: {}", why.lines().next().unwrap_or("")),
        };
        if let Some(bar) = inner.bars.get(name) {
            match event {
                Event::Done(_) => finish(bar, &format!("{} {text}", printer.style(Style::Good, "✓"))),
                Event::Failed(_) => finish(bar, &format!("{} {text}", printer.style(Style::Bad, "✗"))),
                _ => bar.set_message(text),
            }
        } else if printer.verbose || !matches!(event, Event::Connecting | Event::Looking) {
            let seconds = inner.started.elapsed().as_secs_f32();
            printer.info(format!("{name:width$} {seconds:6.1}s {text}", width = inner.width));
        }
    }

    /// Leaves the lines as they are and gives the terminal back.
    pub(crate) fn end(&self) {
        for bar in self.inner.bars.values() {
            if !bar.is_finished() {
                bar.finish_and_clear();
            }
        }
        self.inner.multi.set_move_cursor(false);
    }
}

fn finish(bar: &ProgressBar, text: &str) {
    bar.finish_with_message(text.to_owned());
}
