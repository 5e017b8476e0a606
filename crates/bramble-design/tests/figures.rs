//! The figures of published builds, and what each check says of them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use bramble_design::{Bill, Design, Rule, Summary};
use bramble_spec::{Cluster, Override, Problem, Severity, Wifi};

fn resolve(text: &str, overrides: &[(&str, &str)]) -> Vec<Cluster> {
    let overrides: Vec<Override> =
        overrides.iter().map(|(path, value)| Override { path: (*path).into(), value: (*value).into() }).collect();
    let read = |written: &str| fs::read_to_string(builds().join(written));
    let loaded = bramble_spec::load_with(Path::new("bramble.yaml"), text, &overrides, &read);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters
}

fn builds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/builds")
}

/// The cluster of an example, with some values given anew.
fn example(name: &str, overrides: &[(&str, &str)]) -> Cluster {
    resolve(&fs::read_to_string(builds().join(name)).unwrap(), overrides).remove(0)
}

/// A cluster of these boards, each with `hardware`, on these devices.
fn cluster(boards: &[&str], devices: &str, each: &str) -> Cluster {
    let mut text = format!(
        "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ k3s: {{ version: stable }} }}\n\
         hardware:\n  devices: {devices}\n  each: {each}\nnodes:\n"
    );
    for (number, board) in boards.iter().enumerate() {
        let role = if number == 0 { "control-plane" } else { "worker" };
        text.push_str(&format!(
            "  - {{ name: kube{number}, role: {role}, board: {board}, address: 10.0.0.{} }}\n",
            50 + number
        ));
    }
    resolve(&text, &[]).remove(0)
}

fn found(design: &Design, rule: Rule) -> Vec<&Problem> {
    design.findings.iter().filter(|finding| finding.rule == Some(rule.name())).collect()
}

fn severity(design: &Design, rule: Rule) -> Option<Severity> {
    found(design, rule).first().map(|finding| finding.severity)
}

#[test]
fn the_price_table_of_the_poe_and_ssd_build_sums_to_678_73() {
    let bill = Bill::of(&example("poe-ssd.yaml", &[]));
    assert_eq!((bill.total.to_string().as_str(), bill.unpriced), ("$678.73", 0));
    let line = |id: &str| {
        bill.lines.iter().find(|line| line.id == id).map(|line| (line.quantity, line.sum.unwrap().to_string()))
    };
    assert_eq!(line("rpi-4b-4gb"), Some((4, "$220.00".into())));
    // Packs: one kit of heat sinks and one pack of five cables are enough for four boards.
    assert_eq!(line("rpi-aluminum-heatsink-kit"), Some((1, "$7.99".into())));
    assert_eq!(line("slimrun-cat6a-1ft-5"), Some((1, "$8.99".into())));
    assert_eq!(line("m3-standoff-kit"), Some((2, "$23.98".into())));
    let csv = bill.csv();
    assert!(csv.contains("board,rpi-4b-4gb,Raspberry Pi 4B 4 GB,4,55.00,220.00,$,"), "{csv}");
    assert_eq!(csv.lines().count(), bill.lines.len() + 1);
}

#[test]
fn a_charger_of_60_w_feeds_four_boards_that_can_ask_for_12_5_w_each() {
    let on_one = |count: usize| {
        Design::of(&cluster(
            &vec!["rpi-3b-plus"; count],
            "{ charger: { part: anker-powerport-6 } }",
            "{ power: charger }",
        ))
    };
    let four = on_one(4);
    assert_eq!(found(&four, Rule::Budget), Vec::<&Problem>::new());
    assert_eq!(four.sources[0].sum.worst.to_string(), "50 W");
    let five = on_one(5);
    let finding = found(&five, Rule::Budget)[0];
    assert_eq!(
        (finding.severity, finding.message.as_str()),
        (Severity::Error, "it gives 60 W, and 5 consumers can ask for 62.5 W")
    );
    assert!(finding.figures.contains(&("fit at worst".into(), "4 of 5".into())), "{:?}", finding.figures);
    assert_eq!(severity(&on_one(7), Rule::PowerPorts), Some(Severity::Error));
}

