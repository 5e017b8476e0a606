//! The storage class of claims that name none.

use bramble_spec::{Addon, AddonKind, Cluster};
use serde_json::{Value, json};

/// Makes the first class of this add-on the default one (kubernetes.io, "Change the default StorageClass"), if no other add-on
/// comes before it: Longhorn, whose manifest says it of its own, then the nodes' own disks, then the shared folders.
pub(super) fn make_default(cluster: &Cluster, addon: &Addon, objects: &mut [Value]) {
    let rank = |addon: &Addon| match addon.kind {
        AddonKind::Longhorn(_) => Some(0),
        AddonKind::LocalPath(_) => Some(1),
        AddonKind::Shared(_) => Some(2),
        _ => None,
    };
    let first = cluster.addons.iter().filter(|other| rank(other).is_some()).min_by_key(|other| rank(other));
    if first.is_none_or(|first| first.name != addon.name) {
        return;
    }
    let class = objects.iter_mut().find(|object| object["kind"] == "StorageClass");
    if let Some(metadata) = class.map(|class| &mut class["metadata"]) {
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"]["storageclass.kubernetes.io/is-default-class"] = json!("true");
    }
}
