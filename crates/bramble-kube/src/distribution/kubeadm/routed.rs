//! The CNI `routed`: all nodes share one Ethernet, so a route for each node's range of pods is all it takes. No
//! overlay, no daemon, nothing to download.

use std::net::Ipv4Addr;

use bramble_spec::{Cluster, Node};
use bramble_state::{File, Resource, Unit};
use serde_json::json;

use crate::template::fill;

const CONFLIST: &str = "/etc/cni/net.d/10-bramble.conflist";
const ROUTES: &str = "/etc/bramble/routes";
/// Routes that bramble made are known by this number (rtnetlink(7) leaves those above 4 to the user).
const PROTOCOL: u8 = 142;
const UNIT: &str = "/etc/systemd/system/bramble-routes.service";

pub(crate) fn resources(cluster: &Cluster, node: &Node) -> Vec<Resource> {
    let Some(pods) = node.pods else { return Vec::new() };
    let conflist = json!({
        "cniVersion": "0.4.0",
        "name": "bramble",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": pods.to_string() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    let mut up = String::new();
    let mut ours = String::new();
    for other in cluster.members().filter(|other| other.name != node.name) {
        if let Some(range) = other.pods {
            up.push_str(&format!("    ip route replace {range} via {} proto {PROTOCOL}\n", other.address));
            ours.push_str(&format!("{range} "));
        }
    }
    // Pods keep their own addresses among themselves and towards the nodes. Nobody else, in the same network or not, knows
    // the way back to them.
    let mut members: Vec<Ipv4Addr> = cluster.members().map(|node| node.address).chain([cluster.network.api]).collect();
    members.sort_unstable();
    members.dedup();
    let members = members.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    let (protocol, range) = (PROTOCOL.to_string(), pods.to_string());
    let whole = cluster.network.pods.to_string();
    let routes = [("ROUTES", up.as_str()), ("OURS", &ours), ("PROTOCOL", &protocol)];
    let ranges = [("PODS", range.as_str()), ("CLUSTER_PODS", &whole), ("MEMBERS", &members)];
    let script = fill(include_str!("routes.sh.in"), &[routes, ranges].concat());
    let unit = fill(include_str!("routes.service"), &[("SCRIPT", ROUTES)]);
    let text = serde_json::to_string_pretty(&conflist).unwrap_or_default();
    vec![
        Resource::File(File::new(CONFLIST, format!("{text}\n"))),
        Resource::File(File::new(ROUTES, script)),
        Resource::File(File::new(UNIT, unit)),
        Resource::Unit(Unit::new("bramble-routes", vec![ROUTES.into(), UNIT.into()])),
    ]
}
