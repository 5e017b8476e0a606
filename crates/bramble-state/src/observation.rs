//! What is there on a node.

use std::collections::BTreeMap;

use crate::facts::Facts;

/// A file on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits in octal, without leading zeros.
    pub mode: String,
    /// `user:group`.
    pub owner: String,
    /// Seconds since 1970 of its last change.
    pub modified: i64,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// Something else.
    Other,
}

/// A systemd unit on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitSeen {
    /// `LoadState`.
    pub load: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `UnitFileState`.
    pub enabled: String,
    /// `NeedDaemonReload`.
    pub stale: bool,
}

/// Everything that a look at a node brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// What the node is.
    pub facts: Facts,
    pub(crate) files: BTreeMap<String, FileSeen>,
    /// Digests of files, each of 64 lower-case hexadecimal digits.
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) texts: BTreeMap<String, String>,
    /// dpkg's status and the version.
    pub(crate) packages: BTreeMap<String, (String, String)>,
    pub(crate) units: BTreeMap<String, UnitSeen>,
    /// What is in the ledger: by its hash, the path or the unit.
    pub(crate) kept: BTreeMap<String, String>,
    pub(crate) done: BTreeMap<String, String>,
    pub(crate) pending: BTreeMap<String, String>,
    /// What only one kind of resource wants to know.
    notes: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl Observation {
    /// Forgets the texts of files, which nobody needs of a node on which nothing is to change: a thousand nodes would keep a
    /// thousand of them.
    pub fn forget_texts(&mut self) {
        self.texts.clear();
    }
}

/// Why the output of a look cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObservationError {
    /// Another bramble works on the node for longer than anyone would wait.
    #[error("another run of bramble has been working on this node for 15 minutes; end it, or wait for it")]
    Busy,
    /// The script did not run to its end.
    #[error("the node's answer is cut off after {lines} lines")]
    CutOff {
        /// Lines that arrived.
        lines: usize,
    },
    /// A line that this version does not know.
    #[error("the node's answer has a line that cannot be read: `{0}`")]
    Line(String),
}

impl UnitSeen {
    /// Tells whether it runs, or is about to; one that starts again and again does not.
    pub(crate) fn runs(&self) -> bool {
        self.active == "active" || (self.active == "activating" && self.sub != "auto-restart")
    }
}

impl Observation {
    /// Notes what the node answered to the question of one kind of resource.
    pub fn note(&mut self, question: &'static str, name: &str, value: &str) {
        self.notes.entry(question).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// Returns what was noted of a name.
    pub fn noted(&self, question: &str, name: &str) -> Option<&str> {
        self.notes.get(question)?.get(name).map(String::as_str)
    }

    /// Returns all names of which something was noted, each with that.
    pub fn all_noted(&self, question: &str) -> impl Iterator<Item = (&str, &str)> {
        self.notes.get(question).into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Tells whether a service runs that was asked about, by its name without its suffix.
    pub fn runs(&self, service: &str) -> bool {
        self.units.get(&format!("{service}.service")).is_some_and(UnitSeen::runs)
    }

    /// Returns what the mark of a finished step says.
    pub fn done(&self, id: &str) -> Option<&str> {
        self.done.get(id).map(String::as_str)
    }

    /// Takes the mark of a step that was finished since the look.
    pub fn remember(&mut self, id: &str, version: &str) {
        self.done.insert(id.to_owned(), version.to_owned());
    }

    /// Takes the mark of a finished step for not there: the step is done again.
    pub fn forget(&mut self, id: &str) {
        self.done.remove(id);
    }
}
