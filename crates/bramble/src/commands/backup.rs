//! `bramble backup`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use bramble_kube::lifecycle;
use bramble_spec::Role;
use serde_json::json;

use crate::archive::{self, BackupKey, Manifest};
use crate::fleet::Fleet;
use crate::node::NodeSession;
use crate::output::{Format, Printer, Style};
use crate::progress::{Event, Progress};
use crate::project::Project;
use crate::{Common, Done};

#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The file to write; otherwise CLUSTER-TIME.bramble-backup beside the cluster file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The key that opens it, made if there is none; otherwise .bramble/backup.key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Backup {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let mut project = Project::open(common, printer)?;
        let inputs = project.inputs(printer)?;
        let cluster = project.cluster.clone();
        let life = lifecycle(&cluster, &inputs).ok_or_else(|| anyhow!("{} has no Kubernetes", cluster.name))?;
        let key = BackupKey::open(&self.key.map_or_else(|| project.backup_key(), Ok)?, true)?;
        project.cluster.nodes.retain(|node| node.role == Role::ControlPlane);
        let progress = Progress::new(printer, project.cluster.nodes.iter().map(|node| node.name.as_str()));
        let fleet = Fleet::connect(&project, printer, &progress).await.inspect_err(|_| progress.end())?;
        let result = async {
            let mut found = None;
            for session in &fleet.nodes {
                let seen = session.observe(&[]).await?;
                if let Some(ca) = bramble_kube::ca(&seen) {
                    found = Some((session, ca.to_owned(), seen.done(bramble_kube::VERSION).map(str::to_owned)));
                    break;
                }
            }
            let Some((plane, ca, version)) = found else {
                return Err(match fleet.lost.first() {
                    Some(_) => anyhow!("no control plane of the cluster can be reached:{}", fleet.losses()),
                    None => anyhow!("there is no cluster yet; `bramble up` makes it"),
                });
            };
            plane.say(Event::Waiting("the state of the cluster".into()));
            let objects = objects(plane, &*life).await?;
            let state = tempfile(&project)?;
            let mut file = std::fs::File::create(&state.0).context("cannot keep the state")?;
            plane
                .read(&bramble_kube::backup_script(&*life), &mut file)
                .await
                .context("the control plane cannot save the state of the cluster")?;
            drop(file);
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            let manifest = Manifest {
                format: Manifest::FORMAT,
                cluster: cluster.name.to_string(),
                distribution: life.name().to_owned(),
                kubernetes: version.unwrap_or_else(|| life.version()),
                api: cluster.network.api,
                ca,
                made: now,
                objects,
            };
            let to = self.to.unwrap_or_else(|| project.dir.join(format!("{}-{now}.bramble-backup", cluster.name)));
            let beside = [common.file.clone(), project.dir.join("bramble.lock")];
            let size = archive::write(&to, &key, &manifest, &state.0, &beside)?;
            plane.say(Event::Done(format!("{size} bytes")));
            Ok((to, size, manifest))
        }
        .await;
        progress.end();
        let (to, size, manifest) = result?;
        if printer.format == Format::Json {
            printer.json(&json!({ "file": to, "bytes": size, "key": key.path, "objects": manifest.objects.len() }));
            return Ok(Done::Good);
        }
        printer.result(format!(
            "{} {} is saved in {} ({:.1} MB, {} objects).",
            printer.style(Style::Good, "✓"),
            cluster.name,
            to.display(),
            size as f64 / 1e6,
            manifest.objects.len()
        ));
        if key.fresh {
            printer.result(format!(
                "Its key is new, in {}: keep a copy of it elsewhere, without it no backup can be opened.",
                key.path.display()
            ));
        }
        Ok(Done::Good)
    }
}

/// The objects that tell whether a cluster is the same.
pub(crate) async fn objects(plane: &NodeSession, life: &dyn bramble_kube::Lifecycle) -> anyhow::Result<Vec<String>> {
    let text =
        plane.ask(&bramble_kube::objects_script(life), |_, _| {}).await.context("the API does not tell its objects")?;
    if text.trim().is_empty() {
        bail!("the API tells of no objects at all, and every cluster has namespaces: is its datastore well?");
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// A file for secrets that goes when it is not needed any more.
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// A file in the project's private folder, which nobody else can read.
pub(crate) fn tempfile(project: &Project) -> anyhow::Result<Temporary> {
    Ok(Temporary(project.private_dir()?.join(format!("state.{}", std::process::id()))))
}
