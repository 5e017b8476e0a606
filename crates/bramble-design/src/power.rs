//! Who draws how much from whom.

use bramble_spec::{Board, Cluster, Feed, Fitting, Hat, Line, NetworkDevice, Node, Part, Poe, Power, Severity};
use serde::Serialize;

use crate::rules::{Findings, Rule};

/// Electrical power at the board, or at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Draw {
    /// With nothing to do.
    pub idle: Power,
    /// With all cores busy, and all that is attached.
    pub load: Power,
    /// What has to be there for the worst moment: what the maker asks of a supply, or the load if that is more.
    pub worst: Power,
}

impl Draw {
    fn plus(self, other: Draw) -> Draw {
        Draw { idle: self.idle + other.idle, load: self.load + other.load, worst: self.worst + other.worst }
    }

    /// The draw, as far as something can give it.
    fn at_most(self, limit: Option<Power>) -> Draw {
        let cut = |power: Power| limit.map_or(power, |limit| power.min(limit));
        Draw { idle: cut(self.idle), load: cut(self.load), worst: cut(self.worst) }
    }
}

/// Something that takes power from a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consumer {
    /// The node or device.
    pub name: String,
    /// What it takes, at the port.
    pub draw: Draw,
}

/// What a device gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Source {
    /// Who takes power from it, nodes first.
    pub consumers: Vec<Consumer>,
    /// What all take together.
    pub sum: Draw,
    /// What it can give together, where known.
    pub limit: Option<Power>,
    /// What one port can give, where known.
    pub port: Option<Power>,
}

/// What becomes of a draw that nobody knows.
const NOTHING: &str = "it counts as nothing";

/// What is attached, in all.
fn attached(lines: &[Line]) -> Power {
    lines.iter().filter_map(|line| Some(line.part.load()?.times(u64::from(line.quantity)))).sum()
}

/// What a board draws with all that hangs on it.
fn of_board(board: &Board, attached: Power) -> Draw {
    let idle = board.figure(|family| family.idle).unwrap_or_default();
    let load = board.figure(|family| family.load).unwrap_or_default() + attached;
    let worst = board.figure(|family| family.worst).unwrap_or_default().max(load);
    Draw { idle, load, worst }
}

/// What a node draws, with all that hangs on it.
pub fn of_node(node: &Node) -> Draw {
    fitted(&node.board, &node.fitting)
}

fn fitted(board: &Board, fitting: &Fitting) -> Draw {
    let disks: Power = fitting.disks.iter().filter_map(|disk| disk.part.load()).sum();
    of_board(board, disks + attached(&fitting.with))
}

/// What a device draws itself.
fn of_device(device: &bramble_spec::Device) -> Draw {
    let attached = attached(&device.with);
    match device.part.as_ref() {
        Part::Board(board) => of_board(board, attached),
        _ => {
            let own = device.network().and_then(|device| device.own).unwrap_or_default();
            Draw { idle: own, load: own + attached, worst: own + attached }
        }
    }
}

/// What all draws, at the boards and devices.
pub(crate) fn total(cluster: &Cluster, draws: &[Draw]) -> Draw {
    let devices = cluster.hardware.devices.iter().map(of_device);
    let others = attached(&cluster.hardware.others);
    let others = Draw { idle: others, load: others, worst: others };
    draws.iter().copied().chain(devices).fold(others, Draw::plus)
}

/// What hangs on a device: its name, what it draws, the HAT in between, and what it is.
struct Load<'a> {
    name: &'a str,
    draw: Draw,
    hat: Option<&'a Hat>,
    what: &'a str,
    /// A board needs a HAT for power over Ethernet; other devices bring what they need.
    board: Option<&'a Board>,
}

