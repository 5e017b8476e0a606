//! `bramble addons`: what add-ons are made of.

use std::collections::BTreeMap;

use anyhow::bail;
use base64::Engine as _;
use bramble_fetch::{fetch_addons, render_addons};
use bramble_kube::{Inputs, lifecycle};
use bramble_spec::AddonKind;
use serde_json::json;

use crate::drive::ask_plane;
use crate::ui::printer::{Format, Printer};
use crate::{Common, Done, cluster_file};
use bramble_engine::Project;

/// The add-ons of the cluster file.
#[derive(clap::Args)]
pub(crate) struct Addons {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List them, with what they need
    List,
    /// Print the objects of an add-on, as they are applied (JSON, which kubectl reads)
    Show {
        /// The add-on
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Print the certificate of the cluster's own authority (the ClusterIssuer `bramble-ca` of cert-manager), which browsers and
    /// curl can be told to trust
    Ca,
}

impl Addons {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        match self.action {
            Action::List => list(&project, printer),
            Action::Ca => ca(&project, printer).await,
            Action::Show { name } => {
                let sources = project.sources()?;
                let fetched = fetch_addons(&sources, &mut sources.lock_file()?, printer)?;
                let rendered = render_addons(&sources, &fetched)?;
                let Some(addon) = rendered.into_iter().find(|addon| addon.name == name) else {
                    let known: Vec<&str> = project.cluster.addons.iter().map(|addon| addon.name.as_str()).collect();
                    bail!("the cluster file has no add-on `{name}`; it has: {}", known.join(", "));
                };
                printer.json(&json!({ "apiVersion": "v1", "kind": "List", "items": addon.objects }));
                Ok(Done::Good)
            }
        }
    }
}

async fn ca(project: &Project, printer: &Printer) -> anyhow::Result<Done> {
    let inputs = Inputs::default();
    let life = lifecycle(&project.cluster, &inputs).filter(|_| {
        project.cluster.addons.iter().any(|addon| matches!(addon.kind, AddonKind::CertManager { ca: true, .. }))
    });
    let Some(life) = life else {
        bail!("{} has no authority of its own; `addons: {{ cert-manager: {{}} }}` makes one", project.cluster.name)
    };
    let (encoded, plane) =
        ask_plane(&cluster_file::network(project)?, project, printer, &*life, &bramble_kube::ca_script(&*life)).await?;
    let certificate = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).unwrap_or_default();
    let text = String::from_utf8(certificate).unwrap_or_default();
    if !text.starts_with("-----BEGIN CERTIFICATE-----") {
        bail!(
            "the API, asked on {plane}, has no certificate of the authority yet: see `kubectl -n cert-manager describe certificate \
             bramble-ca`, or run `bramble up`"
        );
    }
    printer.result(text.trim_end());
    Ok(Done::Good)
}

fn list(project: &Project, printer: &Printer) -> anyhow::Result<Done> {
    let all = &project.cluster.addons;
    if printer.format == Format::Json {
        let list: Vec<_> = all
            .iter()
            .map(|addon| {
                let needs = addon.needs();
                json!({
                    "name": addon.name, "source": bramble_kube::sources(addon), "memoryEachMiB": needs.each,
                    "memoryMiB": needs.one, "diskEachMiB": needs.disk_each, "diskMiB": needs.disk_one,
                    "packages": needs.packages, "modules": needs.modules,
                    "sysctls": needs.sysctls.iter().copied().collect::<BTreeMap<_, _>>(),
                })
            })
            .collect();
        printer.json(&json!({ "addons": list }));
        return Ok(Done::Good);
    }
    if all.is_empty() {
        printer.result(
            "The cluster file has no add-ons. `addons:` takes metallb, traefik, cert-manager, monitoring and more.",
        );
    }
    let width = all.iter().map(|addon| addon.name.len()).max().unwrap_or(0);
    for addon in all {
        let needs = addon.needs();
        let mut words = Vec::new();
        if needs.each > 0 {
            words.push(format!("{} MiB on each node", needs.each));
        }
        if needs.one > 0 {
            words.push(format!("{} MiB on one", needs.one));
        }
        if needs.disk_each > 0 {
            words.push(format!("{} GiB of disk on each", needs.disk_each / 1024));
        }
        if needs.disk_one > 0 {
            words.push(format!("{} GiB of disk on one", needs.disk_one / 1024));
        }
        words.extend((!needs.packages.is_empty()).then(|| format!("packages {}", needs.packages.join(" "))));
        words.extend((!needs.modules.is_empty()).then(|| format!("modules {}", needs.modules.join(" "))));
        words.extend(needs.sysctls.iter().map(|(key, value)| format!("{key}={value}")));
        words.extend(bramble_kube::sources(addon).map(|source| format!("from {source}")));
        printer.result(format!("{:width$}  {}", addon.name, words.join(", ")).trim_end());
    }
    Ok(Done::Good)
}
