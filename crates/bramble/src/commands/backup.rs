//! `bramble backup`.

use std::path::PathBuf;
use std::sync::Arc;

use bramble_engine::{Backup as Making, BackupKey, Interface};
use serde_json::json;

use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::{Common, Done, cluster_file};

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
        let project = cluster_file::open(common, printer)?;
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
