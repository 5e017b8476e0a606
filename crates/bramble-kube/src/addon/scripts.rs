//! The scripts that bring add-ons to a cluster and take them away.

use bramble_shell::{Commands, Script};

use crate::addon::microk8s;
use crate::addon::plan::{AddonPlan, Has};
use crate::addon::rendered::Rendered;
use crate::lifecycle::Lifecycle;

/// The mark on control planes that holds the add-ons of the cluster, `name=digest` each.
pub const ADDONS: &str = "addons";

fn script(life: &dyn Lifecycle) -> Commands {
    let mut script = Commands::new();
    script.fixed("mkdir -p /run/bramble").append(&life.kubectl()).fixed(include_str!("lib.sh"));
    script
}

/// Gives the commands that make the cluster have an add-on, for a control plane, whose [`Rendered::lines`] are in the
/// file `lines` there; `has`: how it has it until now.
pub fn apply_script(life: &dyn Lifecycle, plan: &AddonPlan, addon: &Rendered, has: Has, lines: &str) -> Commands {
    let mut script = script(life);
    match &addon.microk8s {
        Some(name) => script.call("addon_enable", [name.as_str(), if has == Has::Nothing { "" } else { "again" }]),
        None => script.call("addon_apply", [addon.name.as_str(), lines, &plan.kept_by_others(&addon.name)]),
    };
    script
}

/// Gives the commands that remove an add-on and all that is in its books, for a control plane.
pub fn remove_script(life: &dyn Lifecycle, plan: &AddonPlan, name: &str) -> Commands {
    let mut script = script(life);
    match microk8s::disabled(name) {
        Some(theirs) => script.call("addon_disable", [theirs]),
        None => script.call("addon_remove", [name, &plan.kept_by_others(name)]),
    };
    script
}

/// Gives the script that prints the certificate of the cluster's own authority in base64, or nothing if there is none yet.
pub fn ca_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script
        .fixed("kubectl_admin -n cert-manager get secret bramble-ca --ignore-not-found -o 'jsonpath={.data.ca\\.crt}'");
    Script::new("print the certificate of the cluster's authority", &script)
}

/// Gives the script that writes down which add-ons there are, for each control plane.
pub fn mark_script(mark: &str) -> Script {
    let mut script = Commands::new();
    script.fixed(bramble_state::STEPS).call("step_ends", [ADDONS, mark]);
    Script::new("write down which add-ons there are", &script)
}
