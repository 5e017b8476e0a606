//! `bramble move-root`.

use anyhow::{Context, anyhow, bail};
use bramble_shell::{Commands, Script};
use bramble_state::DISK_IDENTITY;
use std::time::Duration;

use crate::commands::boot_order::{Order, ask};
use crate::drive::visit;
use crate::ui::printer::{Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::{Session, SshNetwork, without_address};

/// Copy the system of a running board to another of its disks, from which it boots then: from a card to an SSD
#[derive(clap::Args)]
pub(crate) struct MoveRoot {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    /// The disk, as the board calls it, such as /dev/sda or /dev/nvme0n1. All that is on it is lost
    #[arg(long, value_name = "DISK")]
    to: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// What a board says of the disk.
#[derive(Default)]
struct Told {
    /// The root is there.
    already: bool,
    moved: bool,
    /// Its size in MB, how it is connected, its model.
    disk: String,
    holds: Vec<String>,
    /// Which disk it is (`disk_identity`).
    identity: String,
}

impl MoveRoot {
    /// Looks at the disk, or copies to it if it still is the one that was `shown`.
    async fn script(&self, session: &Session<SshNetwork>, shown: Option<&Told>) -> anyhow::Result<Told> {
        let mut script = Commands::new();
        script.set("to", &self.to).set("go", if shown.is_some() { "yes" } else { "no" });
        script.set("is", shown.map_or("", |shown| shown.identity.as_str()));
        script.fixed(DISK_IDENTITY).fixed(include_str!("move_root.sh"));
        // A large card is copied and compared for an hour and more.
        let script = Script::new("copy its system", &script).silent_for(Duration::from_secs(6 * 3600));
        let mut told = Told::default();
        let asked = session.ask(&script, |_, _| {}).await;
        for line in asked.with_context(|| session.node.name.to_string())?.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("already", _) => told.already = true,
                ("moved", _) => told.moved = true,
                ("disk", disk) => told.disk = disk.to_owned(),
                ("holds", part) => told.holds.push(part.to_owned()),
                ("identity", identity) => told.identity = identity.to_owned(),
                _ => {}
            }
        }
        Ok(told)
    }

    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let _lock = project.lock()?;
        let node = project.node(&self.node)?.clone();
        let fleet = visit(&cluster_file::network(&project)?, &[node], printer, async |session| Ok(session)).await?;
        if let Some((node, error)) = fleet.lost.first() {
            bail!("{}: {}", node.name, without_address(node, error));
        }
        let session = fleet.nodes.first().ok_or_else(|| anyhow!("{} does not answer", self.node))?;
        let seen = self.script(session, None).await?;
        let name = session.node.name.as_str();
        if seen.already {
            printer.result(format!("{} {name} runs from {} already.", printer.style(Style::Good, "✓"), self.to));
            return Ok(Done::Good);
        }
        let mut words = seen.disk.splitn(3, ' ');
        let megabytes: f64 = words.next().unwrap_or_default().parse().unwrap_or_default();
        let (transport, model) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().trim());
        printer.info(format!(
            "{} of {name} ({:.1} GB{}{model}) becomes its disk",
            self.to,
            megabytes / 1e3,
            if model.is_empty() { "" } else { ", " }
        ));
        for part in &seen.holds {
            printer.info(format!("  it holds {part}"));
        }
        printer.info(format!("  {}", seen.identity));
        if !self.yes {
            let question = format!("All that is on {} is lost. Copy the system there?", self.to);
            let instead = format!("all that is on {} would be lost: pass --yes to confirm", self.to);
            printer.agree(&question, &instead, "nothing was written")?;
        }
        printer.info("copying the system: minutes, by the speed of the disks");
        if !self.script(session, Some(&seen)).await?.moved {
            bail!("{name} did not say that the copy is whole: run it again");
        }
        let good = printer.style(Style::Good, "✓");
        printer.result(format!("{good} The system of {name} is on {} as well.", self.to));
        let wanted: Order =
            if transport == "nvme" { "nvme,usb,sd" } else { "usb,sd" }.parse().map_err(|error| anyhow!("{error}"))?;
        match ask(session, Some(&wanted)).await {
            Ok(_) => printer.info(format!(
                "From its next boot on it tries {wanted}. Next: `bramble run -n {name} --sudo reboot`; the card stays as a way back."
            )),
            Err(error) => printer.info(format!(
                "Its boot order was not changed ({error:#}). Next: switch it off, take the card out, and switch it on."
            )),
        }
        Ok(Done::Good)
    }
}
