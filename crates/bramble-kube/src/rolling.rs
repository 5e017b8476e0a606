//! One node after the other: drained, changed, and uncordoned.

use std::net::Ipv4Addr;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::NodeName;

use crate::lifecycle::{Lifecycle, WAITING};

/// How long the controllers may take until they work again.
const CONTROLLERS: Duration = Duration::from_secs(180);

/// Gives the script that drains a node within so many seconds, or uncordons it again, for a control plane.
pub fn drain_node_script(life: &dyn Lifecycle, name: &NodeName, seconds: u32) -> Script {
    let mut script = rolling(life);
    script
        .fixed("api_answers 120")
        .fixed("private_folder")
        .fixed("controllers_work")
        .call("drain_node", [name.as_str(), &seconds.to_string()]);
    Script::new(format!("drain {name}"), &script)
        .silent_for(WAITING + CONTROLLERS + Duration::from_secs(u64::from(seconds)))
}

/// Gives the script that waits until the node reports again and is Ready, with this version if one is given, and uncordons
/// it, for a control plane.
pub fn uncordon_script(life: &dyn Lifecycle, name: &NodeName, version: Option<&str>) -> Script {
    let mut script = rolling(life);
    script
        .fixed("api_answers 120")
        .call("node_returns", [name.as_str(), version.unwrap_or_default()])
        .call("uncordon", [name.as_str()]);
    Script::new(format!("wait until {name} is Ready again, and uncordon it"), &script).silent_for(WAITING)
}

fn rolling(life: &dyn Lifecycle) -> Commands {
    let mut script = life.kubectl();
    script.fixed(include_str!("rolling.sh"));
    script
}

/// Gives the script that waits until its own API answers, for a control plane that was changed.
pub fn updated_script(life: &dyn Lifecycle, address: Ipv4Addr) -> Script {
    let mut script = life.kubectl();
    script.call("api_answers", ["120", &format!("--server=https://{address}:{}", life.api_port())]);
    Script::new("wait until its API answers", &script).silent_for(WAITING)
}
