//! `bramble image check`: whether container images run on the cluster's boards, before a pod dies of `exec format error`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Archive, Place, Platform, Reference, Run, has_large_pages, needs_small_pages};
use bramble_spec::{Cluster, Node, NodeName, fold};
use serde_json::json;

use crate::output::{Format, Printer, Style};
use crate::packed;
use crate::project::Project;
use crate::registry::{NoImage, Registries};
use crate::{Common, Done};

#[derive(clap::Args)]
pub(crate) struct Check {
    /// Manifests (files or folders), archives of images, or names of images
    #[arg(value_name = "FILE|IMAGE", required = true)]
    what: Vec<String>,
}

/// What is known of an image.
pub(crate) struct Verdict {
    pub(crate) image: String,
    pub(crate) platforms: Vec<Platform>,
    /// Whether there is none.
    pub(crate) absent: bool,
    /// Which objects run it.
    pub(crate) objects: Vec<String>,
    /// Why it cannot run, with the way out.
    pub(crate) bad: Vec<String>,
    /// What one should know.
    pub(crate) notes: Vec<String>,
}

impl Verdict {
    /// Whether it is certain that it cannot run: there is none, or it was made for other processors.
    pub(crate) fn is_misfit(&self) -> bool {
        !self.bad.is_empty() && (!self.platforms.is_empty() || self.absent)
    }
}

impl Check {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = Project::open(common, printer)?;
        let mut runs = Vec::new();
        let mut archives = Vec::new();
        for what in &self.what {
            let path = Path::new(what);
            let is_file = [".yaml", ".yml", ".json", ".tar"].iter().any(|end| what.ends_with(end));
            if path.is_file() && what.ends_with(".tar") {
                let archive = packed::open(path)?;
                runs.extend(archive.images.iter().map(|(name, _)| anywhere(name)));
                archives.push(archive);
            } else if path.exists() {
                for file in manifests(path)? {
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
        let verdicts = check(&project.cluster, &runs, &Known { archives: &archives, ..Known::default() }, &registries)?;
        let bad = verdicts.iter().any(|verdict| !verdict.bad.is_empty());
        show(printer, &verdicts);
        Ok(if bad { Done::Code(1) } else { Done::Good })
    }
}

/// An image that runs on any node.
fn anywhere(name: &str) -> Run {
    Run { image: name.to_owned(), object: String::new(), place: Place::default() }
}

/// What need not be looked up.
#[derive(Default)]
pub(crate) struct Known<'a> {
    /// Archives whose images no registry is asked for.
    pub(crate) archives: &'a [Archive],
    /// For which processor the systems of nodes are, by Debian's name, where that was seen.
    pub(crate) systems: BTreeMap<&'a NodeName, &'a str>,
}

impl Known<'_> {
    fn system(&self, node: &Node) -> String {
        self.systems.get(&node.name).map_or_else(|| node.board.arch.to_string(), |arch| (*arch).to_owned())
    }

    /// For which processors an image in an archive is.
    fn platforms(&self, name: &Reference) -> Option<Vec<Platform>> {
        let name = name.to_string();
        let images = self.archives.iter().flat_map(|archive| &archive.images);
        images.filter(|(known, _)| *known == name).map(|(_, platforms)| platforms.clone()).next_back()
    }
}

