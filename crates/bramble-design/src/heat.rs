//! Heat.

use bramble_spec::{Cluster, Node, Part, Severity};

use crate::rules::{Findings, Rule};

/// How a board is cooled.
#[derive(PartialEq, Eq)]
enum Cooling {
    Air,
    Sink,
    None,
}

fn cooling(node: &Node, rack_fan: bool) -> Cooling {
    let with = |is: fn(&Part) -> bool| node.fitting.with.iter().any(|line| line.quantity > 0 && is(&line.part));
    let case_fan = with(|part| matches!(part, Part::Case(case) if case.fans.unwrap_or(0) > 0));
    let hat_fan = node.fitting.hat().is_some_and(|hat| hat.fan == Some(true));
    if rack_fan || hat_fan || case_fan || with(|part| matches!(part, Part::Fan(_))) {
        Cooling::Air
    } else if with(|part| matches!(part, Part::Heatsink(_))) {
        Cooling::Sink
    } else {
        Cooling::None
    }
}

pub(crate) fn check(cluster: &Cluster, findings: &mut Findings<'_>) {
    let hardware = &cluster.hardware;
    let fan = |part: &Part| match part {
        Part::Fan(_) => true,
        Part::Case(case) => case.fans.unwrap_or(0) > 0,
        _ => false,
    };
    let rack_fan = hardware
        .others
        .iter()
        .chain(hardware.devices.iter().flat_map(|device| &device.with))
        .any(|line| line.quantity > 0 && fan(&line.part));
    let rack_sinks =
        hardware.others.iter().any(|line| line.quantity > 0 && matches!(line.part.as_ref(), Part::Heatsink(_)));
    let described = hardware.devices.iter().any(|_| true)
        || !hardware.others.is_empty()
        || cluster.nodes.iter().any(|node| node.fitting != bramble_spec::Fitting::default());
    if !described {
        return;
    }
    for node in &cluster.nodes {
        let cooling = match cooling(node, rack_fan) {
            Cooling::None if rack_sinks => Cooling::Sink,
            cooling => cooling,
        };
        let Some(family) = &node.board.family else { continue };
        let limit = family.throttle.map(|at| ("slowed down from", at.to_string()));
        let soft = family.soft_limit.map(|at| ("a little from", at.to_string()));
        let mut figures: Vec<(&str, String)> = limit.into_iter().chain(soft).collect();
        let (time, how) = match cooling {
            Cooling::Air => continue,
            Cooling::Sink => (family.heatsink, "with a heat sink alone"),
            Cooling::None => (family.bare, "without any cooling"),
        };
        let message = match time {
            Some(time) => {
                figures.push(("after", time.to_string()));
                format!("a busy {} {how} is slowed down after {time}", node.board.name)
            }
            None if cooling == Cooling::None => format!("nothing cools it; a busy {} gets hot", node.board.name),
            None => continue,
        };
        findings.add(
            Severity::Warning,
            Rule::Heat,
            node.name.as_str(),
            message,
            &figures,
            "let a slow fan blow over the boards: one large one is enough (`hardware.others`), or one on each (`with`)",
        );
    }
}
