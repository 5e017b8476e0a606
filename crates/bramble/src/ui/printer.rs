//! The one gate through which everything is printed.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use bramble_fetch::Watcher;

use crate::ui::live::Live;
use crate::ui::transfer::TransferLine;

/// How output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Where output goes, and how.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Whether standard output is a terminal that wants colours.
    pub(crate) colour: bool,
    /// Whether standard error is a terminal on which lines can be redrawn.
    pub(crate) live: bool,
    /// Those lines.
    pub(crate) lines: Live,
    transfer: TransferLine,
}

/// How a text stands out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Good,
    Bad,
    Note,
    Dim,
    Bold,
}

impl Printer {
    pub(crate) fn new(format: Format, quiet: bool, verbose: bool) -> Printer {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Printer {
            format,
            quiet,
            verbose,
            colour: io::stdout().is_terminal() && !no_colour && !dumb,
            live: io::stderr().is_terminal() && !dumb && !quiet,
            lines: Live::default(),
            transfer: TransferLine::default(),
        }
    }

    /// The same, for a file: without colours.
    pub(crate) fn plain(&self) -> Printer {
        Printer { colour: false, ..self.clone() }
    }

    pub(crate) fn style(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Note => "33",
            Style::Dim => "2",
            Style::Bold => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// The result of a command. A reader that went away (`| head`) is no failure.
    #[allow(clippy::print_stdout)]
    pub(crate) fn result(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.transfer.end();
        self.lines.above(|| write!(io::stdout().lock(), "{text}{end}").ok());
    }

    /// A result for machines.
    pub(crate) fn json(&self, value: &serde_json::Value) {
        self.result(format!("{value:#}"));
    }

    /// What goes on, for people who watch.
    pub(crate) fn info(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.error(text);
        }
    }

    /// What must be seen.
    #[allow(clippy::print_stderr)]
    pub(crate) fn error(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.transfer.end();
        self.lines.above(|| write!(io::stderr().lock(), "{text}{end}").ok());
    }

    /// The last word of a command that was ended before its end; nothing is redrawn after it.
    pub(crate) fn interrupted(&self, text: &str) {
        self.lines.clear();
        self.error(format!("{} {text}", self.style(Style::Bad, "error:")));
    }

    /// Asks a question with yes or no; no terminal, no yes.
    pub(crate) fn confirm(&self, question: &str) -> io::Result<bool> {
        Ok(matches!(self.ask(&format!("{question} [y/N] "))?.to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Goes on with a yes alone: else nothing happens, as `refused` says; without a terminal, `instead` says what to pass.
    pub(crate) fn agree(&self, question: &str, instead: &str, refused: &str) -> anyhow::Result<()> {
        if !io::stdin().is_terminal() {
            bail!("{instead}");
        }
        if !self.confirm(question)? {
            bail!("{refused}");
        }
        Ok(())
    }

    /// Asks for a line. Without a terminal the answer is empty.
    pub(crate) fn ask(&self, question: &str) -> io::Result<String> {
        if !io::stdin().is_terminal() {
            return Ok(String::new());
        }
        self.transfer.end();
        write!(io::stderr().lock(), "{question}")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Watcher for Printer {
    fn note(&self, text: &str) {
        self.info(text);
    }

    fn transfer(&self, what: &str, done: u64, total: Option<u64>) {
        if self.live {
            self.transfer.show(&self.lines, what, done, total);
        }
    }
}
