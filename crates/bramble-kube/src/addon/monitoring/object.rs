//! Objects that both of them have.

use bramble_spec::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The namespace.
pub(super) const SPACE: &str = "monitoring";

pub(super) fn digest(objects: &[Value]) -> String {
    let text: String = objects.iter().map(Value::to_string).collect();
    hex(&Sha256::digest(text.as_bytes())[..8])
}

pub(super) fn map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": SPACE }, "data": data })
}

pub(super) fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": SPACE },
        "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": port, "targetPort": "http" }] },
    })
}
