//! The control planes write down who the members are, if that has changed: a node that is taken out of the cluster file is
//! known from there.

use anyhow::Context;

use crate::error::Result;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    // Also of those that have joined while others failed.
    Phase { always: true, ..Phase::new("members", |run| Box::pin(apply(run))) }
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    if run.agenda.tasks.is_empty() {
        return Ok(());
    }
    let members: Vec<_> = run
        .cluster
        .members()
        .filter(|node| run.is_good(&node.name) || run.agenda.lists(&node.name))
        .map(|node| (node.name.clone(), node.address))
        .collect();
    let script = bramble_kube::members_script(members.iter().map(|(name, address)| (name, *address)));
    for context in run.nodes.iter().filter(|context| context.is_control_plane() && run.is_good(context.name())) {
        let fresh = !run.agenda.is_member(context.name());
        if fresh || members != run.agenda.members {
            context
                .session
                .act(&script, |_, _| {})
                .await
                .with_context(|| format!("{} cannot write down who the members are", context.name()))?;
        }
    }
    Ok(())
}
