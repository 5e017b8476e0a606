//! Package lists that are not too old.

use bramble_shell::Commands;

use crate::kind::Kind;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::file::STATS;

const LISTS: &str = "/var/lib/apt/lists";
const STAMP: &str = "/var/lib/bramble/done/apt-lists";

pub(crate) struct AptLists<'a> {
    /// In seconds.
    pub(crate) max_age: u64,
    /// Files whose change makes the lists stale.
    pub(crate) sources: &'a [String],
}

impl Kind for AptLists<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&STATS, [LISTS, STAMP]);
        probe.ask_about(&STATS, self.sources);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        // Lists are only fetched for something: old ones are no difference that anybody wants to hear of.
        if !planner.installs {
            return;
        }
        let seen = planner.seen();
        let fetched = seen.files.get(STAMP).map(|file| file.modified);
        let age = fetched.map(|fetched| seen.facts.time - fetched);
        let newer = |path: &String| seen.files.get(path).is_some_and(|f| fetched.is_none_or(|t| f.modified >= t));
        let fresh = age.is_some_and(|age| age >= 0 && age.unsigned_abs() <= self.max_age);
        if fresh && !self.sources.iter().any(newer) && self.sources.iter().all(|path| seen.files.contains_key(path)) {
            return;
        }
        let mut script = Commands::new();
        script.call("patient", ["apt-get", "-q", "update"]).call("step_ends", ["apt-lists", "fresh"]);
        let from = age.map(|age| format!("{} h old", age / 3600));
        let details = vec![Detail::Value { from, to: "fresh".into() }];
        planner.push(Change::new("fetch the package lists", details, script));
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        let now = node.facts.time;
        node.record(format!("stat 600 root:root {now} 6 regular file|{STAMP}"));
    }
}
