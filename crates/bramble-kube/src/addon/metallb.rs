//! MetalLB: the addresses that it gives to services.

use bramble_spec::Cluster;
use serde_json::{Value, json};

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
