//! `bramble soak`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bramble_design::{Design, Rule};
use bramble_engine::{Event, Project, Session, SshNetwork};
use bramble_kube::{
    Heat, Inputs, Soaked, drain_node_script, lifecycle, soak_begin_script, soak_end_script, soak_look_script, soaked,
    uncordon_script,
};
use bramble_power::Outlet;
use bramble_spec::{Node, NodeName, Problem, Role};
use serde_json::json;
use tokio::time::sleep;

use crate::commands::outlets;
use crate::confirmed::Yes;
use crate::drive::{ask_plane, visit};
use crate::ui::plot;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Soak {
    /// Only these nodes; otherwise all
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// How long all cores are kept busy
    #[arg(long, default_value = "15", value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// The temperature in degrees Celsius at which a board stops by itself
    #[arg(long, default_value = "85", value_name = "DEGREES", value_parser = clap::value_parser!(u32).range(40..=110))]
    limit: u32,
    /// Take the nodes out of the cluster for it, one after the other
    #[arg(long)]
    drain: bool,
    /// Draw the temperatures into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    yes: Yes,
}

/// How often a board is asked, and how often what it takes.
const EVERY: Duration = Duration::from_secs(1);
const WATTS: Duration = Duration::from_secs(10);
/// How long a drained node may take to be empty, in seconds.
const DRAIN: u32 = 300;

/// What a board did under load.
struct Run {
    node: NodeName,
    samples: Vec<Heat>,
    soaked: Soaked,
}

impl Soak {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let whole = cluster_file::open(common, printer)?;
        let nodes: Vec<Node> = whole.nodes(&self.nodes)?.into_iter().cloned().collect();
        let network = cluster_file::network(&whole)?;
        let inputs = if self.drain { cluster_file::inputs(&whole, printer)? } else { Inputs::default() };
        let cluster = Cluster { project: &whole, inputs: &inputs, network: &network, printer };
        if !self.drain && !self.yes.clone().confirmed().changes {
            let what = format!(
                "All cores of {} boards are kept busy for {} min, beside what runs there",
                nodes.len(),
                self.minutes
            );
            printer.agree(
                &format!("{what} (--drain takes them out of the cluster one after the other). Begin?"),
                &format!("{what}: pass --yes, or --drain, which takes them out of the cluster one after the other"),
                "nothing was done",
            )?;
        }
        let mut runs = Vec::new();
        let mut lost = Vec::new();
        let groups: Vec<Vec<Node>> =
            if self.drain { nodes.into_iter().map(|node| vec![node]).collect() } else { vec![nodes] };
        for group in groups {
            if self.drain {
                cluster.has(&group[0], false).await?;
            }
            let done = self.soak(&cluster, &group).await;
            if self.drain {
                cluster.has(&group[0], true).await?;
            }
            let (more, failed) = done?;
            runs.extend(more);
            lost.extend(failed);
        }
        if let Some(path) = &self.svg {
            let lines: Vec<(&str, Vec<(f64, f64)>)> =
                runs.iter().map(|run| (run.node.as_str(), curve(&run.samples))).collect();
            fs::write(path, plot::svg(&lines, f64::from(self.limit)))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if printer.format == Format::Json {
            let nodes: Vec<_> = runs
                .iter()
                .map(|run| json!({ "node": run.node, "result": run.soaked, "samples": run.samples }))
                .collect();
            printer.json(&json!({ "minutes": self.minutes, "limit": self.limit, "nodes": nodes }));
        } else {
            let plan = Design::of(&whole.cluster);
            for run in &runs {
                printer.result(page(printer, &plan, run));
            }
        }
        for line in &lost {
            printer.error(format!("{} {line}", printer.style(Style::Bad, "✗")));
        }
        let bad = !lost.is_empty() || runs.iter().any(|run| run.soaked.enough == Some(false));
        Ok(if bad { Done::Code(1) } else { Done::Good })
    }

    /// Loads these boards, all at once.
    async fn soak(&self, cluster: &Cluster<'_>, nodes: &[Node]) -> anyhow::Result<(Vec<Run>, Vec<String>)> {
        let (seconds, limit) = (self.minutes * 60, self.limit);
        let outlets = outlets::outlets(cluster.project, nodes)?;
        let work = move |session: Session<SshNetwork>| {
            let outlet = outlets.iter().find(|outlet| outlet.node == session.node.name).cloned();
            async move {
                let samples = load(&session, outlet, seconds, limit).await?;
                Ok(Run { node: session.node.name.clone(), soaked: soaked(&samples, seconds, limit), samples })
            }
        };
        let fleet = visit(cluster.network, nodes, cluster.printer, work).await?;
        let lost = fleet.lost.iter().map(|(node, error)| format!("{}: {error:#}", node.name)).collect();
        Ok((fleet.nodes, lost))
    }
}

