//! A device plugin, by which pods get the accelerators of nodes (github.com/squat/generic-device-plugin).

use std::collections::BTreeSet;

use bramble_spec::{Chip, Cluster};
use serde_json::{Value, json};

/// Where the kubelet of every distribution looks for device plugins (kubernetes.io, "Device Plugins").
const SOCKETS: &str = "/var/lib/kubelet/device-plugins";

/// Makes a DaemonSet for each kind of chip, on the nodes that have it.
pub(super) fn objects(cluster: &Cluster, image: &str) -> Vec<Value> {
    let chips: BTreeSet<Chip> = cluster.members().flat_map(|node| node.fitting.accelerators().into_keys()).collect();
    chips.into_iter().map(|chip| plugin(chip, image)).collect()
}

fn plugin(chip: Chip, image: &str) -> Value {
    let name = format!("accelerator-{chip}");
    let labels = json!({ "app": name });
    let resource = chip.resource();
    let (domain, _) = resource.split_once('/').unwrap_or_default();
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name, "namespace": "kube-system" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{ "matchExpressions": [{ "key": resource, "operator": "Exists" }] }],
                    } } },
                    "tolerations": [{ "operator": "Exists" }],
                    "containers": [{
                        "name": "device-plugin", "image": image,
                        "args": ["--domain", domain, "--device", device(chip).to_string()],
                        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "48Mi" } },
                        // It looks for devices in the node's /dev and /sys.
                        "securityContext": { "privileged": true },
                        "volumeMounts": [
                            { "name": "sockets", "mountPath": SOCKETS }, { "name": "dev", "mountPath": "/dev" },
                        ],
                    }],
                    "volumes": [
                        { "name": "sockets", "hostPath": { "path": SOCKETS } }, { "name": "dev", "hostPath": { "path": "/dev" } },
                    ],
                },
            },
        },
    })
}

/// What the plugin looks for: a file of the driver, or what is on USB.
fn device(chip: Chip) -> Value {
    let usb = |id: &&str| {
        let (vendor, product) = id.split_once(':').unwrap_or_default();
        json!({ "usb": [{ "vendor": vendor, "product": product }] })
    };
    let path = |path: &&str| json!({ "paths": [{ "path": path }] });
    let groups: Vec<Value> = match chip.devices() {
        [] => chip.ids().iter().map(usb).collect(),
        paths => paths.iter().map(path).collect(),
    };
    json!({ "name": chip.to_string(), "groups": groups })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use bramble_state::Observation;

    use super::*;
    use crate::status::node_conditions;

    fn cluster() -> Cluster {
        let text = "cluster: home\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution: { k3s: { version: stable } }\n\
                    addons: { accelerators: {} }\nnodes:\n\
                    \x20 - { name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }\n\
                    \x20 - { name: kube2, role: worker, board: rpi-4b-8gb, address: 10.0.0.52, hardware: { with: [{ part: coral-usb, quantity: 2 }] } }\n\
                    \x20 - { name: kube3, role: worker, board: rpi-5-8gb, address: 10.0.0.53, hardware: { with: [coral-m2-dual, rpi-ai-hat-plus-2] } }\n";
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), text);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        loaded.clusters.into_iter().next().unwrap()
    }

    #[test]
    fn each_kind_of_chip_has_a_plugin_on_the_nodes_that_are_labelled_with_it() {
        let cluster = cluster();
        let labels: Vec<String> = cluster.nodes.iter().map(|node| format!("{:?}", node.labels)).collect();
        let of_kube3 = r#"{"bramble/coral-pcie": "2", "bramble/hailo-10h": "1"}"#;
        assert_eq!(labels, ["{}", r#"{"bramble/coral-usb": "2"}"#, of_kube3]);
        let all = objects(&cluster, "plugin:1");
        let pods = |object: &Value| {
            let spec = object["spec"]["template"]["spec"].clone();
            let affinity = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
            let label = affinity["nodeSelectorTerms"][0]["matchExpressions"][0]["key"].as_str().unwrap().to_owned();
            let args = spec["containers"][0]["args"].as_array().unwrap().clone();
            assert_eq!(args[..3], ["--domain", "bramble", "--device"]);
            (label, serde_json::from_str::<Value>(args[3].as_str().unwrap()).unwrap())
        };
        let pods: Vec<(String, Value)> = all.iter().map(pods).collect();
        let usb = |vendor: &str, product: &str| json!({ "usb": [{ "vendor": vendor, "product": product }] });
        let path = |path: &str| json!({ "paths": [{ "path": path }] });
        let device =
            |name: &str, groups: &[Value]| (format!("bramble/{name}"), json!({ "name": name, "groups": groups }));
        assert_eq!(
            pods,
            [
                device("coral-usb", &[usb("1a6e", "089a"), usb("18d1", "9302")]),
                device("coral-pcie", &[path("/dev/apex_*")]),
                device("hailo-10h", &[path("/dev/h1x-*"), path("/dev/hailo*")]),
            ]
        );
    }

    #[test]
    fn a_chip_that_is_not_seen_or_has_no_driver_is_told() {
        let cluster = cluster();
        let said = |node: usize, facts: &str| {
            let facts = format!(
                "bramble 1\nfact model x\nfact boot-id b\nfact os debian 13 trixie\nfact arch arm64\nfact cgroup 2\n\
                 fact memory 1\nfact time 1\n{facts}end\n"
            );
            let seen = Observation::parse(&facts, &[]).unwrap();
            let all = node_conditions(&cluster, &cluster.nodes[node], &seen, None);
            let ours = all.into_iter().filter(|condition| condition.name == "Accelerator");
            ours.map(|condition| format!("{} {}", condition.is_good(), condition.reason())).collect::<Vec<_>>()
        };
        assert_eq!(said(0, ""), [""; 0]);
        assert_eq!(
            said(1, "fact device 1d6b:0002\n"),
            ["false coral-usb: the board does not see it; look at its cable, and at `dmesg` there"]
        );
        for id in ["1a6e:089a", "18d1:9302"] {
            assert_eq!(said(1, &format!("fact device {id}\n")), ["true coral-usb"]);
        }
        let both = "fact device 1ac1:089a\nfact device 1e60:45c4\n";
        let bare = said(2, both);
        assert!(bare[0].starts_with("false coral-pcie: it has no driver; install gasket-dkms"), "{bare:?}");
        assert!(bare[1].ends_with("install hailo-h10-all of Raspberry Pi OS, and reboot the board"), "{bare:?}");
        let driven = said(2, &format!("{both}fact accelerator /dev/apex_0\nfact accelerator /dev/h1x-0\n"));
        assert_eq!(driven, ["true coral-pcie", "true hailo-10h"]);
    }
}
