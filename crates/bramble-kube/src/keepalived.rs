//! An address of the API that moves between control planes: keepalived, VRRP over unicast (RFC 5798).

use bramble_spec::{Cluster, Node, Role};
use bramble_state::{File, Observation, Resource, Unit};

use crate::lifecycle::Lifecycle;

const CONFIG: &str = "/etc/keepalived/keepalived.conf";
const CHECK: &str = "/etc/bramble/api-answers";

/// The packages that it takes.
pub(crate) const PACKAGES: [&str; 2] = ["curl", "keepalived"];
/// The folder that belongs to it.
pub(crate) const FOLDER: &str = "/etc/keepalived";

/// Whether the API's address belongs to no node, so that it must move.
pub(crate) fn wanted(cluster: &Cluster) -> bool {
    cluster.nodes.iter().all(|node| node.address != cluster.network.api)
}

/// Whether this node may hold the address.
pub(crate) fn holds(cluster: &Cluster, node: &Node) -> bool {
    node.role == Role::ControlPlane && wanted(cluster)
}

/// What a control plane has so that the address is where the API answers. All have the same priority, and more while
/// their API answers: the address stays where it is until it must go, and does not come back by itself.
pub(crate) fn resources(cluster: &Cluster, node: &Node, seen: &Observation, life: &dyn Lifecycle) -> Vec<Resource> {
    let here = node.address.to_string();
    let interface =
        seen.facts.addresses.iter().find(|(address, _)| *address == here).map_or("eth0", |(_, interface)| interface);
    let peers: String = cluster
        .control_planes()
        .filter(|other| other.name != node.name)
        .map(|other| format!("        {}\n", other.address))
        .collect();
    let api = cluster.network.api;
    // Nobody else hears unicast, so the number only has to be the same on all; 0 is not one.
    let number = api.octets()[3].max(1);
    let text = format!(
        "# Written by bramble.\nglobal_defs {{\n    router_id {name}\n    enable_script_security\n    script_user root\n}}\n\n\
         vrrp_script api_answers {{\n    script {CHECK}\n    interval 2\n    timeout 3\n    fall 2\n    rise 1\n    weight 50\n}}\n\n\
         vrrp_instance api {{\n    state BACKUP\n    interface {interface}\n    virtual_router_id {number}\n    \
         priority 100\n    advert_int 1\n    unicast_src_ip {here}\n    unicast_peer {{\n{peers}    }}\n    \
         virtual_ipaddress {{\n        {api}/32\n    }}\n    track_script {{\n        api_answers\n    }}\n}}\n",
        name = node.name,
    );
    let member = if life.begins_alone() { "[ -e /var/lib/bramble/done/kubernetes ] || exit 1\n" } else { "" };
    let check = format!(
        "#!/bin/sh\n# Written by bramble: does the API of this control plane answer?\n{member}\
         exec curl -sfk --max-time 2{} -o /dev/null https://127.0.0.1:{}/readyz\n",
        life.api_probe(),
        life.api_port()
    );
    vec![
        Resource::File(File { mode: "755".into(), ..File::new(CHECK, check) }),
        Resource::File(File::new(CONFIG, text)),
        Resource::Unit(Unit::new("keepalived", vec![CONFIG.into()])),
    ]
}
