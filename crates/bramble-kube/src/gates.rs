//! Gates: what must be true before the next stage, asked on a control plane.

use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, hex};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lifecycle::Lifecycle;

/// How long scripts may be silent that wait for something on the cluster, by themselves for three minutes at most.
const WAITING: Duration = Duration::from_secs(5 * 60);

/// Waits until every node of the cluster is Ready and every pod of the system runs. Fails with what is not.
pub fn ready_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = gates(life);
    script.fixed(include_str!("rolling.sh")).fixed("api_answers 120\nuncordon_left");
    adopt(&mut script, cluster, 120);
    script.fixed("echo '@fact gate nodes-appeared'");
    for node in cluster.members() {
        script.append(&life.introduce(node));
    }
    script.call("nodes_ready", cluster.members().map(|node| node.name.as_str())).fixed("system_ready");
    Script::new("wait until all nodes are Ready and the pods of the system run", &script).silent_for(WAITING)
}

/// The fact of [`health_script`] that names something that is not as it should be.
pub const UNREADY: &str = "unready";

/// Run on a control plane: tells whether its API answers now, as the fact [`ANSWERS`](crate::ANSWERS), and what is not as it
/// should be, as facts [`UNREADY`]. It waits for nothing, and succeeds where there is no cluster yet.
pub fn health_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed(include_str!("health.sh"));
    script.call("tell_health", cluster.members().map(|node| node.name.as_str()));
    Script::new("ask the API how the cluster is", &script).silent_for(Duration::from_secs(60))
}

fn gates(life: &dyn Lifecycle) -> Commands {
    let mut script = life.kubectl();
    script.fixed(include_str!("gates.sh"));
    script
}

/// Waits until the nodes have registered, so many seconds for each, and gives them their ranges of pods.
fn adopt(script: &mut Commands, cluster: &Cluster, patience: u32) {
    for node in cluster.members() {
        let range = node.pods.map_or_else(String::new, |pods| pods.to_string());
        script.call("adopt", [node.name.as_str(), &range, &patience.to_string()]);
    }
}

/// The same beside the joins, so that a node is Ready as soon as it has joined.
pub fn adopt_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = gates(life);
    adopt(&mut script, cluster, 20);
    Script::new("give the nodes their ranges of pods", &script)
}

/// What the mark of a passed smoke test says: it holds for these nodes.
pub fn smoke_mark(cluster: &Cluster) -> String {
    let names: Vec<String> = cluster.members().map(|node| format!("{}={}", node.name, node.address)).collect();
    hex(&Sha256::digest(names.join(" ").as_bytes())[..8])
}

/// A pod of `image` on every node answers every other node's pod, and through a service; then all of it is removed.
pub fn smoke_script(cluster: &Cluster, life: &dyn Lifecycle, image: &str) -> Script {
    let labels = json!({ "app": "bramble-smoke" });
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
    Script::new("run the smoke test", &script).silent_for(WAITING)
}

/// Takes the pods off the workers before the cluster goes; best effort, bounded in time.
pub fn drain_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = gates(life);
    script.call("drain_all", cluster.members().map(|node| node.name.as_str()));
    Script::new("end the pods", &script)
}

/// The fact of [`forget_tokens_script`] that says that the tokens are removed.
pub const TOKENS: &str = "tokens";

/// Forgets tokens that bramble made: nothing needs them when all nodes have joined. It says so, as the fact [`TOKENS`].
pub fn forget_tokens_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed("forget_tokens\necho '@fact tokens removed'");
    Script::new("remove the join tokens", &script)
}
