//! Folders that all nodes share: the pool first, then the mounts.

use anyhow::{Context, anyhow};

use crate::error::Result;
use crate::event::Event;
use crate::node_plan::Plans;
use crate::phase::Phase;
use crate::run_state::{NodeContext, RunState};
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase { plan, ..Phase::new("storage", |run| Box::pin(apply(run))) }
}

/// Whether a node has yet to mount the folders.
fn waits<N: Network>(run: &RunState<N>, context: &NodeContext<N>) -> bool {
    let marks = bramble_kube::storage_marks(&run.cluster);
    marks.iter().any(|(name, text)| context.seen.done(name) != Some(text.as_str()))
}

fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    for context in run.nodes.iter().filter(|context| waits(run, context)) {
        plans.add_step(context.name(), "mount the shared folders".to_owned());
    }
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    // What all nodes take part in can be asked when all are there.
    if !run.lost.is_empty() || !run.nodes.iter().any(|context| waits(run, context)) {
        return Ok(());
    }
    let Some(mount) = bramble_kube::mount_script(&run.cluster) else { return Ok(()) };
    let mut notes = Vec::new();
    if let Some(pool) = bramble_kube::pool_script(&run.cluster) {
        let first = run.cluster.storage.glusterfs.iter().flat_map(|gluster| &gluster.nodes).next();
        let holder = run.nodes.iter().find(|context| Some(context.name()) == first);
        let holder = holder.ok_or_else(|| anyhow!("the first node of the GlusterFS volume does not answer"))?;
        holder.session.say(Event::Waiting("the GlusterFS pool and its volume".into()));
        let told = holder.session.act(&pool, |_, value| notes.push(value.to_owned())).await;
        told.context("the GlusterFS volume cannot be made")?;
    }
    for context in &run.nodes {
        context.session.say(Event::Waiting("the shared folders".into()));
        let result = context.session.act(&mount, |_, _| {}).await;
        result.with_context(|| format!("{} does not get the shared folders", context.name()))?;
    }
    run.notes.extend(notes);
    Ok(())
}
