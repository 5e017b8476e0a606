//! Nodes that are switched off, together or one that died.

use std::time::Duration;

use bramble_shell::Script;
use bramble_spec::NodeName;

use crate::lifecycle::{Lifecycle, REPORT};

const POWER: &str = include_str!("power.sh");

/// Gives the script that prints what there is in the cluster, for a control plane: a line for each node with whether it is
/// Ready, and for each workload with how many of its pods are ready.
pub fn running_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed(POWER).fixed("private_folder\nprint_running");
    Script::new("list what runs", &script).printing(REPORT)
}

/// Gives the script that says of a node that it is off for certain, for a control plane: its pods and volumes go elsewhere.
pub fn out_script(life: &dyn Lifecycle, name: &NodeName) -> Script {
    let mut script = life.kubectl();
    script.fixed(POWER).call("out_of_service", [name.as_str()]);
    Script::new(format!("take {name} out of service"), &script).silent_for(Duration::from_secs(60))
}
