//! `bramble status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bramble_kube::{ClusterReport, Condition, Inputs, State, lifecycle};
use bramble_spec::{Cluster, Distribution, Node, Role};
use serde_json::json;

use crate::drive::visit;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::{Event, Session, SshNetwork};
use bramble_spec::name_ranges;

/// From how many nodes on only those are shown of which something must be said.
const MANY: usize = 12;

#[derive(clap::Args)]
pub(crate) struct Status {
    /// Only these nodes, and the cluster: names, kube[1-4], role=worker, LABEL=VALUE
    #[arg(short, long, value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
}

impl Status {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let cluster = &project.cluster;
        let kubernetes = cluster.distribution != Distribution::None;
        let whole = Arc::new(cluster.clone());
        let work = move |session: Session<SshNetwork>| {
            // The first one whose API answers speaks for the cluster, but each has to answer.
            let asks = kubernetes && session.node.role == Role::ControlPlane;
            let cluster = whole.clone();
            async move {
                session.say(Event::Looking);
                let watched = bramble_kube::watched(&cluster, &session.node);
                let (seen, report) = tokio::join!(session.observe(&watched), async {
                    if asks { Some(ask(&cluster, &session).await) } else { None }
                });
                session.say(Event::Looked);
                Ok((session.node, seen, report))
            }
        };
        let chosen: Vec<&Node> = project.nodes(&self.nodes)?;
        // The control planes are asked for the cluster, too.
        let asked = |node: &&Node| node.role == Role::ControlPlane || chosen.iter().any(|one| one.name == node.name);
        let asked: Vec<Node> = project.cluster.nodes.iter().filter(asked).cloned().collect();
        let mut fleet = visit(&cluster_file::network(&project)?, &asked, printer, work).await?;
        let mut silent: BTreeMap<String, String> = BTreeMap::new();
        let mut report = Err("no control plane can be reached".to_owned());
        for (node, _, answer) in &mut fleet.nodes {
            match answer.take() {
                Some(Ok(known)) if report.is_err() => report = Ok(known),
                Some(Err(why)) => {
                    if report.is_err() {
                        report = Err(why.clone());
                    }
                    silent.insert(node.name.to_string(), why);
                }
                _ => {}
            }
        }
        let mut nodes: BTreeMap<String, Vec<Condition>> = BTreeMap::new();
        for (node, seen, _) in fleet.nodes {
            let name = node.name.as_str();
            let mut conditions = match seen {
                Ok(seen) => {
                    let known = report.as_ref().ok().and_then(|r| r.nodes.iter().find(|known| known.name == name));
                    bramble_kube::node_conditions(cluster, &node, &seen, known)
                }
                Err(error) => vec![Condition::bad("Reachable", format!("{error:#}"), &node.name)],
            };
            // Where there is no other one the cluster's own condition says it.
            if let (Some(why), true) = (silent.remove(name), report.is_ok()) {
                conditions.push(Condition::bad("ApiAnswers", why, &node.name));
            }
            nodes.insert(name.to_string(), conditions);
        }
        for (node, error) in &fleet.lost {
            let condition = Condition::bad("Reachable", format!("{error:#}"), &node.name);
            nodes.insert(node.name.to_string(), vec![condition]);
        }
        nodes.retain(|name, _| chosen.iter().any(|node| node.name.as_str() == name));
        let whole = bramble_kube::cluster_conditions(cluster, report.as_ref().map_err(String::as_str));
        let bad = nodes.values().flatten().chain(&whole).any(Condition::is_bad);
        if printer.format == Format::Json {
            printer.json(&json!({ "cluster": cluster.name, "well": !bad, "conditions": whole, "nodes": nodes }));
        } else {
            printer.result(cluster_file::title(&project, &Inputs::default(), printer));
            let mut text = String::new();
            if !whole.is_empty() {
                text.push_str(&lines(printer, "cluster", &whole));
            }
            let of = |node: &Node| nodes.get(node.name.as_str()).map_or(&[][..], Vec::as_slice);
            let well = |node: &&Node| of(node).iter().all(Condition::is_good);
            let many = chosen.len() > MANY && !printer.verbose;
            for node in chosen.iter().copied().filter(|node| !many || !well(node)) {
                let title = format!("{} ({}, {})", node.name, node.role, node.address);
                text.push_str(&lines(printer, &title, of(node)));
            }
            let good: Vec<&str> = chosen.iter().copied().filter(well).map(|node| node.name.as_str()).collect();
            if many && !good.is_empty() {
                let mark = printer.style(Style::Good, "✓");
                let all = format!("{} of {} nodes are well", good.len(), chosen.len());
                text.push_str(&format!("{mark} {all}: {} (-v shows each)\n", name_ranges(good)));
            }
            printer.result(text);
        }
        Ok(if bad { Done::Code(1) } else { Done::Good })
    }
}

pub(super) async fn ask(cluster: &Cluster, plane: &Session<SshNetwork>) -> Result<ClusterReport, String> {
    let inputs = Inputs::default();
    let life = lifecycle(cluster, &inputs).ok_or("there is no Kubernetes")?;
    let output = plane
        .ask(&bramble_kube::status_script(cluster, &*life), |_, _| {})
        .await
        .map_err(|error| format!("{error:#}"))?;
    bramble_kube::parse_nodes(&output).ok_or_else(|| "the API's answer cannot be read".to_owned())
}

fn lines(printer: &Printer, title: &str, conditions: &[Condition]) -> String {
    let mut text = format!("{}\n", printer.style(Style::Bold, title));
    for condition in conditions {
        let mark = match &condition.state {
            State::Good(_) => printer.style(Style::Good, "✓"),
            State::Problem(_) if condition.is_bad() => printer.style(Style::Bad, "✗"),
            State::Problem(_) => printer.style(Style::Note, "!"),
            State::Unknown(_) => printer.style(Style::Dim, "?"),
        };
        text.push_str(&format!("  {mark} {:<16} {}\n", condition.name, printer.style(Style::Dim, &condition.reason())));
    }
    text
}
