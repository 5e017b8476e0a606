//! `bramble design`: the hardware plan.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bramble_design::{Bill, Comparison, Design as Plan, Row, Summary, Theme};
use bramble_spec::{Cluster, Override, Problem, Severity, short_name_ranges};
use serde_json::json;

use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};

/// The exit code that says that something is wrong with the hardware.
const WRONG: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct Design {
    /// What if: another value for a key, such as `nodes.*.board=rpi-5-8gb`; beside it stands what is now
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<Override>,
    /// Compare with another cluster file
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    against: Option<PathBuf>,
    /// Show the parts with their prices, and what else would do
    #[arg(long)]
    parts: bool,
    /// Write the parts into a file of comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write one page with everything
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the pictures into a folder: rack.svg, wiring.svg, network.svg
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

fn setting(text: &str) -> Result<Override, String> {
    match text.split_once('=') {
        Some((path, value)) if !path.is_empty() => Ok(Override { path: path.to_owned(), value: value.to_owned() }),
        _ => Err("write it as KEY=VALUE, such as nodes.kube1.board=rpi-5-8gb".to_owned()),
    }
}

/// How wide pictures are that are written to files, in pixels.
const WIDTH: u32 = 1060;

impl Design {
    pub(crate) fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let cluster = cluster_file::open_with(common, printer, &self.set)?.cluster;
        let design = Plan::of(&cluster);
        let other = match (&self.against, self.set.is_empty()) {
            (Some(file), _) => {
                let other = Common { file: file.clone(), cluster: None, ..common.clone() };
                Some((file.display().to_string(), cluster_file::open(&other, printer)?.cluster))
            }
            (None, false) => Some(("as it is".to_owned(), cluster_file::open(common, printer)?.cluster)),
            (None, true) => None,
        };
        let thorough = self.parts || self.html.is_some() || printer.format == Format::Json;
        let bill = if thorough { Bill::with_alternatives(&cluster, &design) } else { Bill::of(&cluster) };
        self.write(&cluster, &design, &bill, printer)?;
        let summary = Summary::of(&cluster, &design, &bill);
        let comparison = other.map(|(name, cluster)| {
            let bill = Bill::of(&cluster);
            let then = Summary::of(&cluster, &Plan::of(&cluster), &bill);
            // What is now stands first, whichever file it is.
            match self.against {
                Some(_) => ((common.file.display().to_string(), name), summary.against(&then)),
                None => ((name, "with the changes".to_owned()), then.against(&summary)),
            }
        });
        if printer.format == Format::Json {
            let mut value = serde_json::to_value(&design)?;
            value["nodes"] = cluster.nodes.iter().map(|node| json!(node.name)).collect();
            value["devices"] = cluster.hardware.devices.iter().map(|device| json!(device.name)).collect();
            value["summary"] = serde_json::to_value(&summary)?;
            value["bill"] = serde_json::to_value(&bill)?;
            if let Some((_, comparison)) = &comparison {
                value["comparison"] = serde_json::to_value(comparison)?;
            }
            printer.json(&value);
        } else {
            match &comparison {
                Some((names, comparison)) => printer.result(table(names, comparison, printer)),
                None => printer.result(title(&cluster, &design, &summary, printer)),
            }
            if self.parts {
                printer.result(parts(&bill, printer));
            }
            printer.result(findings(&design.findings, printer));
        }
        Ok(if design.fails() { Done::Code(WRONG) } else { Done::Good })
    }

    fn write(&self, cluster: &Cluster, design: &Plan, bill: &Bill, printer: &Printer) -> anyhow::Result<()> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        if let Some(path) = &self.csv {
            files.push((path.clone(), bill.csv()));
        }
        if let Some(path) = &self.html {
            files.push((path.clone(), bramble_design::page(cluster, design, bill)));
        }
        if let Some(folder) = &self.svg {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let theme = Some(Theme::Auto);
            files.push((folder.join("rack.svg"), bramble_design::rack_picture(cluster, design, WIDTH, theme)));
            files.push((folder.join("wiring.svg"), bramble_design::wiring_picture(cluster, design, theme)));
            files.push((folder.join("network.svg"), bramble_design::network_picture(cluster, design, WIDTH, theme)));
        }
        for (path, text) in files {
            bramble_fetch::replace_file(&path, text.as_bytes(), 0o644)?;
            printer.info(format!("{} is written", path.display()));
        }
        Ok(())
    }
}

