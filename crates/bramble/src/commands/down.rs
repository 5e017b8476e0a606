//! `bramble down`.

use std::time::Instant;

use anyhow::bail;
use bramble_engine::{Goal, tokens_file};
use bramble_kube::Inputs;

use crate::confirmed::Yes;
use crate::drive::Drive;
use crate::ui::printer::{Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Down {
    #[command(flatten)]
    yes: Yes,
    /// Also if bramble.lock in this folder does not know the cluster of these nodes
    #[arg(long)]
    adopt: bool,
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
        let drive = Drive {
            project: &project,
            printer,
            command: "down",
            confirmed: self.yes.confirmed_for(cluster.name.as_str()),
            adopt: self.adopt,
            identity: None,
            from: None,
        };
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
        let tokens = tokens_file(&project.private_dir()?, &cluster.name);
        if tokens.exists() {
            printer.result(format!(
                "Its state is in its database still. {} opens it: the next `bramble up` goes on with that state. Remove both to begin anew.",
                tokens.display()
            ));
        }
        if !summary.lost.is_empty() {
            bail!(
                "{} nodes could not be reached: run `bramble down` again when they can:{}",
                summary.lost.len(),
                summary.losses
            );
        }
        drive.forget_identity()?;
        Ok(Done::Good)
    }
}
