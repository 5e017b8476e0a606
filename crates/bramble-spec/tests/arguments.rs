//! What Kubernetes' own programs are told.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_spec::{Component, load};

fn file(distribution: &str, arguments: &str) -> String {
    format!(
        "cluster: home\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {distribution}\narguments:\n{arguments}nodes:\n  \
         - {{ name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }}\n"
    )
}

fn said(arguments: &str) -> String {
    load(Path::new("bramble.yaml"), &file("{ kubeadm: { version: \"1.36\" } }", arguments)).report.render(false)
}

#[test]
fn values_are_texts_numbers_and_lists() {
    let text = "  kubelet: { max-pods: 60, fail-swap-on: false, eviction-hard: [memory.available<100Mi, nodefs.available<5%] }\n  \
                kube-apiserver: { feature-gates: A=true }\n";
    let loaded = load(Path::new("bramble.yaml"), &file("{ k3s: { version: stable } }", text));
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let told = &loaded.clusters[0].arguments;
    assert_eq!(
        told.flags_of(Component::Kubelet),
        ["--eviction-hard=memory.available<100Mi,nodefs.available<5%", "--fail-swap-on=false", "--max-pods=60"]
    );
    assert_eq!(told.of(Component::KubeApiserver), ["feature-gates=A=true"]);
    assert!(told.of(Component::KubeScheduler).is_empty());
}

#[test]
fn what_no_program_takes_is_named_with_its_line_and_what_was_meant() {
    for (arguments, message, help) in [
        ("  kubelet: { max-pod: 60 }\n", "kubelet has no flag `max-pod`", "did you mean `max-pods`?"),
        ("  kubelet: { --max-pods: 60 }\n", "`--max-pods` is a flag with its dashes", "write `max-pods:`"),
        ("  kubelet: { node-ip: 10.0.0.9 }\n", "`node-ip` of kubelet is not for you to set", "the node's `address`"),
        ("  kube-apiserver: { max-pods: 60 }\n", "kube-apiserver has no flag `max-pods`", "`kube-apiserver --help`"),
        ("  kubelet: { max-pods: { file: x } }\n", "`max-pods` of kubelet cannot come from a file", "the value itself"),
        ("  kubelet: { max-pods: \"6 0\" }\n", "`6 0` is not a value", "use letters, digits"),
        ("  kubelet: { v: \"$(id)\" }\n", "`$(id)` is not a value", "use letters, digits"),
        ("  etcd: { data-dir: /x }\n", "`data-dir` of etcd is not for you to set", "looks after its folder"),
        (
            "  etcd: { hearbeat-interval: 500 }\n",
            "etcd has no flag `hearbeat-interval`",
            "did you mean `heartbeat-interval`?",
        ),
        ("  apiserver: { v: 1 }\n", "unknown key `apiserver`", "kube-apiserver"),
        ("  kubelet: { max-pods: }\n", "it has no value", ""),
    ] {
        let said = said(arguments);
        assert!(said.contains(message) && said.contains(help), "{arguments}: {said}");
        assert!(said.contains("bramble.yaml:5:"), "{said}");
    }
    for (distribution, message) in [
        ("{ kubeadm: { version: \"1.36\" } }", ""),
        ("{ k3s: { version: stable, datastore: etcd } }", ""),
        ("{ k3s: { version: stable } }", "the state of this cluster is not kept in etcd"),
        ("{ microk8s: { version: \"1.36\" } }", "the state of this cluster is not kept in etcd"),
    ] {
        let said = load(Path::new("bramble.yaml"), &file(distribution, "  etcd: { heartbeat-interval: 500 }\n")).report;
        assert_eq!(said.has_errors(), !message.is_empty(), "{distribution}");
        assert!(said.render(false).contains(message), "{distribution}");
    }
    let none = file("none", "  kubelet: { v: 1 }\n").replace("control-plane", "worker");
    let none = load(Path::new("bramble.yaml"), &none).report.render(false);
    assert!(none.contains("there is no kubelet without a distribution"), "{none}");
}
