//! An address of the API that moves between control planes: keepalived, VRRP over unicast (RFC 5798).

use bramble_spec::{Cluster, Node, Role};
use bramble_state::{File, Observation, Resource, Unit};

use crate::lifecycle::Lifecycle;
use crate::template::fill;

const CONFIG: &str = "/etc/keepalived/keepalived.conf";
const CHECK: &str = "/etc/bramble/api-answers";

/// The packages that it takes.
pub(crate) const PACKAGES: [&str; 2] = ["curl", "keepalived"];
/// The folder that belongs to it.
pub(crate) const FOLDER: &str = "/etc/keepalived";

/// Tells whether the API's address belongs to no node, so that it must move.
pub(crate) fn wanted(cluster: &Cluster) -> bool {
    cluster.nodes.iter().all(|node| node.address != cluster.network.api)
}

/// Tells whether this node may hold the address.
pub(crate) fn holds(cluster: &Cluster, node: &Node) -> bool {
    node.role == Role::ControlPlane && wanted(cluster)
}

/// Gives what a control plane has so that the address is where the API answers. All have the same priority, and more
/// while their API answers: the address stays where it is until it must go, and does not come back by itself.
pub(crate) fn resources(cluster: &Cluster, node: &Node, seen: &Observation, life: &dyn Lifecycle) -> Vec<Resource> {
    let here = node.address.to_string();
    let interface =
        seen.facts.addresses.iter().find(|(address, _)| *address == here).map_or("eth0", |(_, interface)| interface);
    let peers: String = cluster
        .control_planes()
        .filter(|other| other.name != node.name)
        .map(|other| format!("        {}\n", other.address))
        .collect();
    // Nobody else hears unicast, so the number only has to be the same on all; 0 is not one.
    let number = cluster.network.api.octets()[3].max(1);
    let (api, number) = (cluster.network.api.to_string(), number.to_string());
    let own = [("NAME", node.name.as_str()), ("INTERFACE", interface), ("HERE", &here), ("PEERS", &peers)];
    let shared = [("API", api.as_str()), ("NUMBER", &number), ("CHECK", CHECK)];
    let text = fill(include_str!("keepalived.conf"), &[&own[..], &shared].concat());
    let member = if life.begins_alone() { "[ -e /var/lib/bramble/done/kubernetes ] || exit 1\n" } else { "" };
    let port = life.api_port().to_string();
    let values = [("MEMBER", member), ("PROBE", life.api_probe()), ("PORT", &port)];
    let check = fill(include_str!("api_answers.sh.in"), &values);
    vec![
        Resource::File(File { mode: "755".into(), ..File::new(CHECK, check) }),
        Resource::File(File::new(CONFIG, text)),
        Resource::Unit(Unit::new("keepalived", vec![CONFIG.into()])),
    ]
}