/// Refuses a cluster whose hardware cannot work.
pub(crate) fn refuse_what_cannot_work(cluster: &Cluster) -> anyhow::Result<()> {
    let design = Plan::of(cluster);
    if !design.fails() {
        return Ok(());
    }
    let errors = design.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let lines: Vec<String> = errors.map(|finding| format!("  {}: {finding}", finding.place)).collect();
    bail!(
        "the hardware of {} cannot work like this; nothing was changed\n{}\n`bramble design` shows the figures; what you know and take goes into `hardware.accept`",
        cluster.name,
        lines.join("\n")
    )
}

fn title(cluster: &Cluster, design: &Plan, summary: &Summary, printer: &Printer) -> String {
    let price = summary.cost();
    let single: Vec<&str> = design.single_points.iter().map(|point| point.name.as_str()).collect();
    let single = if single.is_empty() { "nothing alone".to_owned() } else { short_name_ranges(single) };
    format!(
        "{}: {} nodes\n  power      {} idle, {} under load, {} at worst\n  workloads  {} MiB of memory, {} cores\n  parts      {price}\n  fails by   {single}\n\n",
        printer.style(Style::Bold, cluster.name.as_str()),
        summary.nodes,
        summary.idle,
        summary.load,
        summary.worst,
        summary.memory,
        summary.cores,
    )
}

fn findings(findings: &[Problem], printer: &Printer) -> String {
    let mut text = String::new();
    for finding in findings {
        let style = match finding.severity {
            Severity::Error => Style::Bad,
            Severity::Warning => Style::Note,
            Severity::Note => Style::Dim,
        };
        let accepted = if finding.accepted { ", accepted" } else { "" };
        let rule = finding.rule.unwrap_or_default();
        let head = printer.style(style, &format!("{} [{rule}{accepted}]", finding.severity));
        let names = finding.place.to_string();
        text.push_str(&format!("{head} {}: {}\n", printer.style(Style::Bold, &names), finding.message));
        if !finding.figures.is_empty() && finding.severity != Severity::Note {
            let figures: Vec<String> = finding.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
            text.push_str(&format!("    {}\n", printer.style(Style::Dim, &figures.join(", "))));
        }
        if let Some(next) = finding.next.as_ref().filter(|_| finding.severity != Severity::Note) {
            text.push_str(&format!("    → {next}\n"));
        }
    }
    if findings.is_empty() {
        text.push_str("Nothing is wrong.\n");
    }
    text
}

fn parts(bill: &Bill, printer: &Printer) -> String {
    let wide = bill.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in &bill.lines {
        let amount = |price: Option<bramble_spec::Price>| price.map_or("?".to_owned(), |price| price.to_string());
        text.push_str(&format!(
            "{:>4}  {:<wide$}  {:>9}  {:>10}\n",
            line.quantity,
            line.name,
            amount(line.price),
            amount(line.sum)
        ));
        for other in &line.alternatives {
            let changes: Vec<String> = other.changes.iter().map(|(name, change)| format!("{name} {change}")).collect();
            let changes = if changes.is_empty() { "nothing changes".to_owned() } else { changes.join(", ") };
            let words = format!("      or {} ({}): {changes}", other.name, amount(other.price));
            text.push_str(&format!("{}\n", printer.style(Style::Dim, &words)));
        }
    }
    text.push_str(&format!("{:>4}  {:<wide$}  {:>9}  {:>10}\n", "", "total", "", bill.total.to_string()));
    if bill.unpriced > 0 {
        text.push_str(&format!(
            "      without {} parts that have no price; add them in a file of `hardware.catalogue`\n",
            bill.unpriced
        ));
    }
    text.push('\n');
    text
}

fn table(names: &(String, String), comparison: &Comparison, printer: &Printer) -> String {
    let rows = &comparison.rows;
    let wide = |column: fn(&Row) -> &str, head: &str| {
        rows.iter().map(|row| column(row).chars().count()).chain([head.chars().count()]).max().unwrap_or(0)
    };
    let first = wide(|row| row.figure, "");
    let (second, third) = (wide(|row| &row.one, &names.0), wide(|row| &row.other, &names.1));
    let head = format!("{:<first$}  {:<second$}  {:<third$}", "", names.0, names.1);
    let mut text = format!("{}\n", printer.style(Style::Dim, head.trim_end()));
    for Row { figure, one, other, change } in rows {
        let line = format!("{figure:<first$}  {one:<second$}  {other:<third$}  {}", change.as_deref().unwrap_or(""));
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    text.push('\n');
    text
}
