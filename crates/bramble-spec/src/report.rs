//! The problems of a cluster file, shown with the text that they are about.

use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::problem::{Place, Problem, Severity, Span};

/// All problems of one file, in the order of their places.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file's name as the user gave it.
    pub path: PathBuf,
    /// Its whole text.
    pub source: String,
    /// The problems.
    pub problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(path: &Path, source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place.span());
        problems.dedup();
        Report { path: path.to_owned(), source: source.to_owned(), problems }
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Line and column (both from 1, in characters) of a byte of the text.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.source[..byte.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// The problems with the lines that they are about, the place underlined; with colours if asked.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let path = self.path.display().to_string();
        let mut text = String::new();
        for problem in &self.problems {
            let level = match problem.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
                Severity::Note => Level::NOTE,
            };
            let mut snippet = Snippet::source(&self.source)
                .path(&path)
                .annotation(AnnotationKind::Primary.span(self.visible(problem.place.span())));
            let others = match &problem.place {
                Place::Text { others, .. } => others.as_slice(),
                _ => &[],
            };
            for (span, note) in others {
                snippet = snippet.annotation(AnnotationKind::Context.span(self.visible(*span)).label(note));
            }
            let mut group: Group = level.primary_title(&problem.message).element(snippet);
            if let Some(next) = &problem.next {
                group = group.element(Level::HELP.message(next));
            }
            text.push_str(&renderer.render(&[group]));
            text.push_str("\n\n");
        }
        let count = |severity| self.problems.iter().filter(|problem| problem.severity == severity).count();
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
