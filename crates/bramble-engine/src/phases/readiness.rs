//! The cluster is well: every node is Ready, the pods of the system run, and nobody can join with what this run made.

use anyhow::Context;
use bramble_kube::{TOKENS, lifecycle};

use crate::error::{Result, bail};
use crate::event::Event;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("readiness", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let Some(life) = lifecycle(&run.cluster, &run.inputs).filter(|_| run.asks_all()) else { return Ok(()) };
    let plane = run.any_speaker(&*life).await?;
    plane.say(Event::Waiting("all nodes to be Ready".into()));
    let mut ready = false;
    plane
        .act(&bramble_kube::ready_script(&run.cluster, &*life), |_, value| match value {
            "nodes-ready" => plane.say(Event::Waiting("the system's pods".into())),
            "system-ready" => ready = true,
            _ => {}
        })
        .await
        .context("the cluster does not become ready")?;
    if !ready {
        bail!("{} does not say whether the cluster is ready", plane.node.name);
    }
    // Nobody needs the tokens any more. Which control plane made them is not known any more either.
    for context in run.nodes.iter().filter(|context| context.is_control_plane()) {
        let mut removed = false;
        let told = |name: &str, _: &str| removed |= name == TOKENS;
        let forgot = context.session.act(&bramble_kube::forget_tokens_script(&*life), told).await;
        forgot.with_context(|| format!("the join tokens of {} cannot be removed", context.name()))?;
        if !removed {
            bail!("{} does not say whether the join tokens are removed", context.name());
        }
    }
    Ok(())
}
