//! Power that is switched from afar, as a cluster file says it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_spec::{ControlWay, PoeMib, load};

fn file(control: &str, first: &str, second: &str) -> String {
    format!(
        "cluster: home\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ kubeadm: {{ version: \"1.36\" }} }}\n\
         hardware: {{ devices: {{ switch: {{ part: tl-sg105pe, control: {{ {control} }} }} }}, each: {{ power: switch }}, accept: [poe, feed, budget] }}\nnodes:\n  \
         - {{ name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51, hardware: {{ {first} }} }}\n  \
         - {{ name: kube2, role: worker, board: rpi-4b-8gb, address: 10.0.0.52, hardware: {{ {second} }} }}\n"
    )
}

#[test]
fn a_node_is_switched_by_its_own_control_or_by_that_of_its_device() {
    let text = file("snmp: 10.0.0.2, mib: tp-link", "outlet: 3", "outlet: 1, control: { shelly: plug.lan }");
    let loaded = load(Path::new("bramble.yaml"), &text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let cluster = &loaded.clusters[0];
    let [one, two] = [0, 1].map(|place| cluster.power_switch(&cluster.nodes[place]).unwrap());
    assert_eq!((one.device, one.outlet), (Some("switch"), Some("3")));
    assert_eq!(one.control.way, ControlWay::Snmp { host: "10.0.0.2".into(), mib: PoeMib::TpLink });
    assert_eq!((two.device, two.outlet), (None, Some("1")));
    assert_eq!(two.control.way, ControlWay::Shelly("plug.lan".into()));
}

#[test]
fn what_cannot_switch_anything_is_named() {
    for (control, first, says) in [
        ("mib: tp-link", "outlet: 3", "`mib` says nothing without `snmp`"),
        ("snmp: 10.0.0.2, shelly: 10.0.0.3", "outlet: 3", "several things would switch its power"),
        ("wake-on-lan: false", "outlet: 3", "nothing would switch its power"),
        ("command: []", "outlet: 3", "the command is empty"),
        ("snmp: \"a b\"", "outlet: 3", "`a b` is no address"),
        ("mikrotik: \"https://admin:hunter2@10.0.0.2\"", "outlet: 3", "has a user or a password in it"),
        ("snmp: 10.0.0.2, mib: cisco", "outlet: 3", "rfc3621"),
        ("snmp: 10.0.0.2", "outlet: [3]", "this is no outlet"),
        ("snmp: 10.0.0.2", "outlet: 2", "kube1 and kube2 are both on outlet 2 of switch"),
    ] {
        let said = load(Path::new("bramble.yaml"), &file(control, first, "outlet: 2")).report;
        assert!(said.has_errors() && said.render(false).contains(says), "{control}: {}", said.render(false));
    }
}
