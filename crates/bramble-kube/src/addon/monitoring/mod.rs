//! Monitoring: node exporter on the boards, and in the cluster a Prometheus that is small enough for one of them.

mod exporter;
mod grafana;
mod object;
mod prometheus;

use bramble_spec::{Cluster, Monitoring};
use serde_json::Value;

pub(super) use exporter::{cleanup, node_resources};

/// Makes its objects in the cluster.
pub(super) fn objects(cluster: &Cluster, config: &Monitoring) -> Vec<Value> {
    let mut all = prometheus::objects(cluster, config);
    if let Some(image) = &config.grafana {
        all.extend(grafana::objects(image));
    }
    all
}
