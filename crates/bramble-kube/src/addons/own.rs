//! The objects that are bramble's own, or that it adds to those of a project.

use bramble_spec::{Cluster, Limits, SharedVolumes};
use serde_json::{Value, json};

/// Lets a service account do what the role of this name may.
fn binding(role: &str, account: &str, space: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": role },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": space }],
    })
}

/// The pool of addresses, announced by ARP (metallb.io, "Layer 2 configuration").
pub(super) fn metallb(cluster: &Cluster) -> Vec<Value> {
    let Some(pool) = cluster.network.pool else { return Vec::new() };
    let metadata = json!({ "name": "bramble", "namespace": "metallb-system" });
    vec![
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata,
            "spec": { "addresses": [format!("{}-{}", pool.first, pool.last)] },
        }),
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": metadata,
            "spec": { "ipAddressPools": ["bramble"] },
        }),
    ]
}

/// CoreDNS under the names and labels that everybody looks for (kubernetes, cmd/kubeadm/app/phases/addons/dns/manifests.go).
pub(super) fn dns(cluster: &Cluster, image: &str) -> Vec<Value> {
    let (name, space) = ("coredns", "kube-system");
    let metadata = json!({ "name": name, "namespace": space });
    let labels = json!({ "k8s-app": "kube-dns" });
    let corefile = ".:53 {\n    errors\n    health {\n        lameduck 5s\n    }\n    ready\n    \
                    kubernetes cluster.local in-addr.arpa ip6.arpa {\n        pods insecure\n        \
                    fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }\n    forward . /etc/resolv.conf\n    cache 30\n    \
                    loop\n    reload\n    loadbalance\n}\n";
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
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "Corefile": corefile } }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": space, "labels": { "k8s-app": "kube-dns" } },
            "spec": {
                "selector": labels, "clusterIP": crate::release::service_address(cluster, 10).to_string(),
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
                            { "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" },
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

/// Traefik at ports 80 and 443 of every node, for Ingress objects (doc.traefik.io, "Kubernetes Ingress").
pub(super) fn traefik(cluster: &Cluster, image: &str) -> Vec<Value> {
    let (space, name) = ("traefik", "traefik");
    let metadata = json!({ "name": name, "namespace": space });
    let labels = json!({ "app.kubernetes.io/name": "traefik" });
    let kind = if cluster.network.pool.is_some() { "LoadBalancer" } else { "ClusterIP" };
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": name },
            "rules": [
                { "apiGroups": [""], "resources": ["services", "endpoints", "secrets", "nodes"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingressclasses"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["update"] },
            ],
        }),
        binding(name, name, space),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": name, "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } },
            "spec": { "controller": "traefik.io/ingress-controller" },
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

/// A certificate authority of the cluster's own (cert-manager.io, "Bootstrapping CA Issuers").
pub(super) fn authority(cluster: &Cluster) -> Vec<Value> {
    let (group, space) = ("cert-manager.io/v1", "cert-manager");
    vec![
        json!({
            "apiVersion": group, "kind": "ClusterIssuer", "metadata": { "name": "bramble-self" },
            "spec": { "selfSigned": {} },
        }),
        json!({
            "apiVersion": group, "kind": "Certificate", "metadata": { "name": "bramble-ca", "namespace": space },
            "spec": {
                "isCA": true, "commonName": format!("{} CA", cluster.name), "secretName": "bramble-ca",
                "duration": "87600h", "privateKey": { "algorithm": "ECDSA", "size": 256 },
                "issuerRef": { "name": "bramble-self", "kind": "ClusterIssuer", "group": "cert-manager.io" },
            },
        }),
        json!({
            "apiVersion": group, "kind": "ClusterIssuer", "metadata": { "name": "bramble-ca" },
            "spec": { "ca": { "secretName": "bramble-ca" } },
        }),
    ]
}

/// The certificates of kubelets are their own, unless somebody approves others (metrics-server, README, "Requirements").
pub(super) fn trust_kubelets(objects: &mut [Value]) {
    let servers = objects.iter_mut().filter(|object| object["kind"] == "Deployment");
    for args in servers.filter_map(|server| server["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut())
    {
        args.push(json!("--kubelet-insecure-tls"));
    }
}

/// The project's manifest for bare metal has a port of the nodes; at 80 and 443 of every node is what people expect
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

/// Volumes as folders of a folder that all nodes share (rancher/local-path-provisioner, README, `sharedFileSystemPath`).
pub(super) fn shared(shared: &SharedVolumes) -> Vec<Value> {
    let space = format!("bramble-{}", shared.class);
    let name = format!("bramble-{}", shared.class);
    let provisioner = format!("bramble/{}", shared.class);
    let metadata = json!({ "name": name, "namespace": space });
    let labels = json!({ "app": name });
    let helper = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "helper-pod" },
        "spec": {
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "helper-pod", "image": "docker.io/library/busybox:1.37", "imagePullPolicy": "IfNotPresent" }],
        },
    });
    let config = json!({ "sharedFileSystemPath": shared.folder });
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": name },
            "rules": [
                { "apiGroups": [""], "resources": ["nodes", "persistentvolumeclaims", "configmaps", "pods", "pods/log"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "patch", "update"] },
                { "apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["get", "list", "watch", "create", "patch", "update", "delete"] },
                { "apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"] },
                { "apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get", "list", "watch"] },
            ],
        }),
        binding(&name, &name, &space),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "local-path-config", "namespace": space },
            "data": {
                "config.json": config.to_string(),
                "helperPod.yaml": helper.to_string(),
                "setup": "#!/bin/sh\nset -eu\nmkdir -m 0777 -p \"$VOL_DIR\"\n",
                "teardown": "#!/bin/sh\nset -eu\nrm -rf \"$VOL_DIR\"\n",
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 1, "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "serviceAccountName": name,
                        "containers": [{
                            "name": "provisioner", "image": shared.image,
                            "command": [
                                "local-path-provisioner", "start", "--config", "/etc/config/config.json",
                                "--provisioner-name", provisioner, "--service-account-name", name,
                            ],
                            "env": [
                                { "name": "POD_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                                { "name": "CONFIG_MOUNT_PATH", "value": "/etc/config/" },
                            ],
                            "volumeMounts": [{ "name": "config", "mountPath": "/etc/config/" }],
                            "resources": { "requests": { "cpu": "10m", "memory": "30Mi" }, "limits": { "memory": "128Mi" } },
                        }],
                        "volumes": [{ "name": "config", "configMap": { "name": "local-path-config" } }],
                    },
                },
            },
        }),
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": shared.class },
            "provisioner": provisioner, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
        }),
    ]
}

/// A LimitRange for each namespace.
pub(super) fn limits(limits: &Limits) -> Vec<Value> {
    let of = |namespace: &String| {
        json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "bramble", "namespace": namespace },
            "spec": { "limits": [{ "type": "Container", "default": limits.limits, "defaultRequest": limits.requests }] },
        })
    };
    limits.namespaces.iter().map(of).collect()
}
