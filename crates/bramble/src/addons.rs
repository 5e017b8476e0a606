//! Add-ons on their way from where their manifests are into the cluster.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{ADDONS, AddonPlan, Agenda, Inputs, Lifecycle, Rendered, lifecycle};
use bramble_shell::Commands;
use bramble_spec::{Addon, AddonKind, Cluster, OwnSource, Role, hex};
use bramble_state::{BLOBS, Change, Plan, Upload};
use sha2::{Digest, Sha256};

use crate::commands::image_check::{Known, check, manifests, show};
use crate::engine::Survey;
use crate::node::NodeSession;
use crate::output::Printer;
use crate::pins::{Pins, replace};
use crate::project::{Project, file_digest};
use crate::registry::Registries;
use crate::supplies::Supplies;

/// What the add-ons of the cluster file are made of. `fetched`: what [`fetch`] gave.
pub(crate) fn render(project: &Project, fetched: &[Option<Fetched>]) -> anyhow::Result<Vec<Rendered>> {
    let one = |addon: &Addon, fetched: &Option<Fetched>| {
        let text = match (fetched, bramble_kube::sources(addon)) {
            (Some((_, text, _)), _) => text.clone(),
            (None, Some(written)) => joined(&project.path(written))?,
            (None, None) => String::new(),
        };
        bramble_kube::render(&project.cluster, addon, &text).map_err(|error| anyhow!("{error}"))
    };
    let addons = project.cluster.addons.iter().zip(fetched);
    addons.map(|(addon, fetched)| one(addon, fetched).with_context(|| format!("the add-on {}", addon.name))).collect()
}

/// What comes from elsewhere, or from the bundle, for each add-on of the cluster file. It is pinned.
pub(crate) fn fetch(project: &Project, pins: &mut Pins, printer: &Printer) -> anyhow::Result<Vec<Option<Fetched>>> {
    let bundle = match &project.bundle {
        Some(bundle) => Some((bundle.as_path(), Supplies::open(bundle)?)),
        None => None,
    };
    let mut all = Vec::new();
    for addon in &project.cluster.addons {
        let fetched = elsewhere(project, bundle.as_ref(), pins, addon, printer);
        all.push(fetched.with_context(|| format!("the add-on {}", addon.name))?);
    }
    Ok(all)
}

/// A manifest that comes from elsewhere: from where, its text, and its commit if it is of a git repository.
pub(crate) type Fetched = (String, String, Option<String>);

/// The manifest of an add-on that comes from elsewhere, or from the bundle.
fn elsewhere(
    project: &Project,
    bundle: Option<&(&Path, Supplies)>,
    pins: &mut Pins,
    addon: &Addon,
    printer: &Printer,
) -> anyhow::Result<Option<Fetched>> {
    let bundled = |source: &str| bundle.map(|(dir, supplies)| supplies.text(dir, source)).transpose();
    if let AddonKind::Own(OwnSource::Git { url, revision, path }) = &addon.kind {
        let revision = revision.as_deref().unwrap_or("HEAD");
        let source = format!("{url}#{revision}:{path}");
        let (text, commit) = match bundled(&source)? {
            Some((text, Some(commit))) => {
                let pinned = pins.release(&format!("{url}#{revision}"), || Ok(commit.clone()))?;
                if pinned != commit {
                    bail!("the bundle has {commit} of {source}, and bramble.lock pins {pinned}: make the bundle again");
                }
                (text, commit)
            }
            Some((_, None)) => bail!("the bundle does not say of which commit its {source} is"),
            None => git(project, pins, url, revision, path, printer)?,
        };
        return Ok(Some((source, text, Some(commit))));
    }
    let Some(url) =
        bramble_kube::sources(addon).filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    else {
        return Ok(None);
    };
    let purpose = format!("addon {}", addon.name);
    let text = match bundle {
        Some((dir, supplies)) => pins.text(&purpose, url, || Ok(supplies.text(dir, url)?.0))?,
        None => pins.fetch(&purpose, url, printer)?,
    };
    Ok(Some((url.to_owned(), text, None)))
}

/// The manifests of a folder as one.
fn joined(path: &Path) -> anyhow::Result<String> {
    let mut all = String::new();
    for file in manifests(path)? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // Errors tell of lines: each file is read alone first.
        bramble_kube::objects(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        all.push_str(&text);
        all.push_str("\n---\n");
    }
    if all.is_empty() {
        bail!("there is no manifest in {}: files end with .yaml, .yml or .json", path.display());
    }
    Ok(all)
}

