//! metrics-server: what its manifest needs here.

use serde_json::{Value, json};

/// Lets it trust kubelets whose certificates are their own, as they are unless somebody approves others
/// (metrics-server, README, "Requirements").
pub(super) fn trust_kubelets(objects: &mut [Value]) {
    let servers = objects.iter_mut().filter(|object| object["kind"] == "Deployment");
    for args in servers.filter_map(|server| server["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut())
    {
        args.push(json!("--kubelet-insecure-tls"));
    }
}
