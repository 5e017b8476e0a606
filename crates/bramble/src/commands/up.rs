//! `bramble up`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use bramble_kube::{AddonPlan, Agenda, Inputs, lifecycle, smoke_mark};
use bramble_remote::HostKeys;
use bramble_spec::{Cluster, Distribution, NodeName, Role};
use bramble_state::Upload;
use serde_json::json;

use crate::commands::design;
use crate::fleet::lines;
use crate::output::{Format, Printer, Style};
use crate::progress::Progress;
use crate::project::Project;
use crate::{Common, Done, addons, engine, gateway, leave, show};
use bramble_spec::{fold, group};

#[derive(clap::Args)]
pub(crate) struct Up {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only prepare the nodes; leave Kubernetes for later
    #[arg(long)]
    prepare_only: bool,
    /// This disk may be formatted although something is on it, as NODE:/dev/sda: all that is on it is lost
    #[arg(long, value_name = "NODE:DISK")]
    format: Vec<String>,
    /// This board is another one than before, or was flashed again: its new host key is shown and asked for
    #[arg(long, value_name = "NODE")]
    replaced: Vec<String>,
}

impl Up {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = Project::open(common, printer)?;
        design::refuse_what_cannot_work(&project.cluster)?;
        let _lock = project.lock()?;
        for name in &self.replaced {
            let node = project.node(name).with_context(|| format!("--replaced {name}"))?;
            let keys = HostKeys::open([project.known_hosts()?])?;
            keys.forget(&node.host(), project.cluster.access.port)?;
        }
        let mut format = BTreeSet::new();
        for written in &self.format {
            let (name, disk) =
                written.split_once(':').with_context(|| format!("--format {written}: say NODE:/dev/…"))?;
            let node = project.node(name).with_context(|| format!("--format {written}"))?;
            if !project.cluster.storage.disks_of(&node.name).contains(&disk) {
                bail!("--format {written}: `storage` of the cluster file gives {name} no disk {disk}");
            }
            format.insert((node.name.clone(), disk.to_owned()));
        }
        Course { yes: self.yes, prepare_only: self.prepare_only, format, restored: None }.run(&project, printer).await
    }
}

/// A cluster that is to come back from a backup.
pub(crate) struct Restored {
    /// The digest of its CA.
    pub(crate) ca: String,
    /// Whether its API has another address than it had: nobody would find it there.
    pub(crate) moved: bool,
    /// Its state.
    pub(crate) state: Upload,
}

/// The way from what is to what the cluster file says.
pub(crate) struct Course {
    pub(crate) yes: bool,
    pub(crate) prepare_only: bool,
    /// Disks that may be formatted although something is on them.
    pub(crate) format: BTreeSet<(NodeName, String)>,
    pub(crate) restored: Option<Restored>,
}

