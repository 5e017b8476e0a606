//! No package that nothing needs: `apt_do` removes them, and remembers which.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question};

const REMOVABLE: &str = "removable";

/// Asks which packages nothing needs.
pub(crate) static UNNEEDED: Question = Question { name: REMOVABLE, write, records: &[(REMOVABLE, read)] };

fn write(_: &Names, script: &mut Commands) {
    script.fixed(include_str!("autoremove.sh"));
}

fn read(name: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    seen.note(REMOVABLE, name, "");
    Some(())
}

pub(crate) struct Autoremove;

impl Kind for Autoremove {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&UNNEEDED);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let list: Vec<&str> = planner.seen().all_noted(REMOVABLE).map(|(name, _)| name).collect();
        if list.is_empty() {
            return;
        }
        let mut script = Commands::new();
        script.call("apt_do", [entry_hash("packages", "").as_str(), "autoremove"]);
        let details = vec![Detail::Value { from: Some(list.join(" ")), to: String::new() }];
        planner.push(Change::new("remove packages that nothing needs", details, script));
    }
}
