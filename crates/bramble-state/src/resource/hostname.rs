//! The hostname, running and for the next boot: `set_hostname` sets the running one.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::file::File;

pub(crate) struct Hostname<'a>(pub(crate) &'a str);

impl Hostname<'_> {
    fn file(&self) -> File {
        File::new("/etc/hostname", format!("{}\n", self.0))
    }
}

impl Kind for Hostname<'_> {
    fn ask(&self, probe: &mut Probe) {
        self.file().ask(probe);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        self.file().plan(planner);
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
