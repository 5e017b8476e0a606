//! Kernel modules, loaded now and at boot.

use bramble_shell::Commands;

use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question};
use crate::resource::file::File;

const MODULE: &str = "module";

/// Asks which of these modules are there. A module is there when it is loaded, or built in: not every kernel has a list
/// of those, so well-known ones are known by what they bring.
pub(crate) static MODULES: Question = Question { name: MODULE, write, records: &[(MODULE, read)] };

fn write(names: &Names, script: &mut Commands) {
    script.fixed(include_str!("module.sh"));
    script.call("modules", names.keys());
}

fn read(name: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    seen.note(MODULE, name, "");
    Some(())
}

pub(crate) struct Modules<'a>(pub(crate) &'a [String]);

impl Modules<'_> {
    fn file(&self) -> File {
        let text: String = self.0.iter().map(|name| format!("{name}\n")).collect();
        File::new("/etc/modules-load.d/bramble.conf", text)
    }
}

impl Kind for Modules<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&MODULES, self.0);
        self.file().ask(probe);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        self.file().plan(planner);
        let is_missing = |name: &&str| planner.seen().noted(MODULE, name).is_none();
        let missing: Vec<&str> = self.0.iter().map(String::as_str).filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        let mut script = Commands::new();
        for name in &missing {
            script.call("modprobe --", [name]);
        }
        let details = vec![Detail::Value { from: None, to: missing.join(" ") }];
        planner.push(Change::new("load kernel modules", details, script));
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        self.file().satisfied(node);
        for name in self.0 {
            node.record(format!("{MODULE} {name}"));
        }
    }
}
