//! What control planes need after others have joined, one after the other.

use anyhow::Context;
use bramble_kube::{Task, lifecycle};
use bramble_shell::Script;

use crate::error::Result;
use crate::event::Event;
use crate::phase::Phase;
use crate::phases::RESTART;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("settle", |run| Box::pin(apply(run)))
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let joined = run.nodes.iter().any(|context| context.is_control_plane() && context.task == Some(Task::Join));
    let Some(life) = lifecycle(&run.cluster, &run.inputs).filter(|_| joined) else { return Ok(()) };
    let Some(commands) = life.settle() else { return Ok(()) };
    let script = Script::new("settle after others have joined", &commands).silent_for(RESTART);
    for context in run.nodes.iter().filter(|context| context.is_control_plane()) {
        let session = &context.session;
        session.say(Event::Waiting("its API to settle".into()));
        let settled = async {
            session.act(&script, |_, _| {}).await?;
            session.ask(&bramble_kube::updated_script(&*life, session.node.address), |_, _| {}).await
        };
        settled.await.with_context(|| format!("the API of {} does not settle", context.name()))?;
    }
    Ok(())
}
