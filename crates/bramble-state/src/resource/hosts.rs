//! Lines in /etc/hosts, in a block of their own.
//!
//! With `manage_etc_hosts: true`, which the Raspberry Pi Imager writes into its user-data, cloud-init makes the file anew at
//! each boot, out of a template. What a user asks for so stays in force: the block stands in the template, too.

use crate::kind::Kind;
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::edit::{TEXTS, edit, with_block};

const HOSTS: &str = "/etc/hosts";

/// The template of Debian and its children (cloud-init, `cc_update_etc_hosts`).
const TEMPLATE: &str = "/etc/cloud/templates/hosts.debian.tmpl";

/// An address with its names in each line.
pub(crate) struct Hosts<'a>(pub(crate) &'a str);

impl Hosts<'_> {
    fn edited(&self, text: &str) -> String {
        with_block(text, &[self.0.trim_end().to_owned()])
    }
}

impl Kind for Hosts<'_> {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&TEXTS, [HOSTS, TEMPLATE]);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let change = edit(planner, HOSTS, &[], |text| self.edited(text));
        planner.push(change);
        if planner.seen().texts.contains_key(TEMPLATE) {
            let change = edit(planner, TEMPLATE, &[], |text| self.edited(text));
            planner.push(change);
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.edit(HOSTS, |text| self.edited(text));
    }
}
