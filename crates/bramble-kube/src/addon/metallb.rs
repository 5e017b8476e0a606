//! MetalLB: the addresses that it gives to services.

use bramble_spec::{Cluster, Role};
use serde_json::{Value, json};

/// Lets control planes announce addresses where there is nobody else: kubeadm labels them
/// `node.kubernetes.io/exclude-from-external-load-balancers`, which MetalLB heeds (metallb.io, "Release Notes", 0.14.3).
pub(super) fn announce_anywhere(cluster: &Cluster, objects: &mut [Value]) {
    if cluster.members().any(|node| node.role != Role::ControlPlane) {
        return;
    }
    for object in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array_mut();
        for speaker in containers.into_iter().flatten().filter(|container| container["name"] == "speaker") {
            if let Some(args) = speaker["args"].as_array_mut() {
                args.push(json!("--ignore-exclude-lb"));
            }
        }
    }
}

/// Makes the pool of addresses, announced by ARP (metallb.io, "Layer 2 configuration").
pub(super) fn objects(cluster: &Cluster) -> Vec<Value> {
    let Some(pool) = cluster.network.pool else { return Vec::new() };
    let metadata = json!({ "name": "bramble", "namespace": "metallb-system" });
    vec![
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata,
            "spec": { "addresses": [format!("{}-{}", pool.first, pool.last)] },
        }),
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": metadata,
            "spec": { "ipAddressPools": ["bramble"] },
        }),
    ]
}
