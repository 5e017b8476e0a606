//! `bramble up`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use bramble_kube::smoke_mark;
use bramble_spec::{Cluster, Distribution, Role};
use serde_json::json;

use crate::fleet::lines;
use crate::folded::{fold, group};
use crate::output::{Format, Printer, Style};
use crate::progress::Progress;
use crate::project::Project;
use crate::{Common, Done, engine, show};

#[derive(clap::Args)]
pub(crate) struct Up {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only prepare the nodes; leave Kubernetes for later
    #[arg(long)]
    prepare_only: bool,
}

impl Up {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let started = Instant::now();
        let project = Project::open(common, printer)?;
        let _lock = project.lock()?;
        let inputs = Arc::new(project.inputs(printer)?);
        let cluster = Arc::new(project.cluster.clone());
        let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let progress = Progress::new(printer, names.iter().copied());
        let fleet = engine::survey(&project, &cluster, &inputs, printer, &progress).await?;
        progress.end();
        let plane_lost = fleet.lost.iter().any(|(node, _)| node.role == Role::ControlPlane);
        if plane_lost || fleet.nodes.is_empty() {
            fleet.complete()?;
            bail!("no node can be reached");
        }
        // The others go on without a worker that is away.
        let losses = (fleet.lost.len(), fleet.losses());
        let mut surveys = fleet.nodes;
        let obstacles = engine::obstacles(&cluster, &inputs, &surveys);
        if !obstacles.is_empty() {
            let list = lines(obstacles.iter().map(|(name, message)| (name.as_str(), message.clone())));
            bail!("nothing was changed, because of:{list}");
        }
        let mut plans = engine::node_plans(&cluster, &surveys);
        if self.prepare_only {
            plans.iter_mut().for_each(|plan| plan.steps.clear());
        }
        let smoked = surveys
            .iter()
            .find(|survey| survey.session.node.role == Role::ControlPlane)
            .is_some_and(|survey| survey.seen.done("smoke") == Some(smoke_mark(&cluster).as_str()));
        let kubernetes = cluster.distribution != Distribution::None && !self.prepare_only;
        let changes: usize = plans.iter().map(show::NodePlan::count).sum();
        let quiet = surveys.iter().all(|survey| survey.plan.is_empty());
        // What all nodes take part in can be asked when all are there.
        let gates = kubernetes && losses.0 == 0;
        if changes == 0 && quiet && (smoked || !gates) {
            report(printer, &project.cluster, surveys.len(), 0, None, started);
            return without(&losses);
        }
        if printer.format == Format::Text && !printer.quiet {
            printer.info(project.title(printer));
            printer.info(summary(printer, &plans));
        }
        if !self.yes && std::io::stdin().is_terminal() && changes > 0 && !printer.confirm("Make these changes?")? {
            bail!("nothing was changed");
        }
        let progress = Progress::new(printer, names.iter().copied());
        for survey in &mut surveys {
            survey.session.progress = progress.clone();
        }
        let outcome = engine::carry_out(&cluster, &inputs, surveys, kubernetes).await;
        let outcome = outcome.inspect_err(|_| progress.end())?;
        if !outcome.failed.is_empty() {
            progress.end();
            let list = lines(outcome.failed.iter().map(|(name, error)| (name.as_str(), format!("{error:#}"))));
            let good = outcome.sessions.len() - outcome.failed.len();
            bail!(
                "{} of {} nodes failed ({good} are done); run `bramble up` again when this is mended:{}",
                outcome.failed.len(),
                outcome.sessions.len(),
                list
            );
        }
        let smoke = if gates {
            let smoke = engine::gates(&cluster, &inputs, &outcome.sessions, !smoked || changes > 0).await;
            progress.end();
            smoke?
        } else {
            progress.end();
            None
        };
        report(printer, &project.cluster, outcome.sessions.len(), outcome.changes, smoke, started);
        without(&losses)
    }
}

/// How a run ends that had to go on without some nodes.
fn without((lost, lines): &(usize, String)) -> anyhow::Result<Done> {
    if *lost == 0 {
        return Ok(Done::Good);
    }
    bail!("{lost} nodes could not be reached and are as they were; run `bramble up` again when they can:{lines}")
}

fn summary(printer: &Printer, plans: &[show::NodePlan]) -> String {
    let words = |plan: &show::NodePlan| {
        let mut words = Vec::new();
        match plan.changes().count() {
            0 => {}
            1 => words.push("1 change".to_owned()),
            n => words.push(format!("{n} changes")),
        }
        words.extend(plan.plan.reboot.iter().map(|_| "reboot".to_owned()));
        words.extend(plan.steps.iter().cloned());
        if words.is_empty() {
            words.push("nothing to change".to_owned());
        }
        words.join(", ")
    };
    let groups = group(plans.iter().map(|plan| (plan.name.as_str(), words(plan))));
    let lines: Vec<(String, String)> = groups.into_iter().map(|(names, words)| (fold(names), words)).collect();
    let width = lines.iter().map(|(names, _)| names.len()).max().unwrap_or(0).min(40);
    let text: String = lines.iter().map(|(names, words)| format!("  {names:width$}  {words}\n")).collect();
    format!("{text}{}", printer.style(Style::Dim, "(`bramble plan` shows every difference)"))
}

fn report(printer: &Printer, cluster: &Cluster, nodes: usize, changes: usize, smoke: Option<String>, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    if printer.format == Format::Json {
        printer.json(&json!({ "cluster": cluster.name, "changes": changes, "seconds": seconds, "smoke": smoke }));
        return;
    }
    if changes == 0 && smoke.is_none() {
        printer.result(format!("Nothing changed: {nodes} nodes are as the cluster file says ({seconds:.1} s)."));
        return;
    }
    if let Some(smoke) = smoke {
        printer.result(format!("Smoke test passed: {smoke}."));
    }
    printer.result(format!(
        "{} {} is up: {changes} changes in {seconds:.1} s.",
        printer.style(Style::Good, "✓"),
        cluster.name
    ));
    if cluster.distribution != Distribution::None {
        printer.result(format!(
            "Next: `bramble kubeconfig` adds the context {} to your kubeconfig, `bramble status` shows how it is.",
            cluster.name
        ));
    }
}