impl Course {
    /// Looks, asks, changes, waits until the cluster is well.
    pub(crate) async fn run(self, project: &Project, printer: &Printer) -> anyhow::Result<Done> {
        let started = Instant::now();
        let inputs = Arc::new(Inputs { format: self.format, ..project.inputs(printer)? });
        let cluster = Arc::new(project.cluster.clone());
        let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let progress = Progress::new(printer, names.iter().copied());
        let mut fleet = engine::survey(project, &cluster, &inputs, printer, &progress).await?;
        progress.end();
        let mut before = 0;
        let gateway_first = gateway::awaited(&fleet);
        let every: Vec<_> = inputs.addons.iter().collect();
        if gateway_first {
            addons::refuse_misfits(&cluster, &inputs, &every, &fleet.nodes, printer)?;
            let behind = fold(fleet.lost.iter().map(|(node, _)| node.name.as_str()));
            let plans = engine::node_plans(&cluster, &inputs, &fleet.nodes, &Agenda::default(), false);
            let gateway = cluster.gateway().map(|(node, _)| &node.name);
            let plans: Vec<_> = plans.into_iter().filter(|plan| Some(&plan.name) == gateway).collect();
            printer.info(match behind.is_empty() {
                true => "The gateway comes first: it boots, and the way to the others leads through it.".to_owned(),
                false => format!("The gateway comes first: {behind} may have no address before."),
            });
            printer.info(summary(printer, &plans));
            if !self.yes && std::io::stdin().is_terminal() && !printer.confirm("Make these changes?")? {
                bail!("nothing was changed");
            }
            (fleet, before) = gateway::first(project, &cluster, &inputs, printer, fleet).await?;
        }
        let plane_lost = fleet.lost.iter().any(|(node, _)| node.role == Role::ControlPlane);
        if plane_lost || fleet.nodes.is_empty() {
            fleet.complete()?;
            bail!("no node can be reached");
        }
        // The others go on without a worker that is away.
        let losses = (fleet.lost.len(), fleet.losses());
        let mut surveys = fleet.nodes;
        let agenda = match &self.restored {
            // How the cluster stood until now does not matter.
            Some(restored) => engine::restoration(&cluster, &surveys, restored),
            None => engine::agenda(&cluster, &inputs, &surveys),
        };
        let obstacles = engine::obstacles(&cluster, &inputs, &surveys, &agenda);
        if !obstacles.is_empty() {
            let list = lines(obstacles.iter().map(|(name, message)| (name.as_str(), message.clone())));
            bail!("nothing was changed, because of:{list}");
        }
        let agenda = if self.prepare_only { Agenda::default() } else { agenda };
        let mut plans = engine::node_plans(&cluster, &inputs, &surveys, &agenda, self.restored.is_some());
        let unshared = engine::plan_folders(&cluster, &surveys, &mut plans);
        let node_changes: usize = plans.iter().map(show::NodePlan::count).sum();
        let kubernetes = cluster.distribution != Distribution::None && !self.prepare_only;
        // What all nodes take part in can be asked when all are there.
        let gates = kubernetes && losses.0 == 0;
        let addons = match gates {
            true => addons::plan(&inputs, &surveys, &agenda, self.restored.is_some()),
            false => AddonPlan::default(),
        };
        show::add_addons(&mut plans, &cluster, &addons);
        let smoked = surveys
            .iter()
            .find(|survey| survey.session.node.role == Role::ControlPlane)
            .is_some_and(|survey| survey.seen.done("smoke") == Some(smoke_mark(&cluster).as_str()));
        let changes: usize = plans.iter().map(show::NodePlan::count).sum();
        let quiet = surveys.iter().all(|survey| survey.plan.is_empty());
        if changes == 0 && quiet && (smoked || !gates) {
            report(printer, &project.cluster, surveys.len(), before, None, started);
            return without(&losses);
        }
        if printer.format == Format::Text && !printer.quiet {
            printer.info(project.title(&inputs, printer));
            printer.info(summary(printer, &plans));
        }
        if !self.yes && std::io::stdin().is_terminal() && changes > 0 && !printer.confirm("Make these changes?")? {
            bail!("nothing was changed");
        }
        let leaving: Vec<&str> = agenda.leavers.iter().map(|leaver| leaver.name.as_str()).collect();
        if !self.yes && !std::io::stdin().is_terminal() && !leaving.is_empty() {
            bail!("this takes {} out of the cluster: say --yes if that is meant", leaving.join(", "));
        }
        if !self.yes && !std::io::stdin().is_terminal() && !addons.remove.is_empty() {
            bail!("this removes {} with all that they hold: say --yes if that is meant", addons.remove.join(", "));
        }
        addons::refuse_crowded(&cluster, &addons, &surveys)?;
        // Before the gateway all of them were looked up.
        if !gateway_first {
            // On a node that joins, what is there already may come to run.
            let changed = addons.apply.iter().map(|(addon, _)| addon).collect();
            let looked_up: &Vec<_> = if agenda.joins() { &every } else { &changed };
            addons::refuse_misfits(&cluster, &inputs, looked_up, &surveys, printer)?;
        }
        bring_releases(project, &inputs, &surveys, printer)?;
        let progress = Progress::new(printer, names.iter().chain(&leaving).copied());
        for survey in &mut surveys {
            survey.session.progress = progress.clone();
        }
        let life = lifecycle(&cluster, &inputs);
        let mut left = Vec::new();
        if let (Some(life), false) = (&life, leaving.is_empty()) {
            let gone = leave::all(project, &**life, &surveys, &agenda, printer, &progress).await;
            left = gone.inspect_err(|_| progress.end())?;
        }
        let outcome =
            engine::carry_out(&cluster, &inputs, surveys, &agenda, self.restored.map(|restored| restored.state)).await;
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
        if unshared && losses.0 == 0 {
            let shared = engine::share_folders(&cluster, &outcome.sessions).await;
            left.extend(shared.inspect_err(|_| progress.end())?);
        }
        let smoke = if gates {
            let result = async {
                let smoke = engine::gates(&cluster, &inputs, &outcome.sessions, !smoked || node_changes > 0).await?;
                addons::carry_out(project, &inputs, &addons, &outcome.sessions).await?;
                anyhow::Ok(smoke)
            };
            let result = result.await;
            progress.end();
            result?
        } else {
            progress.end();
            None
        };
        for line in &left {
            printer.info(line);
        }
        let changes = before + outcome.changes + leaving.len() + addons.steps().len();
        report(printer, &project.cluster, outcome.sessions.len(), changes, smoke, started);
        without(&losses)
    }
}

/// Fetches what the plans send to nodes of a release and is not here yet.
fn bring_releases(
    project: &Project,
    inputs: &Inputs,
    surveys: &[engine::Survey],
    printer: &Printer,
) -> anyhow::Result<()> {
    let (Some(releases), Some(release)) = (project.sources()?.releases(), &inputs.release) else { return Ok(()) };
    let changes = surveys.iter().flat_map(|survey| &survey.plan.changes);
    let wanted: BTreeSet<_> = changes.flat_map(|change| &change.uploads).map(|upload| &upload.from).collect();
    wanted.into_iter().try_for_each(|path| Ok(releases.bring(release, path, printer)?))
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
        printer.result(format!("Smoke test {smoke}."));
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
