//! `bramble image check`: whether container images run on the cluster's boards, before a pod dies of `exec format error`.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use bramble_fetch::{ImageVerdict, KnownImages, Registries, check_images, manifest_files, open_image_archive};
use bramble_kube::{Place, Platform, Run};
use serde_json::json;

use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Check {
    /// Manifests (files or folders), archives of images, or names of images
    #[arg(value_name = "FILE|IMAGE", required = true)]
    what: Vec<String>,
}

impl Check {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let mut runs = Vec::new();
        let mut archives = Vec::new();
        for what in &self.what {
            let path = Path::new(what);
            let is_file = [".yaml", ".yml", ".json", ".tar"].iter().any(|end| what.ends_with(end));
            if path.is_file() && what.ends_with(".tar") {
                let archive = open_image_archive(path)?;
                runs.extend(archive.images.iter().map(|(name, _)| anywhere(name)));
                archives.push(archive);
            } else if path.exists() {
                for file in manifest_files(path)? {
                    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                    let objects =
                        bramble_kube::objects(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
                    runs.extend(bramble_kube::images(&objects));
                }
            } else if is_file {
                bail!("there is no file {what}");
            } else {
                runs.push(anywhere(what));
            }
        }
        let registries = Registries::new(project.cluster.registries.clone());
        let verdicts = check_images(
            &project.cluster,
            &runs,
            &KnownImages { archives: &archives, ..KnownImages::default() },
            &registries,
        );
        let bad = verdicts.iter().any(|verdict| !verdict.bad.is_empty());
        show(printer, &verdicts);
        Ok(if bad { Done::Code(1) } else { Done::Good })
    }
}

/// Makes an image one that runs on any node.
fn anywhere(name: &str) -> Run {
    Run { image: name.to_owned(), object: String::new(), place: Place::default() }
}

/// Shows what was found out about images.
pub(crate) fn show(printer: &Printer, verdicts: &[ImageVerdict]) {
    if printer.format == Format::Json {
        let list: Vec<_> = verdicts
            .iter()
            .map(|verdict| {
                let platforms: Vec<String> = verdict.platforms.iter().map(Platform::to_string).collect();
                json!({
                    "image": verdict.image, "platforms": platforms, "objects": verdict.objects,
                    "fits": verdict.bad.is_empty(), "problems": verdict.bad, "notes": verdict.notes,
                })
            })
            .collect();
        printer.json(&json!({ "images": list }));
        return;
    }
    for verdict in verdicts {
        let mark = match (verdict.bad.is_empty(), verdict.notes.is_empty()) {
            (false, _) => printer.style(Style::Bad, "✗"),
            (true, false) => printer.style(Style::Note, "!"),
            (true, true) => printer.style(Style::Good, "✓"),
        };
        let platforms: Vec<String> = verdict.platforms.iter().map(Platform::to_string).collect();
        let mut text = format!("{mark} {}", verdict.image);
        if !platforms.is_empty() {
            text.push_str(&format!("  {}", printer.style(Style::Dim, &platforms.join(" "))));
        }
        for line in verdict.bad.iter().chain(&verdict.notes) {
            text.push_str(&format!("\n    {line}"));
        }
        if !verdict.bad.is_empty() && !verdict.objects.is_empty() {
            text.push_str(&format!("\n    run by {}", verdict.objects.join(", ")));
        }
        printer.result(text);
    }
}
