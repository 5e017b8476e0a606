//! Debian packages that keep their version: `hold` holds them.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::packages::{PACKAGES, package_name};

pub(crate) struct Hold<'a>(pub(crate) &'a [String]);

impl Kind for Hold<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&PACKAGES, self.0.iter().map(|name| package_name(name)));
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let packages = &planner.seen().packages;
        let held = |name: &&str| packages.get(*name).is_some_and(|(status, _)| status.starts_with('h'));
        let free: Vec<&str> = self.0.iter().map(String::as_str).filter(|name| !held(name)).collect();
        if free.is_empty() {
            return;
        }
        let mut script = Commands::new();
        script.call("hold", [entry_hash("hold", "").as_str()].iter().chain(&free));
        let details = vec![Detail::Value { from: None, to: free.join(" ") }];
        planner.push(Change::new("hold packages", details, script));
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        for name in self.0 {
            node.package(name).held = true;
        }
    }
}
