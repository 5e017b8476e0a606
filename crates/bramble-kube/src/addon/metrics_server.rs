//! metrics-server: what its manifest needs here.

use serde_json::{Value, json};

/// The certificates of kubelets are their own, unless somebody approves others (metrics-server, README, "Requirements").
pub(super) fn trust_kubelets(objects: &mut [Value]) {
    let servers = objects.iter_mut().filter(|object| object["kind"] == "Deployment");
    for args in servers.filter_map(|server| server["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut())
    {
        args.push(json!("--kubelet-insecure-tls"));
    }
}
