//! The state of a cluster, to be kept elsewhere.

pub(crate) mod automatic;
mod places;
pub(crate) mod volumes;

use std::time::Duration;

use bramble_shell::Script;

use crate::lifecycle::{Lifecycle, REPORT};

/// The most bytes that a backup may have: the data of a large cluster, packed, many times over.
const BACKUP: u64 = 64 * 1024 * 1024 * 1024;

/// Gives the script that prints the state of the cluster as a tar archive, gzip, for a control plane.
pub fn backup_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed(include_str!("backup.sh")).fixed("print_state");
    Script::new("save the state of the cluster", &script).silent_for(Duration::from_secs(15 * 60)).printing(BACKUP)
}

/// Gives the script that prints the objects that tell whether a cluster is the same, as `uid kind namespace/name`, for a
/// control plane.
pub fn objects_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed(include_str!("backup.sh")).fixed("print_objects");
    Script::new("list the objects of the cluster", &script).printing(REPORT)
}
