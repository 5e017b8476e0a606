//! Before a cluster comes back from a backup: control planes that join again end, so that nobody hears from them what is not
//! true any more.

use anyhow::Context;
use bramble_kube::{Task, lifecycle};

use crate::error::Result;
use crate::event::Event;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("stop", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let Some(life) = lifecycle(&run.cluster, &run.inputs) else { return Ok(()) };
    for context in run.nodes.iter().filter(|c| c.is_control_plane() && c.task == Some(Task::Join)) {
        context.session.say(Event::Waiting("its control plane to end".into()));
        let stopped = context.session.act(&bramble_kube::stop_script(&*life), |_, _| {}).await;
        stopped.with_context(|| format!("the control plane of {} does not end", context.name()))?;
    }
    Ok(())
}
