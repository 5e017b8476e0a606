//! A UPS: when its battery is low, all boards go off in order, workers first.

use bramble_spec::{Cluster, Node, Role};
use bramble_state::{Cleanup, File, Resource, Unit};

use crate::inputs::Inputs;

const MODE: &str = "/etc/nut/nut.conf";
const MONITOR: &str = "/etc/nut/upsmon.conf";
/// The Debian package that watches a UPS over the network.
pub(crate) const PACKAGE: &str = "nut-client";
/// How many seconds each kind of node gives those that go off before it: the kubelet ends its pods within 40.
const WORKERS: u32 = 50;

/// Pods end in order where the kubelet hears of it. An upgrade of packages that goes on keeps even root from that (systemd 257),
/// also with `-i` where there is no polkit; and the battery does not wait.
const OFF: &str =
    "/bin/systemctl poweroff || /bin/systemctl --no-block --job-mode=replace-irreversibly start poweroff.target";

/// Gives what a node has to watch a UPS.
pub(crate) fn resources(cluster: &Cluster, node: &Node, inputs: &Inputs) -> Vec<Resource> {
    let Some(ups) = &cluster.ups else { return Vec::new() };
    let password = inputs.ups_password.as_deref().unwrap_or("secret");
    let wait = match node.role {
        Role::Worker => 0,
        Role::ControlPlane => WORKERS,
        // The others hear of the UPS through it.
        Role::Gateway => 2 * WORKERS,
    };
    // upsmon.conf(5); words in quotes, where `"` and `\` have a backslash before them.
    let password = password.replace('\\', "\\\\").replace('"', "\\\"");
    let text = format!(
        "# Written by bramble: the board goes off when the battery of the UPS is low.\nMONITOR {} 1 {} \"{password}\" slave\nMINSUPPLIES 1\n\
         SHUTDOWNCMD \"{OFF}\"\nPOLLFREQ 5\nPOLLFREQALERT 2\nHOSTSYNC 15\nDEADTIME 25\nFINALDELAY {wait}\n",
        ups.name, ups.user
    );
    vec![
        Resource::File(File::new(MODE, "# Written by bramble: a UPS that another machine watches.\nMODE=netclient\n")),
        Resource::File(File { mode: "640".into(), secret: true, ..File::new(MONITOR, text) }),
        Resource::Unit(Unit::new("nut-monitor", vec![MODE.into(), MONITOR.into()])),
    ]
}

/// Gives all that nodes may have of it.
pub(crate) fn cleanup() -> Cleanup {
    Cleanup {
        what: "what watched the UPS".to_owned(),
        units: vec!["nut-monitor.service".to_owned()],
        files: [MODE, MONITOR].map(str::to_owned).to_vec(),
        packages: vec![PACKAGE.to_owned()],
        ..Cleanup::default()
    }
}