#[test]
fn four_boards_of_15_3_w_are_too_much_for_40_w_and_not_for_65() {
    let with = |budget: &str| {
        let file = "sources: {}\nswitches: [{ id: mine, ports: 5, speed: 1 Gbps, poe_ports: 4, poe: at, poe_budget: BUDGET }]\n";
        let text = fs::read_to_string(builds().join("kubecon.yaml")).unwrap();
        let text = text
            .replace("hardware:\n", "hardware:\n  catalogue: [mine.yaml]\n")
            .replace("part: tl-sg105pe", "part: mine");
        let read = |_: &str| Ok(file.replace("BUDGET", budget));
        let loaded = bramble_spec::load_with(Path::new("bramble.yaml"), &text, &[], &read);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        Design::of(&loaded.clusters[0])
    };
    assert_eq!(with("65 W").sources[0].sum.worst.to_string(), "61.2 W");
    assert_eq!(severity(&with("65 W"), Rule::Budget), None);
    assert_eq!(severity(&with("40 W"), Rule::Budget), Some(Severity::Error));
    // The switch of that build.
    assert!(!Design::of(&example("kubecon.yaml", &[])).fails());
}

#[test]
fn six_nodes_need_seven_ports_and_14_gbps_even_in_two_clusters() {
    let clusters = resolve(&fs::read_to_string(builds().join("k3s-and-k8s.yaml")).unwrap(), &[]);
    assert_eq!(clusters.len(), 2);
    for cluster in &clusters {
        let design = Design::of(cluster);
        assert_eq!(cluster.nodes.len(), 3);
        let traffic = &design.traffic[0];
        assert_eq!((traffic.ports_needed, traffic.capacity_needed.unwrap().to_string()), (7, "14 Gbps".into()));
        assert_eq!(traffic.capacity.unwrap().to_string(), "16 Gbps");
        assert_eq!(design.sources[0].sum.worst.to_string(), "91.8 W");
        assert_eq!(found(&design, Rule::SwitchPorts), Vec::<&Problem>::new());
    }
    let small = Design::of(&cluster(&["rpi-4b-4gb"; 6], "{ switch: { part: tl-sg1005p } }", "{ switch: switch }"));
    assert_eq!(
        found(&small, Rule::SwitchPorts)[0].message,
        "6 are plugged into it, with its way out it needs 7 ports, and it has 5"
    );
    assert_eq!(severity(&small, Rule::SwitchCapacity), Some(Severity::Warning));
}

#[test]
fn passive_24_v_cannot_power_a_hat_and_a_5_has_no_place_for_one() {
    let poe = |board: &str, switch: &str, hat: &str| {
        let design = Design::of(&cluster(
            &[board],
            &format!("{{ switch: {{ part: {switch} }} }}"),
            &format!("{{ power: switch, switch: switch, hat: {hat} }}"),
        ));
        found(&design, Rule::Poe).iter().map(|finding| (finding.severity, finding.message.clone())).collect::<Vec<_>>()
    };
    let passive = poe("rpi-4b-4gb", "er-x-sfp", "rpi-poe-plus-hat");
    assert_eq!(
        passive,
        [(Severity::Error, "switch gives passive 24 V, and the Raspberry Pi PoE+ HAT needs 37 V or more".into())]
    );
    let five = poe("rpi-5-8gb", "tl-sg105pe", "rpi-poe-plus-hat");
    assert_eq!(five, [(Severity::Error, "the Raspberry Pi PoE+ HAT does not fit a Raspberry Pi 5 8 GB".into())]);
    assert_eq!(poe("rpi-4b-4gb", "tl-sg105pe", "rpi-poe-plus-hat"), []);
    assert_eq!(poe("rpi-4b-4gb", "tl-sg108", "rpi-poe-plus-hat").len(), 1);
    assert_eq!(poe("rpi-4b-4gb", "tl-sg105pe", "none").len(), 1);
}

#[test]
fn the_builds_come_out_as_they_were_built() {
    let crossing = Design::of(&example("router-pi.yaml", &[]));
    // Two chargers, four boards on each; the gateway is one of them.
    assert_eq!(crossing.sources.iter().filter(|source| source.sum.worst.to_string() == "50 W").count(), 2);
    assert!(!crossing.fails());
    // Fast Ethernet, where the boards could do 224 Mbps.
    assert!(found(&crossing, Rule::Link)[0].message.contains("100 Mbps, and 7 of its boards could do 224 Mbps"));
    // 32-bit systems of then: refused with kubeadm, which has none any more.
    let image = [("image", "{ name: Raspberry Pi OS Lite (32-bit) }")];
    assert_eq!(severity(&Design::of(&example("dramble.yaml", &image)), Rule::Architecture), Some(Severity::Error));
    assert_eq!(severity(&Design::of(&example("router-pi.yaml", &image)), Rule::Architecture), Some(Severity::Warning));
    // An x86 board among Arm ones has another image.
    let mixed = [("nodes.kube4.board", "rock-pi-x-4gb")];
    let mixed = Design::of(&example("kubecon.yaml", &mixed));
    assert_eq!(found(&mixed, Rule::Architecture)[0].place.names(), ["kube4"]);
    // A cluster with the PoE switch needed less than 50 W.
    assert!(Design::of(&example("dramble.yaml", &[])).total.load.0 < 50_000);
}

