//! Lines in /etc/hosts, in a block of their own.

use crate::kind::Kind;
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::edit::{TEXTS, edit, with_block};

const HOSTS: &str = "/etc/hosts";

/// Addresses, each with its names.
pub(crate) struct Hosts<'a>(pub(crate) &'a [(String, String)]);

impl Hosts<'_> {
    fn edited(&self, text: &str) -> String {
        let lines: Vec<String> = self.0.iter().map(|(address, name)| format!("{address} {name}")).collect();
        with_block(text, &lines)
    }
}

impl Kind for Hosts<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&TEXTS, [HOSTS]);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let change = edit(planner, HOSTS, &[], |text| self.edited(text));
        planner.push(change);
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.edit(HOSTS, |text| self.edited(text));
    }
}
