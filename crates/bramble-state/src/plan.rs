//! Changes that a person reads and a node carries out.

use std::path::PathBuf;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Problem, Sha256Digest};

use crate::paths::{LEDGER, STEPS};

/// What must change on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// Why the node must boot again afterwards.
    pub reboot: Option<String>,
    /// What stands in the way and cannot be changed from here; a plan does not know the name of its node.
    pub problems: Vec<Problem>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In a few words.
    pub title: String,
    /// What it comes to.
    pub details: Vec<Detail>,
    /// What the node runs.
    pub script: Commands,
    /// What must be on the node before.
    pub uploads: Vec<Upload>,
    /// Whether it only keeps bramble's own books, and is of no interest to a person.
    pub quiet: bool,
}

impl Change {
    /// Makes a change that needs nothing on the node, and that a person sees.
    pub fn new(title: impl Into<String>, details: Vec<Detail>, script: Commands) -> Change {
        Change { title: title.into(), details, script, uploads: Vec::new(), quiet: false }
    }
}

/// What a change comes to, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// One thing becomes another.
    Value {
        /// What it is, or nothing if there is none.
        from: Option<String>,
        /// What it will be.
        to: String,
    },
    /// A text becomes another.
    Text {
        /// What it is; `None` if there is no such file.
        from: Option<String>,
        /// What it will be.
        to: String,
    },
    /// A text that is not shown.
    Hidden,
}

/// A file that a node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it is called in messages.
    pub name: String,
    /// Where it is here.
    pub from: PathBuf,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// Whether not everybody may read it.
    pub secret: bool,
}

impl Plan {
    /// Tells whether the node is as it should be.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.reboot.is_none() && self.problems.is_empty()
    }

    /// Writes the script that carries the changes out, in one go. It says `@start N`, `@ok N` or `@fail N CODE` for each.
    pub fn script(&self) -> Script {
        let mut script = Commands::new();
        script.fixed(STEPS).fixed(LEDGER);
        for (index, change) in self.changes.iter().enumerate() {
            script.function(&format!("c{index}"), &change.script);
            script.call("run", [index.to_string()]);
        }
        Script::new("make the changes", &script).silent_for(CHANGES)
    }
}

/// How long changes may be silent: the slowest of them, such as a kernel's initramfs on a slow card, say nothing for minutes.
const CHANGES: Duration = Duration::from_secs(30 * 60);
