//! Members that are not in the cluster file any more.

use anyhow::Context;
use bramble_kube::{Agenda, Leaver, Lifecycle};
use bramble_spec::Node;

use crate::engine::{Survey, member_plane};
use crate::fleet::Fleet;
use crate::node::NodeSession;
use crate::output::Printer;
use crate::progress::{Event, Progress};
use crate::project::Project;

/// Removes them, one after the other: their pods go elsewhere, the cluster forgets them, and what bramble did to them is
/// undone. Those that cannot be reached are only forgotten; what is to be said of them comes back.
pub(crate) async fn all(
    project: &Project,
    life: &dyn Lifecycle,
    surveys: &[Survey],
    agenda: &Agenda,
    printer: &Printer,
    progress: &Progress,
) -> anyhow::Result<Vec<String>> {
    let plane = &member_plane(life, surveys, agenda).await?.session;
    let nodes: Vec<Node> = agenda
        .leavers
        .iter()
        // Of a node that is only left, nothing but name and address counts.
        .map(|Leaver { name, address }| Node { name: name.clone(), address: *address, ..plane.node.clone() })
        .collect();
    let fleet = Fleet::visit(project, &nodes, printer, progress, async |session| Ok(session)).await?;
    let mut said = Vec::new();
    for session in &fleet.nodes {
        one(life, plane, session, project.cluster.update.drain)
            .await
            .with_context(|| format!("{} cannot be taken out of the cluster", session.node.name))?;
    }
    for (node, error) in &fleet.lost {
        forget(life, plane, node).await?;
        said.push(format!(
            "{} is out of the cluster, but it could not be reached ({error:#}): before it is used again, flash it anew",
            node.name
        ));
    }
    Ok(said)
}

async fn one(life: &dyn Lifecycle, plane: &NodeSession, session: &NodeSession, drain: u32) -> anyhow::Result<()> {
    session.say(Event::Waiting("its pods to go elsewhere".into()));
    plane.ask(&bramble_kube::drain_node_script(life, &session.node.name, drain), |_, _| {}).await?;
    forget(life, plane, &session.node).await?;
    let undone = session.undo().await?;
    session.say(Event::Done(format!("left the cluster, {undone} changes undone")));
    Ok(())
}

async fn forget(life: &dyn Lifecycle, plane: &NodeSession, node: &Node) -> anyhow::Result<()> {
    let script = bramble_kube::forget_script(life, [(&node.name, node.address)]);
    plane.ask(&script, |_, _| {}).await.with_context(|| format!("the cluster cannot forget {}", node.name))?;
    Ok(())
}
