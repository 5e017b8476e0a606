//! What bramble did is undone, on all nodes at once; on the gateway last, since the others are reached through it.

use bramble_spec::Role;
use tokio::task::JoinSet;

use crate::error::Result;
use crate::event::Event;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase::new("undo", |run| Box::pin(apply(run, false)))
}

pub(crate) fn gateway_phase<N: Network>() -> Phase<N> {
    Phase::new("undo-gateway", |run| {
        Box::pin(async move {
            // Those that are lost could not be reached any more without it.
            if run.lost.is_empty() { apply(run, true).await } else { Ok(()) }
        })
    })
}

async fn apply<N: Network>(run: &mut RunState<N>, gateway: bool) -> Result<()> {
    let mut tasks = JoinSet::new();
    let mut stay = Vec::new();
    for (at, context) in std::mem::take(&mut run.nodes).into_iter().enumerate() {
        if (context.session.node.role == Role::Gateway) != gateway {
            stay.push((at, context, None));
            continue;
        }
        tasks.spawn(async move {
            let result = context.session.undo().await;
            (at, context, Some(result))
        });
    }
    let mut all = stay;
    while let Some(done) = tasks.join_next().await {
        all.push(done?);
    }
    if !gateway {
        run.notes.extend(bramble_kube::left_behind(&run.cluster));
    }
    all.sort_by_key(|(at, ..)| *at);
    for (_, context, result) in all {
        match result {
            None => {}
            Some(Ok(count)) => {
                run.changes += count;
                context.session.say(Event::Done(format!("{count} changes undone")));
            }
            Some(Err(error)) => {
                context.session.say(Event::Failed(format!("{error:#}")));
                run.failed.push((context.name().clone(), error));
            }
        }
        run.nodes.push(context);
    }
    Ok(())
}
