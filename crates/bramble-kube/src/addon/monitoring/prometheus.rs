//! Prometheus: figures of the boards, and alerts. The alerts are in rules.json.

use bramble_spec::{Cluster, Monitoring};
use serde_json::{Value, json};

use crate::addon::monitoring::exporter::PORT;
use crate::addon::monitoring::object::{SPACE, digest, map, service};

/// The time between two questions to a board: every half minute costs its card nothing.
const INTERVAL: &str = "30s";

/// Makes the objects of Prometheus, and the namespace of all.
pub(super) fn objects(cluster: &Cluster, config: &Monitoring) -> Vec<Value> {
    let mut all = vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SPACE } }),
        map(
            "prometheus",
            json!({
                "prometheus.yml": format!("{:#}\n", settings(cluster, config)), "rules.yml": include_str!("rules.json"),
            }),
        ),
    ];
    let labels = json!({ "app": "prometheus" });
    let storage = json!({ "requests": { "storage": format!("{}Gi", config.size + 1) } });
    let data = match &config.class {
        Some(class) => {
            // What a claim asks for cannot be changed: another class or size is another claim.
            let claim = format!("prometheus-{class}-{}", config.size);
            all.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": claim, "namespace": SPACE },
                "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": storage },
            }));
            json!({ "name": "data", "persistentVolumeClaim": { "claimName": claim } })
        }
        None => json!({ "name": "data", "emptyDir": { "sizeLimit": format!("{}Gi", config.size + 1) } }),
    };
    all.push(service("prometheus", 9090));
    all.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "prometheus", "namespace": SPACE },
        "spec": {
            "replicas": 1, "strategy": { "type": "Recreate" }, "selector": { "matchLabels": labels },
            "template": {
                // A changed configuration is another pod.
                "metadata": { "labels": labels, "annotations": { "bramble/config": digest(&all) } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": { "runAsUser": 65534, "runAsGroup": 65534, "runAsNonRoot": true, "fsGroup": 65534 },
                    "containers": [{
                        "name": "prometheus", "image": config.prometheus,
                        "args": [
                            "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus",
                            format!("--storage.tsdb.retention.time={}", config.retention),
                            format!("--storage.tsdb.retention.size={}GB", config.size),
                        ],
                        "ports": [{ "name": "http", "containerPort": 9090 }],
                        "readinessProbe": { "httpGet": { "path": "/-/ready", "port": "http" }, "periodSeconds": 5 },
                        "resources": { "requests": { "cpu": "100m", "memory": "192Mi" }, "limits": { "memory": "512Mi" } },
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                        "volumeMounts": [
                            { "name": "config", "mountPath": "/etc/prometheus" }, { "name": "data", "mountPath": "/prometheus" },
                        ],
                    }],
                    "volumes": [{ "name": "config", "configMap": { "name": "prometheus" } }, data],
                },
            },
        },
    }));
    all
}

/// Writes its configuration (prometheus.io/docs, "Configuration"). JSON is YAML.
fn settings(cluster: &Cluster, config: &Monitoring) -> Value {
    let targets: Vec<Value> = cluster
        .nodes
        .iter()
        .map(|node| {
            json!({
                "targets": [format!("{}:{PORT}", node.address)],
                "labels": { "node": node.name, "role": node.role.to_string(), "board": node.board.id },
            })
        })
        .collect();
    let mut whole = json!({
        "global": { "scrape_interval": INTERVAL, "evaluation_interval": INTERVAL, "external_labels": { "cluster": cluster.name } },
        "rule_files": ["/etc/prometheus/rules.yml"],
        "scrape_configs": [{ "job_name": "node", "static_configs": targets }],
    });
    if !config.alertmanagers.is_empty() {
        whole["alerting"] = json!({ "alertmanagers": [{ "static_configs": [{ "targets": config.alertmanagers }] }] });
    }
    whole
}
