//! What takes the cluster, or a part of it, down when it fails alone.

use bramble_spec::{Cluster, Distribution, Feed, Role};
use serde::Serialize;

/// Something of which there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinglePoint {
    /// The node or device.
    pub name: String,
    /// What happens without it.
    pub loss: String,
}

pub(crate) fn points(cluster: &Cluster) -> Vec<SinglePoint> {
    let mut found = Vec::new();
    let planes: Vec<_> = cluster.control_planes().collect();
    if let ([only], false) = (planes.as_slice(), cluster.distribution == Distribution::None) {
        found.push(SinglePoint { name: only.name.to_string(), loss: "nobody steers the cluster".into() });
    }
    for (place, device) in cluster.hardware.devices.iter().enumerate() {
        let hit: Vec<_> = cluster.nodes.iter().filter(|node| depends(cluster, node, place)).collect();
        let planes_hit = hit.iter().filter(|node| node.role == Role::ControlPlane).count();
        let loss = if hit.len() == cluster.nodes.len() && !hit.is_empty() {
            "no node can be reached, or has power".to_owned()
        } else if planes_hit > 0 && planes_hit * 2 >= planes.len() && !planes.is_empty() {
            format!("{planes_hit} of {} control planes are gone, and with them the quorum", planes.len())
        } else {
            continue;
        };
        found.push(SinglePoint { name: device.name.to_string(), loss });
    }
    found
}

/// Whether a node is gone without a device: its power, its switch, or what these hang on.
fn depends(cluster: &Cluster, node: &bramble_spec::Node, device: usize) -> bool {
    let devices = &cluster.hardware.devices;
    let mut open: Vec<usize> =
        node.fitting.feed.as_ref().and_then(Feed::device).into_iter().chain(node.fitting.switch).collect();
    let mut steps = 0;
    while let Some(at) = open.pop() {
        if at == device {
            return true;
        }
        // Uplinks matter to the world outside, not to the cluster; power does.
        open.extend(devices[at].feed.as_ref().and_then(Feed::device));
        steps += 1;
        if steps > devices.len() * 2 {
            return false;
        }
    }
    false
}
