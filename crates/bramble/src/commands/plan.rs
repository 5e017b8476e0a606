//! `bramble plan`.

use bramble_engine::Goal;
use bramble_spec::{NodeName, name_ranges};

use crate::commands::design;
use crate::confirmed::Confirmed;
use crate::drive::Drive;
use crate::ui::plan;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

/// The exit code that says that there is something to change.
const CHANGES: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct Plan {
    /// Only what would change on these nodes: names, kube[1-4], role=worker, LABEL=VALUE
    #[arg(short, long, value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
}

impl Plan {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let shown: Vec<NodeName> = project.nodes(&self.nodes)?.into_iter().map(|node| node.name.clone()).collect();
        design::refuse_what_cannot_work(&project.cluster)?;
        let inputs = cluster_file::inputs(&project, printer)?;
        let title = cluster_file::title(&project, &inputs, printer);
        let drive = Drive {
            project: &project,
            printer,
            command: "plan",
            confirmed: Confirmed::default(),
            adopt: false,
            identity: None,
            from: None,
        };
        let run = drive.look(inputs, Goal::Up { prepare_only: false }).await?.run;
        let (lost, _) = run.losses();
        let mut planned = run.plan()?;
        let is_shown = |name: &str| self.nodes.is_empty() || shown.iter().any(|one| one.as_str() == name);
        planned.nodes.retain(|plan| is_shown(plan.name.as_str()));
        // What is known of the others is shown all the same.
        let misses = lost.iter().any(|name| is_shown(name.as_str()));
        let misses = misses && planned.first.is_none() && planned.obstacles.is_empty();
        let missing = if misses { run.refuse_losses() } else { Ok(()) };
        let changes = planned.count();
        if printer.format == Format::Json {
            let mut value = plan::plans_json(&planned.nodes);
            value["obstacles"] = serde_json::to_value(&planned.obstacles)?;
            printer.json(&value);
        } else {
            printer.result(title);
            printer.result(plan::render_plans(printer, &planned.nodes));
            for problem in &planned.obstacles {
                printer.result(format!("{} {}: {problem}", printer.style(Style::Bad, "!"), problem.place));
            }
            if let Some(phase) = planned.first {
                let behind = name_ranges(lost.iter().map(|name| name.as_str()));
                printer.result(match behind.is_empty() {
                    true => format!("The {phase} comes first: the way to the others leads through it."),
                    false => {
                        format!("The {phase} comes first: {behind} may have no address before, and were not looked at.")
                    }
                });
            }
            let of_shown = |name: &str| is_shown(name) || project.node(name).is_err();
            let destroys = run.destroys();
            for destruction in destroys.iter().filter(|one| planned.obstacles.is_empty() && of_shown(&one.name)) {
                printer.result(format!("{} {}", printer.style(Style::Bad, "!"), destruction.what));
            }
            if changes > 0 {
                printer.result(format!("{changes} changes. `bramble up` makes them."));
            } else if missing.is_ok() {
                printer.result(if planned.obstacles.is_empty() {
                    "Nothing to change."
                } else {
                    "Nothing can be changed."
                });
            }
        }
        missing?;
        Ok(if !planned.obstacles.is_empty() {
            Done::Code(1)
        } else if changes == 0 {
            Done::Good
        } else {
            Done::Code(CHANGES)
        })
    }
}
