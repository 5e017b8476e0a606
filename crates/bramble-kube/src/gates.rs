//! Gates: what must be true before the next stage, asked on a control plane.

use bramble_spec::{Cluster, hex};
use bramble_state::Commands;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lifecycle::Lifecycle;

/// Waits until every node of the cluster is Ready and every pod of the system runs. Fails with what is not.
pub fn ready_script(cluster: &Cluster, life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.fixed("api_answers 120 || exit 1");
    script.append(&adopt(cluster, 120));
    let names: Vec<&str> = cluster.members().map(|node| node.name.as_str()).collect();
    script.fixed("echo '@fact gate nodes-appeared'");
    for node in cluster.members() {
        script.append(&life.introduce(node));
    }
    script.call("kubectl_admin wait --for=condition=Ready --timeout=180s node", &names);
    script.fixed(
        r#"echo '@fact gate nodes-ready'
# Those whose work is over are never ready.
waiting() {
    kubectl_admin -n kube-system get pods -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' |
        awk 'NF && $2 != "Succeeded" && $2 != "Failed" && $3 != "True"'
}
n=0
until w=$(waiting) && [ -z "$w" ]; do
    [ "$n" -lt 180 ] || { kubectl_admin -n kube-system get pods -o wide >&2; exit 1; }
    sleep 1; n=$((n + 1))
done
echo '@fact gate system-ready'"#,
    );
    script.as_str().to_owned()
}

/// Waits until the nodes have registered, and tells the API which range of pods each has where bramble chose it. A
/// kubelet that knows its range reports at once, not after ten seconds. `patience`: seconds to wait for each.
fn adopt(cluster: &Cluster, patience: u32) -> Commands {
    let mut script = Commands::new();
    script.set("tries", &(2 * patience).to_string());
    script.fixed(
        r#"adopt() { # node range
    n=0
    until r=$(kubectl_admin get node "$1" -o 'jsonpath={.spec.podCIDR}' 2>/dev/null); do
        [ "$n" -lt "$tries" ] || { echo "the node $1 does not appear" >&2; return 1; }
        sleep 0.5; n=$((n + 1))
    done
    [ -z "$2" ] || [ -n "$r" ] || kubectl_admin patch node "$1" --type merge -p "{\"spec\":{\"podCIDR\":\"$2\",\"podCIDRs\":[\"$2\"]}}" >/dev/null
}"#,
    );
    for node in cluster.members() {
        let range = node.pods.map_or_else(String::new, |pods| pods.to_string());
        script.call_with("adopt", [node.name.as_str(), &range], "|| exit 1");
    }
    script
}

/// The same beside the joins, so that a node is Ready as soon as it has joined.
pub fn adopt_script(cluster: &Cluster, life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.append(&adopt(cluster, 20));
    script.as_str().to_owned()
}

/// What the mark of a passed smoke test says: it holds for these nodes.
pub fn smoke_mark(cluster: &Cluster) -> String {
    let names: Vec<String> = cluster.members().map(|node| format!("{}={}", node.name, node.address)).collect();
    hex(&Sha256::digest(names.join(" ").as_bytes())[..8])
}

/// A pod of `image` on every node answers every other node's pod, and through a service; then all of it is removed.
pub fn smoke_script(cluster: &Cluster, life: &dyn Lifecycle, image: &str) -> String {
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
    script.set("nodes", &cluster.members().count().to_string());
    script.set("mark", &smoke_mark(cluster));
    script.fixed(
        r#"k() { kubectl_admin -n bramble-smoke "$@"; }
clean() { kubectl_admin delete namespace bramble-smoke --ignore-not-found --wait="$1" --timeout=60s >/dev/null; }
fail() { echo "$1" >&2; k get pods -o wide >&2; k describe pods 2>/dev/null | sed -n '/^Events:/,$p' | tail -n 15 >&2; clean false; exit 1; }
clean true
rm -rf /run/bramble/smoke
mkdir /run/bramble/smoke
kubectl_admin apply -f /run/bramble/smoke.json >/dev/null || fail 'the smoke test cannot be applied'
k rollout status daemonset/smoke --timeout=120s >/dev/null || fail 'a pod of the smoke test does not become ready'
k get pods -l app=bramble-smoke -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\n"}{end}' >/run/bramble/smoke/pods
service=$(k get service smoke -o 'jsonpath={.spec.clusterIP}')
count=0
while read -r pod node address; do count=$((count + 1)); done </run/bramble/smoke/pods
[ "$count" = "$nodes" ] || fail "there are $count pods of the smoke test on $nodes nodes"
targets=
while read -r pod node address; do targets="$targets $node=http://$address:8080/node"; done </run/bramble/smoke/pods
# Each pod asks every pod and the service, all pods at once. A kube-proxy whose connection to the API died with another
# control plane learns that after 45 seconds (30 without a word, 15 for the answer to its ping).
while read -r pod node address; do
    k exec "$pod" -- sh -c '
        end=$(($(date +%s) + 60))
        for t in "$@"; do
            name=${t%%=*}; url=${t#*=}
            until got=$(timeout 3 wget -q -O - "$url" 2>/dev/null); do
                [ "$(date +%s)" -lt "$end" ] || { echo "no answer from $name at $url within 60 s"; exit 1; }
                sleep 0.5
            done
            [ "$name" = service ] || [ "$got" = "$name" ] || { echo "$url answers as $got instead of $name"; exit 1; }
        done' sh $targets "service=http://$service/node" </dev/null >"/run/bramble/smoke/said.$node" 2>&1 || : >"/run/bramble/smoke/failed.$node" &
done </run/bramble/smoke/pods
wait
bad=
while read -r pod node address; do
    # A shell also speaks of a try that was ended: only its end tells.
    [ ! -e "/run/bramble/smoke/failed.$node" ] || bad="$bad
from $node: $(cat "/run/bramble/smoke/said.$node")"
done </run/bramble/smoke/pods
rm -rf /run/bramble/smoke /run/bramble/smoke.json
[ -z "$bad" ] || fail "the pod network does not work:$bad"
clean true
step_ends smoke "$mark"
paths="$((count * count)) paths"
[ "$count" != 1 ] || paths='1 path'
echo "@fact smoke $paths between pods, $count through the service""#,
    );
    script.as_str().to_owned()
}

/// Takes the pods off the workers before the cluster goes; best effort, bounded in time.
pub fn drain_script(cluster: &Cluster, life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.fixed("drain() { kubectl_admin drain \"$1\" --ignore-daemonsets --delete-emptydir-data --force --disable-eviction --timeout=60s >/dev/null 2>&1 || :; }");
    for node in cluster.members() {
        script.call("drain", [node.name.as_str()]);
    }
    script.as_str().to_owned()
}

/// Forgets tokens that bramble made: nothing needs them when all nodes have joined.
pub fn forget_tokens_script(life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.fixed("forget_tokens");
    script.as_str().to_owned()
}
