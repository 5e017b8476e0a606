//! CoreDNS, where the distribution brings no DNS.

use bramble_spec::Cluster;
use serde_json::{Value, json};

use crate::addon::object::binding;

/// Makes CoreDNS under the names and labels that everybody looks for (kubernetes,
/// cmd/kubeadm/app/phases/addons/dns/manifests.go).
pub(super) fn objects(cluster: &Cluster, image: &str) -> Vec<Value> {
    let (name, space) = ("coredns", "kube-system");
    let metadata = json!({ "name": name, "namespace": space });
    let labels = json!({ "k8s-app": "kube-dns" });
    let port =
        |name: &str, port: u16, protocol: &str| json!({ "name": name, "containerPort": port, "protocol": protocol });
    let served = |name: &str, port: u16, protocol: &str| json!({ "name": name, "port": port, "protocol": protocol });
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "system:coredns" },
            "rules": [
                { "apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"] },
                { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
            ],
        }),
        binding("system:coredns", name, space),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "Corefile": include_str!("Corefile") } }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": space, "labels": { "k8s-app": "kube-dns" } },
            "spec": {
                "selector": labels, "clusterIP": cluster.network.service_address(10).to_string(),
                "ports": [served("dns", 53, "UDP"), served("dns-tcp", 53, "TCP"), served("metrics", 9153, "TCP")],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": cluster.members().count().min(2),
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "priorityClassName": "system-cluster-critical", "serviceAccountName": name, "dnsPolicy": "Default",
                        "tolerations": [
                            { "key": "CriticalAddonsOnly", "operator": "Exists" },
                            { "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" },
                        ],
                        "containers": [{
                            "name": name, "image": image, "imagePullPolicy": "IfNotPresent",
                            "args": ["-conf", "/etc/coredns/Corefile"],
                            "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")],
                            "livenessProbe": { "httpGet": { "path": "/health", "port": 8080 }, "initialDelaySeconds": 60, "failureThreshold": 5 },
                            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 } },
                            "resources": { "requests": { "cpu": "100m", "memory": "70Mi" }, "limits": { "memory": "170Mi" } },
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": { "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] },
                            },
                            "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns", "readOnly": true }],
                        }],
                        "volumes": [{ "name": "config", "configMap": { "name": name } }],
                    },
                },
            },
        }),
    ]
}
