//! The resolver: what it has found so far.

use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::de::Spanned;
use crate::distribution::Datastore;
use crate::problem::{Problem, Span};

/// Makes a [`crate::Cluster`] of what was written. Each section has a file of its own.
pub(super) struct Resolver<'a> {
    pub(super) found: Vec<Problem>,
    /// Places whose value could not be read and was reported: nothing there is "missing".
    pub(super) skipped: Vec<Span>,
    /// Whether something is wrong with the nodes: how many there are of a kind, and which, is not known then.
    pub(super) nodes_broken: bool,
    /// The datastore that was asked for: whether it fits is known with the nodes.
    pub(super) datastore: Option<Spanned<Datastore>>,
    /// The parts that this cluster can name.
    pub(super) catalogue: Arc<Catalogue>,
    /// The text of a file, by its path as written.
    pub(super) read: &'a dyn Fn(&str) -> std::io::Result<String>,
}

impl Resolver<'_> {
    pub(super) fn error(&mut self, message: impl Into<String>, span: Span, help: impl Into<String>) {
        self.found.push(Problem::error(message, span).next(help));
    }

    /// Tells whether a value in a place was wrong, which was reported.
    pub(super) fn has_skipped(&self, within: Span) -> bool {
        self.skipped.iter().any(|span| within.contains(*span))
    }

    /// Reports that something is missing in `within`, unless a value there was wrong and already reported.
    pub(super) fn missing(&mut self, what: &str, within: Span, at: Span, help: &str) {
        if !self.has_skipped(within) {
            self.error(format!("`{what}` is missing"), at, help);
        }
    }
}
