//! `bramble down`.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::bail;
use bramble_kube::{Inputs, lifecycle};
use bramble_spec::{NodeName, Role};
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::node::NodeSession;
use crate::output::{Printer, Style};
use crate::progress::{Event, Progress};
use crate::project::Project;
use crate::{Common, Done};

#[derive(clap::Args)]
pub(crate) struct Down {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Go on although some nodes cannot be reached
    #[arg(long)]
    partial: bool,
}

async fn undo(session: NodeSession) -> (NodeName, anyhow::Result<usize>) {
    let result = session.undo().await;
    match &result {
        Ok(count) => session.say(Event::Done(format!("{count} changes undone"))),
        Err(error) => session.say(Event::Failed(error.to_string())),
    }
    (session.node.name, result)
}

impl Down {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let started = Instant::now();
        let project = Project::open(common, printer)?;
        let _lock = project.lock()?;
        let cluster = &project.cluster;
        if !self.yes {
            let question = format!(
                "Remove the cluster {} and all that runs on it from {} nodes?",
                cluster.name,
                cluster.nodes.len()
            );
            if !std::io::stdin().is_terminal() {
                bail!("`down` destroys the cluster {}: say --yes if that is meant", cluster.name);
            }
            if !printer.confirm(&question)? {
                bail!("nothing was changed");
            }
        }
        let progress = Progress::new(printer, cluster.nodes.iter().map(|node| node.name.as_str()));
        let fleet = Fleet::connect(&project, printer, &progress).await;
        let result = async {
            let fleet = fleet?;
            let lost = fleet.lost.len();
            let sessions = if self.partial { fleet.nodes } else { fleet.complete()? };
            let inputs = Inputs::default();
            if let Some(life) = lifecycle(cluster, &inputs)
                && let Some(plane) = Fleet::control_plane(&sessions)
                && plane.observe(&[]).await.is_ok_and(|seen| seen.done(bramble_kube::MEMBER).is_some())
            {
                plane.say(Event::Waiting("the pods to end".into()));
                // A cluster that is broken must go, too.
                plane.ask(&bramble_kube::drain_script(cluster, &*life), |_, _| {}).await.ok();
            }
            // The gateway goes last: the others are reached through it.
            let (gateways, others): (Vec<_>, Vec<_>) =
                sessions.into_iter().partition(|session| session.node.role == Role::Gateway);
            let mut undone = 0;
            let mut failed = Vec::new();
            for sessions in [others, gateways] {
                let mut tasks = JoinSet::new();
                // Those that are lost could not be reached any more without it.
                let goes =
                    |session: &NodeSession| failed.is_empty() && (session.node.role != Role::Gateway || lost == 0);
                for session in sessions.into_iter().filter(goes) {
                    tasks.spawn(undo(session));
                }
                while let Some(task) = tasks.join_next().await {
                    match task? {
                        (_, Ok(count)) => undone += count,
                        (name, Err(error)) => failed.push(format!("\n  {name}: {error:#}")),
                    }
                }
            }
            if !failed.is_empty() {
                bail!(
                    "{} nodes failed; run `bramble down` again when this is mended:{}",
                    failed.len(),
                    failed.concat()
                );
            }
            anyhow::Ok((undone, lost))
        }
        .await;
        progress.end();
        let (undone, lost) = result?;
        let seconds = started.elapsed().as_secs_f64();
        printer.result(format!(
            "{} {} is gone: {undone} changes undone in {seconds:.1} s.",
            printer.style(Style::Good, "✓"),
            cluster.name
        ));
        if lost > 0 {
            printer.result(format!("{lost} nodes could not be reached: run `bramble down` again when they can."));
        }
        Ok(Done::Good)
    }
}
