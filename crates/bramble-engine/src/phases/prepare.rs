//! Before anything is changed: what stands against it, and what must be here first.

use anyhow::Context;
use bramble_fetch::{KnownImages, Registries, check_images};
use bramble_kube::{Has, Rendered};
use bramble_spec::{Addon, Problem, Role};

use crate::error::{Result, bail};
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase { obstacles, ..Phase::new("prepare", |run| Box::pin(async move { apply(run) })) }
}

/// What stands against going on.
pub(super) fn obstacles<N: Network>(run: &RunState<N>) -> Vec<Problem> {
    let mut found = Vec::new();
    for context in &run.nodes {
        found.extend(bramble_kube::check(&run.cluster, &context.session.node, &context.seen, &run.inputs));
        found.extend(context.plan.problems.iter().map(|problem| problem.clone().on(context.name())));
    }
    let together: Vec<_> = run.nodes.iter().map(|context| (context.name(), &context.seen)).collect();
    found.extend(bramble_kube::check_together(&together));
    found
}

fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    refuse_crowded(run)?;
    // On a node that joins, what is there already may come to run.
    let looked_up: Vec<&Rendered> = match run.agenda.joins() {
        true => run.inputs.addons.iter().collect(),
        false => run.addons.apply.iter().map(|(addon, _)| addon).collect(),
    };
    refuse_misfits(run, &looked_up)?;
    run.bring_releases().context("a release cannot be brought here")?;
    Ok(())
}

/// Looks whether the images of add-ons run on the nodes. Those of a bundle are there already.
pub(super) fn refuse_misfits<N: Network>(run: &RunState<N>, addons: &[&Rendered]) -> Result<()> {
    let objects: Vec<_> = addons.iter().flat_map(|addon| addon.objects.iter().cloned()).collect();
    let mut images = bramble_kube::images(&objects);
    if let Some(bundle) = &run.inputs.bundle {
        images.retain(|run| !bundle.manifest.images().any(|image| image.name == run.image));
    }
    if images.is_empty() {
        return Ok(());
    }
    run.interface.note("looking up for which processors the images of the add-ons were made");
    let systems = run.nodes.iter().map(|context| (context.name(), context.seen.facts.arch.as_str()));
    let known = KnownImages { archives: &run.inputs.archives, systems: systems.collect() };
    let verdicts = check_images(&run.cluster, &images, &known, &Registries::new(run.cluster.registries.clone()));
    let (bad, other): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(|verdict| verdict.is_misfit());
    for verdict in other.iter().filter(|verdict| !verdict.bad.is_empty()) {
        // The nodes may reach what this machine does not.
        run.interface.note(&format!("{}: not looked up: {}", verdict.image, verdict.bad.join("; ")));
    }
    if !bad.is_empty() {
        let list: String = bad.iter().map(|verdict| format!("\n  {}", verdict.describe())).collect();
        bail!("nothing was changed, because images of add-ons do not run on the nodes:{list}");
    }
    Ok(())
}

/// Refuses add-ons that come and do not find the room that they need on the disks of the nodes.
fn refuse_crowded<N: Network>(run: &RunState<N>) -> Result<()> {
    let members = run.nodes.iter().filter(|context| context.session.node.role != Role::Gateway);
    let free: Vec<(&str, u64)> = members
        .filter_map(|context| Some((context.name().as_str(), context.seen.facts.disk_free? / 1024 / 1024)))
        .collect();
    let comes =
        |addon: &&Addon| run.addons.apply.iter().any(|(wanted, has)| *has == Has::Nothing && wanted.name == addon.name);
    let mut found = Vec::new();
    for addon in run.cluster.addons.iter().filter(comes) {
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
