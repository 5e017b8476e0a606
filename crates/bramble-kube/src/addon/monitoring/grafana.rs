//! Grafana, with the dashboard of boards in dashboard.json.

use serde_json::{Value, json};

use crate::addon::monitoring::object::{SPACE, digest, map, service};

/// Makes the objects of Grafana (grafana.com/docs, "Provision Grafana"). Anybody in the cluster may look, nobody may
/// change.
pub(super) fn objects(image: &str) -> Vec<Value> {
    let source = json!({
        "apiVersion": 1,
        "datasources": [{
            "name": "Prometheus", "uid": "prometheus", "type": "prometheus", "access": "proxy", "isDefault": true,
            // By the variables that Kubernetes gives to pods: a cluster may have no DNS.
            "url": "http://$PROMETHEUS_SERVICE_HOST:$PROMETHEUS_SERVICE_PORT",
        }],
    });
    let provider = json!({
        "apiVersion": 1,
        "providers": [{ "name": "bramble", "type": "file", "options": { "path": "/etc/grafana/dashboards" } }],
    });
    let labels = json!({ "app": "grafana" });
    let data = [
        map("grafana", json!({ "datasource.yml": source.to_string(), "provider.yml": provider.to_string() })),
        map("grafana-dashboards", json!({ "boards.json": include_str!("dashboard.json") })),
    ];
    let setting = |name: &str, value: &str| json!({ "name": name, "value": value });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "grafana", "namespace": SPACE },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels, "annotations": { "bramble/config": digest(&data) } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": { "runAsUser": 472, "runAsGroup": 472, "runAsNonRoot": true, "fsGroup": 472 },
                    "containers": [{
                        "name": "grafana", "image": image,
                        "env": [
                            setting("GF_AUTH_ANONYMOUS_ENABLED", "true"), setting("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
                            setting("GF_AUTH_DISABLE_LOGIN_FORM", "true"), setting("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
                            setting("GF_ANALYTICS_REPORTING_ENABLED", "false"), setting("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
                            setting("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", "/etc/grafana/dashboards/boards.json"),
                        ],
                        "ports": [{ "name": "http", "containerPort": 3000 }],
                        "readinessProbe": { "httpGet": { "path": "/api/health", "port": "http" }, "periodSeconds": 10 },
                        "resources": { "requests": { "cpu": "50m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                        "volumeMounts": [
                            { "name": "config", "mountPath": "/etc/grafana/provisioning/datasources/bramble.yml", "subPath": "datasource.yml" },
                            { "name": "config", "mountPath": "/etc/grafana/provisioning/dashboards/bramble.yml", "subPath": "provider.yml" },
                            { "name": "dashboards", "mountPath": "/etc/grafana/dashboards" },
                            { "name": "data", "mountPath": "/var/lib/grafana" },
                        ],
                    }],
                    "volumes": [
                        { "name": "config", "configMap": { "name": "grafana" } },
                        { "name": "dashboards", "configMap": { "name": "grafana-dashboards" } },
                        { "name": "data", "emptyDir": {} },
                    ],
                },
            },
        },
    });
    data.into_iter().chain([service("grafana", 3000), deployment]).collect()
}