/// What each device gives, and whether it can.
pub(crate) fn sources(cluster: &Cluster, draws: &[Draw], findings: &mut Findings<'_>) -> Vec<Source> {
    let hardware = &cluster.hardware;
    let described = !hardware.devices.is_empty() || cluster.nodes.iter().any(|node| node.fitting.feed.is_some());
    let mut loads: Vec<Vec<Load<'_>>> = hardware.devices.iter().map(|_| Vec::new()).collect();
    for (node, draw) in cluster.nodes.iter().zip(draws) {
        let name = node.name.as_str();
        if described {
            for (figure, known) in [
                ("the power under load", node.board.figure(|family| family.load)),
                ("the power at worst", node.board.figure(|family| family.worst)),
            ] {
                if known.is_none() {
                    findings.unknown(name, figure, &node.board.name, NOTHING);
                }
            }
        }
        match &node.fitting.feed {
            Some(Feed::Device(device)) => loads[*device].push(Load {
                name,
                draw: *draw,
                hat: node.fitting.hat(),
                what: &node.board.name,
                board: Some(&node.board),
            }),
            Some(feed @ Feed::Supply(part)) => {
                if let Some(output) = feed.supply().and_then(|supply| supply.output) {
                    own_supply(name, &node.board.name, part.name(), output, *draw, findings);
                }
            }
            None if described => findings.add(
                Severity::Note,
                Rule::Unpowered,
                name,
                "nothing says what gives it power",
                &[],
                "name a charger, a switch with PoE, or a supply: `power: …`",
            ),
            None => {}
        }
    }
    for guest in &hardware.guests {
        if let Some(device) = guest.fitting.feed.as_ref().and_then(Feed::device) {
            loads[device].push(Load {
                name: guest.name.as_str(),
                draw: fitted(&guest.board, &guest.fitting),
                hat: guest.fitting.hat(),
                what: &guest.board.name,
                board: Some(&guest.board),
            });
        }
    }
    for device in &hardware.devices {
        let name = device.name.as_str();
        let draw = of_device(device);
        match &device.feed {
            Some(Feed::Device(feed)) => {
                if device.network().is_some_and(|network| network.own.is_none()) {
                    findings.unknown(name, "the power", device.part.name(), NOTHING);
                }
                loads[*feed].push(Load { name, draw, hat: None, what: device.part.name(), board: None });
            }
            Some(feed @ Feed::Supply(part)) => {
                if let Some(output) = feed.supply().and_then(|supply| supply.output) {
                    own_supply(name, device.part.name(), part.name(), output, draw, findings);
                }
            }
            None if device.network().is_some_and(|network| network.power.as_deref() == Some("usb")) => findings.add(
                Severity::Note,
                Rule::Unpowered,
                name,
                "it takes its power from USB, and nothing says from where",
                &[],
                "name a charger: `power: …`",
            ),
            None => {}
        }
    }
    hardware
        .devices
        .iter()
        .zip(&loads)
        .map(|(device, loads)| match (device.charger(), device.network()) {
            (Some(charger), _) => {
                let limits = Limits { ports: charger.ports, port: charger.port, sum: charger.output };
                give(device.name.as_str(), charger.name.as_deref(), &limits, loads, findings)
            }
            (_, Some(network)) => poe(device.name.as_str(), network, loads, findings),
            _ => Source::default(),
        })
        .collect()
}

fn own_supply(name: &str, board: &str, supply: &str, output: Power, draw: Draw, findings: &mut Findings<'_>) {
    let figures = [
        ("supply", format!("{output} ({supply})")),
        ("under load", draw.load.to_string()),
        ("worst case", draw.worst.to_string()),
    ];
    if draw.load > output {
        let message = format!("its supply gives {output}, and a busy {board} takes {}", draw.load);
        findings.add(
            Severity::Error,
            Rule::Feed,
            name,
            message,
            &figures,
            "use the supply that the board's maker sells",
        );
    } else if draw.worst > output {
        let message = format!("its supply gives {output}, and a {board} can ask for {}", draw.worst);
        findings.add(
            Severity::Warning,
            Rule::Feed,
            name,
            message,
            &figures,
            "use the supply that the board's maker sells, or attach less to its USB ports",
        );
    }
}

/// What something can give.
struct Limits {
    ports: Option<u32>,
    port: Option<Power>,
    sum: Option<Power>,
}