/// The manifests at a place of a git repository, at the commit that was chosen at first use, and that commit.
fn git(
    project: &Project,
    pins: &mut Pins,
    url: &str,
    revision: &str,
    path: &str,
    printer: &Printer,
) -> anyhow::Result<(String, String)> {
    let dir = project.private_dir()?.join("cache").join(format!("git-{}", hex(&Sha256::digest(url.as_bytes())[..8])));
    let run = |arguments: &[&str]| {
        let output =
            Command::new("git").arg("--git-dir").arg(&dir).args(arguments).env("GIT_TERMINAL_PROMPT", "0").output();
        let output = output.context("cannot run git; is it installed?")?;
        if !output.status.success() {
            bail!("git: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    };
    if !dir.exists() {
        fs::create_dir_all(&dir)?;
        run(&["init", "--quiet", "--bare"])?;
    }
    // A relative path is one beside the cluster file.
    let local = project.path(url);
    let from = if local.exists() { local.to_string_lossy().into_owned() } else { url.to_owned() };
    let commit = pins.release(&format!("{url}#{revision}"), || {
        printer.info(format!("fetching {url}"));
        run(&["fetch", "--quiet", "--depth", "1", &from, revision])?;
        Ok(run(&["rev-parse", "FETCH_HEAD"])?.trim().to_owned())
    })?;
    if run(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_err() {
        printer.info(format!("fetching {url}"));
        run(&["fetch", "--quiet", "--depth", "1", &from, &commit])?;
    }
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let place = if path == "." { "" } else { path };
    let mut names = vec!["ls-tree", "-r", "--name-only", commit.as_str()];
    names.extend(Some(place).filter(|place| !place.is_empty()));
    let mut all = String::new();
    for name in run(&names)?.lines() {
        let below = name.strip_prefix(place).unwrap_or(name).trim_start_matches('/');
        let wanted = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        // As in a folder: those that are right there.
        if wanted && !below.contains('/') {
            let text = run(&["show", &format!("{commit}:{name}")])?;
            bramble_kube::objects(&text).map_err(|error| anyhow!("{name}: {error}"))?;
            all.push_str(&format!("{text}\n---\n"));
        }
    }
    if all.is_empty() {
        bail!("{url} has no manifest at `{path}` in {commit}");
    }
    Ok((all, commit))
}

/// What lies between the add-ons that there are and those of the cluster file.
pub(crate) fn plan(inputs: &Inputs, surveys: &[Survey], agenda: &Agenda, restoring: bool) -> AddonPlan {
    let planes = surveys.iter().filter(|survey| survey.session.node.role == Role::ControlPlane);
    let mut marks = planes.filter(|survey| agenda.is_member(&survey.session.node.name)).map(|s| s.seen.done(ADDONS));
    // A backup may be older than what was applied since.
    let mark = marks.find_map(|mark| mark).filter(|_| agenda.runs() && !restoring);
    AddonPlan::new(mark, &inputs.addons)
}

/// Looks whether the images of `addons` run on the nodes. Those of a bundle are there already.
pub(crate) fn refuse_misfits(
    cluster: &Cluster,
    inputs: &Inputs,
    addons: &[&Rendered],
    surveys: &[Survey],
    printer: &Printer,
) -> anyhow::Result<()> {
    let objects: Vec<_> = addons.iter().flat_map(|addon| addon.objects.iter().cloned()).collect();
    let mut runs = bramble_kube::images(&objects);
    if let Some(bundle) = &inputs.bundle {
        runs.retain(|run| !bundle.manifest.images.iter().any(|image| image.name == run.image));
    }
    if runs.is_empty() {
        return Ok(());
    }
    printer.info("looking up for which processors the images of the add-ons were made");
    let systems = surveys.iter().map(|survey| (&survey.session.node.name, survey.seen.facts.arch.as_str()));
    let known = Known { archives: &inputs.archives, systems: systems.collect() };
    let verdicts = check(cluster, &runs, &known, &Registries::new(cluster.registries.clone()))?;
    let (bad, other): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(|verdict| verdict.is_misfit());
    for verdict in other.iter().filter(|verdict| !verdict.bad.is_empty()) {
        // The nodes may reach what this machine does not.
        printer.info(format!("{}: not looked up: {}", verdict.image, verdict.bad.join("; ")));
    }
    if !bad.is_empty() {
        show(printer, &bad);
        bail!("nothing was changed, because images of add-ons do not run on the nodes");
    }
    Ok(())
}

/// Refuses add-ons that come and do not find the room that they need on the disks of the nodes.
pub(crate) fn refuse_crowded(cluster: &Cluster, plan: &AddonPlan, surveys: &[Survey]) -> anyhow::Result<()> {
    let members = surveys.iter().filter(|survey| survey.session.node.role != Role::Gateway);
    let free: Vec<(&str, u64)> = members
        .filter_map(|survey| Some((survey.session.node.name.as_str(), survey.seen.facts.disk_free? / 1024 / 1024)))
        .collect();
    let comes = |addon: &&Addon| plan.apply.iter().any(|(wanted, there)| !there && wanted.name == addon.name);
    let mut found = Vec::new();
    for addon in cluster.addons.iter().filter(comes) {
        let needs = addon.needs();
        for (node, free) in free.iter().filter(|(_, free)| *free < u64::from(needs.disk_each)) {
            found.push(format!("{} needs {} MiB on {node}, which has {free} left", addon.name, needs.disk_each));
        }
        let most = free.iter().map(|(_, free)| *free).max();
        if let Some(most) = most.filter(|most| *most < u64::from(needs.disk_one)) {
            found.push(format!(
                "{} needs {} MiB on a node, and none has more than {most} left",
                addon.name, needs.disk_one
            ));
        }
    }
    if !found.is_empty() {
        bail!("nothing was changed, because disks are too full:\n  {}", found.join("\n  "));
    }
    Ok(())
}

/// Brings what comes, removes what goes, and lets every control plane remember it.
pub(crate) async fn carry_out(
    project: &Project,
    inputs: &Inputs,
    plan: &AddonPlan,
    sessions: &[NodeSession],
) -> anyhow::Result<()> {
    let Some(life) = lifecycle(&project.cluster, inputs) else { return Ok(()) };
    let planes: Vec<_> = sessions.iter().filter(|session| session.node.role == Role::ControlPlane).collect();
    let plane = *planes.first().ok_or_else(|| anyhow!("no control plane answers"))?;
    if plan.is_empty() {
        return Ok(());
    }
    // Whatever is cut off from here on is known to be there.
    remember(&planes, &plan.before).await?;
    // One that cannot go keeps nobody else from it.
    let mut stuck = Vec::new();
    for name in &plan.remove {
        let title = format!("remove the add-on {name}");
        if let Err(error) = apply(plane, title, bramble_kube::remove_script(&*life, plan, name), Vec::new()).await {
            stuck.push((name, error));
        }
    }
    for (addon, there) in &plan.apply {
        bring(project, plane, &*life, plan, addon, *there).await?;
    }
    let left = stuck.iter().map(|(name, _)| format!(" {name}=0"));
    remember(&planes, &format!("{}{}", plan.mark, left.collect::<String>())).await?;
    match stuck.as_slice() {
        [] => Ok(()),
        stuck => bail!(
            "{}",
            stuck
                .iter()
                .map(|(name, why)| format!("the add-on {name} is still there: {why:#}"))
                .collect::<Vec<_>>()
                .join("\n")
        ),
    }
}

async fn remember(planes: &[&NodeSession], mark: &str) -> anyhow::Result<()> {
    for plane in planes {
        plane.ask(&bramble_kube::mark_script(mark), |_, _| {}).await?;
    }
    Ok(())
}

async fn bring(
    project: &Project,
    plane: &NodeSession,
    life: &dyn Lifecycle,
    plan: &AddonPlan,
    addon: &Rendered,
    there: bool,
) -> anyhow::Result<()> {
    let title = format!("apply the add-on {}", addon.name);
    let from = project.private_dir()?.join("cache").join(format!("addon-{}-{}", project.cluster.name, addon.name));
    fs::create_dir_all(from.parent().unwrap_or(Path::new(".")))?;
    replace(&from, addon.lines().as_bytes(), 0o600)?;
    let sha256 = file_digest(&from)?;
    let lines = format!("{BLOBS}/{sha256}");
    let uploads = match addon.microk8s {
        Some(_) => Vec::new(),
        // There may be secrets among them.
        None => vec![Upload { name: addon.name.clone(), from: from.clone(), sha256, secret: true }],
    };
    let result = apply(plane, title, bramble_kube::apply_script(life, plan, addon, there, &lines), uploads).await;
    fs::remove_file(&from).with_context(|| format!("cannot remove {}", from.display()))?;
    result
}

async fn apply(plane: &NodeSession, title: String, script: Commands, uploads: Vec<Upload>) -> anyhow::Result<()> {
    let change = Change { title, details: Vec::new(), script, uploads, quiet: false };
    plane.apply(&Plan { changes: vec![change], ..Plan::default() }, |_, _| {}).await
}
