//! The cluster's records of its nodes have the labels and taints of the cluster file.

use std::collections::BTreeMap;

use anyhow::Context;
use bramble_kube::{RECORD, Record, RecordChange, lifecycle, record_changes};
use bramble_spec::NodeName;
use bramble_state::{Change, Plan};

use crate::error::Result;
use crate::node_plan::Plans;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase { plan, ..Phase::new("records", |run| Box::pin(apply(run))) }
}

/// What lies between the records that were told when the run began and the cluster file.
fn changes<N: Network>(run: &RunState<N>) -> Vec<RecordChange> {
    if !run.agenda.runs() || run.restores() || !run.asks_planes() {
        return Vec::new();
    }
    record_changes(&run.cluster, &run.records)
}

fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    for RecordChange { name, steps, .. } in changes(run) {
        for step in steps {
            plans.add_step(&name, step);
        }
    }
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let Some(life) = lifecycle(&run.cluster, &run.inputs).filter(|_| run.asks_planes()) else { return Ok(()) };
    let named = run.cluster.members().any(|node| !node.labels.is_empty() || node.taints.is_some());
    if !named && changes(run).is_empty() {
        return Ok(());
    }
    let plane = run.any_speaker(&*life).await?;
    // Nodes that have just joined were not there when the run began.
    let mut records: BTreeMap<NodeName, Record> = BTreeMap::new();
    let told = |name: &str, value: &str| {
        if name == RECORD {
            records.extend(Record::parse(value));
        }
    };
    plane.ask(&bramble_kube::records_script(&*life), told).await.context("the records of the nodes")?;
    let mut made = 0;
    for change in record_changes(&run.cluster, &records) {
        made += change.steps.len();
        let title = format!("{}: {}", change.name, change.steps.join(", "));
        let script = bramble_kube::record_script(&*life, &change);
        let change = Change { title, details: Vec::new(), script, uploads: Vec::new(), quiet: false };
        plane.apply(&Plan { changes: vec![change], ..Plan::default() }, |_, _| {}).await?;
    }
    run.changes += made;
    Ok(())
}
