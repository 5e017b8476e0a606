//! `bramble backup`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use bramble_engine::{Backup as Making, BackupKey, Interface, Manifest, Project, SavedVolume, Volumes, verify_backup};
use bramble_spec::{BackupPlace, utc};
use serde_json::json;

use crate::commands::backup_rack;
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::ui::table::table;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Backup {
    #[command(subcommand)]
    what: Option<What>,
    /// The file to write; otherwise CLUSTER-TIME.bramble-backup beside the cluster file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The key that opens it, made if there is none; otherwise .bramble/backup.key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Look into a backup: whether it is whole, and knows all objects that the cluster had (exit code 1 if not)
    Verify {
        /// The backup
        #[arg(value_name = "FILE")]
        backup: PathBuf,
        /// The key that opens it; otherwise .bramble/backup.key
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Bring it back as well, on a virtual rack of one board on this machine, which goes again (needs root)
        #[arg(long)]
        rack: bool,
    },
    /// Show where the cluster's own backups go, and the key with which they come to an SSH server
    Places,
    /// List the volumes that are saved (`backup: { volumes: … }`); `bramble restore --volume` brings one back
    Volumes,
}

impl Backup {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        match self.what {
            Some(What::Verify { backup, key, rack }) => {
                return verify(common, &project, &backup, key, rack, printer);
            }
            Some(What::Places) => return places(&project, printer),
            Some(What::Volumes) => return volumes(&project, printer).await,
            None => {}
        }
        let inputs = cluster_file::inputs(&project, printer)?;
        let key = BackupKey::open(&self.key.map_or_else(|| project.backup_key(), Ok)?, true)?;
        let network = cluster_file::network(&project)?;
        let progress =
            Arc::new(Progress::new(printer, project.cluster.control_planes().map(|node| node.name.as_str())));
        let making = Making { project: &project, inputs: &inputs, key: &key, to: self.to, cluster_file: &common.file };
        let interface: Arc<dyn Interface> = progress.clone();
        let saved = making.save(&network, &interface).await;
        progress.end();
        let saved = saved?;
        if printer.format == Format::Json {
            printer
                .json(&json!({ "file": saved.file, "bytes": saved.bytes, "key": key.path, "objects": saved.objects }));
            return Ok(Done::Good);
        }
        printer.result(format!(
            "{} {} is saved in {} ({:.1} MB, {} objects).",
            printer.style(Style::Good, "✓"),
            project.cluster.name,
            saved.file.display(),
            saved.bytes as f64 / 1e6,
            saved.objects
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

fn verify(
    common: &Common,
    project: &Project,
    file: &Path,
    key: Option<PathBuf>,
    rack: bool,
    printer: &Printer,
) -> anyhow::Result<Done> {
    let key = BackupKey::open(&key.map_or_else(|| project.backup_key(), Ok)?, false)?;
    let found = verify_backup(project, file, &key)?;
    let (all, missing) = (found.manifest.objects.len(), found.missing.len());
    let good = missing == 0 && all > 0 && !found.databases.is_empty();
    let stamp = match rack && good {
        true => Some(backup_rack::bring_back(common, project, file, &key.path, &found.manifest, printer)?),
        false => backup_rack::stamp(project, file)?,
    };
    if printer.format == Format::Json {
        printer.json(&json!({
            "file": file, "good": good, "cluster": found.manifest.cluster, "kubernetes": found.manifest.kubernetes,
            "made": found.manifest.made, "databases": found.databases, "objects": all, "missing": found.missing,
            "broughtBack": stamp.as_ref().map(|stamp| stamp.at),
        }));
        return Ok(if good { Done::Good } else { Done::Code(1) });
    }
    let mark = if good { printer.style(Style::Good, "✓") } else { printer.style(Style::Bad, "✗") };
    let Manifest { cluster, distribution, kubernetes, made, .. } = &found.manifest;
    printer.result(format!(
        "{mark} {}: {cluster}, {distribution} {kubernetes}, made on {}",
        file.display(),
        utc(*made)
    ));
    for database in &found.databases {
        printer.result(format!("  {database}"));
    }
    if found.databases.is_empty() {
        printer.result("  no database is in it");
    }
    printer.result(format!("  {} of {all} objects are in it", all - missing));
    for object in found.missing.iter().take(10) {
        printer.result(format!("  {} {object}", printer.style(Style::Bad, "missing:")));
    }
    if let Some(stamp) = stamp {
        printer.result(format!(
            "  it came back on a rack on {}, with {} objects under their UIDs",
            utc(stamp.at),
            stamp.objects
        ));
    }
    Ok(if good { Done::Good } else { Done::Code(1) })
}

async fn volumes(project: &Project, printer: &Printer) -> anyhow::Result<Done> {
    let inputs = cluster_file::inputs(project, printer)?;
    let network = cluster_file::network(project)?;
    let progress = Arc::new(Progress::new(printer, project.cluster.members().map(|node| node.name.as_str())));
    let interface: Arc<dyn Interface> = progress.clone();
    let saved = Volumes { project, inputs: &inputs }.saved(&network, &interface).await;
    progress.end();
    let saved = saved?;
    let Some(backups) = &project.cluster.backups else { return Ok(Done::Good) };
    let never: Vec<&String> =
        backups.volumes.iter().filter(|claim| !saved.volumes.iter().any(|saved| saved.claim == **claim)).collect();
    let good = never.is_empty() && saved.unread.is_empty();
    let place = |saved: &SavedVolume| backups.to.get(saved.at).map(ToString::to_string).unwrap_or_default();
    if printer.format == Format::Json {
        let rows: Vec<_> = saved
            .volumes
            .iter()
            .map(|saved| {
                json!({ "claim": saved.claim, "time": saved.time, "node": saved.node, "place": place(saved), "id": saved.id })
            })
            .collect();
        printer.json(&json!({ "volumes": rows, "never": never, "unread": saved.unread }));
        return Ok(if good { Done::Good } else { Done::Code(1) });
    }
    let row = |saved: &SavedVolume| {
        // Up to the seconds, as it was told.
        let time = saved.time.split('.').next().unwrap_or_default().replace('T', " ");
        [saved.claim.clone(), time, saved.node.clone(), place(saved), saved.short_id().to_owned()]
    };
    let rows: Vec<_> = saved.volumes.iter().map(row).collect();
    if !rows.is_empty() {
        printer.result(table(printer, ["VOLUME", "SAVED", "ON", "AT", "ID"], &rows));
    }
    for claim in never {
        printer.result(format!("{} {claim}: nothing is saved of it yet", printer.style(Style::Bad, "✗")));
    }
    for place in &saved.unread {
        printer.result(format!("{} {place}", printer.style(Style::Bad, "✗")));
    }
    Ok(if good { Done::Good } else { Done::Code(1) })
}

fn places(project: &Project, printer: &Printer) -> anyhow::Result<Done> {
    let (Some(backups), Some((keys, _))) = (&project.cluster.backups, project.backup_keys()?) else {
        bail!("the cluster file asks for no backups; `backup: {{ every: 6h, to: [kube2:/srv/backups] }}` does");
    };
    let places: Vec<String> = backups.to.iter().map(BackupPlace::to_string).collect();
    if printer.format == Format::Json {
        printer.json(&json!({ "every": backups.every, "keep": backups.keep, "to": places, "public_key": keys.public }));
        return Ok(Done::Good);
    }
    for place in &places {
        printer.result(place);
    }
    if backups.to.iter().any(|place| matches!(place, BackupPlace::Ssh { key: None, .. })) {
        printer.result(format!("\nAn SSH server lets them in by this line in its authorized_keys:\n{}", keys.public));
    }
    Ok(Done::Good)
}
