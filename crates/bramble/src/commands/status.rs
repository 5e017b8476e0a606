//! `bramble status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bramble_kube::{ClusterReport, Condition, State};
use bramble_spec::{Distribution, Role};
use serde_json::json;
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::node::NodeSession;
use crate::output::{Format, Printer, Style};
use crate::progress::{Event, Progress};
use crate::project::Project;
use crate::{Common, Done};

#[derive(clap::Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = Project::open(common, printer)?;
        let cluster = &project.cluster;
        let progress = Progress::new(printer, cluster.nodes.iter().map(|node| node.name.as_str()));
        let fleet = Fleet::connect(&project, printer, &progress).await;
        let mut fleet = fleet.inspect_err(|_| progress.end())?;
        let sessions: Vec<Arc<NodeSession>> = fleet.nodes.drain(..).map(Arc::new).collect();
        let plane = sessions.iter().find(|session| session.node.role == Role::ControlPlane).cloned();
        let kubernetes = cluster.distribution != Distribution::None;
        let api = tokio::spawn(async move { if kubernetes { ask(plane).await } else { Err(String::new()) } });
        let mut looks = JoinSet::new();
        for session in sessions {
            looks.spawn(async move {
                session.say(Event::Looking);
                (session.node.name.clone(), session.observe(&[]).await)
            });
        }
        let report = api.await?;
        let mut nodes: BTreeMap<String, Vec<Condition>> = BTreeMap::new();
        while let Some(look) = looks.join_next().await {
            let (name, seen) = look?;
            let conditions = match seen {
                Ok(seen) => {
                    let known =
                        report.as_ref().ok().and_then(|r| r.nodes.iter().find(|node| node.name == name.as_str()));
                    bramble_kube::node_conditions(cluster, &seen, known)
                }
                Err(error) => vec![Condition { name: "Reachable", state: State::Bad, reason: format!("{error:#}") }],
            };
            nodes.insert(name.to_string(), conditions);
        }
        for (node, error) in &fleet.lost {
            let condition = Condition { name: "Reachable", state: State::Bad, reason: format!("{error:#}") };
            nodes.insert(node.name.to_string(), vec![condition]);
        }
        progress.end();
        let whole = bramble_kube::cluster_conditions(cluster, report.as_ref().map_err(String::as_str));
        let bad = nodes.values().flatten().chain(&whole).any(|condition| condition.state == State::Bad);
        if printer.format == Format::Json {
            printer.json(&json!({ "cluster": cluster.name, "well": !bad, "conditions": whole, "nodes": nodes }));
        } else {
            printer.result(project.title(printer));
            let mut text = String::new();
            if !whole.is_empty() {
                text.push_str(&lines(printer, "cluster", &whole));
            }
            for node in &cluster.nodes {
                let title = format!("{} ({}, {})", node.name, node.role, node.address);
                text.push_str(&lines(printer, &title, nodes.get(node.name.as_str()).map_or(&[][..], Vec::as_slice)));
            }
            printer.result(text);
        }
        Ok(if bad { Done::Code(1) } else { Done::Good })
    }
}

async fn ask(plane: Option<Arc<NodeSession>>) -> Result<ClusterReport, String> {
    let plane = plane.ok_or("no control plane can be reached")?;
    let output = plane.ask(&bramble_kube::status_script(), |_, _| {}).await.map_err(|error| format!("{error:#}"))?;
    bramble_kube::parse_nodes(&output).ok_or_else(|| "the API's answer cannot be read".to_owned())
}

fn lines(printer: &Printer, title: &str, conditions: &[Condition]) -> String {
    let mut text = format!("{}\n", printer.style(Style::Bold, title));
    for condition in conditions {
        let mark = match condition.state {
            State::Good => printer.style(Style::Good, "✓"),
            State::Note => printer.style(Style::Note, "!"),
            State::Bad => printer.style(Style::Bad, "✗"),
            State::Unknown => printer.style(Style::Dim, "?"),
        };
        text.push_str(&format!("  {mark} {:<16} {}\n", condition.name, printer.style(Style::Dim, &condition.reason)));
    }
    text
}
