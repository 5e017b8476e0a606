//! Objects that several add-ons have.

use serde_json::{Value, json};

/// Lets a service account do what the role of this name may.
pub(super) fn binding(role: &str, account: &str, space: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": role },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": space }],
    })
}
