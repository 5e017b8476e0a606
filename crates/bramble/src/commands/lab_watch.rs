//! What the lab does, as it does it.

use std::sync::Mutex;
use std::time::Instant;

use bramble_lab::Event;

use crate::ui::live::LiveLine;
use crate::ui::printer::{Printer, Style};

/// Shows steps, and below the running one the last line that it printed.
pub(crate) struct Watch<'a> {
    printer: &'a Printer,
    line: Option<LiveLine>,
    step: Mutex<Option<(String, Instant)>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        let line = printer.live.then(|| printer.lines.step());
        Watch { printer, line, step: Mutex::new(None) }
    }

    pub(crate) fn event(&self, event: Event) {
        match event {
            Event::Step(text) => {
                self.finish_step();
                match &self.line {
                    Some(line) => line.begin(&text),
                    None => self.printer.info(&text),
                }
                if let Ok(mut step) = self.step.lock() {
                    *step = Some((text, Instant::now()));
                }
            }
            Event::Line(line) => match &self.line {
                Some(shown) => shown.say(line.trim()),
                // Not every line of a compiler, but enough to see that it lives.
                None if line.starts_with("== ") || self.printer.verbose => {
                    self.printer.info(format!("    {}", line.trim()));
                }
                None => {}
            },
        }
    }

    fn finish_step(&self) {
        let Some((text, started)) = self.step.lock().ok().and_then(|mut step| step.take()) else { return };
        let line =
            format!("{} {text} ({:.0} s)", self.printer.style(Style::Good, "✓"), started.elapsed().as_secs_f32());
        self.printer.info(line);
    }

    pub(crate) fn end(self) {
        self.finish_step();
        if let Some(line) = self.line {
            line.end();
        }
    }
}
