//! The rack's gateway comes first: until it is what the cluster file says, the nodes behind it may have no address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use bramble_kube::{Agenda, Inputs};
use bramble_remote::ConnectError;
use bramble_spec::Cluster;

use crate::engine::{self, Survey};
use crate::fleet::Fleet;
use crate::output::Printer;
use crate::progress::{Event, Progress};
use crate::project::Project;

/// How long nodes may take to ask for an address again: a client that heard nothing waits up to a minute between its tries
/// (RFC 2131, 4.1), and a board to boot.
const PATIENCE: Duration = Duration::from_secs(180);

/// Whether the gateway is to be set up before the others are looked at: some are missing, or it would boot while the way to
/// the others leads through it.
pub(crate) fn awaited(fleet: &Fleet<Survey>) -> bool {
    let gateway = fleet.nodes.iter().find(|survey| survey.session.node.uplink.is_some());
    gateway.is_some_and(|survey| survey.plan.reboot.is_some() || (!fleet.lost.is_empty() && !survey.plan.is_empty()))
}

/// Whether a node may only be slow to have an address.
fn may_come(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ConnectError::Unreachable { .. } | ConnectError::Refused { .. }))
}

/// Leaves the gateway alone, to be planned by itself.
pub(crate) fn alone(fleet: Fleet<Survey>) -> Vec<Survey> {
    fleet.nodes.into_iter().filter(|survey| survey.session.node.uplink.is_some()).collect()
}

/// Sets the gateway up, and waits for the nodes behind it. Gives what a look at all nodes finds then, and how many changes
/// were made.
pub(crate) async fn first(
    project: &Project,
    cluster: &Arc<Cluster>,
    inputs: &Arc<Inputs>,
    printer: &Printer,
    fleet: Fleet<Survey>,
) -> anyhow::Result<(Fleet<Survey>, usize)> {
    let Some(mut gateway) = alone(fleet).pop() else { bail!("no gateway can be reached") };
    let node = gateway.session.node.clone();
    let found = engine::obstacles(cluster, inputs, std::slice::from_ref(&gateway), &Agenda::default());
    if let Some((name, message)) = found.first() {
        bail!("nothing was changed, because of:\n  {name}: {message}");
    }
    let progress = Progress::new(printer, [node.name.as_str()]);
    gateway.session.progress = progress.clone();
    let wish = engine::wish(cluster, &node, inputs);
    let result = gateway.session.converge(&wish, Some((gateway.plan, gateway.seen))).await;
    let changes = match result {
        Ok((_, changes)) => {
            gateway.session.say(Event::Done(format!("{changes} changes made")));
            progress.end();
            changes
        }
        Err(error) => {
            progress.end();
            bail!("the gateway {} failed; run `bramble up` again when this is mended:\n  {error:#}", node.name);
        }
    };
    let started = Instant::now();
    loop {
        let progress = Progress::new(printer, cluster.nodes.iter().map(|node| node.name.as_str()));
        let fleet = engine::survey(project, cluster, inputs, printer, &progress).await;
        progress.end();
        let fleet = fleet?;
        if !fleet.lost.iter().any(|(_, error)| may_come(error)) || started.elapsed() > PATIENCE {
            return Ok((fleet, changes));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
