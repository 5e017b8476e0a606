//! cert-manager: a certificate authority of the cluster's own.

use bramble_spec::Cluster;
use serde_json::{Value, json};

/// Makes a certificate authority of the cluster's own (cert-manager.io, "Bootstrapping CA Issuers").
pub(super) fn objects(cluster: &Cluster) -> Vec<Value> {
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