/// Compares what is asked of a device with what it can give.
fn give(name: &str, part: Option<&str>, limits: &Limits, loads: &[Load<'_>], findings: &mut Findings<'_>) -> Source {
    let part = part.unwrap_or(name);
    if let Some(ports) = limits.ports
        && loads.len() > ports as usize
    {
        findings.add(
            Severity::Error,
            Rule::PowerPorts,
            name,
            format!("{} want power from it, and it has {ports} ports that give some", loads.len()),
            &[("ports", ports.to_string()), ("asked for", loads.len().to_string())],
            "add a second one, or one with more ports",
        );
    }
    let consumers: Vec<Consumer> = loads
        .iter()
        .map(|load| {
            let draw = load.draw.at_most(load.hat.and_then(|hat| hat.output));
            if let Some(port) = limits.port {
                let figures = [
                    ("port", port.to_string()),
                    ("under load", draw.load.to_string()),
                    ("worst case", draw.worst.to_string()),
                ];
                if draw.load > port {
                    let message =
                        format!("a port of {name} gives {port}, and a busy {} takes {}", load.what, draw.load);
                    findings.add(Severity::Error, Rule::Feed, load.name, message, &figures, "use ports that give more");
                } else if draw.worst > port {
                    let message =
                        format!("a port of {name} gives {port}, and a {} can ask for {}", load.what, draw.worst);
                    findings.add(
                        Severity::Warning,
                        Rule::Feed,
                        load.name,
                        message,
                        &figures,
                        "attach little to its USB ports, or use ports that give more",
                    );
                }
            }
            Consumer { name: load.name.to_owned(), draw }
        })
        .collect();
    let sum = consumers.iter().map(|consumer| consumer.draw).fold(Draw::default(), Draw::plus);
    match limits.sum {
        None if !loads.is_empty() => findings.unknown(name, "the budget", part, "whether it is enough is not checked"),
        Some(limit) if sum.load > limit || sum.worst > limit => {
            // How many of the hungriest fit.
            let mut worst: Vec<u64> = consumers.iter().map(|consumer| consumer.draw.worst.0).collect();
            worst.sort_unstable_by(|a, b| b.cmp(a));
            let mut left = limit.0;
            let fit =
                worst.iter().take_while(|draw| left.checked_sub(**draw).map(|rest| left = rest).is_some()).count();
            let message = match sum.load > limit {
                true => format!("it gives {limit}, and is asked for {} under load, {} at worst", sum.load, sum.worst),
                false => format!("it gives {limit}, and {} consumers can ask for {}", consumers.len(), sum.worst),
            };
            findings.add(
                Severity::Error,
                Rule::Budget,
                name,
                message,
                &[
                    ("budget", format!("{limit} ({part})")),
                    ("under load", sum.load.to_string()),
                    ("worst case", sum.worst.to_string()),
                    ("fit at worst", format!("{fit} of {}", consumers.len())),
                ],
                format!("let it feed {fit}, or take one that gives {} or more", sum.worst),
            );
        }
        _ => {}
    }
    Source { consumers, sum, limit: limits.sum, port: limits.port }
}

/// Power over Ethernet.
fn poe(name: &str, switch: &NetworkDevice, loads: &[Load<'_>], findings: &mut Findings<'_>) -> Source {
    if loads.is_empty() {
        return Source { limit: switch.poe_budget, port: switch.at_port(), ..Source::default() };
    }
    let part = switch.name.as_deref().unwrap_or(name);
    let Some(given) = switch.poe else {
        findings.add(
            Severity::Error,
            Rule::Poe,
            name,
            format!("{} want power from it, and a {part} gives none", loads.len()),
            &[],
            "take a switch with PoE, or give the boards power by chargers or supplies",
        );
        return Source::default();
    };
    for load in loads {
        let Some(board) = load.board else { continue };
        let Some(hat) = load.hat else {
            findings.add(
                Severity::Error,
                Rule::Poe,
                load.name,
                format!("{name} gives it power over Ethernet, and it has no PoE HAT"),
                &[],
                "add one: `hat: …`",
            );
            continue;
        };
        let hat_name = hat.label();
        match (&hat.fits, board.family.as_ref()) {
            (Some(fits), Some(family)) if !fits.contains(&family.id) => findings.add(
                Severity::Error,
                Rule::Poe,
                load.name,
                format!("the {hat_name} does not fit a {}", board.name),
                &[("fits", fits.join(", "))],
                "take a HAT that is made for this board",
            ),
            _ => {}
        }
        if let Some(least) = hat.input_min
            && given == Poe::Passive24
            && least > given.volts()
        {
            findings.add(
                Severity::Error,
                Rule::Poe,
                load.name,
                format!("{name} gives {given}, and the {hat_name} needs {least} or more"),
                &[("at the port", given.volts().to_string()), ("HAT", format!("{least} or more"))],
                "take a switch with 802.3af or 802.3at",
            );
        }
        if (given, hat.standard) == (Poe::Af, Some(Poe::At))
            && let Some(arrives) = given.at_device()
        {
            let (severity, how) = match load.draw.load > arrives {
                true => (Severity::Error, "takes"),
                false => (Severity::Warning, "can ask for"),
            };
            let draw = if severity == Severity::Error { load.draw.load } else { load.draw.worst };
            if draw > arrives {
                findings.add(
                    severity,
                    Rule::Poe,
                    load.name,
                    format!("{name} gives {given}, of which {arrives} arrive, and a {} {how} {draw}", load.what),
                    &[
                        ("arrives", arrives.to_string()),
                        ("under load", load.draw.load.to_string()),
                        ("worst case", load.draw.worst.to_string()),
                    ],
                    "take a switch with 802.3at",
                );
            }
        }
        if let Some(output) = hat.output {
            own_supply(load.name, &board.name, hat_name, output, load.draw, findings);
        }
    }
    let limits = Limits { ports: switch.poe_ports, port: switch.at_port(), sum: switch.poe_budget };
    let source = give(name, Some(part), &limits, loads, findings);
    // A HAT loses some of it as heat, which the switch has to give as well.
    let at_switch: Power = loads
        .iter()
        .zip(&source.consumers)
        .map(|(load, consumer)| match load.hat.and_then(|hat| hat.efficiency) {
            Some(percent) if percent > 0 => Power(consumer.draw.worst.0 * 100 / u64::from(percent)),
            _ => consumer.draw.worst,
        })
        .sum();
    if let Some(budget) = switch.poe_budget
        && source.sum.worst <= budget
        && at_switch > budget
    {
        findings.add(
            Severity::Warning,
            Rule::Budget,
            name,
            format!("with what the HATs lose, {at_switch} can be asked for, and it gives {budget}"),
            &[
                ("budget", budget.to_string()),
                ("at the boards", source.sum.worst.to_string()),
                ("at the switch", at_switch.to_string()),
            ],
            "attach less to the boards' USB ports, or take a switch that gives more",
        );
    }
    source
}
