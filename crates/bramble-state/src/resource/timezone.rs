//! The time zone.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::file::{File, ask_digest};

const LOCALTIME: &str = "/etc/localtime";
const ZONES: &str = "/usr/share/zoneinfo";

pub(crate) struct Timezone<'a>(pub(crate) &'a str);

impl Timezone<'_> {
    fn file(&self) -> File {
        File::new("/etc/timezone", format!("{}\n", self.0))
    }

    fn zone_file(&self) -> String {
        format!("{ZONES}/{}", self.0)
    }
}

impl Kind for Timezone<'_> {
    fn ask(&self, probe: &mut Probe) {
        ask_digest(probe, LOCALTIME, None, false);
        ask_digest(probe, &self.zone_file(), None, false);
        self.file().ask(probe);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        self.file().plan(planner);
        let (seen, zone, file) = (planner.seen(), self.0, self.zone_file());
        match (seen.digests.get(&file), seen.digests.get(LOCALTIME)) {
            (Some(wanted), Some(is)) if wanted == is => {}
            (None, _) if seen.files.contains_key(ZONES) => {
                planner.problem(
                    format!("the node knows no time zone {zone}"),
                    format!("choose one of those below {ZONES}"),
                );
            }
            _ => {
                let mut script = Commands::new();
                script.call("remember_file", [&entry_hash("file", LOCALTIME), LOCALTIME]);
                script.call("test -e", [&file]).call("beside", [LOCALTIME]);
                script.call("ln -s --", [&file, "./new"]).call("settle", [LOCALTIME]);
                let details = vec![Detail::Value { from: None, to: zone.to_owned() }];
                planner.push(Change::new("set the time zone", details, script));
            }
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        self.file().satisfied(node);
        for path in [LOCALTIME, &self.zone_file()] {
            node.file(path, "644", &crate::digest::sha256(self.0.as_bytes()));
        }
    }
}