#[test]
fn a_state_in_etcd_wears_cards_out_and_several_of_them_are_refused() {
    let with = |planes: &str, disk: &str| {
        let mut set =
            vec![("hardware.each.disks", disk), ("distribution", "{ k3s: { version: stable, datastore: etcd } }")];
        if planes == "three" {
            set.extend([("nodes.kube2.role", "control-plane"), ("nodes.kube3.role", "control-plane")]);
        }
        Design::of(&example("dramble.yaml", &set))
    };
    assert_eq!(severity(&with("one", "[rpi-sd-64gb]"), Rule::Wear), Some(Severity::Warning));
    let three = with("three", "[rpi-sd-64gb]");
    assert_eq!(
        (severity(&three, Rule::Wear), found(&three, Rule::Wear)[0].place.names().len()),
        (Some(Severity::Error), 3)
    );
    // 80 TB at 22.1 GB a day.
    let ssd = with("three", "[rpi-sd-64gb, { part: crucial-bx500-240gb, holds: [state] }]");
    assert_eq!(severity(&ssd, Rule::Wear), Some(Severity::Note));
    assert!(found(&ssd, Rule::Wear)[0].message.ends_with("lasts 9.9 years"), "{:?}", found(&ssd, Rule::Wear));
    let accepted = Design::of(&example(
        "dramble.yaml",
        &[("hardware.accept", "[wear]"), ("nodes.kube2.role", "control-plane"), ("nodes.kube3.role", "control-plane")],
    ));
    assert!(!accepted.fails() && found(&accepted, Rule::Wear)[0].accepted);
    assert_eq!(
        severity(&Design::of(&example("dramble.yaml", &[("hardware.accept", "[ware]")])), Rule::Accept),
        Some(Severity::Error)
    );
}

#[test]
fn the_other_rules_find_what_they_are_for() {
    let one = |board: &str, each: &str| Design::of(&cluster(&[board], "{ switch: { part: tl-sg108 } }", each));
    // Heat: nothing, a heat sink, a fan.
    let heat = |each: &str| found(&one("rpi-4b-4gb", each), Rule::Heat).first().map(|finding| finding.message.clone());
    assert!(heat("{ switch: switch }").unwrap().contains("without any cooling is slowed down after 60 s"));
    assert!(heat("{ switch: switch, with: [rpi-aluminum-heatsink-kit] }").unwrap().contains("after 150 s"));
    assert_eq!(heat("{ switch: switch, with: [noctua-nf-a8-5v] }"), None);
    // Disks.
    assert_eq!(
        severity(&one("rpi-4b-4gb", "{ disks: [sandisk-ultra-16gb] }"), Rule::DiskSize),
        Some(Severity::Warning)
    );
    assert_eq!(severity(&one("rpi-4b-4gb", "{ disks: [rpi-ssd-256gb] }"), Rule::Disk), Some(Severity::Error));
    assert_eq!(severity(&one("rpi-5-4gb", "{ disks: [rpi-ssd-256gb] }"), Rule::Disk), None);
    let weak =
        one("rpi-5-4gb", "{ power: rpi-psu-15w, disks: [{ part: crucial-bx500-240gb, adapter: lacie-asm1153 }] }");
    assert!(found(&weak, Rule::Disk).iter().any(|finding| finding.message.contains("less than 5 A")));
    assert_eq!(severity(&weak, Rule::Feed), Some(Severity::Warning));
    // A supply that is too small for a busy board.
    assert_eq!(severity(&one("rpi-5-4gb", "{ power: rpi-psu-27w }"), Rule::Feed), None);
    // Memory.
    assert_eq!(severity(&one("rpi-zero-2w", "{}"), Rule::Memory), Some(Severity::Error));
    assert_eq!(severity(&one("rpi-zero-2w", "{}"), Rule::Link), Some(Severity::Warning));
    assert_eq!(severity(&one("rpi-4b-8gb", "{}"), Rule::Memory), None);
    // A slow node among fast ones.
    let slow = Design::of(&cluster(&["rpi-4b-4gb", "rpi-3b"], "{ switch: { part: tl-sg108 } }", "{ switch: switch }"));
    assert_eq!(found(&slow, Rule::Link)[0].message, "it has 100 Mbps on the network, others have 943 Mbps");
    // Boards in a Wi-Fi, and others of theirs on a cable.
    let air = |boards: &[&str], wifi: &str, devices: &str, each: &str| {
        let mut cluster = cluster(boards, devices, each);
        cluster.network.wifi =
            Some(Wifi { country: "DE".into(), join: (!wifi.is_empty()).then(|| (wifi.into(), "file".into())) });
        Design::of(&cluster)
    };
    let both = ["rpi-4b-4gb", "rpi-zero-2w"];
    let shelf = air(&both, "shelf", "{}", "{}");
    assert_eq!(severity(&shelf, Rule::Wifi), Some(Severity::Warning));
    let shared = &found(&shelf, Rule::Wifi)[0].figures;
    assert_eq!(shared[1].1, "433.3 Mbps");
    assert_eq!(shared[2].1, "108 Mbps");
    assert_eq!(found(&shelf, Rule::Link)[0].message, "it has 72.2 Mbps on the network, others have 433.3 Mbps");
    assert_eq!(severity(&air(&both, "", "{}", "{}"), Rule::Wifi), None, "only its country is known");
    let cabled = air(&["rpi-4b-4gb", "rpi-4b-4gb"], "shelf", "{ switch: { part: tl-sg108 } }", "{ switch: switch }");
    assert_eq!(severity(&cabled, Rule::Wifi), None);
    assert_eq!(severity(&air(&both[..1], "shelf", "{}", "{}"), Rule::Wifi), None, "one shares with nobody");
    // Addresses.
    let tight =
        example("kubecon.yaml", &[("network.subnet", "192.168.1.48/29"), ("network.dhcp", "~"), ("network.pool", "~")]);
    assert_eq!(severity(&Design::of(&tight), Rule::Addresses), Some(Severity::Warning));
    let handed_out = example("kubecon.yaml", &[("network.dhcp", "192.168.1.52-192.168.1.59")]);
    assert_eq!(found(&Design::of(&handed_out), Rule::Addresses)[0].place.names(), ["kube2", "kube3", "kube4"]);
    // A switch that takes its power from USB, from nowhere.
    let usb = Design::of(&cluster(&["rpi-4b-4gb"], "{ switch: { part: black-box-usb-8 } }", "{ switch: switch }"));
    assert!(found(&usb, Rule::Unpowered).iter().any(|finding| finding.place.names() == ["switch"]));
}

