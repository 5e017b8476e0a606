//! Something that is done once: `step_begins` remembers how to undo it, `step_ends` leaves its mark.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::plan::Change;
use crate::planner::Planner;
use crate::probe::Probe;

/// Something that is done once, and whose mark says with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The name of its mark below [`DONE`](crate::DONE).
    pub id: &'static str,
    /// In words, for plan and progress.
    pub title: String,
    /// What the mark must say; when it says something else, the step is done again.
    pub version: String,
    /// Does it. It must cope with an earlier attempt that was cut off anywhere.
    pub apply: Commands,
    /// Undoes it, also when it was cut off anywhere.
    pub undo: Option<Commands>,
}

impl Kind for Step {
    fn ask(&self, _: &mut Probe) {}

    fn announce(&self, planner: &mut Planner<'_>) {
        planner.want(self.id);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        if planner.seen().done(self.id) == Some(&self.version) {
            return;
        }
        let mut script = Commands::new();
        let undo = self.undo.as_ref().map_or_else(String::new, |undo| BASE64_STANDARD.encode(undo.as_str()));
        script.call("step_begins", [&entry_hash("step", self.id), self.id, &self.title, &undo]);
        script.append(&self.apply);
        script.call("step_ends", [self.id, &self.version]);
        // A step that does nothing is only remembered for its undoing.
        let quiet = self.apply.is_empty();
        planner.push(Change { quiet, ..Change::new(&self.title, Vec::new(), script) });
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.record(format!("done {} {}", self.id, self.version));
    }
}
