//! Findings about a cluster file, and how they look with the text they are about.

use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A range of bytes in the text of the cluster file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
}

impl Span {
    pub(crate) fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; the user should know.
    Warning,
}

/// One finding about the cluster file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, naming the object.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Other places that belong to it, each with a few words.
    pub notes: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(message: impl Into<String>, span: Span) -> Self {
        Diagnostic { severity: Severity::Error, message: message.into(), span, notes: Vec::new(), help: None }
    }

    pub(crate) fn warning(message: impl Into<String>, span: Span) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(message, span) }
    }

    pub(crate) fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.notes.push((span, text.into()));
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// All findings about one file, in the order of their places.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file's name as the user gave it.
    pub path: PathBuf,
    /// Its whole text.
    pub source: String,
    /// The findings.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn new(path: &Path, source: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|d| d.span);
        diagnostics.dedup();
        Report { path: path.to_owned(), source: source.to_owned(), diagnostics }
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// Line and column (both from 1, in characters) of a byte of the text.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.source[..byte.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// The findings with the lines they are about, the place underlined; with colours if asked.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let path = self.path.display().to_string();
        let mut text = String::new();
        for d in &self.diagnostics {
            let level = match d.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let mut snippet = Snippet::source(&self.source)
                .path(&path)
                .annotation(AnnotationKind::Primary.span(self.visible(d.span)));
            for (span, note) in &d.notes {
                snippet = snippet.annotation(AnnotationKind::Context.span(self.visible(*span)).label(note));
            }
            let mut group: Group = level.primary_title(&d.message).element(snippet);
            if let Some(help) = &d.help {
                group = group.element(Level::HELP.message(help));
            }
            text.push_str(&renderer.render(&[group]));
            text.push_str("\n\n");
        }
        let count = |severity| self.diagnostics.iter().filter(|d| d.severity == severity).count();
        match count(Severity::Error) {
            0 => {}
            1 => text.push_str(&format!("{path}: 1 error\n")),
            n => text.push_str(&format!("{path}: {n} errors\n")),
        }
        text
    }

    /// A span that shows something: an empty one widens to a character, a long one ends with its first line.
    fn visible(&self, span: Span) -> std::ops::Range<usize> {
        let len = self.source.len();
        let start = span.start.min(len);
        let mut end = span.end.min(len).max(start);
        if let Some(line) = self.source[start..end].find('\n') {
            end = start + line;
        }
        if end == start {
            end = self.source[start..].chars().next().map_or(start, |c| start + c.len_utf8());
        }
        start..end
    }
}
