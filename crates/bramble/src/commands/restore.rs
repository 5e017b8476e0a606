//! `bramble restore`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{anyhow, bail};
use bramble_engine::{BackupKey, Goal, Restored, read_backup};
use bramble_fetch::file_digest;
use bramble_kube::{Identity, lifecycle, minor};
use bramble_state::Upload;

use crate::confirmed::Yes;
use crate::drive::Drive;
use crate::ui::printer::Printer;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup, as `bramble backup` wrote it
    #[arg(value_name = "FILE")]
    backup: PathBuf,
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
        let key = BackupKey::open(&self.key.map_or_else(|| project.backup_key(), Ok)?, false)?;
        let state = project.private_file()?;
        let manifest = read_backup(&self.backup, &key, state.path())?;
        let inputs = cluster_file::inputs(&project, printer)?;
        let cluster = &project.cluster;
        let file = self.backup.display();
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
