//! Add-ons come into the cluster, change, and go.

use std::fs;

use anyhow::Context;
use bramble_fetch::{file_digest, replace_file};
use bramble_kube::{Has, Lifecycle, Rendered, lifecycle};
use bramble_shell::Commands;
use bramble_state::{BLOBS, Change, Plan, Upload};

use crate::error::{Result, bail};
use crate::node_plan::Plans;
use crate::phase::Phase;
use crate::run_state::RunState;
use crate::session::Session;
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase { plan, ..Phase::new("add-ons", |run| Box::pin(apply(run))) }
}

/// It is done on a control plane.
fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    if let Some(plane) = run.cluster.control_planes().next() {
        for step in run.addons.steps() {
            plans.add_step(&plane.name, step);
        }
    }
}

/// Brings what comes, removes what goes, and lets every control plane remember it.
async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let Some(life) = lifecycle(&run.cluster, &run.inputs).filter(|_| run.asks_planes()) else { return Ok(()) };
    let plan = &run.addons;
    if plan.is_empty() {
        return Ok(());
    }
    let plane = run.any_speaker(&*life).await?;
    // Whatever is cut off from here on is known to be there.
    remember(run, &plan.before).await?;
    // One that cannot go keeps nobody else from it.
    let mut stuck = Vec::new();
    for name in &plan.remove {
        let title = format!("remove the add-on {name}");
        if let Err(error) = change(plane, title, bramble_kube::remove_script(&*life, plan, name), Vec::new()).await {
            stuck.push((name.as_str(), error));
        }
    }
    // Nor one that does not come.
    let mut failed = Vec::new();
    for (addon, has) in &plan.apply {
        if let Err(error) = bring(run, plane, &*life, addon, *has).await {
            failed.push((addon.name.as_str(), error));
        }
    }
    let (missing, left): (Vec<&str>, Vec<&str>) =
        (failed.iter().map(|(name, _)| *name).collect(), stuck.iter().map(|(name, _)| *name).collect());
    remember(run, &plan.mark_without(&missing, &left)).await?;
    let stuck = stuck.iter().map(|(name, why)| format!("the add-on {name} is still there: {why:#}"));
    let lines: Vec<String> =
        stuck.chain(failed.iter().map(|(name, why)| format!("the add-on {name}: {why:#}"))).collect();
    if !lines.is_empty() {
        bail!("{}", lines.join("\n"));
    }
    run.changes += run.addons.steps().len();
    Ok(())
}

async fn remember<N: Network>(run: &RunState<N>, mark: &str) -> anyhow::Result<()> {
    for context in run.nodes.iter().filter(|context| context.is_control_plane()) {
        context.session.act(&bramble_kube::mark_script(mark), |_, _| {}).await?;
    }
    Ok(())
}

async fn bring<N: Network>(
    run: &RunState<N>,
    plane: &Session<N>,
    life: &dyn Lifecycle,
    addon: &Rendered,
    has: Has,
) -> anyhow::Result<()> {
    let title = format!("apply the add-on {}", addon.name);
    let from = run.private.join("cache").join(format!("addon-{}-{}", run.cluster.name, addon.name));
    fs::create_dir_all(run.private.join("cache"))?;
    replace_file(&from, addon.lines().as_bytes(), 0o600)?;
    let sha256 = file_digest(&from)?;
    let lines = format!("{BLOBS}/{sha256}");
    let uploads = match addon.microk8s {
        Some(_) => Vec::new(),
        // There may be secrets among them.
        None => vec![Upload { name: addon.name.clone(), from: from.clone(), sha256, secret: true }],
    };
    let script = bramble_kube::apply_script(life, &run.addons, addon, has, &lines);
    let result = change(plane, title, script, uploads).await;
    fs::remove_file(&from).with_context(|| format!("cannot remove {}", from.display()))?;
    result
}

async fn change<N: Network>(
    plane: &Session<N>,
    title: String,
    script: Commands,
    uploads: Vec<Upload>,
) -> anyhow::Result<()> {
    let change = Change { title, details: Vec::new(), script, uploads, quiet: false };
    plane.apply(&Plan { changes: vec![change], ..Plan::default() }, |_, _| {}).await
}
