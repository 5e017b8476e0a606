//! `bramble power`.

use anyhow::{anyhow, bail};
use bramble_engine::Project;
use bramble_kube::Destruction;
use bramble_power::{CYCLE, Credentials, Outlet, PowerError, Reading};
use bramble_spec::{Node, name_ranges};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::confirmed::Yes;
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::table::table;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct Switch {
    /// What to do: ask, give power, take it away, or take it away for some seconds
    #[arg(value_enum)]
    action: Action,
    /// These nodes; `status` asks for all if none is named
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    Status,
    On,
    Off,
    Cycle,
}

/// Gives what switches the power of these nodes, with what lets one in there; nodes without such a thing are left out.
pub(crate) fn outlets<'n>(project: &Project, nodes: impl IntoIterator<Item = &'n Node>) -> anyhow::Result<Vec<Outlet>> {
    let mut all = Vec::new();
    for node in nodes {
        let Some(switch) = project.cluster.power_switch(node) else { continue };
        let credentials = match &switch.control.credentials {
            Some(written) => Credentials::read(&project.path(written))?,
            None => {
                let usual = project.dir.join(".bramble/power").join(switch.device.unwrap_or(node.name.as_str()));
                if usual.exists() { Credentials::read(&usual)? } else { Credentials::default() }
            }
        };
        all.extend(Outlet::of(&project.cluster, node, credentials));
    }
    Ok(all)
}

/// Does something with all outlets at once, and gives what came of it in their order.
pub(crate) async fn with_all<T: Send + 'static, F: Future<Output = T>>(
    outlets: Vec<Outlet>,
    work: impl Fn(Outlet) -> F + Copy + Send + 'static,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for (at, outlet) in outlets.into_iter().enumerate() {
        let runtime = Handle::current();
        tasks.spawn_blocking(move || (at, runtime.block_on(work(outlet))));
    }
    let mut all: Vec<(usize, T)> = tasks.join_all().await;
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

impl Switch {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        if self.nodes.is_empty() && self.action != Action::Status {
            bail!("name the nodes: `bramble off` and `bramble on` are for the whole cluster");
        }
        let nodes = project.nodes(&self.nodes)?;
        let outlets = outlets(&project, nodes.iter().copied())?;
        let without: Vec<&str> = nodes
            .iter()
            .map(|node| node.name.as_str())
            .filter(|name| !outlets.iter().any(|outlet| outlet.node.as_str() == *name))
            .collect();
        if outlets.is_empty() || (!without.is_empty() && self.action != Action::Status) {
            return Err(anyhow!(
                "nothing switches the power of {}: say how with `control:` at the device of `hardware.devices` that gives it, or at \
                 the node (docs/hardware.md)",
                name_ranges(without)
            ));
        }
        if matches!(self.action, Action::Off | Action::Cycle) {
            self.agree(&outlets, printer)?;
        }
        let action = self.action;
        let done = with_all(outlets.clone(), move |outlet| async move {
            match action {
                Action::Status => {}
                Action::On => outlet.set(true).await?,
                Action::Off => outlet.set(false).await?,
                Action::Cycle => outlet.cycle().await?,
            }
            outlet.read().await
        })
        .await;
        let failed = done.iter().any(Result::is_err);
        if printer.format == Format::Json {
            let rows: Vec<_> =
                outlets.iter().zip(&done).map(|(outlet, reading)| row_json(&project, outlet, reading)).collect();
            printer.json(&json!({ "nodes": rows, "withoutControl": without }));
        } else {
            printer.result(readings(printer, &project, &outlets, &done));
            for error in done.iter().filter_map(|reading| reading.as_ref().err()) {
                printer.error(format!("{} {error}", printer.style(Style::Bad, "✗")));
            }
            if !without.is_empty() {
                printer.info(format!("Nothing switches the power of {}.", name_ranges(without)));
            }
        }
        Ok(if failed { Done::Code(1) } else { Done::Good })
    }

    /// Goes on if all that would lose its power was named, or somebody agrees.
    fn agree(&self, outlets: &[Outlet], printer: &Printer) -> anyhow::Result<()> {
        let how = match self.action {
            Action::Cycle => format!("power cut for {} s", CYCLE.as_secs()),
            _ => "power cut".to_owned(),
        };
        let names = name_ranges(outlets.iter().map(|outlet| outlet.node.as_str()));
        let what = format!(
            "{names}: {how}: what is not written yet is lost (`bramble off` and `bramble reboot` end boards in order)"
        );
        let of = |outlet: &Outlet| Destruction { name: outlet.node.to_string(), what: what.clone() };
        let question = format!("Cut the power of {names}?");
        let all = outlets.iter().map(of).collect();
        self.yes.clone().confirmed().agree(printer, all, "This cannot be undone:", &question)?;
        Ok(())
    }
}

fn planned(project: &Project, outlet: &Outlet) -> Option<bramble_design::Draw> {
    let node = project.cluster.nodes.iter().find(|node| node.name == outlet.node)?;
    Some(bramble_design::node_draw(node)).filter(|draw| draw.load.0 > 0)
}

fn row_json(project: &Project, outlet: &Outlet, reading: &Result<Reading, PowerError>) -> serde_json::Value {
    let known = reading.as_ref().ok();
    json!({
        "node": outlet.node, "device": outlet.device(), "outlet": outlet.number(),
        "on": known.and_then(|known| known.on), "watts": known.and_then(|known| known.watts),
        "plannedWatts": planned(project, outlet).map(|draw| json!({
            "idle": draw.idle.0 as f64 / 1000.0, "load": draw.load.0 as f64 / 1000.0,
        })),
        "error": reading.as_ref().err().map(ToString::to_string),
    })
}

fn readings(printer: &Printer, project: &Project, outlets: &[Outlet], done: &[Result<Reading, PowerError>]) -> String {
    let mut rows = Vec::new();
    for (outlet, reading) in outlets.iter().zip(done) {
        let known = reading.as_ref().ok();
        let power = match known.map(|known| known.on) {
            Some(Some(true)) => "on",
            Some(Some(false)) => "off",
            Some(None) => "nobody knows",
            None => "?",
        };
        let plan = planned(project, outlet).map(|draw| format!("{}–{}", draw.idle, draw.load));
        rows.push([
            outlet.node.to_string(),
            power.to_owned(),
            known.and_then(|known| known.watts).map_or_else(|| "—".to_owned(), |watts| format!("{watts:.1} W")),
            plan.unwrap_or_else(|| "—".to_owned()),
            outlet.number().unwrap_or("—").to_owned(),
            outlet.device(),
        ]);
    }
    table(printer, ["NODE", "POWER", "TAKES", "PLAN (IDLE–LOAD)", "OUTLET", "SWITCHED BY"], &rows)
}
