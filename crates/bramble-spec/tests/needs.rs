//! The catalogue's figures of what distributions ask of nodes.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_spec::Role;

#[test]
fn the_catalogue_says_what_each_distribution_asks_of_each_role() {
    for distribution in [
        "kubeadm: { version: \"1.36\" }",
        "k3s: { version: stable }",
        "k0s: { version: stable }",
        "microk8s: { version: stable }",
    ] {
        let text = format!(
            "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ {distribution} }}\n\
             nodes:\n  - {{ name: kube1, role: control-plane, board: generic-arm64, address: 10.0.0.50 }}\n"
        );
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        let cluster = loaded.clusters.first().unwrap();
        for role in [Role::ControlPlane, Role::Worker] {
            let need = cluster.distribution.need(role).unwrap();
            let entry = cluster.hardware.catalogue.needs.get(&need);
            assert!(entry.is_some_and(|entry| entry.idle.is_some() && entry.disk.is_some()), "{need}");
        }
    }
}
