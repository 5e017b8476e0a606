//! `bramble up`.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, bail};
use bramble_engine::Goal;
use bramble_kube::Inputs;
use bramble_remote::HostKeys;

use crate::commands::design;
use crate::confirmed::Yes;
use crate::drive::Drive;
use crate::ui::printer::Printer;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    yes: Yes,
    /// Manage the cluster of these nodes from this folder, whose bramble.lock does not know it
    #[arg(long)]
    adopt: bool,
    /// Only prepare the nodes; leave Kubernetes for later
    #[arg(long)]
    prepare_only: bool,
    /// Begin with this phase, as the log of a run names it, and leave out those before it
    #[arg(long, value_name = "PHASE")]
    from: Option<String>,
    /// This disk may be formatted although something is on it, as NODE:/dev/sda: all that is on it is lost
    #[arg(long, value_name = "NODE:DISK")]
    format: Vec<String>,
    /// This board is another one than before, or was flashed again: its new host key is shown and asked for
    #[arg(long, value_name = "NODE")]
    replaced: Vec<String>,
}

impl Up {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let started = Instant::now();
        let project = cluster_file::open(common, printer)?;
        design::refuse_what_cannot_work(&project.cluster)?;
        let _lock = project.lock()?;
        for name in &self.replaced {
            let node = project.node(name).with_context(|| format!("--replaced {name}"))?;
            let keys = HostKeys::open([project.known_hosts()?])?;
            keys.forget(&node.host(), project.cluster.access.port)?;
        }
        let mut format = BTreeSet::new();
        for written in &self.format {
            let (name, disk) =
                written.split_once(':').with_context(|| format!("--format {written}: say NODE:/dev/…"))?;
            let node = project.node(name).with_context(|| format!("--format {written}"))?;
            if !project.cluster.storage.disks_of(&node.name).contains(&disk) {
                bail!("--format {written}: `storage` of the cluster file gives {name} no disk {disk}");
            }
            format.insert((node.name.clone(), disk.to_owned()));
        }
        let inputs = Inputs { format, ..cluster_file::inputs(&project, printer)? };
        let title = cluster_file::title(&project, &inputs, printer);
        let drive = Drive {
            project: &project,
            printer,
            command: "up",
            confirmed: self.yes.confirmed(),
            adopt: self.adopt,
            identity: None,
            from: self.from,
        };
        let mut looked = drive.look(inputs, Goal::Up { prepare_only: self.prepare_only }).await?;
        let summary = drive.go(&mut looked, Some(title)).await?;
        drive.report(&looked.run, summary, started)
    }
}
