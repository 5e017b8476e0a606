//! The rack's gateway comes first: until it is what the cluster file says, the nodes behind it may have no address.

use std::time::Duration;

use anyhow::anyhow;
use bramble_kube::Inputs;
use bramble_remote::ConnectError;
use bramble_spec::{Cluster, Place, Problem};
use tokio::time::Instant;

use crate::error::{Result, bail};
use crate::event::Event;
use crate::node_plan::{NodePlan, Plans};
use crate::phase::Phase;
use crate::phases::prepare;
use crate::run_state::{NodeContext, RunState};
use crate::survey::desired;
use crate::transport::Network;

/// How long nodes may take to ask for an address again: a client that heard nothing waits up to a minute between its tries
/// (RFC 2131, 4.1), and a board to boot.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase {
        plan,
        obstacles,
        comes_first,
        ..Phase::new("gateway", |run| Box::pin(async move { if comes_first(run) { apply(run).await } else { Ok(()) } }))
    }
}

fn gateway<N: Network>(run: &RunState<N>) -> Option<&NodeContext<N>> {
    run.nodes.iter().find(|context| context.session.node.uplink.is_some())
}

/// Whether the gateway is to be set up before the others are looked at: some are missing, or it would boot while the way to
/// the others leads through it.
fn comes_first<N: Network>(run: &RunState<N>) -> bool {
    gateway(run)
        .is_some_and(|context| context.plan.reboot.is_some() || (!run.lost.is_empty() && !context.plan.is_empty()))
}

fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    if let Some(context) = gateway(run).filter(|_| comes_first(run)) {
        plans.0.push(NodePlan { name: context.name().clone(), plan: context.plan.clone(), steps: Vec::new() });
    }
}

fn obstacles<N: Network>(run: &RunState<N>) -> Vec<Problem> {
    let Some(context) = gateway(run).filter(|_| comes_first(run)) else { return Vec::new() };
    let here = Place::from(context.name());
    prepare::obstacles(run).into_iter().filter(|problem| problem.place == here).collect()
}

/// Sets the gateway up, and waits for the nodes behind it.
async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    prepare::refuse_misfits(run, &run.inputs.addons.iter().collect::<Vec<_>>())?;
    let Some(at) = run.nodes.iter().position(|context| context.session.node.uplink.is_some()) else {
        bail!("no gateway can be reached");
    };
    let (cluster, inputs): (&Cluster, &Inputs) = (&run.cluster, &run.inputs);
    let context = &mut run.nodes[at];
    let node = context.session.node.clone();
    let first = Some((std::mem::take(&mut context.plan), context.seen.clone()));
    let result = context.session.converge(&desired(cluster, &node, inputs), first).await;
    match result {
        Ok((_, changes)) => run.took(at, Ok(changes)),
        Err(error) => {
            let again =
                anyhow!("the gateway {} failed; run `bramble up` again once this is fixed:\n  {error:#}", node.name);
            context.session.say(Event::Failed(format!("{error:#}")));
            return Err(again.into());
        }
    }
    let started = Instant::now();
    loop {
        run.look_again().await?;
        if !run.lost.iter().any(|(_, error)| may_come(error)) || started.elapsed() > PATIENCE {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Whether a node may only be slow to have an address.
fn may_come(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ConnectError::Unreachable { .. } | ConnectError::Refused { .. }))
}
