//! `bramble boot-order`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bramble_shell::{Commands, Script};
use serde_json::json;

use crate::drive::visit;
use crate::ui::printer::{Format, Printer, Style};
use crate::{Common, Done, cluster_file};
use bramble_engine::{Event, Session, SshNetwork, without_address};
use bramble_spec::Node;

/// Show, or set, from what boards boot: the EEPROM of Raspberry Pi 4 and 5 and what is built like them
#[derive(clap::Args)]
pub(crate) struct BootOrder {
    /// What is tried, in this order, such as `nvme,usb,sd`: sd, usb, nvme, network, http. It holds from the next boot on.
    /// Without it, the boards' own orders are shown
    #[arg(value_name = "ORDER")]
    order: Option<Order>,
    /// Only these nodes
    #[arg(short, long, value_delimiter = ',', value_name = "NODE")]
    nodes: Vec<String>,
}

/// What the digits of BOOT_ORDER stand for (raspberrypi.com, "Raspberry Pi bootloader configuration").
const MODES: [(char, &str); 9] = [
    ('1', "sd"),
    ('2', "network"),
    ('3', "rpiboot"),
    ('4', "usb"),
    ('5', "usb-c"),
    ('6', "nvme"),
    ('7', "http"),
    ('e', "stop"),
    ('f', "again"),
];
/// The bootloader's own, if it is not told any.
const DEFAULT: &str = "0xf41";

/// A boot order as the bootloader has it: hexadecimal digits, tried from the right to the left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order(String);

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Order, String> {
        let mut digits = String::new();
        for word in text.split(',') {
            let mode = MODES[..7].iter().find(|(_, name)| *name == word.trim());
            let (digit, _) = mode.ok_or_else(|| format!("`{word}` is none of sd, usb, nvme, network, http"))?;
            if digits.contains(*digit) {
                return Err(format!("`{word}` is named twice"));
            }
            digits.insert(0, *digit);
        }
        Ok(Order(format!("0xf{digits}")))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.trim_start_matches("0x").chars().rev().filter(|digit| *digit != 'f');
        let words: Vec<&str> =
            digits.map(|digit| MODES.iter().find(|(known, _)| *known == digit).map_or("?", |(_, name)| name)).collect();
        f.write_str(&words.join(", "))
    }
}

/// What a board said.
struct Answer {
    node: String,
    result: anyhow::Result<Told>,
}

pub(super) struct Told {
    order: Order,
    /// Whether it is the one that the next boot takes, and not yet that of the last one.
    waiting: bool,
    set: bool,
}

/// Whether a board has an EEPROM that says from what it boots; otherwise what to do.
fn has_eeprom(board: &str) -> anyhow::Result<()> {
    match board {
        "rpi-3b" => bail!(
            "a Raspberry Pi 3B has no boot order: it boots from a card, and from USB without one after \
             `prepare: {{ boot: {{ config: {{ program_usb_boot_mode: \"1\" }} }} }}` was there for one boot, for good"
        ),
        "rpi-3b-plus" | "rpi-zero-2w" => {
            bail!("its boot order is fixed: a card first, and without one USB, if the board can")
        }
        board if board.starts_with("rpi-") => Ok(()),
        _ => bail!("its boot order is in its own firmware, which bramble does not know"),
    }
}

/// What a board boots from; `wanted` is set first, if it is another one.
pub(super) async fn ask(session: &Session<SshNetwork>, wanted: Option<&Order>) -> anyhow::Result<Told> {
    has_eeprom(&session.node.board.id)?;
    session.say(Event::Running);
    let mut script = Commands::new();
    script
        .set("wanted", wanted.map_or("", |order| order.0.as_str()))
        .fixed(bramble_state::EEPROM)
        .fixed(include_str!("boot_order.sh"));
    // A flash chip of a Raspberry Pi 5 is slow: rpi-eeprom-config itself waits three minutes.
    let script = Script::new("read its boot order", &script).silent_for(Duration::from_secs(600));
    let mut told = Told { order: Order(DEFAULT.into()), waiting: false, set: false };
    for line in session.ask(&script, |_, _| {}).await?.lines() {
        match line.split_once(' ') {
            Some(("order", order)) if !order.is_empty() => told.order = Order(order.to_owned()),
            Some(("waiting", _)) => told.waiting = true,
            Some(("set", _)) => told.set = true,
            _ => {}
        }
    }
    if let (true, Some(wanted)) = (told.set, wanted) {
        told.order = wanted.clone();
        told.waiting = true;
    }
    session.say(Event::Looked);
    Ok(told)
}

impl BootOrder {
    pub(crate) async fn run(self, common: &Common, printer: &Printer) -> anyhow::Result<Done> {
        let project = cluster_file::open(common, printer)?;
        let nodes: Vec<Node> = project.nodes(&self.nodes)?.into_iter().cloned().collect();
        let order = self.order.clone();
        let work = move |session: Session<SshNetwork>| {
            let order = order.clone();
            async move {
                let result = ask(&session, order.as_ref()).await;
                Ok(Answer { node: session.node.name.to_string(), result })
            }
        };
        let fleet = visit(&cluster_file::network(&project)?, &nodes, printer, work).await?;
        let mut answers = fleet.nodes;
        answers.extend(fleet.lost.into_iter().map(|(node, error)| {
            let said = without_address(&node, &error);
            Answer { node: node.name.to_string(), result: Err(anyhow!(said)) }
        }));
        let failed = answers.iter().filter(|answer| answer.result.is_err()).count();
        if printer.format == Format::Json {
            let list: Vec<_> = answers
                .iter()
                .map(|Answer { node, result }| match result {
                    Ok(told) => json!({
                        "node": node, "bootOrder": told.order.0, "order": told.order.to_string().split(", ").collect::<Vec<_>>(),
                        "fromNextBoot": told.waiting, "changed": told.set,
                    }),
                    Err(error) => json!({ "node": node, "error": format!("{error:#}") }),
                })
                .collect();
            printer.json(&json!({ "nodes": list }));
        }
        let width = answers.iter().map(|answer| answer.node.len()).max().unwrap_or(0);
        for Answer { node, result } in &answers {
            match result {
                Ok(told) if printer.format == Format::Text => {
                    let when = if told.waiting { ", from its next boot on" } else { "" };
                    printer.result(format!("{} {node:width$}  {}{when}", printer.style(Style::Good, "✓"), told.order));
                }
                Err(error) => printer.error(format!("{} {node:width$}  {error:#}", printer.style(Style::Bad, "✗"))),
                Ok(_) => {}
            }
        }
        if answers.iter().any(|answer| answer.result.as_ref().is_ok_and(|told| told.set)) {
            printer.info(
                "Next: `bramble run --sudo reboot`, board by board, or with the next `bramble up` that boots them.",
            );
        }
        Ok(if failed == 0 { Done::Good } else { Done::Code(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_said_in_words_and_kept_in_digits() {
        // raspberrypi.com: 0xf41 is the default, SD before USB; 0xf146 for a Pi 5 that boots from NVMe first.
        for (words, digits) in
            [("sd,usb", "0xf41"), ("usb,sd", "0xf14"), ("nvme,usb,sd", "0xf146"), ("sd,network", "0xf21")]
        {
            let order: Order = words.parse().unwrap();
            assert_eq!(order.0, digits);
            assert_eq!(order.to_string(), words.replace(',', ", "));
        }
        for wrong in ["", "floppy", "sd,sd", "sd,,usb"] {
            assert!(wrong.parse::<Order>().is_err(), "{wrong}");
        }
        assert_eq!(Order("0xe9".into()).to_string(), "?, stop");
    }
}
