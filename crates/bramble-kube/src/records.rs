//! What the API's records of nodes say: labels, taints and ranges. A node is born with them, and Kubernetes gives nobody but the
//! API the right to change them later; some labels not even the node itself (kubernetes.io, "NodeRestriction").

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, Node, NodeName, Place, Problem, Taint};
use ipnet::Ipv4Net;

use crate::lifecycle::Lifecycle;

/// The fact that tells the record of a node, as [`Record::parse`] reads it.
pub const RECORD: &str = "node";
/// The fact that tells the address of the API in the range of services, its first one.
pub const SERVICE: &str = "service";

/// The taint that keeps workloads off control planes (kubernetes.io, "Well-Known Labels, Annotations and Taints").
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The record of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    labels: BTreeMap<String, String>,
    /// By key and effect, the value.
    taints: BTreeMap<(String, String), String>,
    /// The keys of labels that came from the cluster file.
    own_labels: BTreeSet<String>,
    /// The keys and effects of taints that came from there.
    own_taints: BTreeSet<(String, String)>,
    /// The range of its pods, if the API gave it one.
    pods: Option<Ipv4Net>,
}

fn taint(text: &str) -> Option<(String, String)> {
    text.rsplit_once(':').map(|(key, effect)| (key.to_owned(), effect.to_owned()))
}

impl Record {
    /// Reads a name and what is known of it, with blanks between: `label=KEY=VALUE`, `taint=KEY=VALUE:EFFECT`, `pods=RANGE`,
    /// `own-labels=KEY,…`, `own-taints=KEY:EFFECT,…`.
    pub fn parse(text: &str) -> Option<(NodeName, Record)> {
        let mut words = text.split_whitespace();
        let name = words.next()?.parse().ok()?;
        let mut record = Record::default();
        for word in words {
            let (what, value) = word.split_once('=')?;
            match what {
                "label" => {
                    let (key, value) = value.split_once('=')?;
                    record.labels.insert(key.to_owned(), value.to_owned());
                }
                "taint" => {
                    let (key, rest) = value.split_once('=')?;
                    let (value, effect) = rest.rsplit_once(':')?;
                    record.taints.insert((key.to_owned(), effect.to_owned()), value.to_owned());
                }
                "pods" => record.pods = value.parse().ok(),
                "own-labels" => record.own_labels = value.split(',').map(str::to_owned).collect(),
                "own-taints" => record.own_taints = value.split(',').filter_map(taint).collect(),
                _ => {}
            }
        }
        Some((name, record))
    }
}

/// What must change in the record of a node so that it is as the cluster file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// The node.
    pub name: NodeName,
    /// In words, one for each change.
    pub steps: Vec<String>,
    /// As `kubectl label` takes them.
    labels: Vec<String>,
    /// As `kubectl taint` takes them.
    taints: Vec<String>,
    /// What came from the cluster file, for the next time.
    own_labels: String,
    own_taints: String,
}

