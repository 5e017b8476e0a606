//! Plans, as a person reads them.

use bramble_engine::NodePlan;
use bramble_remote::printable;
use bramble_spec::{group, name_ranges};
use bramble_state::{Change, Detail};
use serde_json::json;
use similar::{ChangeTag, TextDiff};

use crate::ui::printer::{Printer, Style};

/// All plans, with their differences; what is the same on several nodes is shown once.
pub(crate) fn render_plans(printer: &Printer, plans: &[NodePlan]) -> String {
    let changed = plans.iter().filter(|plan| plan.count() > 0);
    let groups = group(changed.map(|plan| (plan.name.as_str(), node_plan(printer, plan))));
    groups
        .iter()
        .map(|(names, text)| format!("{}\n{text}", printer.style(Style::Bold, &name_ranges(names.iter().copied()))))
        .collect()
}

fn node_plan(printer: &Printer, plan: &NodePlan) -> String {
    let mut text = String::new();
    for change in plan.changes() {
        text.push_str(&format!("  {} {}\n", printer.style(Style::Note, "~"), headline(change)));
        for detail in &change.details {
            if let Detail::Text { from, to } = detail {
                text.push_str(&diff(printer, from.as_deref(), to));
            }
        }
    }
    if let Some(reason) = &plan.plan.reboot {
        text.push_str(&format!("  {} reboot: {reason}\n", printer.style(Style::Note, "~")));
    }
    for step in &plan.steps {
        // A step is a sentence that begins with what is done.
        let sign = match step.split(' ').next() {
            Some("add" | "join" | "make" | "mount") => "+",
            Some("remove" | "leave") => "-",
            _ => "~",
        };
        text.push_str(&format!("  {} {step}\n", printer.style(Style::Note, sign)));
    }
    text
}

fn headline(change: &Change) -> String {
    let mut line = change.title.clone();
    for detail in &change.details {
        match detail {
            Detail::Value { from: Some(from), to } if to.is_empty() => line.push_str(&format!(": {from}")),
            Detail::Value { from: Some(from), to } => line.push_str(&format!(": {from} → {to}")),
            Detail::Value { from: None, to } => line.push_str(&format!(": {to}")),
            Detail::Hidden => line.push_str(" (not shown)"),
            Detail::Text { .. } => {}
        }
    }
    printable(&line)
}

/// Lines of a new file that are shown before the rest is counted.
const NEW_FILE_LINES: usize = 12;

fn diff(printer: &Printer, from: Option<&str>, to: &str) -> String {
    let mut text = String::new();
    let mut line = |style, sign: &str, content: &str| {
        // What a file on a node holds must not steer the terminal.
        let content = printable(content.trim_end_matches('\n'));
        text.push_str(&format!("      {}\n", printer.style(style, &format!("{sign}{content}"))));
    };
    let Some(from) = from else {
        let lines: Vec<&str> = to.lines().collect();
        for content in lines.iter().take(NEW_FILE_LINES) {
            line(Style::Good, "+", content);
        }
        if lines.len() > NEW_FILE_LINES {
            line(Style::Dim, "", &format!("… {} more lines", lines.len() - NEW_FILE_LINES));
        }
        return text;
    };
    let diff = TextDiff::from_lines(from, to);
    for (index, group) in diff.grouped_ops(1).iter().enumerate() {
        if index > 0 {
            line(Style::Dim, "", "…");
        }
        for op in group {
            for change in diff.iter_changes(op) {
                match change.tag() {
                    ChangeTag::Delete => line(Style::Bad, "-", change.value()),
                    ChangeTag::Insert => line(Style::Good, "+", change.value()),
                    ChangeTag::Equal => line(Style::Dim, " ", change.value()),
                }
            }
        }
    }
    text
}

/// The same for machines.
pub(crate) fn plans_json(plans: &[NodePlan]) -> serde_json::Value {
    let detail = |detail: &Detail| match detail {
        Detail::Value { from, to } => json!({ "from": from, "to": to }),
        Detail::Text { from, to } => json!({ "fromText": from, "toText": to }),
        Detail::Hidden => json!({ "hidden": true }),
    };
    let nodes: Vec<_> = plans
        .iter()
        .map(|plan| {
            json!({
                "node": plan.name,
                "changes": plan.changes().map(|change| json!({
                    "title": change.title,
                    "details": change.details.iter().map(detail).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
                "reboot": plan.plan.reboot,
                "steps": plan.steps,
                "problems": plan.plan.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "changed": plans.iter().any(|plan| plan.count() > 0), "nodes": nodes })
}
