//! Cluster files as people have them: forms that failed by public reports.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_spec::{Cluster, Distribution, Setting};

fn load(text: &str) -> Result<Cluster, String> {
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), text);
    let report = loaded.report.render(false);
    loaded.clusters.into_iter().next().filter(|_| !report.contains("error")).ok_or(report)
}

const NETWORK: &str = "cluster: shelf\nnetwork: { subnet: 10.0.0.0/24 }\n";
const NODE: &str = "nodes:\n  - { name: kube1, role: control-plane, board: rpi-4b-4gb, address: 10.0.0.50 }\n";

#[test]
fn error_that_follows_from_another() {
    let wrong = |node: &str| {
        load(&format!("{NETWORK}distribution: {{ k3s: {{ version: stable }} }}\nnodes:\n  - {node}\n")).unwrap_err()
    };
    for node in [
        "{ name: kube1, role: control-plane, board: rpi4, address: 10.0.0.50 }",
        "{ name: kube1, role: control-plane, board: rpi-4b-4gb, address: 10.1.0.50 }",
        "{ name: kube1, role: control-plane, board: rpi-4b-4gb, address: ten }",
    ] {
        let report = wrong(node);
        assert!(!report.contains("no node is a control plane") && report.contains("1 error"), "{report}");
    }
    let none = wrong("{ name: kube1, role: worker, board: rpi-4b-4gb, address: 10.0.0.50 }");
    assert!(none.contains("no node is a control plane"), "{none}");
}

#[test]
fn a_board_is_found_by_what_people_call_it() {
    for written in ["rpi4", "pi4", "raspberry-pi-4", "Raspberry Pi 4 Model B", "rpi4b"] {
        let node = format!("{{ name: kube1, role: control-plane, board: \"{written}\", address: 10.0.0.50 }}");
        let report = load(&format!("{NETWORK}distribution: none\nnodes:\n  - {node}\n")).unwrap_err();
        assert!(report.contains("`rpi-4b-4gb`") && !report.contains("rpi-400"), "{written}: {report}");
    }
    let report =
        load(&format!("{NETWORK}distribution: none\n{}", NODE.replace("rpi-4b-4gb", "rpi-5b-8gb"))).unwrap_err();
    assert!(report.contains("did you mean `rpi-"), "{report}");
}

#[test]
fn k3s_setting_types() {
    let server = "tls-san: [kube.home, 12345, \"on\"], disable-cloud-controller: yes, debug: Off, \
                  flannel-iface: \"yes\", etcd-snapshot-retention: 1.5";
    let text = format!("{NETWORK}distribution: {{ k3s: {{ version: stable, server: {{ {server} }} }} }}\n{NODE}");
    let cluster = load(&text).unwrap();
    let Distribution::K3s(k3s) = &cluster.distribution else { panic!("{cluster:?}") };
    let one = |text: &str| Setting::One(text.to_owned());
    assert_eq!(k3s.server["tls-san"], Setting::Many(["kube.home", "12345", "on"].map(str::to_owned).to_vec()));
    assert_eq!(k3s.server["disable-cloud-controller"], one("true"));
    assert_eq!(k3s.server["debug"], one("false"));
    assert_eq!(k3s.server["flannel-iface"], one("yes"));
    assert_eq!(k3s.server["etcd-snapshot-retention"], one("1.5"));
    for (wrong, says) in [
        ("tls-san:", "has no value"),
        ("tls-san: [[a]]", "single value"),
        ("tls-san: { a: b }", "file"),
        ("tls-san: [~]", "has no value"),
    ] {
        let text = format!("{NETWORK}distribution: {{ k3s: {{ version: stable, server: {{ {wrong} }} }} }}\n{NODE}");
        let report = load(&text).unwrap_err();
        assert!(report.contains(says) && !report.contains("untagged"), "{report}");
    }
}

#[test]
fn two_overlays() {
    let overlays = |written: &str| {
        let prepare = format!("prepare: {{ boot: {{ config: {{ {written} }} }} }}\n");
        load(&format!("{NETWORK}distribution: none\n{prepare}{NODE}").replace("control-plane", "worker"))
    };
    let cluster = overlays("dtoverlay: [disable-wifi, disable-bt], gpu_mem: 16, hdmi_blanking: on").unwrap();
    let config = &cluster.preparation.boot.config;
    assert_eq!(config["dtoverlay"], ["disable-wifi", "disable-bt"]);
    assert_eq!(
        (config["gpu_mem"].as_slice(), config["hdmi_blanking"].as_slice()),
        (&["16".to_owned()][..], &["on".to_owned()][..])
    );
    let report = overlays("dtoverlay: [{ a: b }]").unwrap_err();
    assert!(report.contains("expected text"), "{report}");
}

