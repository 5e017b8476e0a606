//! `bramble restore`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, bail};
use bramble_engine::{BackupKey, Goal, Interface, Project, Restored, SavedVolume, Volumes, read_backup};
use bramble_fetch::file_digest;
use bramble_kube::{Destruction, Identity, lifecycle, minor};
use bramble_state::Upload;
use serde_json::json;

use crate::confirmed::Yes;
use crate::drive::Drive;
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup, as `bramble backup` wrote it
    #[arg(value_name = "FILE", required_unless_present = "volume", conflicts_with = "volume")]
    backup: Option<PathBuf>,
    /// Bring a volume back that the cluster has saved, and nothing else; `bramble backup volumes` lists them
    #[arg(long, value_name = "NAMESPACE/CLAIM")]
    volume: Option<String>,
    /// Of a volume, what was saved under this ID; otherwise the newest
    #[arg(long, value_name = "ID", requires = "volume")]
    id: Option<String>,
    /// The key that opens it; otherwise .bramble/backup.key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    yes: Yes,
    /// Manage the cluster of these nodes from this folder, whose bramble.lock does not know it
    #[arg(long)]
    adopt: bool,
}

impl Restore {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let started = Instant::now();
        let project = cluster_file::open(common, printer)?;
        let _lock = project.lock()?;
        if let Some(claim) = &self.volume {
            return volume(&project, claim, self.id.as_deref(), self.yes, printer).await;
        }
        let Some(backup) = self.backup else { bail!("name the backup") };
        let key = BackupKey::open(&self.key.map_or_else(|| project.backup_key(), Ok)?, false)?;
        let state = project.private_file()?;
        let manifest = read_backup(&backup, &key, state.path())?;
        let inputs = cluster_file::inputs(&project, printer)?;
        let cluster = &project.cluster;
        let file = backup.display();
        {
            let life = lifecycle(cluster, &inputs).ok_or_else(|| anyhow!("{} has no Kubernetes", cluster.name))?;
            if let Some(elsewhere) = life.state_elsewhere() {
                bail!("{elsewhere}");
            }
            if manifest.cluster != cluster.name.as_str() {
                bail!("{file} is a backup of the cluster {}, the cluster file says {}", manifest.cluster, cluster.name);
            }
            if manifest.distribution != life.name() {
                bail!("{file} was made of {}, the cluster file wants {}", manifest.distribution, life.name());
            }
            if minor(&manifest.kubernetes) != minor(&life.version()) {
                bail!(
                    "{file} was made of Kubernetes {}, the cluster file wants {}: restore with the minor of the backup, and upgrade then",
                    manifest.kubernetes,
                    life.version()
                );
            }
        }
        if manifest.objects.is_empty() {
            bail!("{file} knows of no objects at all: it is no backup of a cluster that was well");
        }
        let restored = Restored {
            ca: manifest.ca.clone(),
            moved: manifest.api != cluster.network.api,
            state: Upload {
                name: "the state of the cluster".into(),
                sha256: file_digest(state.path())?,
                from: state.path().to_owned(),
                secret: true,
            },
            objects: manifest.objects,
        };
        let drive = Drive {
            project: &project,
            printer,
            command: "restore",
            confirmed: self.yes.confirmed_for(cluster.name.as_str()),
            adopt: self.adopt,
            identity: manifest.id.map(|id| Identity { id, ca: Some(manifest.ca) }),
            from: None,
        };
        let mut looked = drive.look(inputs, Goal::Restore(restored)).await?;
        let summary = drive.go(&mut looked, None).await?;
        drive.report(&looked.run, summary, started)
    }
}

/// Brings one volume back.
async fn volume(project: &Project, claim: &str, id: Option<&str>, yes: Yes, printer: &Printer) -> anyhow::Result<Done> {
    let inputs = cluster_file::inputs(project, printer)?;
    let network = cluster_file::network(project)?;
    let volumes = Volumes { project, inputs: &inputs };
    let progress = || Arc::new(Progress::new(printer, project.cluster.members().map(|node| node.name.as_str())));
    let looking = progress();
    let interface: Arc<dyn Interface> = looking.clone();
    let found = async {
        let there = volumes.find(&network, &interface, claim).await?;
        anyhow::Ok((there, volumes.saved(&network, &interface).await?))
    };
    let found = found.await;
    looking.end();
    let (there, saved) = found?;
    for place in &saved.unread {
        printer.info(format!("Not asked: {place}"));
    }
    let fits = |saved: &&SavedVolume| saved.claim == claim && id.is_none_or(|id| saved.id.starts_with(id));
    let Some(wanted) = saved.volumes.iter().find(fits) else {
        match id {
            Some(id) => bail!("nothing is saved of {claim} under {id}; `bramble backup volumes` lists what is"),
            None => bail!("nothing is saved of {claim}; `bramble backup volumes` lists what is"),
        }
    };
    let what = format!(
        "{claim}: what is in its volume on {} now goes, and what was saved at {} comes back",
        there.node.name, wanted.time
    );
    let named = vec![Destruction { name: claim.to_owned(), what }];
    yes.confirmed_for(claim).agree(printer, named, "This cannot be undone:", "Go on?")?;
    let restoring = progress();
    let interface: Arc<dyn Interface> = restoring.clone();
    let done = volumes.restore(&network, &interface, &there, wanted).await;
    restoring.end();
    done?;
    if printer.format == Format::Json {
        printer.json(&json!({ "claim": claim, "node": there.node.name, "id": wanted.id, "time": wanted.time }));
        return Ok(Done::Good);
    }
    printer.result(format!(
        "{} {claim} on {} is as it was at {}.",
        printer.style(Style::Good, "✓"),
        there.node.name,
        wanted.time
    ));
    Ok(Done::Good)
}
