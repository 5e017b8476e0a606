//! `bramble wear`.

use bramble_engine::{Event, Session, SshNetwork, without_address};
use bramble_kube::Writes;
use bramble_remote::printable;
use bramble_spec::{Cluster, Holds, Node, Size};
use serde_json::json;

use crate::drive::visit;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Wear {
    /// Only these nodes; otherwise all
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// How many seconds to watch
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
}

/// How many programs are named; the others are added up.
const NAMED: usize = 6;
const DAY: u64 = 24 * 3600;

impl Wear {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let nodes: Vec<Node> = project.nodes(&self.nodes)?.into_iter().cloned().collect();
        let seconds = self.seconds;
        let work = move |session: Session<SshNetwork>| async move {
            session.say(Event::Waiting(format!("what it writes in {seconds} s")));
            let text = session.ask(&bramble_kube::writes_script(seconds), |_, _| {}).await?;
            session.say(Event::Looked);
            Ok((session.node.clone(), Writes::parse(&text)))
        };
        let fleet = visit(&cluster_file::network(&project)?, &nodes, printer, work).await?;
        let a_day = |bytes: u64| bytes.saturating_mul(DAY) / u64::from(seconds);
        if printer.format == Format::Json {
            let nodes: Vec<_> = fleet
                .nodes
                .iter()
                .map(|(node, writes)| {
                    let writers: Vec<_> = writes
                        .writers
                        .iter()
                        .map(|(name, bytes)| json!({ "program": name, "bytesPerDay": a_day(*bytes) }))
                        .collect();
                    json!({
                        "node": node.name, "disk": writes.disk, "bytesPerDay": a_day(writes.by_programs()),
                        "diskBytesPerDay": a_day(writes.written), "writers": writers,
                        "years": life(node, a_day(writes.by_programs())),
                    })
                })
                .collect();
            printer.json(&json!({ "seconds": seconds, "nodes": nodes }));
        } else {
            for (node, writes) in &fleet.nodes {
                printer.result(page(printer, &project.cluster, node, writes, a_day));
            }
        }
        for (node, error) in &fleet.lost {
            printer.error(format!(
                "{} {}: {}",
                printer.style(Style::Bad, "✗"),
                node.name,
                without_address(node, error)
            ));
        }
        Ok(if fleet.lost.is_empty() { Done::Good } else { Done::Code(1) })
    }
}

fn page(printer: &Printer, cluster: &Cluster, node: &Node, writes: &Writes, a_day: impl Fn(u64) -> u64) -> String {
    let size = |bytes: u64| {
        let scale =
            [1_000_000_000_000, 1_000_000_000, 1_000_000, 1_000].into_iter().find(|scale| bytes >= *scale).unwrap_or(1);
        // To three digits: it is an estimate.
        Size(bytes / (scale / 100).max(1) * (scale / 100).max(1)).to_string()
    };
    let total = a_day(writes.by_programs());
    let mut text = format!("{} writes {} a day\n", printer.style(Style::Bold, node.name.as_str()), size(total));
    let named: Vec<_> = writes.writers.iter().take(NAMED).filter(|(_, bytes)| *bytes > 0).collect();
    let width = named.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(24);
    for (name, bytes) in &named {
        text.push_str(&format!("  {:width$}  {:>10}\n", printable(name), size(a_day(*bytes))));
    }
    let rest: u64 = writes.writers.iter().skip(NAMED).map(|(_, bytes)| bytes).sum();
    if rest > 0 {
        text.push_str(&format!("  {:width$}  {:>10}\n", "others", size(a_day(rest))));
    }
    let disk = medium(node);
    let lasts = match (disk, life(node, total)) {
        (Some(name), Some(years)) if years > 100.0 => format!("its {name} lasts longer than its board at this rate"),
        (Some(name), Some(years)) => format!("its {name} lasts {years:.1} years at this rate, by its maker's figure"),
        (Some(name), None) => format!("the maker of its {name} publishes no figure of what can be written to it"),
        (None, _) => {
            format!("say what it is under `disks:` of the node, and bramble says how long its {} lasts", writes.disk)
        }
    };
    text.push_str(&format!("  {}", printer.style(Style::Dim, &lasts)));
    if cluster.preparation.wear.is_none() && total > 5_000_000_000 {
        text.push_str("\n  `prepare: { wear: low }` lets it write less");
    }
    text
}

/// The medium that holds the system.
fn medium(node: &Node) -> Option<&str> {
    Some(node.fitting.holder(Holds::System)?.part.name())
}

/// How many years the medium of the system lasts at so many bytes a day, if its maker publishes what it endures.
fn life(node: &Node, a_day: u64) -> Option<f64> {
    let endurance = node.fitting.holder(Holds::System)?.medium()?.endurance?;
    (a_day > 0).then(|| endurance.0 as f64 / a_day as f64 / 365.0)
}
