//! `bramble plan`.

use std::sync::Arc;

use bramble_kube::Agenda;
use bramble_spec::fold;

use crate::commands::design;
use crate::output::{Format, Printer, Style};
use crate::progress::Progress;
use crate::project::Project;
use crate::{Common, Done, addons, engine, gateway, show};

/// The exit code that says that there is something to change.
const CHANGES: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct Plan {}

impl Plan {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = Project::open(common, printer)?;
        design::refuse_what_cannot_work(&project.cluster)?;
        let inputs = Arc::new(project.inputs(printer)?);
        let cluster = Arc::new(project.cluster.clone());
        let progress = Progress::new(printer, cluster.nodes.iter().map(|node| node.name.as_str()));
        let fleet = engine::survey(&project, &cluster, &inputs, printer, &progress).await?;
        progress.end();
        let behind = (!fleet.lost.is_empty() && gateway::awaited(&fleet))
            .then(|| fold(fleet.lost.iter().map(|(node, _)| node.name.as_str())));
        let (surveys, agenda) = match &behind {
            Some(_) => (gateway::alone(fleet), Agenda::default()),
            None => {
                let surveys = fleet.complete()?;
                let agenda = engine::agenda(&cluster, &inputs, &surveys);
                (surveys, agenda)
            }
        };
        let mut plans = engine::node_plans(&cluster, &inputs, &surveys, &agenda, false);
        if behind.is_none() {
            engine::plan_folders(&cluster, &surveys, &mut plans);
            show::add_addons(&mut plans, &cluster, &addons::plan(&inputs, &surveys, &agenda, false));
        }
        let obstacles = engine::obstacles(&cluster, &inputs, &surveys, &agenda);
        let changes: usize = plans.iter().map(show::NodePlan::count).sum();
        if printer.format == Format::Json {
            let mut value = show::plans_json(&plans);
            value["obstacles"] = obstacles
                .iter()
                .map(|(name, message)| serde_json::json!({ "node": name, "message": message }))
                .collect();
            printer.json(&value);
        } else {
            printer.result(project.title(&inputs, printer));
            printer.result(show::plans(printer, &plans));
            for (name, message) in &obstacles {
                printer.result(format!("{} {name}: {message}", printer.style(Style::Bad, "!")));
            }
            if let Some(behind) = &behind {
                printer.result(format!(
                    "The gateway comes first: {behind} may have no address before, and were not looked at."
                ));
            }
            if changes == 0 {
                printer.result("Nothing to change.");
            } else {
                printer.result(format!("{changes} changes. `bramble up` makes them."));
            }
        }
        Ok(if !obstacles.is_empty() {
            Done::Code(1)
        } else if changes == 0 {
            Done::Good
        } else {
            Done::Code(CHANGES)
        })
    }
}
