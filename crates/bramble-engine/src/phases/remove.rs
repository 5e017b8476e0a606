//! Members that are not in the cluster file any more.

use anyhow::{Context, bail};
use bramble_kube::{Leaver, Lifecycle, MEMBER, lifecycle, owner};
use bramble_spec::Node;
use bramble_state::Plan;

use crate::error::Result;
use crate::event::Event;
use crate::node_plan::{NodePlan, Plans};
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::session::Session;
use crate::survey::{Fleet, forget};
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase { plan, ..Phase::new("remove", |run| Box::pin(apply(run))) }
}

fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    let leavers = run.agenda.leavers.iter().map(|leaver| NodePlan {
        name: leaver.name.clone(),
        plan: Plan::default(),
        steps: vec![format!(
            "leave the cluster {}: it is not in the cluster file any more ({})",
            run.cluster.name, leaver.address
        )],
    });
    plans.0.splice(0..0, leavers);
}

/// Removes them, one after the other: they are drained, the cluster forgets them, and what bramble did to them is undone.
/// Those that cannot be reached are only forgotten; what is to be said of them is noted.
async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let (cluster, inputs) = (run.cluster.clone(), run.inputs.clone());
    let Some(life) = lifecycle(&cluster, &inputs).filter(|_| !run.agenda.leavers.is_empty()) else { return Ok(()) };
    let plane = run.speaker(&*life).await?;
    // Of a node that is only left, nothing but name and address counts.
    let node = |leaver: &Leaver| Node { name: leaver.name.clone(), address: leaver.address, ..plane.node.clone() };
    let (replaced, there): (Vec<_>, Vec<_>) = run.agenda.leavers.iter().partition(|leaver| leaver.replaced);
    for leaver in replaced {
        forget(&*life, plane, [&node(leaver)])
            .await
            .with_context(|| format!("the cluster cannot forget {}", leaver.name))?;
    }
    let nodes: Vec<Node> = there.into_iter().map(node).collect();
    let (id, ca) = (run.id.clone(), run.agenda.ca.clone());
    let work = move |session: Session<N>| {
        let (id, ca) = (id.clone(), ca.clone());
        async move {
            let seen = session.observe(&[]).await?;
            let ours = match owner(&seen) {
                Some(owner) => owner.id == id && owner.node == session.node.name.as_str(),
                None => seen.done(MEMBER).is_some() && bramble_kube::ca(&seen) == ca.as_deref(),
            };
            if !ours {
                bail!("the machine at {} is not this member of the cluster any more", session.node.address);
            }
            Ok((session, seen))
        }
    };
    let fleet = Fleet::visit(&run.network, &nodes, &run.interface, work).await?;
    let mut leaving = Vec::new();
    for (mut session, seen) in fleet.nodes {
        session.begin_turn(run.turn(&seen));
        leaving.push(session);
    }
    let mut notes = Vec::new();
    for session in &leaving {
        remove(&*life, plane, session, cluster.update.drain)
            .await
            .with_context(|| format!("{} cannot be taken out of the cluster", session.node.name))?;
    }
    for (node, error) in &fleet.lost {
        forget(&*life, plane, [node]).await.with_context(|| format!("the cluster cannot forget {}", node.name))?;
        notes.push(format!(
            "{} is out of the cluster, but it could not be reached ({error:#}): before it is used again, flash it anew",
            node.name
        ));
    }
    run.notes.extend(notes);
    run.changes += run.agenda.leavers.len();
    Ok(())
}

async fn remove<N: Network>(
    life: &dyn Lifecycle,
    plane: &Session<N>,
    session: &Session<N>,
    drain: u32,
) -> anyhow::Result<()> {
    session.say(Event::Waiting("its pods to be drained".into()));
    plane.act(&bramble_kube::drain_node_script(life, &session.node.name, drain), |_, _| {}).await?;
    forget(life, plane, [&session.node]).await.context("the cluster cannot forget it")?;
    let undone = session.undo().await?;
    session.say(Event::Done(format!("left the cluster, {undone} changes undone")));
    Ok(())
}