#[test]
fn what_if_shows_what_each_change_changes() {
    let summary = |set: &[(&str, &str)]| {
        let cluster = example("poe-ssd.yaml", set);
        Summary::of(&cluster, &Design::of(&cluster), &Bill::of(&cluster))
    };
    let now = summary(&[]);
    let larger = summary(&[("nodes.*.board", "rpi-4b-8gb")]);
    let changes = now.changes(&larger);
    // Only the workers take workloads: three times 4096 MiB as sold, 3856 MiB of each 4096 as seen.
    assert_eq!(changes, [("cost".into(), "+$80.00".to_owned()), ("memory for workloads".into(), "+11568 MiB".into())]);
    let three = summary(&[("nodes.pi2.role", "control-plane"), ("nodes.pi3.role", "control-plane")]);
    assert!(now.changes(&three).contains(&("single points of failure".into(), "-1".into())));
    assert_eq!(now.changes(&now), []);
    // Alternatives are of the same kind, have a price, and say what they change.
    let cluster = example("poe-ssd.yaml", &[]);
    let bill = Bill::with_alternatives(&cluster, &Design::of(&cluster));
    let boards = &bill.lines.iter().find(|line| line.id == "rpi-4b-4gb").unwrap().alternatives;
    assert!(boards.iter().any(|other| other.id == "rpi-4b-8gb" && other.changes == changes), "{boards:?}");
    assert!(bill.lines.iter().flat_map(|line| &line.alternatives).all(|other| other.price.is_some()));
}

#[test]
fn addons_take_their_memory_from_each_node_and_from_the_one_that_has_most_left() {
    let addons = |addons: &str| Design::of(&example("kubecon.yaml", &[("addons", addons)]));
    let (none, some) = (addons("{}"), addons("{ longhorn: {}, metrics-server: {} }"));
    let less = none.capacity.iter().zip(&some.capacity).map(|(before, after)| before.free - after.free);
    // Longhorn 1024 MiB on each of the four, metrics-server 200 on one.
    assert_eq!(less.sum::<u32>(), 4 * 1024 + 200);
    // Boards of 1 GB have no room for Prometheus.
    let small = Design::of(&example("router-pi.yaml", &[("addons", "{ monitoring: {}, longhorn: {} }")]));
    let memory = found(&small, Rule::Memory);
    assert!(memory.iter().any(|finding| finding.place.names() == ["addons.monitoring"]), "{memory:?}");
}
