//! Brings add-ons into the cluster, and takes them out of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use bramble_fetch::{KnownImages, Registries, check_images, file_digest, replace_file};
use bramble_kube::{ADDONS, AddonPlan, Agenda, Inputs, Lifecycle, Rendered, lifecycle};
use bramble_shell::Commands;
use bramble_spec::{Addon, Cluster, Role};
use bramble_state::{BLOBS, Change, Plan, Upload};

use crate::commands::image_check::show;
use crate::engine::Survey;
use crate::node::NodeSession;
use crate::output::Printer;
use crate::project::Project;

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
    let known = KnownImages { archives: &inputs.archives, systems: systems.collect() };
    let verdicts = check_images(cluster, &runs, &known, &Registries::new(cluster.registries.clone()));
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
    replace_file(&from, addon.lines().as_bytes(), 0o600)?;
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
