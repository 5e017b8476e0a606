//! `bramble off`, `bramble on` and `bramble out`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bramble_engine::{Backup, BackupKey, Interface, Off, Project, Running, on};
use bramble_kube::{Destruction, lifecycle, out_script};
use bramble_power::Outlet;
use bramble_remote::ConnectError;
use bramble_spec::{Cluster, Node, Role, name_ranges};
use serde_json::json;

use crate::commands::outlets;
use crate::confirmed::Yes;
use crate::drive::{ask_plane, begin_log, visit, with_log};
use crate::ui::printer::{Format, Printer, Style};
use crate::ui::progress::Progress;
use crate::{Common, Done, cluster_file};

#[derive(clap::Args)]
pub(crate) struct SwitchOff {
    #[command(flatten)]
    yes: Yes,
    /// Do not save the state of the cluster before
    #[arg(long)]
    no_backup: bool,
}

#[derive(clap::Args)]
pub(crate) struct SwitchOn {
    /// How many minutes to wait until all is as it was
    #[arg(long, default_value = "15", value_name = "MINUTES")]
    wait: u64,
}

#[derive(clap::Args)]
pub(crate) struct Out {
    /// The node whose board has no power: nothing that it did goes on
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    yes: Yes,
}

/// Where what ran is kept while the cluster is off.
fn note(project: &Project) -> anyhow::Result<PathBuf> {
    Ok(project.private_dir()?.join(format!("{}.off.json", project.cluster.name)))
}

impl SwitchOff {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let _lock = project.lock()?;
        let inputs = cluster_file::inputs(&project, printer)?;
        let network = cluster_file::network(&project)?;
        let names = || project.cluster.nodes.iter().map(|node| node.name.as_str());
        let progress = Arc::new(Progress::new(printer, names()));
        let log = begin_log(&project, "off", progress.clone())?;
        let interface: Arc<dyn Interface> = log.clone();
        let off = Off::look(&project, &inputs, &network, &interface).await;
        progress.end();
        let off = off?;
        if !off.losses.is_empty() {
            printer.info(format!("These do not answer, and are left as they are:{}", off.losses));
        }
        let boards = off.names();
        let list = name_ranges(boards.iter().map(|name| name.as_str()));
        if !self.yes.confirmed().changes {
            let instead = format!("nothing was switched off: pass --yes to switch off {list} without a question");
            printer.agree(&format!("Switch off {list}?"), &instead, "nothing was switched off")?;
        }
        let progress = Arc::new(Progress::new(printer, names()));
        log.pass_on(progress.clone());
        let work = async {
            let life = lifecycle(&project.cluster, &inputs);
            let saves =
                !self.no_backup && off.running.is_some() && life.is_some_and(|life| life.state_elsewhere().is_none());
            let mut saved = None;
            if saves {
                let key = BackupKey::open(&project.backup_key()?, true)?;
                let backup =
                    Backup { project: &project, inputs: &inputs, key: &key, to: None, cluster_file: &common.file };
                saved = Some(
                    backup
                        .save(&network, &interface)
                        .await
                        .context("the state of the cluster could not be saved (--no-backup goes on without)")?
                        .file,
                );
            }
            match &off.running {
                // Of an earlier time it would not be true.
                None => fs::remove_file(note(&project)?).or_else(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })?,
                Some(running) => {
                    let text = serde_json::to_string_pretty(running)?;
                    bramble_fetch::replace_file(&note(&project)?, text.as_bytes(), 0o600)?;
                }
            }
            anyhow::Ok((off.go().await?, saved))
        };
        let done = work.await;
        progress.end();
        let (count, saved) = done.map_err(|error| with_log(error, &log))?;
        // Boards that are halted still take some, and those on a port start again when it is given power anew.
        let halted = project.cluster.nodes.iter().filter(|node| boards.contains(&node.name));
        let cut = switch_all(&project, halted, false, printer).await?;
        if printer.format == Format::Json {
            printer.json(&json!({ "nodes": count, "backup": saved, "powerCut": cut }));
            return Ok(Done::Good);
        }
        printer.result(format!(
            "{} {count} boards of {} are off.",
            printer.style(Style::Good, "✓"),
            project.cluster.name
        ));
        if let Some(saved) = saved {
            printer.result(format!("The state of the cluster is saved in {}.", saved.display()));
        }
        if cut.len() == count {
            printer.result("Their power is cut. Next: `bramble on` gives it back when you want them.");
            return Ok(Done::Good);
        }
        if !cut.is_empty() {
            printer.result(format!("The power of {} is cut.", name_ranges(cut.iter().map(String::as_str))));
        }
        printer.result("Next: give them power again when you want them, and run `bramble on`.");
        Ok(Done::Good)
    }
}

