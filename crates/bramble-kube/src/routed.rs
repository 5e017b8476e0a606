//! The CNI `routed`: all nodes share one Ethernet, so a route for each node's range of pods is all it takes. No
//! overlay, no daemon, nothing to download.

use std::net::Ipv4Addr;

use bramble_spec::{Cluster, Node};
use bramble_state::{File, Resource, Unit};
use serde_json::json;

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
    let script = format!(
        "#!/bin/sh\n# Written by bramble: the way to the pods of the other nodes.\nset -e\ncase $1 in\nup)\n{up}    \
         # A node that has left leaves its route.\n    \
         ip route show proto {PROTOCOL} | while read -r range rest; do\n        \
         case ' {ours}' in *\" $range \"*) ;; *) ip route del \"$range\" proto {PROTOCOL} ;; esac\n    done\n    \
         nft -f - <<'RULES'\n\
         table ip bramble_routed {{}}\ndelete table ip bramble_routed\ntable ip bramble_routed {{\n    \
         chain postrouting {{\n        type nat hook postrouting priority srcnat; policy accept;\n        \
         ip saddr {pods} ip daddr != {{ {cluster_pods}, {members} }} masquerade\n    }}\n}}\nRULES\n    ;;\ndown)\n    ip route flush proto {PROTOCOL}\n    \
         nft delete table ip bramble_routed 2>/dev/null || :\n    ;;\nesac\n",
        cluster_pods = cluster.network.pods,
    );
    let unit = format!(
        "[Unit]\nDescription=Routes to the pods of the other nodes\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh {ROUTES} up\nExecStop=/bin/sh {ROUTES} down\n\
         Restart=on-failure\nRestartSec=2\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let text = serde_json::to_string_pretty(&conflist).unwrap_or_default();
    vec![
        Resource::File(File::new(CONFLIST, format!("{text}\n"))),
        Resource::File(File::new(ROUTES, script)),
        Resource::File(File::new(UNIT, unit)),
        Resource::Unit(Unit::new("bramble-routes", vec![ROUTES.into(), UNIT.into()])),
    ]
}
