//! `bramble why`.

use std::sync::Arc;

use bramble_engine::{Event, Project, Session, SshNetwork};
use bramble_kube::{Case, Cause, ClusterReport, Inputs, NodeCase, Told, causes, lifecycle};
use bramble_remote::printable;
use bramble_spec::{Cluster, Node, Role, group, name_ranges};
use bramble_state::Observation;
use serde_json::json;

use crate::commands::status::ask;
use crate::drive::visit;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Why {
    /// Only these nodes; otherwise all, and the cluster
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

/// A node that answered.
struct Answer {
    node: Node,
    result: anyhow::Result<(Observation, Told)>,
    report: Option<Result<ClusterReport, String>>,
    pods: Told,
}

/// What was gathered.
pub(super) struct Gathered {
    answers: Vec<Answer>,
    lost: Vec<(Node, String)>,
}

/// Asks nodes all that tells why something is wrong: one exchange each, and control planes for the API, too.
pub(super) async fn gather(project: &Project, nodes: &[String], printer: &Printer) -> anyhow::Result<Gathered> {
    let cluster = &project.cluster;
    let asked = |node: &&Node| {
        nodes.is_empty() || node.role == Role::ControlPlane || nodes.iter().any(|name| name == node.name.as_str())
    };
    let visited: Vec<Node> = cluster.nodes.iter().filter(asked).cloned().collect();
    let whole = Arc::new(cluster.clone());
    let work = move |session: Session<SshNetwork>| {
        let cluster = whole.clone();
        async move {
            session.say(Event::Looking);
            let answer = look(&cluster, &session).await;
            session.say(Event::Looked);
            Ok(answer)
        }
    };
    let fleet = visit(&cluster_file::network(project)?, &visited, printer, work).await?;
    let lost = fleet.lost.into_iter().map(|(node, error)| (node, format!("{error:#}"))).collect();
    Ok(Gathered { answers: fleet.nodes, lost })
}

async fn look(cluster: &Cluster, session: &Session<SshNetwork>) -> Answer {
    let inputs = Inputs::default();
    let life = lifecycle(cluster, &inputs).filter(|_| session.node.role == Role::ControlPlane);
    let watched = bramble_kube::watched(cluster, &session.node);
    let (seen, told, api) = tokio::join!(
        session.observe(&watched),
        async { session.ask(&bramble_kube::why_script(cluster, &session.node), |_, _| {}).await },
        async {
            let Some(life) = &life else { return (None, Told::default()) };
            let (report, pods) = tokio::join!(ask(cluster, session), async {
                session.ask(&bramble_kube::pods_script(&**life), |_, _| {}).await
            });
            // A control plane that does not answer is told of by the report.
            (Some(report), Told::parse(&pods.unwrap_or_default()))
        }
    );
    let result = seen.and_then(|seen| Ok((seen, Told::parse(&told?))));
    Answer { node: session.node.clone(), result, report: api.0, pods: api.1 }
}

impl Gathered {
    /// Finds the causes; those of nodes that were not asked for are left out.
    pub(super) fn causes(&self, cluster: &Cluster, nodes: &[String]) -> Vec<Cause> {
        let answering = self.answers.iter().find(|answer| matches!(answer.report, Some(Ok(_))));
        let first = self.answers.iter().find_map(|answer| answer.report.as_ref());
        let none = Err("no control plane can be reached");
        let report = match (
            answering.and_then(|answer| answer.report.as_ref()).or(first),
            lifecycle(cluster, &Inputs::default()),
        ) {
            (Some(report), _) => Some(report.as_ref().map_err(String::as_str)),
            (None, Some(_)) => Some(none),
            (None, None) => None,
        };
        let empty = Told::default();
        let errors: Vec<Option<String>> =
            self.answers.iter().map(|answer| answer.result.as_ref().err().map(|error| format!("{error:#}"))).collect();
        let mut cases: Vec<NodeCase<'_>> = Vec::new();
        for (answer, error) in self.answers.iter().zip(&errors) {
            let result = match (&answer.result, error) {
                (Ok((seen, told)), _) => Ok((seen, told)),
                (Err(_), error) => Err(error.as_deref().unwrap_or_default()),
            };
            cases.push(NodeCase { node: &answer.node, answer: result });
        }
        cases.extend(self.lost.iter().map(|(node, why)| NodeCase { node, answer: Err(why) }));
        let case = Case { cluster, nodes: cases, report, pods: answering.map_or(&empty, |answer| &answer.pods) };
        let wanted = |cause: &Cause| match &cause.node {
            Some(name) => nodes.is_empty() || nodes.iter().any(|wanted| wanted == name.as_str()),
            None => nodes.is_empty() || cause.broken,
        };
        causes(&case).into_iter().filter(wanted).collect()
    }
}

impl Why {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let named = if self.nodes.is_empty() { Vec::new() } else { project.nodes(&self.nodes)? };
        let named: Vec<String> = named.into_iter().map(|node| node.name.to_string()).collect();
        let gathered = gather(&project, &named, printer).await?;
        let causes = gathered.causes(&project.cluster, &named);
        let broken = causes.iter().any(|cause| cause.broken);
        if printer.format == Format::Json {
            printer.json(&json!({ "cluster": project.cluster.name, "causes": causes }));
        } else {
            printer.result(render(printer, &causes));
            if causes.is_empty() {
                let count = gathered.answers.len();
                printer.result(format!(
                    "{} Nothing was found that would keep {count} nodes from working: power, heat, disks, memory, clocks, links, names, \
                     certificates, programs, etcd and pods are as they should be.",
                    printer.style(Style::Good, "✓")
                ));
            }
        }
        Ok(if broken { Done::Code(1) } else { Done::Good })
    }
}

/// The causes by node; what several nodes have in common stands once.
pub(super) fn render(printer: &Printer, causes: &[Cause]) -> String {
    let mut text = String::new();
    let whole = causes.iter().filter(|cause| cause.node.is_none()).map(|cause| ("cluster", page(printer, cause)));
    let nodes = causes.iter().filter_map(|cause| Some((cause.node.as_ref()?.as_str(), page(printer, cause))));
    // A node's causes stand together, as they were found.
    let mut by: Vec<(&str, String)> = Vec::new();
    for (name, page) in nodes.chain(whole) {
        match by.iter_mut().find(|(known, _)| *known == name) {
            Some((_, pages)) => pages.push_str(&page),
            None => by.push((name, page)),
        }
    }
    for (names, pages) in group(by.iter().map(|(name, pages)| (*name, pages.as_str()))) {
        let title = name_ranges(names.iter().copied());
        text.push_str(&format!("{}\n{pages}", printer.style(Style::Bold, &title)));
    }
    text
}

fn page(printer: &Printer, cause: &Cause) -> String {
    let mark = if cause.broken { printer.style(Style::Bad, "✗") } else { printer.style(Style::Note, "!") };
    let mut text = format!("  {mark} {}\n", cause.what);
    for line in &cause.evidence {
        text.push_str(&format!("      {}\n", printer.style(Style::Dim, &printable(line))));
    }
    text.push_str(&format!("    → {}\n", cause.next));
    text
}
