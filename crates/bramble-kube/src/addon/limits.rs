//! What containers get that do not say what they need.

use bramble_spec::Limits;
use serde_json::{Value, json};

/// Makes a LimitRange for each namespace.
pub(super) fn objects(limits: &Limits) -> Vec<Value> {
    let of = |namespace: &String| {
        json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "bramble", "namespace": namespace },
            "spec": { "limits": [{ "type": "Container", "default": limits.limits, "defaultRequest": limits.requests }] },
        })
    };
    limits.namespaces.iter().map(of).collect()
}
