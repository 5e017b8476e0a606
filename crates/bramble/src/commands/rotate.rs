//! `bramble rotate`.

use std::sync::Arc;

use bramble_engine::{Interface, Rotation};
use bramble_kube::Secret;
use clap::ValueEnum;
use serde_json::json;

use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Rotate {
    /// Which secret
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The tokens that let nodes into a cluster of k3s
    Tokens,
    /// The keys with which k3s encrypts Secrets in its datastore (`server: { secrets-encryption: true }`)
    EncryptionKeys,
}

impl Rotate {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let _lock = project.lock()?;
        let inputs = cluster_file::inputs(&project, printer)?;
        let secret = match self.what {
            What::Tokens => Secret::Tokens,
            What::EncryptionKeys => Secret::EncryptionKeys,
        };
        let network = cluster_file::network(&project)?;
        let progress = Arc::new(Progress::new(printer, project.cluster.members().map(|node| node.name.as_str())));
        let interface: Arc<dyn Interface> = progress.clone();
        let count = Rotation { project: &project, inputs: &inputs, secret }.go(&network, &interface).await;
        progress.end();
        let count = count?;
        if printer.format == Format::Json {
            printer.json(&json!({ "nodes": count }));
            return Ok(Done::Good);
        }
        let (cluster, good) = (&project.cluster.name, printer.style(Style::Good, "✓"));
        printer.result(format!("{good} {count} nodes of {cluster} go on with {secret} made anew."));
        let elsewhere = bramble_kube::lifecycle(&project.cluster, &inputs).and_then(|life| life.state_elsewhere());
        let how = if elsewhere.is_some() {
            format!("Save the database anew, and .bramble/{cluster}.tokens with it")
        } else {
            "Make a new backup (`bramble backup`)".to_owned()
        };
        printer.result(format!("{how}: what was saved before is opened by what was true then."));
        Ok(Done::Good)
    }
}