#[test]
fn maps_are_merged_as_yaml_has_it() {
    let text = format!(
        "x-worker: &worker {{ role: worker, board: rpi-4b-4gb, labels: {{ disk: ssd }} }}\nx-large: &large {{ board: rpi-5-8gb }}\n\
         {NETWORK}distribution: none\nnodes:\n  - {{ name: a, address: 10.0.0.51, <<: *worker }}\n  - <<: [*large, *worker]\n    name: b\n    \
         address: 10.0.0.52\n  - {{ <<: *worker, name: c, address: 10.0.0.53, labels: {{}} }}\n"
    );
    let cluster = load(&text).unwrap();
    let boards: Vec<&str> = cluster.nodes.iter().map(|node| node.board.id.as_str()).collect();
    assert_eq!(boards, ["rpi-4b-4gb", "rpi-5-8gb", "rpi-4b-4gb"]);
    let labels: Vec<usize> = cluster.nodes.iter().map(|node| node.labels.len()).collect();
    assert_eq!(labels, [1, 1, 0]);
    let report = load(&text.replace("<<: *worker }", "<<: worker }")).unwrap_err();
    assert!(report.contains("`<<` takes the keys of a map"), "{report}");
}

/// Mistakes of one sort each, tried by a reader of the documentation in November 2026: what was said was a library's, had no next
/// step, or brought others along.
#[test]
fn a_mistake_is_named_once_in_plain_words_with_a_next_step() {
    let more = |line: &str| format!("{NETWORK}distribution: none\n{}{line}\n", NODE.replace("control-plane", "worker"));
    let k3s = |section: &str, nodes: &str| format!("{NETWORK}distribution: {{ k3s: {section} }}\n{nodes}\n");
    let node = |settings: &str| format!("nodes:\n  - {{ name: kube1, board: rpi-4b-4gb, {settings} }}");
    let three = "nodes:\n  - { name: a, role: control-plane, board: rpi-4b-4gb, address: 10.0.0.50 }\n  \
                 - { name: b, role: control-plane, board: rpi-4b-4gb, address: 10.0.0.51 }\n  \
                 - { name: c, role: control-plane, board: rpi-4b-4gbb, address: 10.0.0.52 }";
    for (text, says, next) in [
        (more("update: { drain: 5m }"), "expected a whole number from 0 to 4294967295, found `5m`", "without a unit"),
        (more("update: { drain: -1 }"), "expected a whole number", "choose one of these"),
        (more("prepare: { packages: vim }"), "expected a list", "`[vim]`"),
        (more("prepare: { autoremove: maybe }"), "expected `true` or `false`", "write `true` or `false`"),
        (more("hardware: { others: [5] }"), "found `5`", "write a part"),
        (more("prepare: !include other.yaml"), "`!include` is not understood", "write the value itself"),
        (more("prepare: { timezone: !vault UTC }"), "`!vault` is not understood", "write the value itself"),
        (more("prepare: { timezone: Europe/ }"), "`Europe/` is not a time zone", "did you mean `Europe/"),
        (more("prepare: { timezone: Mars/Olympus }"), "`Mars/Olympus` is not a time zone", "Europe/Berlin"),
        (more("prepare: { timezone: europe/berlin }"), "is not a time zone", "did you mean `Europe/Berlin`?"),
        (more("").replace("name: kube1", "name: localhost"), "no board can be called `localhost`", "such as kube1"),
        (more("").replace("name: kube1", "name: \"1\""), "no board can be called `1`", "such as kube1"),
        (
            more("").replace("address: 10.0.0.50", "address: 10.0.0.50, mac: \"01:00:5e:00:00:01\""),
            "is the address of a group",
            "ip link",
        ),
        (
            more("prepare: { boot: { config: { dtoverlay: a, dtoverlay: b } } }"),
            "`dtoverlay` is given twice",
            "`[a, b]`",
        ),
        (more("prepare: { locale: german }"), "is not a locale", "en_GB.UTF-8"),
        (more("prepare: { locale: de_DE.utf8 }"), "is not a locale", "en_GB.UTF-8"),
        (more("prepare: { sysctls: { vm.swappiness: \"1\\r\" } }"), "is not a kernel setting", "="),
        (more("prepare: { boot: { config: { gpu_mem: \"16\\0\" } } }"), "control characters", "one line"),
        (more("prepare: { sudoers: [\"a\\rb\"] }"), "one line", "item"),
        (more("x: &a 1\nprepare: { packages: [*b] }").replace("x:", "x-a:"), "no anchor before it", "&name"),
        (more("prepare: { timezone: \"Europe/Berlin }"), "a quote is opened and not closed", "close it"),
        (more("prepare: { timezone: a: b }"), "bracket", "close every"),
        (more("prepare:\n  timezone: a: b"), "a `:` stands where no key can end", "in quotes"),
        (format!("{NETWORK}distribution: {{}}\n{NODE}"), "found nothing", "keep one of: kubeadm"),
        (format!("{NETWORK}distribution: {{ none: {{ a: 1 }} }}\n{NODE}"), "takes no settings", "write `none` alone"),
        (k3s("{ verison: stable }", NODE.trim_end()), "unknown key `verison`", "`version`"),
        (k3s("{ version: stable }", &node("roel: control-plane, address: 10.0.0.50")), "unknown key `roel`", "`role`"),
        (
            k3s("{ version: stable }", &node("role: control-plane, adress: 10.0.0.50")),
            "unknown key `adress`",
            "`address`",
        ),
        (k3s("{ version: stable }", &node("role: ~, address: 10.0.0.50")), "`role` is missing", "needs one"),
        (k3s("{ version: stable }", "nodes: []"), "`nodes` is missing", "at least one"),
        (k3s("{ version: stable }", three), "rpi-4b-4gbb", "rpi-4b-4gb"),
        (
            more("storage: { nfs: { server: kube1 } }").replace("address: 10.0.0.50", "address: ten"),
            "`ten`",
            "10.0.0.50",
        ),
        (
            more("")
                .replace("subnet: 10.0.0.0/24", "subnet: 10.0.0.0/24, wifi: { country: DE, ssid: a, password: [x] }"),
            "expected text, found a list",
            "write text here",
        ),
    ] {
        let report = load(&text).unwrap_err();
        assert!(report.contains(says) && report.contains(next), "{text}\n{report}");
        assert!(report.contains("bramble.yaml: 1 error\n") || report.ends_with("1 error"), "{text}\n{report}");
        for word in ["untagged", "u32", "invalid type", "expecting", "simple key", "mapping values", "openshift"] {
            assert!(!report.contains(word), "{report}");
        }
    }
}