/// The cluster whose boards are loaded.
struct Cluster<'a> {
    project: &'a Project,
    inputs: &'a Inputs,
    network: &'a Arc<SshNetwork>,
    printer: &'a Printer,
}

impl Cluster<'_> {
    /// Takes a node out of the cluster, or in again; one of no cluster is left alone.
    async fn has(&self, node: &Node, wanted: bool) -> anyhow::Result<()> {
        let life = lifecycle(&self.project.cluster, self.inputs).filter(|_| node.role != Role::Gateway);
        let Some(life) = life else { return Ok(()) };
        let script = match wanted {
            true => uncordon_script(&*life, &node.name, None),
            false => drain_node_script(&*life, &node.name, DRAIN),
        };
        let what = if wanted { "is cordoned still: `bramble up` lets it take pods again" } else { "cannot be drained" };
        let asked = ask_plane(self.network, self.project, self.printer, &*life, &script).await;
        asked.with_context(|| format!("{} {what}", node.name))?;
        Ok(())
    }
}

/// Keeps a board busy and asks it each second, until the load has ended.
async fn load(
    session: &Session<SshNetwork>,
    outlet: Option<Outlet>,
    seconds: u32,
    limit: u32,
) -> anyhow::Result<Vec<Heat>> {
    session.ask(&soak_begin_script(seconds, limit), |_, _| {}).await?;
    let began = Instant::now();
    let mut samples: Vec<Heat> = Vec::new();
    let (mut asked, mut said): (Option<Instant>, Option<String>) = (None, None);
    loop {
        let at = began.elapsed();
        let text = session.ask(&soak_look_script(), |_, _| {}).await?;
        let mut heat = Heat::parse(at.as_secs_f64(), &text);
        if let Some(outlet) = outlet.clone().filter(|_| asked.is_none_or(|asked| asked.elapsed() > WATTS)) {
            asked = Some(Instant::now());
            // Whether a switch answers is no matter of the board's heat.
            let reading = outlets::with_all(vec![outlet], |outlet| async move { outlet.read().await }).await;
            heat.watts = reading.into_iter().next().and_then(Result::ok).and_then(|reading| reading.watts);
        }
        let warm = heat.celsius.map_or_else(|| "no sensor".to_owned(), |celsius| format!("{celsius:.0} °C"));
        // Each of these is a line where there is no terminal.
        if said.as_ref() != Some(&warm) || samples.len().is_multiple_of(10) {
            session.say(Event::Waiting(format!("{warm}, {} of {seconds} s", at.as_secs())));
            said = Some(warm);
        }
        let ended = heat.ended.is_some();
        samples.push(heat);
        if ended {
            break;
        }
        sleep(EVERY.saturating_sub(began.elapsed() - at)).await;
    }
    session.ask(&soak_end_script(), |_, _| {}).await?;
    session.say(Event::Done("done".into()));
    Ok(samples)
}

fn curve(samples: &[Heat]) -> Vec<(f64, f64)> {
    samples.iter().filter_map(|heat| Some((heat.seconds, heat.celsius?))).collect()
}

fn page(printer: &Printer, plan: &Design, run: &Run) -> String {
    let Soaked { celsius, clock_kept, watts, enough, verdict, .. } = &run.soaked;
    let (style, sign) = match enough {
        Some(true) => (Style::Good, "✓"),
        Some(false) => (Style::Bad, "✗"),
        None => (Style::Dim, "?"),
    };
    let mut text =
        format!("{} {} {verdict}\n", printer.style(style, sign), printer.style(Style::Bold, run.node.as_str()));
    let mut facts: Vec<String> = Vec::new();
    facts.extend(celsius.map(|[first, last, most]| format!("{first:.0} → {last:.0} °C, at most {most:.0}")));
    facts.extend(clock_kept.map(|kept| format!("{:.0} % of its fastest clock at the end", kept * 100.0)));
    facts.extend(watts.map(|watts| format!("at most {watts:.1} W")));
    if !facts.is_empty() {
        text.push_str(&format!("  {}  {}\n", facts.join(", "), plot::line(&curve(&run.samples), 40)));
    }
    let of_heat = |finding: &&Problem| {
        finding.rule == Some(Rule::Heat.name()) && finding.place.names().contains(&run.node.as_str())
    };
    let heat = plan.findings.iter().find(of_heat);
    if let Some(finding) = heat {
        text.push_str(&format!("  {}\n", printer.style(Style::Dim, &format!("the plan expects: {}", finding.message))));
    }
    text.trim_end().to_owned()
}
