//! The one gate through which everything is printed.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anstream::adapter::strip_str;
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

/// When output has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On terminals, unless NO_COLOR is set; everywhere if CLICOLOR_FORCE is.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl Colour {
    /// Decides for a stream (bixense.com/clicolors, no-color.org).
    fn on(self, terminal: bool, env: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        match self {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto if set("NO_COLOR").is_some() => false,
            Colour::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Colour::Auto => terminal && env("TERM").is_some_and(|term| term != "dumb"),
        }
    }
}

/// Where output goes, and how.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Whether texts are made with colours, which go where a stream wants none.
    pub(crate) colour: bool,
    /// Whether standard output wants colours.
    on_output: bool,
    /// Whether standard error wants colours.
    on_error: bool,
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
    pub(crate) fn new(format: Format, colour: Colour, quiet: bool, verbose: bool) -> Printer {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let env = |name: &str| std::env::var(name).ok();
        let on_output = colour.on(io::stdout().is_terminal(), env);
        let on_error = colour.on(io::stderr().is_terminal(), env);
        Printer {
            format,
            quiet,
            verbose,
            colour: on_output || on_error,
            on_output,
            on_error,
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
        let text = fit(text.as_ref(), self.on_output);
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
        let text = fit(text.as_ref(), self.on_error);
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

/// The text as a stream wants it.
fn fit(text: &str, colour: bool) -> Cow<'_, str> {
    if colour || !text.contains('\u{1b}') { text.into() } else { strip_str(text).to_string().into() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_has_colours_where_it_is_a_terminal_and_nobody_says_otherwise() {
        let decides = |colour: Colour, terminal: bool, set: &[(&str, &str)]| {
            let env = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            colour.on(terminal, env)
        };
        let xterm = ("TERM", "xterm");
        for (colour, terminal, set, expected) in [
            (Colour::Auto, true, &[xterm][..], true),
            (Colour::Auto, false, &[xterm], false),
            (Colour::Auto, true, &[("TERM", "dumb")], false),
            (Colour::Auto, true, &[], false),
            (Colour::Auto, true, &[xterm, ("NO_COLOR", "1")], false),
            (Colour::Auto, true, &[xterm, ("NO_COLOR", "")], true),
            (Colour::Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Colour::Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Colour::Auto, true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (Colour::Always, false, &[("NO_COLOR", "1")], true),
            (Colour::Never, true, &[xterm, ("CLICOLOR_FORCE", "1")], false),
        ] {
            assert_eq!(decides(colour, terminal, set), expected, "{colour:?} {terminal} {set:?}");
        }
        assert_eq!(fit("\u{1b}[31mred\u{1b}[0m", false), "red");
        assert_eq!(fit("\u{1b}[31mred\u{1b}[0m", true), "\u{1b}[31mred\u{1b}[0m");
    }
}
