//! Before anything else: the first node is told whose it is. Of two runs that begin a cluster on the same nodes at the same time
//! one is stopped here, before it has changed anything.

use anyhow::Context;
use bramble_kube::owner;
use bramble_state::Resource;

use crate::error::Result;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::survey::desired;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("claim", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let (cluster, inputs) = (run.cluster.clone(), run.inputs.clone());
    let Some(context) = run.nodes.first_mut() else { return Ok(()) };
    if owner(&context.seen).is_some_and(|owner| owner.id == run.id) {
        return Ok(());
    }
    let node = context.session.node.clone();
    let step = bramble_kube::owner_step(&cluster, &node, &run.id);
    let plan = bramble_state::plan(&[Resource::Step(step.clone())], &context.seen);
    let claimed = context.session.apply(&plan, |_, _| {}).await;
    claimed.with_context(|| format!("{} cannot be made a part of the cluster", node.name))?;
    context.seen.remember(step.id, &step.version);
    context.plan = bramble_state::plan(&desired(&cluster, &node, &inputs)(&context.seen), &context.seen);
    Ok(())
}
