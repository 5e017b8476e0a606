//! A folder that belongs to software which bramble installs: `own_folder` remembers whether it was there before.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::plan::Change;
use crate::planner::Planner;
use crate::probe::Probe;

pub(crate) struct OwnedFolder<'a>(pub(crate) &'a str);

impl OwnedFolder<'_> {
    pub(crate) fn mark(&self) -> String {
        format!("folder.{}", entry_hash("folder", self.0))
    }
}

impl Kind for OwnedFolder<'_> {
    fn ask(&self, _: &mut Probe) {}

    fn announce(&self, planner: &mut Planner<'_>) {
        planner.want(self.0);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        // What is remembered once needs no look: a node without this entry has no ledger at all, or an older one.
        let (mark, path) = (self.mark(), self.0);
        if planner.seen().done(&mark).is_some() {
            return;
        }
        let mut script = Commands::new();
        script.call("own_folder", [entry_hash("folder", path).as_str(), path]);
        script.call("step_ends", [mark.as_str(), path]);
        let title = format!("remember whether {path} is there");
        planner.push(Change { quiet: true, ..Change::new(title, Vec::new(), script) });
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.record(format!("done {} {}", self.mark(), self.0));
    }
}
