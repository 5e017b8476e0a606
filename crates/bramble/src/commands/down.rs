//! `bramble down`.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::bail;
use bramble_engine::Goal;
use bramble_kube::Inputs;

use crate::drive::Drive;
use crate::ui::printer::{Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Down {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Go on although some nodes cannot be reached
    #[arg(long)]
    partial: bool,
}

impl Down {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let started = Instant::now();
        let project = cluster_file::open(common, printer)?;
        let _lock = project.lock()?;
        let cluster = &project.cluster;
        if !self.yes {
            let question = format!(
                "Remove the cluster {} and all that runs on it from {} nodes?",
                cluster.name,
                cluster.nodes.len()
            );
            if !std::io::stdin().is_terminal() {
                bail!("`down` destroys the cluster {}: pass --yes to confirm", cluster.name);
            }
            if !printer.confirm(&question)? {
                bail!("nothing was changed");
            }
        }
        let drive = Drive { project: &project, printer, command: "down", yes: true, from: None };
        let mut looked = drive.look(Inputs::default(), Goal::Down { partial: self.partial }).await?;
        let Some(summary) = drive.go(&mut looked, None).await? else { bail!("there was nothing to undo") };
        printer.result(format!(
            "{} {} is gone{}: {} changes undone in {:.1} s.",
            printer.style(Style::Good, "✓"),
            cluster.name,
            if summary.lost.is_empty() { String::new() } else { format!(" from {} nodes", summary.nodes) },
            summary.changes,
            started.elapsed().as_secs_f64()
        ));
        if !summary.lost.is_empty() {
            bail!(
                "{} nodes could not be reached: run `bramble down` again when they can:{}",
                summary.lost.len(),
                summary.losses
            );
        }
        Ok(Done::Good)
    }
}
