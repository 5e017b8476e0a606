//! Traefik on every node.

use bramble_spec::{Cluster, Role};
use serde_json::{Value, json};

use crate::addon::object::binding;

/// The class of the Ingress objects of ingress-nginx, and what looks after it.
const NGINX: (&str, &str) = ("nginx", "k8s.io/ingress-nginx");

/// Makes Traefik at ports 80 and 443 of every node, for Ingress objects, those of ingress-nginx among them, and its own ones
/// (doc.traefik.io, "Kubernetes Ingress", "Kubernetes Ingress NGINX", "Kubernetes CRD").
pub(super) fn objects(cluster: &Cluster, image: &str) -> Vec<Value> {
    let (space, name) = ("traefik", "traefik");
    let metadata = json!({ "name": name, "namespace": space });
    let labels = json!({ "app.kubernetes.io/name": "traefik" });
    let kind = if cluster.network.pool.is_some() { "LoadBalancer" } else { "ClusterIP" };
    // What Ingress objects tell of where they are served: the address of the Service, or one of the nodes, which all do.
    let (address, nginx_address) = match cluster.network.pool {
        Some(_) => (format!("publishedservice={space}/{name}"), format!("publishservice={space}/{name}")),
        None => {
            let worker = cluster.members().find(|node| node.role == Role::Worker);
            let node = worker.or_else(|| cluster.members().next()).map_or(cluster.network.api, |node| node.address);
            (format!("ip={node}"), format!("publishstatusaddress={node}"))
        }
    };
    let read = ["get", "list", "watch"];
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": name },
            "rules": [
                { "apiGroups": [""], "resources": ["services", "endpoints", "secrets", "nodes", "configmaps", "namespaces"], "verbs": read },
                { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
                { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read },
                { "apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingressclasses"], "verbs": read },
                { "apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["update"] },
                { "apiGroups": ["traefik.io"], "resources": ["*"], "verbs": read },
            ],
        }),
        binding(name, name, space),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": name, "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } },
            "spec": { "controller": "traefik.io/ingress-controller" },
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": { "name": NGINX.0 },
            "spec": { "controller": NGINX.1 },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata,
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "serviceAccountName": name,
                        "tolerations": [{ "operator": "Exists" }],
                        "containers": [{
                            "name": name, "image": image,
                            "args": [
                                "--entrypoints.web.address=:8000", "--entrypoints.websecure.address=:8443",
                                "--entrypoints.websecure.http.tls=true", "--entrypoints.traefik.address=:8080",
                                "--ping=true", "--providers.kubernetesingress=true",
                                "--providers.kubernetesingress.ingressclass=traefik",
                                format!("--providers.kubernetesingress.ingressendpoint.{address}"),
                                "--providers.kubernetesingressnginx=true",
                                format!("--providers.kubernetesingressnginx.{nginx_address}"),
                                "--providers.kubernetescrd=true",
                                "--global.checknewversion=false", "--global.sendanonymoususage=false",
                            ],
                            "ports": [
                                { "name": "web", "containerPort": 8000, "hostPort": 80 },
                                { "name": "websecure", "containerPort": 8443, "hostPort": 443 },
                                { "name": "ping", "containerPort": 8080 },
                            ],
                            "readinessProbe": { "httpGet": { "path": "/ping", "port": "ping" }, "periodSeconds": 5 },
                            "livenessProbe": { "httpGet": { "path": "/ping", "port": "ping" }, "initialDelaySeconds": 20 },
                            "resources": {
                                "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "192Mi" },
                            },
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                                "capabilities": { "drop": ["ALL"] },
                            },
                        }],
                    },
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {
                "type": kind, "selector": labels,
                "ports": [
                    { "name": "web", "port": 80, "targetPort": "web" },
                    { "name": "websecure", "port": 443, "targetPort": "websecure" },
                ],
            },
        }),
    ]
}
