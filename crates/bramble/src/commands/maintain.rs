//! `bramble upgrade` and `bramble reboot`: nodes in their turns, while the cluster runs.

use std::sync::Arc;

use bramble_engine::{Interface, Maintenance, Work};
use bramble_spec::NodeName;
use bramble_state::{RebootWhen, Wanted};
use clap::ValueEnum;
use serde_json::json;

use crate::confirmed::Yes;
use crate::drive::{begin_log, with_log};
use crate::ui::plan::{plans_json, render_plans};
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::{Common, Done, cluster_file, sudo_user};

/// Which nodes, and whether that is asked.
#[derive(clap::Args)]
struct Nodes {
    /// Only these nodes; otherwise all
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Show what would be done, and change nothing (exit code 3 if there is something)
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    yes: Yes,
}

#[derive(clap::Args)]
pub(crate) struct Reboot {
    #[command(flatten)]
    nodes: Nodes,
}

#[derive(clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    nodes: Nodes,
    /// The packages of the system, and not the firmware
    #[arg(long, conflicts_with = "firmware")]
    system: bool,
    /// The firmware in the EEPROM of Raspberry Pi 4 and 5, and not the packages
    #[arg(long)]
    firmware: bool,
    /// When a node boots again
    #[arg(long, value_enum, default_value = "needed", value_name = "WHEN")]
    reboot: When,
}

#[derive(Clone, Copy, ValueEnum)]
enum When {
    /// When something that is new is used only after a boot: a kernel, firmware, the C library, systemd
    Needed,
    /// In any case
    Always,
    /// Not by this command
    Never,
}

impl Reboot {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        maintain("reboot", self.nodes, Work::Reboot, common, printer).await
    }
}

impl Upgrade {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let reboot = match self.reboot {
            When::Needed => RebootWhen::Needed,
            When::Always => RebootWhen::Always,
            When::Never => RebootWhen::Never,
        };
        let wanted = Wanted { system: !self.firmware, firmware: !self.system, reboot };
        maintain("upgrade", self.nodes, Work::Upgrade(wanted), common, printer).await
    }
}

async fn maintain(command: &str, nodes: Nodes, work: Work, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
    let project = cluster_file::open(common, printer)?;
    let _lock = project.lock()?;
    let named = if nodes.nodes.is_empty() { Vec::new() } else { project.nodes(&nodes.nodes)? };
    let names: Vec<NodeName> = named.into_iter().map(|node| node.name.clone()).collect();
    let inputs = cluster_file::inputs(&project, printer)?;
    let network = cluster_file::network(&project)?;
    let progress = Arc::new(Progress::new(printer, project.cluster.nodes.iter().map(|node| node.name.as_str())));
    let log = begin_log(&project, command, progress.clone())?;
    let interface: Arc<dyn Interface> = log.clone();
    let looked = Maintenance::look(&project, inputs, sudo_user::who(), &names, work, &network, &interface).await;
    progress.end();
    let maintenance = looked?;
    let plans = maintenance.plan();
    let count: usize = plans.iter().map(|plan| plan.count()).sum();
    let json = printer.format == Format::Json;
    if nodes.plan && json {
        printer.json(&plans_json(&plans));
    }
    if count == 0 {
        if json && !nodes.plan {
            printer.json(&json!({ "nodes": 0, "booted": 0 }));
        } else if !json {
            printer.result(format!("Nothing is new: {} nodes have the newest that their sources offer.", plans.len()));
        }
        return Ok(Done::Good);
    }
    if !json {
        printer.info(render_plans(printer, &plans).trim_end());
        for kept in maintenance.kept() {
            printer.info(format!("The firmware in the EEPROM stays as it is on {kept}."));
        }
        let held = maintenance.held();
        if !held.is_empty() {
            printer.info(format!("Held, and left as they are: {}.", held.join(", ")));
        }
    }
    if nodes.plan {
        return Ok(Done::Code(3));
    }
    if !nodes.yes.confirmed().changes {
        let instead = "nothing was changed: pass --yes to go on without a question";
        printer.agree("Go on, one node after the other?", instead, "nothing was changed")?;
    }
    let names = maintenance.names();
    let progress = Arc::new(Progress::new(printer, names.iter().map(String::as_str)));
    log.pass_on(progress.clone());
    let done = maintenance.go().await;
    progress.end();
    let done = done.map_err(|error| with_log(error.into(), &log))?;
    if json {
        printer.json(&json!({ "nodes": done.nodes, "booted": done.booted }));
        return Ok(Done::Good);
    }
    printer.result(format!(
        "{} {} nodes of {} are done, {} of them booted.",
        printer.style(Style::Good, "✓"),
        done.nodes,
        project.cluster.name,
        done.booted
    ));
    Ok(Done::Good)
}
