//! What bramble may have brought and nothing wants any more: `give_back` undoes what the ledger remembers of it,
//! `drop_packages` removes its packages.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::paths::DONE;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question};
use crate::resource::owned_folder::OwnedFolder;
use crate::resource::packages::PACKAGES;

const OURS: &str = "ours";

/// Asks which of these packages bramble installed.
pub(crate) static INSTALLED: Question = Question { name: OURS, write, records: &[(OURS, read)] };

fn write(names: &Names, script: &mut Commands) {
    script.set("h", &entry_hash("packages", ""));
    script.call("set --", names.keys());
    script.fixed(include_str!("cleanup.sh"));
}

fn read(name: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    seen.note(OURS, name, "");
    Some(())
}

/// What bramble may have brought and goes where nothing else of the same plan wants it. What was there before bramble is
/// left as it was then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// What it is, in words.
    pub what: String,
    /// Its units, in the order in which they end.
    pub units: Vec<String>,
    /// Its files and blobs; what ends with `/` or `-` stands for all that begin so.
    pub files: Vec<String>,
    /// Its folders, with what it has written there.
    pub folders: Vec<String>,
    /// Its Debian packages.
    pub packages: Vec<String>,
    /// Steps that were done for it.
    pub steps: Vec<&'static str>,
}

fn stands_for(listed: &str, path: &str) -> bool {
    listed == path || (listed.ends_with(['/', '-']) && path.starts_with(listed))
}

impl Kind for Cleanup {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&PACKAGES, &self.packages);
        probe.ask_about(&INSTALLED, &self.packages);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let seen = planner.seen();
        let free = |name: &&str| !planner.is_wanted(name);
        let remembered = |unit: &&str| seen.kept.contains_key(&entry_hash("unit", unit));
        let units: Vec<&str> = self.units.iter().map(String::as_str).filter(remembered).filter(free).collect();
        let files = seen.kept.iter().filter(|(entry, path)| **entry == entry_hash("file", path));
        let listed = |path: &&str| self.files.iter().any(|listed| stands_for(listed, path));
        let files: Vec<&str> = files.map(|(_, path)| path.as_str()).filter(listed).filter(free).collect();
        let there = |path: &&str| seen.kept.contains_key(&entry_hash("folder", path));
        let folders: Vec<&str> = self.folders.iter().map(String::as_str).filter(there).filter(free).collect();
        let ours = |name: &&str| seen.noted(OURS, name).is_some() && seen.has_package(name);
        let packages: Vec<&str> = self.packages.iter().map(String::as_str).filter(ours).filter(free).collect();
        let steps: Vec<&str> = self.steps.iter().copied().filter(free).collect();
        if [&units, &files, &folders, &packages].iter().all(|all| all.is_empty()) {
            return;
        }
        let mut script = Commands::new();
        script.call("give_back", units.iter().map(|unit| entry_hash("unit", unit)));
        script.call("give_back", steps.iter().map(|step| entry_hash("step", step)));
        for step in &steps {
            script.call("rm -f --", [&format!("{DONE}/{step}")]);
        }
        for path in &files {
            planner.touch(path, &mut script);
        }
        script.call("give_back", files.iter().map(|path| entry_hash("file", path)));
        for path in &folders {
            script.call("give_back", [entry_hash("folder", path)]);
            script.call("rm -f --", [&format!("{DONE}/{}", OwnedFolder(path).mark())]);
        }
        script.fixed("systemctl daemon-reload");
        script.call("read_again", &units);
        if !packages.is_empty() {
            script.call("drop_packages", [entry_hash("packages", "").as_str()].iter().chain(&packages));
        }
        let list = [units, files, folders, packages].concat().join(" ");
        let details = vec![Detail::Value { from: Some(list), to: String::new() }];
        planner.push(Change::new(format!("remove {}", self.what), details, script));
    }
}
