//! More load never mends anything, and sums are exact.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use bramble_design::{Bill, Design, Rule};
use bramble_spec::{Cluster, Money, Problem, Severity};
use proptest::prelude::*;

const BOARDS: &[&str] = &["rpi-3b-plus", "rpi-4b-4gb", "rpi-5-8gb", "rpi-4b-8gb"];
const FEEDS: &[&str] = &["switch0", "switch1", "charger0", "charger1", "rpi-psu-15w", "rpi-psu-27w", "none"];
const SWITCHES: &[&str] = &["switch0", "switch1", "none"];
const HATS: &[&str] = &["rpi-poe-hat", "rpi-poe-plus-hat", "none"];

/// A node by its choices, and how many other things hang on it.
type Choice = (usize, usize, usize, usize, u32);

fn cluster(nodes: &[Choice]) -> Cluster {
    let mut text = String::from(
        "cluster: shelf\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution: { k3s: { version: stable } }\n\
         hardware:\n  catalogue: [gadget]\n  devices:\n    switch0: { part: tl-sg105pe }\n    switch1: { part: gs308ep, uplink: switch0 }\n    \
         charger0: { part: anker-powerport-6 }\n    charger1: { part: anker-powerport-6 }\nnodes:\n",
    );
    for (number, (board, feed, switch, hat, gadgets)) in nodes.iter().enumerate() {
        let role = if number == 0 { "control-plane" } else { "worker" };
        text.push_str(&format!(
            "  - {{ name: kube{number}, role: {role}, board: {}, address: 10.0.0.{}, hardware: {{ power: {}, switch: {}, hat: {}, with: [{{ part: gadget, quantity: {gadgets} }}] }} }}\n",
            BOARDS[*board], number + 1, FEEDS[*feed], SWITCHES[*switch], HATS[*hat],
        ));
    }
    let read = |_: &str| Ok("others: [{ id: gadget, load: 1.7 W, price: $3.33 }]".to_owned());
    let loaded = bramble_spec::load_with(Path::new("bramble.yaml"), &text, &[], &read);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters.into_iter().next().unwrap()
}

/// Which checks of power and network fail, of what, and how badly.
fn failures(design: &Design) -> BTreeSet<(&'static str, String, Severity)> {
    let about_load = [Rule::Budget, Rule::Feed, Rule::PowerPorts, Rule::Poe, Rule::SwitchPorts, Rule::SwitchCapacity];
    let rule = |finding: &Problem| finding.rule.filter(|name| about_load.iter().any(|rule| rule.name() == *name));
    let found = design.findings.iter().filter(|finding| finding.severity != Severity::Note);
    found
        .filter_map(|finding| Some((rule(finding)?, finding)))
        .flat_map(|(rule, finding)| {
            finding.place.names().into_iter().map(move |name| (rule, name.to_owned(), finding.severity))
        })
        .collect()
}

fn choice() -> impl Strategy<Value = Choice> {
    (0..BOARDS.len(), 0..FEEDS.len(), 0..SWITCHES.len(), 0..HATS.len(), 0..6u32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_load_never_makes_a_check_pass_that_failed(
        nodes in prop::collection::vec(choice(), 1..12),
        new in choice(),
        more in 1..9u32,
        which in any::<prop::sample::Index>(),
    ) {
        let before = failures(&Design::of(&cluster(&nodes)));
        let mut with_node = nodes.clone();
        with_node.push(new);
        let mut heavier = nodes.clone();
        heavier[which.index(nodes.len())].4 += more;
        for changed in [with_node, heavier] {
            let after = failures(&Design::of(&cluster(&changed)));
            for (rule, name, severity) in &before {
                let still = after.iter().any(|(other, about, worse)| other == rule && about == name && worse <= severity);
                prop_assert!(still, "{rule} of {name} ({severity}) was mended by more load: {after:?}");
            }
        }
    }

    #[test]
    fn sums_are_exact(nodes in prop::collection::vec(choice(), 1..12)) {
        let cluster = cluster(&nodes);
        let (design, bill) = (Design::of(&cluster), Bill::of(&cluster));
        let devices: u64 = cluster.hardware.devices.iter().filter_map(|device| device.network()?.own).map(|own| own.0).sum();
        let load: u64 = design.draws.iter().map(|draw| draw.load.0).sum();
        prop_assert_eq!(design.total.load.0, load + devices);
        let gadgets: u64 = nodes.iter().map(|node| u64::from(node.4)).sum();
        let boards: u64 = nodes.iter().map(|node| cluster.hardware.catalogue.board(BOARDS[node.0]).unwrap().figure(|family| family.load).unwrap().0).sum();
        prop_assert_eq!(load, boards + gadgets * 1700);
        let mut total = Money::default();
        for line in &bill.lines {
            if let Some(price) = line.price {
                total.add(price, line.quantity);
                prop_assert_eq!(line.sum.unwrap().cents, price.cents * line.quantity);
            }
        }
        prop_assert_eq!(bill.total, total);
        let gadget = bill.lines.iter().find(|line| line.id == "gadget").map_or(0, |line| line.sum.unwrap().cents);
        prop_assert_eq!(gadget, gadgets * 333);
    }
}