impl SwitchOn {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let inputs = cluster_file::inputs(&project, printer)?;
        let network = cluster_file::network(&project)?;
        let note = note(&project)?;
        let was: Option<Running> = match fs::read(&note) {
            Ok(text) => {
                Some(serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", note.display()))?)
            }
            Err(_) => None,
        };
        let by_hand = |node: &&Node| project.cluster.power_switch(node).is_none();
        if project.cluster.nodes.iter().any(|node| by_hand(&node)) {
            printer.info(format!("Give them power in this order:\n{}", order(&project.cluster)));
        }
        // What the others need to start comes first; boards that start together take the most.
        for role in [Role::Gateway, Role::ControlPlane, Role::Worker] {
            for node in project.cluster.nodes.iter().filter(|node| node.role == role) {
                switch_all(&project, [node], true, printer).await?;
            }
        }
        // Boards that can be woken by their network card; others do not care. Who is not woken is waited for, and named at last.
        for mac in project.cluster.nodes.iter().filter_map(|node| node.mac.as_ref()) {
            bramble_power::wake(mac, project.cluster.network.subnet.broadcast()).await.ok();
        }
        let names = project.cluster.nodes.iter().map(|node| node.name.as_str());
        let progress = Arc::new(Progress::new(printer, names));
        let interface: Arc<dyn Interface> = progress.clone();
        let patience = Duration::from_secs(self.wait.saturating_mul(60));
        let missing = on(&project, &inputs, was.as_ref(), patience, &network, &interface).await;
        progress.end();
        let missing = missing?;
        if printer.format == Format::Json {
            printer.json(&json!({ "on": missing.is_empty(), "missing": missing }));
        } else if missing.is_empty() {
            let all = if was.is_some() { "all is as it was" } else { "all nodes are Ready" };
            printer.result(format!("{} {} is on: {all}.", printer.style(Style::Good, "✓"), project.cluster.name));
        } else {
            printer.error(format!("{} not all is as it was:", printer.style(Style::Bad, "✗")));
            for line in &missing {
                printer.error(format!("  {line}"));
            }
            printer.error("`bramble status` says more; `bramble on` waits again.");
        }
        if missing.is_empty() {
            fs::remove_file(&note).ok();
            return Ok(Done::Good);
        }
        Ok(Done::Code(1))
    }
}

/// Switches the power of these nodes, of those whose power is switched by something. Gives the names of those where that worked;
/// of the others it is said why not.
async fn switch_all<'n>(
    project: &Project,
    nodes: impl IntoIterator<Item = &'n Node>,
    on: bool,
    printer: &Printer,
) -> anyhow::Result<Vec<String>> {
    let outlets: Vec<Outlet> =
        outlets::outlets(project, nodes)?.into_iter().filter(|outlet| on || outlet.is_switched()).collect();
    let names: Vec<String> = outlets.iter().map(|outlet| outlet.node.to_string()).collect();
    let done = outlets::with_all(outlets, move |outlet| async move { outlet.set(on).await }).await;
    let mut switched = Vec::new();
    for (name, result) in names.into_iter().zip(done) {
        match result {
            Ok(()) => switched.push(name),
            Err(error) => printer.error(format!("{} {name}: {error}", printer.style(Style::Bad, "✗"))),
        }
    }
    Ok(switched)
}

/// In which order boards get power: what the others need to start comes first.
fn order(cluster: &Cluster) -> String {
    let mut lines: Vec<String> =
        cluster.hardware.devices.iter().map(|device| format!("the {} {}", device.part.name(), device.name)).collect();
    for (role, what) in
        [(Role::Gateway, "the gateway"), (Role::ControlPlane, "the control planes"), (Role::Worker, "the workers")]
    {
        let names: Vec<&str> =
            cluster.nodes.iter().filter(|node| node.role == role).map(|node| node.name.as_str()).collect();
        if !names.is_empty() {
            lines.push(format!("{what}: {}", name_ranges(names)));
        }
    }
    lines
        .iter()
        .enumerate()
        .map(|(at, line)| format!("  {}. {line}\n", at + 1))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

impl Out {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let node = project.node(&self.node)?.clone();
        let inputs = cluster_file::inputs(&project, printer)?;
        let life = lifecycle(&project.cluster, &inputs)
            .ok_or_else(|| anyhow!("{} has no Kubernetes", project.cluster.name))?;
        if node.role == Role::Gateway {
            bail!("{} is the gateway: it has no pods", node.name);
        }
        let network = cluster_file::network(&project)?;
        let fleet = visit(&network, std::slice::from_ref(&node), printer, async |_| Ok(())).await?;
        let silent = |(_, error): &(_, anyhow::Error)| {
            error.downcast_ref::<ConnectError>().is_some_and(ConnectError::is_silence)
        };
        match fleet.lost.first() {
            Some(lost) if silent(lost) => {}
            Some((_, error)) => bail!("{} is there, so it is not off: {error:#}", node.name),
            None => bail!("{} answers, so it is not off: `bramble reboot {}` boots it", node.name, node.name),
        }
        // What switches its power knows it better than anybody.
        let mut proven = false;
        for outlet in outlets::outlets(&project, [&node])?.into_iter().filter(Outlet::is_switched) {
            match outlet.read().await {
                Ok(reading) if reading.on == Some(true) => bail!(
                    "{} has power, says {}: `bramble power off {}` takes it away",
                    node.name,
                    outlet.device(),
                    node.name
                ),
                Ok(reading) => proven = reading.on == Some(false),
                Err(error) => printer.info(format!("Whether {} has power cannot be asked: {error}", node.name)),
            }
        }
        // Two boards that write to one volume destroy it.
        let what = format!(
            "{}: its pods and volumes go elsewhere, although they may still be written to if the board runs",
            node.name
        );
        if !proven {
            let named = vec![Destruction { name: node.name.to_string(), what }];
            let question = format!("Is {} without power for certain?", node.name);
            self.yes.confirmed().agree(printer, named, "Only for a board without power:", &question)?;
        }
        let (_, plane) = ask_plane(&network, &project, printer, &*life, &out_script(&*life, &node.name)).await?;
        if printer.format == Format::Json {
            printer.json(&json!({ "node": node.name, "out": true }));
            return Ok(Done::Good);
        }
        printer.result(format!(
            "{} {} is out of service, by {plane}: its pods and volumes go elsewhere. When it is back and Ready, `bramble up` lets it take pods again.",
            printer.style(Style::Good, "✓"),
            node.name
        ));
        Ok(Done::Good)
    }
}