impl RecordChange {
    fn new(node: &Node, record: &Record) -> Option<RecordChange> {
        let mut steps = Vec::new();
        let mut labels = Vec::new();
        for key in record.own_labels.iter().filter(|key| !node.labels.contains_key(*key)) {
            if record.labels.contains_key(key) {
                steps.push(format!("remove the label {key}"));
                labels.push(format!("{key}-"));
            }
        }
        for (key, value) in node.labels.iter().filter(|(key, value)| record.labels.get(*key) != Some(value)) {
            steps.push(format!("set the label {key}={value}"));
            labels.push(format!("{key}={value}"));
        }
        let wanted = node.taints.as_deref().unwrap_or_default();
        let id = |taint: &Taint| (taint.key.clone(), taint.effect.to_string());
        let is_wanted = |known: &(String, String)| wanted.iter().any(|taint| id(taint) == *known);
        let mut taints = Vec::new();
        for known in record.taints.keys().filter(|known| !is_wanted(known)) {
            // Who lists taints lists them all; those that Kubernetes and others set stay theirs.
            let of_role = node.taints.is_some() && known.0 == CONTROL_PLANE;
            if record.own_taints.contains(known) || of_role {
                steps.push(format!("remove the taint {}:{}", known.0, known.1));
                taints.push(format!("{}:{}-", known.0, known.1));
            }
        }
        for taint in wanted.iter().filter(|taint| record.taints.get(&id(taint)) != Some(&taint.value)) {
            steps.push(format!("set the taint {taint}"));
            taints.push(taint.to_string());
        }
        let joined = |all: Vec<String>| all.join(",");
        let own_labels: BTreeSet<String> = node.labels.keys().cloned().collect();
        let own_taints: BTreeSet<(String, String)> = wanted.iter().map(id).collect();
        if steps.is_empty() {
            if own_labels == record.own_labels && own_taints == record.own_taints {
                return None;
            }
            steps.push("write down in its record which labels and taints are the cluster file's".to_owned());
        }
        Some(RecordChange {
            name: node.name.clone(),
            steps,
            labels,
            taints,
            own_labels: joined(own_labels.into_iter().collect()),
            own_taints: joined(own_taints.into_iter().map(|(key, effect)| format!("{key}:{effect}")).collect()),
        })
    }
}

/// Finds what must change in the records of the cluster's nodes.
pub fn record_changes(cluster: &Cluster, records: &BTreeMap<NodeName, Record>) -> Vec<RecordChange> {
    let of_node = |node: &Node| RecordChange::new(node, records.get(&node.name)?);
    cluster.members().filter_map(of_node).collect()
}

/// Gives the script that tells the records, as facts [`RECORD`] and [`SERVICE`].
pub fn records_script(life: &dyn Lifecycle) -> Script {
    let mut script = library(life);
    script.fixed("tell_records");
    Script::new("ask the API for its records of the nodes", &script).silent_for(Duration::from_secs(60))
}

/// Gives the script that changes records.
pub fn record_script(life: &dyn Lifecycle, change: &RecordChange) -> Commands {
    let mut script = library(life);
    let name = change.name.to_string();
    let of_node = |words: &[String]| std::iter::once(name.clone()).chain(words.iter().cloned()).collect::<Vec<_>>();
    if !change.labels.is_empty() {
        script.call("kubectl_admin label --overwrite nodes", of_node(&change.labels));
    }
    if !change.taints.is_empty() {
        script.call("kubectl_admin taint --overwrite nodes", of_node(&change.taints));
    }
    let own = |name: &str, all: &str| match all {
        "" => format!("bramble/{name}-"),
        all => format!("bramble/{name}={all}"),
    };
    let own = [own("labels", &change.own_labels), own("taints", &change.own_taints)];
    script.call_with("kubectl_admin annotate --overwrite nodes", of_node(&own), ">/dev/null");
    script
}

fn library(life: &dyn Lifecycle) -> Commands {
    let mut script = life.kubectl();
    script.fixed(include_str!("records.sh"));
    script
}