/// The manifests in a folder, in the order of their names; a file is one itself.
pub(crate) fn manifests(path: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Looks up every image, each once, and compares it with the nodes on which it may come to run.
pub(crate) fn check(
    cluster: &Cluster,
    runs: &[Run],
    known: &Known,
    registries: &Registries,
) -> anyhow::Result<Vec<Verdict>> {
    let mut images: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        images.entry(&run.image).or_default().push(run);
    }
    let looked_up: Vec<(&str, anyhow::Result<Vec<Platform>>)> = std::thread::scope(|scope| {
        let mut tasks = Vec::new();
        // Registries count how often they are asked.
        for chunk in images.keys().collect::<Vec<_>>().chunks(images.len().div_ceil(8).max(1)) {
            let chunk: Vec<&str> = chunk.iter().map(|name| **name).collect();
            tasks.push(scope.spawn(move || {
                let look = |name: &str| match Reference::parse(name) {
                    Some(reference) => known.platforms(&reference).map_or_else(|| registries.platforms(&reference), Ok),
                    None => Err(anyhow!("`{name}` is no name of an image")),
                };
                chunk.into_iter().map(|name| (name, look(name))).collect::<Vec<_>>()
            }));
        }
        tasks.into_iter().flat_map(|task| task.join().unwrap_or_default()).collect()
    });
    let mut verdicts = Vec::new();
    for (name, platforms) in looked_up {
        let runs = images.remove(name).unwrap_or_default();
        let objects: BTreeSet<String> = runs.iter().map(|run| run.object.clone()).filter(|o| !o.is_empty()).collect();
        let mut verdict = Verdict {
            image: name.to_owned(),
            platforms: Vec::new(),
            absent: false,
            objects: objects.into_iter().collect(),
            bad: Vec::new(),
            notes: Vec::new(),
        };
        match platforms {
            Ok(platforms) => verdict.platforms = platforms,
            Err(error) => {
                verdict.absent = error.is::<NoImage>();
                verdict.bad.push(format!("{error:#}"));
            }
        }
        judge(cluster, &runs, known, &mut verdict);
        verdicts.push(verdict);
    }
    verdicts.sort_by(|a, b| a.image.cmp(&b.image));
    Ok(verdicts)
}

fn judge(cluster: &Cluster, runs: &[&Run], known: &Known, verdict: &mut Verdict) {
    let reference = Reference::parse(&verdict.image);
    if let Some(reference) = &reference
        && let Some(report) = needs_small_pages(reference)
    {
        let large = cluster.members().filter(|node| has_large_pages(cluster, node));
        let large: Vec<&str> = large.map(|node| node.name.as_str()).collect();
        if !large.is_empty() {
            verdict.bad.push(format!(
                "it dies on memory pages of 16 KiB ({report}), which the kernel of {} has: say `prepare: {{ boot: {{ config: \
                 {{ kernel: kernel8.img }} }} }}`",
                fold(large)
            ));
        }
    }
    if verdict.platforms.is_empty() {
        return;
    }
    let mut lost: BTreeSet<&str> = BTreeSet::new();
    let mut arches = BTreeSet::new();
    let mut elsewhere = false;
    let mut narrow = false;
    for run in runs {
        let mut nowhere = true;
        for (node, arch) in cluster.members().map(|node| (node, known.system(node))) {
            if !run.place.allows(node, &arch) {
                continue;
            }
            nowhere = false;
            if verdict.platforms.iter().any(|platform| platform.runs_on(&arch)) {
                elsewhere = true;
                narrow |= !verdict.platforms.iter().any(|platform| platform.is_own(&arch));
            } else {
                lost.insert(node.name.as_str());
                arches.insert(arch);
            }
        }
        if nowhere {
            verdict.notes.push(format!("no node of the cluster file is what it wants ({})", run.place.words()));
        }
    }
    if narrow {
        verdict.notes.push("it runs as a 32-bit program".to_owned());
    }
    if lost.is_empty() {
        return;
    }
    let arches = arches.into_iter().collect::<Vec<_>>().join(" and ");
    let way = match elsewhere {
        true => {
            let has = verdict.platforms.iter().map(|p| p.architecture.clone()).collect::<BTreeSet<_>>();
            format!(
                "keep it off them (`nodeSelector: {{ kubernetes.io/arch: {} }}`), or take an image that has {arches}",
                has.into_iter().next().unwrap_or_default()
            )
        }
        false => format!(
            "take another image or tag that has {arches}, or build it for {arches} (`docker buildx build --platform`)"
        ),
    };
    verdict.bad.push(format!("it has nothing for {arches}, so {} would say \"exec format error\": {way}", fold(lost)));
}

pub(crate) fn show(printer: &Printer, verdicts: &[Verdict]) {
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
