//! `bramble restore`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use bramble_fetch::file_digest;
use bramble_kube::{lifecycle, minor};
use bramble_state::Upload;

use crate::archive::{self, BackupKey};
use crate::commands::backup::{objects, tempfile};
use crate::commands::up::{Course, Restored};
use crate::fleet::Fleet;
use crate::output::{Printer, Style};
use crate::project::Project;
use crate::{Common, Done};

#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup, as `bramble backup` wrote it
    #[arg(value_name = "FILE")]
    backup: PathBuf,
    /// The key that opens it; otherwise .bramble/backup.key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Restore {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = Project::open(common, printer)?;
        let _lock = project.lock()?;
        let key = BackupKey::open(&self.key.map_or_else(|| project.backup_key(), Ok)?, false)?;
        let state = tempfile(&project)?;
        let manifest = archive::read(&self.backup, &key, &state.0)?;
        let inputs = project.inputs(printer)?;
        let cluster = project.cluster.clone();
        let life = lifecycle(&cluster, &inputs).ok_or_else(|| anyhow!("{} has no Kubernetes", cluster.name))?;
        let file = self.backup.display();
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
        let question = format!(
            "Put the cluster {} back to what {file} holds? What its control planes hold now is lost",
            cluster.name
        );
        if !self.yes {
            if !std::io::stdin().is_terminal() {
                bail!("`restore` replaces the state of {}: say --yes if that is meant", cluster.name);
            }
            if !printer.confirm(&question)? {
                bail!("nothing was changed");
            }
        }
        let upload = Upload {
            name: "the state of the cluster".into(),
            sha256: file_digest(&state.0)?,
            from: state.0.clone(),
            secret: true,
        };
        let restored = Restored { ca: manifest.ca.clone(), moved: manifest.api != cluster.network.api, state: upload };
        let done = Course { yes: true, prepare_only: false, format: BTreeSet::new(), restored: Some(restored) }
            .run(&project, printer)
            .await?;
        let fleet = Fleet::control_planes(&project, printer).await?;
        let plane = Fleet::control_plane(&fleet.nodes).ok_or_else(|| anyhow!("no control plane answers"))?;
        let there: BTreeSet<String> = objects(plane, &*life).await?.into_iter().collect();
        let missing: Vec<&str> =
            manifest.objects.iter().filter(|object| !there.contains(*object)).map(String::as_str).collect();
        if !missing.is_empty() {
            bail!(
                "the cluster is up, but {} of {} objects of the backup are not there:\n  {}",
                missing.len(),
                manifest.objects.len(),
                missing.join("\n  ")
            );
        }
        printer.result(format!(
            "{} All {} objects of the backup are there, with their UIDs.",
            printer.style(Style::Good, "✓"),
            manifest.objects.len()
        ));
        Ok(done)
    }
}
