//! Members that must stop their pods, for an upgrade or a boot, one turn after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Inputs, Lifecycle, Task, lifecycle};
use bramble_spec::{Cluster, Role};
use bramble_state::Resource;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engine::{Outcome, wish};
use crate::node::NodeSession;
use crate::progress::Event;

/// Control planes go first, one by one, then workers, a few at once. The first one that fails is the last one touched.
pub(crate) async fn take(
    cluster: &Arc<Cluster>,
    inputs: &Arc<Inputs>,
    mut nodes: Vec<(NodeSession, Option<Task>)>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(life) = lifecycle(cluster, inputs) else { bail!("there is no cluster whose nodes take turns") };
    nodes.sort_by_key(|(session, _)| cluster.nodes.iter().position(|node| node.name == session.node.name));
    let (planes, workers): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|(session, _)| session.node.role == Role::ControlPlane);
    for (session, _) in planes.iter().chain(&workers) {
        session.say(Event::Waiting("its turn".into()));
    }
    let upgrading = |task: &Option<Task>| matches!(task, Some(Task::Upgrade { .. }));
    // The first of them takes the cluster along; it did so already if another control plane is there.
    let mut first = planes.iter().filter(|(_, task)| upgrading(task)).count() == cluster.control_planes().count();
    let mut stopped = false;
    for (mut session, task) in planes {
        if stopped {
            outcome.take(session, Err(untouched()));
            continue;
        }
        let upgrade = upgrading(&task).then_some(first);
        let result = turn(cluster, inputs, &*life, None, &mut session, upgrade).await;
        stopped = result.is_err();
        first &= upgrade.is_none();
        outcome.take(session, result);
    }
    if workers.is_empty() {
        return Ok(());
    }
    let at = outcome.sessions.iter().position(|session| session.node.role == Role::ControlPlane);
    let plane = Arc::new(outcome.sessions.swap_remove(at.ok_or_else(|| anyhow!("no control plane answers"))?));
    let stop = Arc::new(AtomicBool::new(stopped));
    let places = Arc::new(Semaphore::new(usize::from(cluster.update.workers)));
    let mut tasks = JoinSet::new();
    for (mut session, task) in workers {
        let (cluster, inputs, plane) = (cluster.clone(), inputs.clone(), plane.clone());
        let (stop, places, upgrade) = (stop.clone(), places.clone(), upgrading(&task).then_some(false));
        tasks.spawn(async move {
            let result = async {
                let _place = places.acquire().await?;
                if stop.load(Ordering::Relaxed) {
                    return Err(untouched());
                }
                let life = lifecycle(&cluster, &inputs).ok_or_else(untouched)?;
                let result = turn(&cluster, &inputs, &*life, Some(&plane), &mut session, upgrade).await;
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                result
            }
            .await;
            (session, result)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (session, result) = done?;
        outcome.take(session, result);
    }
    // Every task that had a share of it has ended.
    outcome.sessions.extend(Arc::into_inner(plane));
    Ok(())
}

fn untouched() -> anyhow::Error {
    anyhow!("it was left alone, because another one failed")
}

/// One node's turn. `plane` is the control plane that speaks for the cluster; without one the node speaks for itself.
/// `upgrade`: whether it is upgraded, and as the first.
async fn turn(
    cluster: &Cluster,
    inputs: &Inputs,
    life: &dyn Lifecycle,
    plane: Option<&NodeSession>,
    session: &mut NodeSession,
    upgrade: Option<bool>,
) -> anyhow::Result<usize> {
    let node = session.node.clone();
    session.say(Event::Waiting("its pods to go elsewhere".into()));
    let drain = bramble_kube::drain_node_script(life, &node.name, cluster.update.drain);
    plane.unwrap_or(session).ask(&drain, |_, _| {}).await?;
    let wish = wish(cluster, &node, inputs);
    let (seen, mut changes) =
        session.converge(&wish, None).await.context("it stays without pods until this is mended")?;
    if let Some(first) = upgrade {
        let step = life.upgrade(&node, first);
        session
            .apply(&bramble_state::plan(&[Resource::Step(step)], &seen), |_, _| {})
            .await
            .context("it stays without pods until this is mended")?;
        changes += 1;
    }
    session.say(Event::Waiting("it to be Ready again".into()));
    if plane.is_none() {
        session.ask(&bramble_kube::updated_script(life, node.address), |_, _| {}).await?;
    }
    let uncordon = bramble_kube::uncordon_script(life, &node.name, &life.kubelet_version());
    plane.unwrap_or(session).ask(&uncordon, |_, _| {}).await?;
    Ok(changes)
}
