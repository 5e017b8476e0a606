//! The difference between what should be there and what is.

use crate::observation::Observation;
use crate::plan::Plan;
use crate::planner::Planner;
use crate::resource::Resource;

/// Finds what must change so that the node has all of `resources`. It depends on nothing but its arguments.
pub fn plan(resources: &[Resource], seen: &Observation) -> Plan {
    let mut planner = Planner::new(seen);
    for resource in resources {
        resource.with_kind(|kind| kind.announce(&mut planner));
    }
    for resource in resources {
        resource.with_kind(|kind| kind.plan(&mut planner));
    }
    // A boot that was announced before and did not happen yet.
    if seen.pending.get("reboot").is_some_and(|boot| *boot == seen.facts.boot_id) {
        planner.reboot("a change to config.txt takes effect at boot");
    }
    planner.into_plan()
}
