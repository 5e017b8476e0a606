//! Volumes in a folder that all nodes share.

use bramble_spec::SharedVolumes;
use serde_json::{Value, json};

use crate::addon::object::binding;

/// Volumes as folders of a folder that all nodes share (rancher/local-path-provisioner, README, `sharedFileSystemPath`).
pub(super) fn objects(shared: &SharedVolumes) -> Vec<Value> {
    let space = format!("bramble-{}", shared.class);
    let name = format!("bramble-{}", shared.class);
    let provisioner = format!("bramble/{}", shared.class);
    let metadata = json!({ "name": name, "namespace": space });
    let labels = json!({ "app": name });
    let mut helper = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "helper-pod" },
        "spec": {
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "helper-pod", "image": "docker.io/library/busybox:1.37", "imagePullPolicy": "IfNotPresent" }],
        },
    });
    if let Some(owner) = &shared.owner {
        helper["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": owner });
    }
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
