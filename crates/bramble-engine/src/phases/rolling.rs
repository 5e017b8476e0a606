//! Members that must stop their pods, for an upgrade or a boot, one turn after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow};
use bramble_kube::{Inputs, Lifecycle, Task, lifecycle};
use bramble_spec::Cluster;
use bramble_state::Resource;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::Result;
use crate::event::Event;
use crate::node_plan::Plans;
use crate::phase::Phase;
use crate::run_state::{NodeContext, RunState};
use crate::session::Session;
use crate::survey::{self, desired};
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    // Also when nodes have failed: those that wait for their turn are told that there is none.
    Phase { plan, always: true, ..Phase::new("rolling", |run| Box::pin(apply(run))) }
}

fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    let version = lifecycle(&run.cluster, &run.inputs).map(|life| life.version()).unwrap_or_default();
    for context in &run.nodes {
        let step = match &context.task {
            Some(Task::Upgrade { from }) => format!("upgrade Kubernetes from {from} to {version}, after draining it"),
            Some(Task::Nothing) if context.plan.reboot.is_some() => "drained during the reboot".to_owned(),
            _ => continue,
        };
        plans.add_step(context.name(), step);
    }
}

fn upgrades<N: Network>(context: &NodeContext<N>) -> bool {
    matches!(context.task, Some(Task::Upgrade { .. }))
}

/// Control planes go first, one by one, then workers, a few at once. The first one that fails is the last one touched.
async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let rolls: Vec<usize> = (0..run.nodes.len()).filter(|at| run.nodes[*at].rolls).collect();
    let (cluster, inputs) = (run.cluster.clone(), run.inputs.clone());
    let Some(life) = lifecycle(&cluster, &inputs).filter(|_| !rolls.is_empty()) else { return Ok(()) };
    if !run.failed.is_empty() {
        for at in rolls {
            run.took(at, Err(anyhow!("it was not taken out of service, because others failed")));
        }
        return Ok(());
    }
    for at in &rolls {
        run.nodes[*at].session.say(Event::Waiting("its turn".into()));
    }
    let (planes, workers): (Vec<usize>, Vec<usize>) = rolls.iter().partition(|at| run.nodes[**at].is_control_plane());
    // The first of them takes the cluster along; it did so already if another control plane is there.
    let upgrading = planes.iter().filter(|at| upgrades(&run.nodes[**at])).count();
    let mut first = upgrading == cluster.control_planes().count();
    let mut stopped = false;
    for at in planes {
        let result = if stopped {
            Err(untouched())
        } else {
            let context = &mut run.nodes[at];
            let upgrade = upgrades(context).then_some(first);
            first &= upgrade.is_none();
            turn(&cluster, &inputs, &*life, None, &mut context.session, upgrade).await
        };
        stopped |= result.is_err();
        run.took(at, result);
    }
    if workers.is_empty() {
        return Ok(());
    }
    let mut all: Vec<Option<NodeContext<N>>> = std::mem::take(&mut run.nodes).into_iter().map(Some).collect();
    let mut turns: Vec<(usize, NodeContext<N>)> =
        workers.iter().filter_map(|at| Some((*at, all[*at].take()?))).collect();
    // Those that have no turn now speak for the cluster.
    let others = Arc::new(all);
    let stop = Arc::new(AtomicBool::new(stopped));
    let places = Arc::new(Semaphore::new(usize::from(cluster.update.workers)));
    let mut tasks = JoinSet::new();
    for (at, mut context) in turns.drain(..) {
        let (cluster, inputs, others) = (cluster.clone(), inputs.clone(), others.clone());
        let (stop, places) = (stop.clone(), places.clone());
        tasks.spawn(async move {
            let result = async {
                let _place = places.acquire().await?;
                if stop.load(Ordering::Relaxed) {
                    return Err(untouched());
                }
                let life = lifecycle(&cluster, &inputs).ok_or_else(untouched)?;
                let upgrade = upgrades(&context).then_some(false);
                let planes = others.iter().flatten().map(|context| &context.session);
                let result = match survey::speaker(&*life, planes).await {
                    Ok(plane) => turn(&cluster, &inputs, &*life, Some(plane), &mut context.session, upgrade).await,
                    Err(error) => Err(error.into()),
                };
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                result
            }
            .await;
            (at, context, result)
        });
    }
    let mut done = Vec::new();
    while let Some(result) = tasks.join_next().await {
        done.push(result?);
    }
    // Every task that had a share of them has ended.
    let mut all = Arc::into_inner(others).unwrap_or_default();
    let mut results = Vec::new();
    for (at, context, result) in done {
        all[at] = Some(context);
        results.push((at, result));
    }
    run.nodes = all.into_iter().flatten().collect();
    for (at, result) in results {
        run.took(at, result);
    }
    Ok(())
}

fn untouched() -> anyhow::Error {
    anyhow!("it was left alone, because another one failed")
}

/// One node's turn. `plane` is the control plane that speaks for the cluster; without one the node speaks for itself.
/// `upgrade`: whether it is upgraded, and as the first.
async fn turn<N: Network>(
    cluster: &Cluster,
    inputs: &Inputs,
    life: &dyn Lifecycle,
    plane: Option<&Session<N>>,
    session: &mut Session<N>,
    upgrade: Option<bool>,
) -> anyhow::Result<usize> {
    let node = session.node.clone();
    drain(cluster, life, plane, session).await?;
    let (seen, mut changes) = session.converge(&desired(cluster, &node, inputs), None).await.context(CORDONED)?;
    if let Some(first) = upgrade {
        let step = life.upgrade(&node, &seen, first);
        let plan = bramble_state::plan(&[Resource::Step(step)], &seen);
        session.apply(&plan, |_, _| {}).await.context(CORDONED)?;
        changes += 1;
    }
    returns(life, plane, session, Some(&life.kubelet_version())).await?;
    Ok(changes)
}

/// What is true of a node whose turn has ended too early.
pub(crate) const CORDONED: &str = "it stays cordoned until this is fixed";

/// Takes the pods off a node, and lets it take none.
pub(crate) async fn drain<N: Network>(
    cluster: &Cluster,
    life: &dyn Lifecycle,
    plane: Option<&Session<N>>,
    session: &Session<N>,
) -> anyhow::Result<()> {
    session.say(Event::Waiting("its pods to be drained".into()));
    let drain = bramble_kube::drain_node_script(life, &session.node.name, cluster.update.drain);
    plane.unwrap_or(session).act(&drain, |_, _| {}).await?;
    Ok(())
}

/// Waits until a node is Ready again, with this version if one is given, and lets it take pods as before.
pub(crate) async fn returns<N: Network>(
    life: &dyn Lifecycle,
    plane: Option<&Session<N>>,
    session: &Session<N>,
    version: Option<&str>,
) -> anyhow::Result<()> {
    session.say(Event::Waiting("it to be Ready again".into()));
    if plane.is_none() {
        session.ask(&bramble_kube::updated_script(life, session.node.address), |_, _| {}).await.context(CORDONED)?;
    }
    let uncordon = bramble_kube::uncordon_script(life, &session.node.name, version);
    plane.unwrap_or(session).act(&uncordon, |_, _| {}).await.context(CORDONED)?;
    Ok(())
}
