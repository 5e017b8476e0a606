//! The hostname, running and for the next boot: `set_hostname` sets the running one.
//!
//! cloud-init sets the name of its user-data at each boot, unless it is told to leave it.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::FileKind;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::file::{File, STATS};

pub(crate) struct Hostname<'a>(pub(crate) &'a str);

/// The folder of cloud-init's settings, on boards that have it.
const CLOUD: &str = "/etc/cloud/cloud.cfg.d";

impl Hostname<'_> {
    fn kept() -> File {
        File::new(format!("{CLOUD}/99-bramble.cfg"), "# Written by bramble.\npreserve_hostname: true\n")
    }

    fn file(&self) -> File {
        File::new("/etc/hostname", format!("{}\n", self.0))
    }
}

impl Kind for Hostname<'_> {
    fn ask(&self, probe: &mut Probe) {
        self.file().ask(probe);
        probe.ask_about(&STATS, [CLOUD]);
        Hostname::kept().ask(probe);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        self.file().plan(planner);
        if planner.seen().files.get(CLOUD).is_some_and(|seen| seen.kind == FileKind::Folder) {
            Hostname::kept().plan(planner);
        }
        let running = &planner.seen().facts.hostname;
        if running != self.0 {
            let mut script = Commands::new();
            script.call("set_hostname", [entry_hash("hostname", "").as_str(), self.0]);
            let details = vec![Detail::Value { from: Some(running.clone()), to: self.0.to_owned() }];
            planner.push(Change::new("set the hostname", details, script));
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        self.file().satisfied(node);
        node.facts.hostname = self.0.to_owned();
    }
}
