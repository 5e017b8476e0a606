//! Before a cluster goes: its pods end in order, as far as it still can.

use bramble_kube::{MEMBER, lifecycle};

use crate::error::Result;
use crate::event::Event;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("drain", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let Some(life) = lifecycle(&run.cluster, &run.inputs) else { return Ok(()) };
    // A cluster that is broken must go, too.
    let Ok(plane) = run.any_speaker(&*life).await else { return Ok(()) };
    let looked = run.nodes.iter().find(|context| context.name() == &plane.node.name);
    if looked.is_some_and(|context| context.seen.done(MEMBER).is_some()) {
        plane.say(Event::Waiting("the pods to end".into()));
        if let Err(error) = plane.act(&bramble_kube::drain_script(&run.cluster, &*life), |_, _| {}).await {
            plane.say(Event::Line(format!("the pods did not end in order: {error:#}")));
        }
    }
    Ok(())
}
