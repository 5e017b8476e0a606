//! The smoke test: pods on all nodes reach each other.

use std::time::Duration;

use bramble_shell::Script;
use bramble_spec::{Cluster, hex};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lifecycle::Lifecycle;

/// The silence of the script: by itself it waits three minutes at most.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Says what the mark of a passed smoke test says: it holds for these nodes.
pub fn smoke_mark(cluster: &Cluster) -> String {
    let names: Vec<String> = cluster.members().map(|node| format!("{}={}", node.name, node.address)).collect();
    hex(&Sha256::digest(names.join(" ").as_bytes())[..8])
}

/// Gives the script of the test: a pod of `image` on every node answers every other node's pod, and through a service;
/// then all of it is removed.
pub fn smoke_script(cluster: &Cluster, life: &dyn Lifecycle, image: &str) -> Script {
    let labels = json!({ "app": "bramble-smoke" });
    // Not on nodes that the API remembers and the cluster file does not have, as after a restore onto fewer boards.
    let names: Vec<&str> = cluster.members().map(|node| node.name.as_str()).collect();
    let on = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": names });
    let manifest = json!({
        "apiVersion": "v1", "kind": "List",
        "items": [
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "bramble-smoke" } },
            {
                "apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": { "name": "smoke", "namespace": "bramble-smoke" },
                "spec": {
                    "selector": { "matchLabels": labels },
                    "template": {
                        "metadata": { "labels": labels },
                        "spec": {
                            "tolerations": [{ "operator": "Exists" }],
                            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [{ "matchExpressions": [on] }],
                            } } },
                            "automountServiceAccountToken": false,
                            "terminationGracePeriodSeconds": 0,
                            "containers": [{
                                "name": "smoke", "image": image, "imagePullPolicy": "IfNotPresent",
                                "command": ["/bin/sh", "-c",
                                    "mkdir -p /tmp/www && echo \"$NODE\" >/tmp/www/node && exec busybox httpd -f -p 8080 -h /tmp/www"],
                                "env": [{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
                                "readinessProbe": {
                                    "httpGet": { "path": "/node", "port": 8080 }, "periodSeconds": 1, "failureThreshold": 60,
                                },
                            }],
                        },
                    },
                },
            },
            {
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": "smoke", "namespace": "bramble-smoke" },
                "spec": { "selector": labels, "ports": [{ "port": 80, "targetPort": 8080 }] },
            },
        ],
    });
    let mut script = life.kubectl();
    script.call("private_file", ["/run/bramble/smoke.json", &manifest.to_string()]);
    script.fixed(include_str!("smoke.sh"));
    script.call("smoke_test", [cluster.members().count().to_string(), smoke_mark(cluster)]);
    Script::new("run the smoke test", &script).silent_for(SILENCE)
}