/// Says which ranges of the cluster file are not those of the cluster that runs. They are given at its birth: with others its pods
/// would not start.
pub fn changed_ranges(
    cluster: &Cluster,
    records: &BTreeMap<NodeName, Record>,
    service: Option<Ipv4Addr>,
) -> Vec<Problem> {
    let mut found = Vec::new();
    let network = &cluster.network;
    let next = "put the old range back; or save what you need, `bramble down`, and `bramble up` with the new one";
    let others = cluster.members().filter_map(|node| {
        let has = records.get(&node.name)?.pods?;
        let fits = node.pods.map_or(network.pods.contains(&has), |pods| pods == has);
        (!fits).then(|| format!("{} has {has}", node.name))
    });
    let others: Vec<String> = others.collect();
    if !others.is_empty() {
        let shown = others.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more = if others.len() > 3 { ", …" } else { "" };
        let message = format!(
            "`network.pods` is {} in the cluster file, and the cluster was made with another range ({shown}{more}): it is \
             given at a cluster's birth",
            network.pods
        );
        found.push(Problem::error(message, Place::Whole).next(next));
    }
    // The API's own address there is the first one (kubernetes.io, "Default Service IP").
    let first = |range: &Ipv4Net| Ipv4Addr::from(u32::from(range.network()) + 1);
    if let Some(has) = service.filter(|has| *has != first(&network.services)) {
        let message = format!(
            "`network.services` is {} in the cluster file, and the API of the cluster has {has} among its services: the range is \
             given at a cluster's birth",
            network.services
        );
        found.push(Problem::error(message, Place::Whole).next(next));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(node: &str) -> Cluster {
        let text = format!(
            "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ kubeadm: {{ version: \"1.36\" }} }}\n\
             nodes:\n  - {{ name: a, role: control-plane, board: rpi-cm4-4gb, address: 10.0.0.11{node} }}\n  \
             - {{ name: b, role: worker, board: rpi-cm4-4gb, address: 10.0.0.12 }}\n"
        );
        let loaded = bramble_spec::load(std::path::Path::new("bramble.yaml"), &text);
        loaded.clusters.into_iter().next().unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
    }

    fn steps(node: &str, record: &str) -> Vec<String> {
        let records = BTreeMap::from([Record::parse(&format!("a {record}")).unwrap()]);
        record_changes(&cluster(node), &records).into_iter().flat_map(|change| change.steps).collect()
    }

    #[test]
    fn labels_are_set_changed_and_taken_away_and_those_of_others_stay() {
        let file = ", labels: { disk: ssd, node-role.kubernetes.io/worker: \"\" }";
        assert_eq!(
            steps(file, "label=disk=hdd label=mine=1 label=old=x own-labels=old,disk"),
            ["remove the label old", "set the label disk=ssd", "set the label node-role.kubernetes.io/worker="]
        );
        let there = "label=disk=ssd label=node-role.kubernetes.io/worker= label=mine=1";
        assert_eq!(
            steps(file, &format!("{there} own-labels=disk,node-role.kubernetes.io/worker")),
            Vec::<String>::new()
        );
        assert_eq!(steps(file, there).len(), 1, "whose they are is written down");
        assert_eq!(steps("", "label=mine=1"), Vec::<String>::new());
    }

    #[test]
    fn taints_are_set_and_taken_away_and_those_of_kubernetes_stay() {
        let plane = "taint=node-role.kubernetes.io/control-plane=:NoSchedule";
        let others = "taint=node.kubernetes.io/unschedulable=:NoSchedule taint=mine=1:NoExecute";
        assert_eq!(steps("", &format!("{plane} {others}")), Vec::<String>::new());
        assert_eq!(
            steps(", taints: []", &format!("{plane} {others}")),
            ["remove the taint node-role.kubernetes.io/control-plane:NoSchedule"]
        );
        assert_eq!(
            steps(", taints: [\"a=1:NoSchedule\"]", "taint=a=2:NoSchedule taint=a=1:NoExecute own-taints=a:NoExecute"),
            ["remove the taint a:NoExecute", "set the taint a=1:NoSchedule"]
        );
        assert_eq!(steps("", "taint=a=1:NoSchedule own-taints=a:NoSchedule"), ["remove the taint a:NoSchedule"]);
    }

    #[test]
    fn ranges_of_a_cluster_that_runs_are_not_changed() {
        let found = |record: &str, service: &str| {
            let records = BTreeMap::from([Record::parse(&format!("a {record}")).unwrap()]);
            changed_ranges(&cluster(""), &records, Some(service.parse().unwrap()))
        };
        assert!(found("pods=10.244.11.0/24", "10.96.0.1").is_empty());
        assert!(found("", "10.96.0.1").is_empty());
        let pods = found("pods=10.200.11.0/24", "10.96.0.1");
        assert!(pods.len() == 1 && pods[0].message.contains("a has 10.200.11.0/24"), "{pods:?}");
        let services = found("pods=10.244.11.0/24", "10.43.0.1");
        assert!(services.len() == 1 && services[0].message.contains("network.services"), "{services:?}");
    }
}
