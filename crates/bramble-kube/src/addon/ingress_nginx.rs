//! The ingress of the Kubernetes project: where its manifest runs it.

use serde_json::{Value, json};

/// Moves it from a port of the nodes, where the project's manifest for bare metal has it, to 80 and 443 of every node
/// (kubernetes.github.io/ingress-nginx, "Bare-metal considerations", "Via the host network").
pub(super) fn on_every_node(objects: &mut [Value]) {
    for object in objects.iter_mut().filter(|object| object["metadata"]["name"] == "ingress-nginx-controller") {
        if object["kind"] == "Deployment" {
            object["kind"] = json!("DaemonSet");
            let spec = &mut object["spec"];
            let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } });
            if let Some(fields) = spec.as_object_mut() {
                for gone in ["replicas", "strategy"] {
                    fields.remove(gone);
                }
            }
            spec["updateStrategy"] = strategy;
            spec["template"]["spec"]["hostNetwork"] = json!(true);
            spec["template"]["spec"]["dnsPolicy"] = json!("ClusterFirstWithHostNet");
        }
    }
}