#[test]
fn what_is_commented_out_is_nothing() {
    let empty = "prepare:\n  packages:\n  modules: ~\n  sysctls:\n  autoremove: yes\n  boot:\n    kernel_args: null\n    config:\naddons:\n";
    let cluster =
        load(&format!("{NETWORK}distribution: none\n{empty}{}", NODE.replace("control-plane", "worker"))).unwrap();
    assert!(cluster.preparation.packages.is_empty() && cluster.preparation.boot.config.is_empty());
    assert!(cluster.preparation.autoremove);
}

#[test]
fn a_blank_that_is_none_is_named_with_its_line() {
    let good = "cluster: home # a\u{a0}b\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution: none\nnodes:\n  - { name: a, role: worker, board: rpi-4b-8gb, address: 10.0.0.51 }\n";
    assert!(load(good).is_ok(), "in a comment nobody minds");
    for (text, sign, line) in [
        (good.replace("  - {", "\u{a0} - {"), "U+00A0", ":5:1"),
        (good.replace("network: {", "network:\u{a0}{"), "U+00A0", ":2:9"),
        (good.replace("  - {", "  -\u{2003}{"), "U+2003", ":5:4"),
        (good.replace("distribution:", "\u{200b}distribution:"), "U+200B", ":3:1"),
    ] {
        let said = load(&text).unwrap_err();
        assert!(said.contains(&format!("{sign} looks like a blank")) && said.contains(line), "{said}");
        assert!(said.contains("bramble.yaml: 1 error\n"), "{said}");
    }
}
