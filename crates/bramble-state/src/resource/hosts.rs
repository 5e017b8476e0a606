//! Lines in /etc/hosts, in a block of their own.

use crate::kind::Kind;
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::edit::{TEXTS, edit, with_block};

const HOSTS: &str = "/etc/hosts";

/// An address with its names in each line.
pub(crate) struct Hosts<'a>(pub(crate) &'a str);

impl Hosts<'_> {
    fn edited(&self, text: &str) -> String {
        with_block(text, &[self.0.trim_end().to_owned()])
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
