//! What must hold of any cluster file, manifest or answer of a node: nothing panics or goes on for ever.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_kube::Credentials;
use bramble_spec::Cluster;
use bramble_state::{Observation, Resource, parse_record, plan};

/// A cluster file: what is wrong with it can be shown, and what is right can be planned.
pub(crate) fn cluster_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), text);
    let shown = loaded.report.render(false);
    assert!(!shown.is_empty() || !loaded.clusters.is_empty(), "nothing is said of it");
    for cluster in &loaded.clusters {
        desired(cluster, &Observation::default());
    }
}

/// A manifest of Kubernetes.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(objects) = bramble_kube::objects(text) else { return };
    for object in &objects {
        assert!(!bramble_kube::title(object).is_empty());
    }
    bramble_kube::images(&objects);
}

/// The leases of a DHCP server.
pub(crate) fn leases(bytes: &[u8]) {
    for lease in bramble_kube::leases(&String::from_utf8_lossy(bytes)) {
        assert!(lease.name.is_none_or(|name| !name.contains(char::is_control)));
    }
}

/// A kubeconfig that a node shows: what is taken is PEM in base64, and the same when it is taken again.
pub(crate) fn kubeconfig(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(taken) = Credentials::from_kubeconfig(text) else { return };
    for value in [&taken.authority, &taken.certificate, &taken.key] {
        let pem = BASE64_STANDARD.decode(value).expect("base64");
        assert!(pem.starts_with(b"-----BEGIN ") && pem.is_ascii());
    }
    let again = format!(
        "clusters:\n- cluster: {{ certificate-authority-data: {} }}\nusers:\n- user: {{ client-certificate-data: {}, \
         client-key-data: {} }}\n",
        taken.authority, taken.certificate, taken.key
    );
    assert_eq!(Credentials::from_kubeconfig(&again), Ok(taken));
}

/// What a node answers, and what it says while it is changed.
pub(crate) fn observation(bytes: &[u8]) {
    static ASKED: LazyLock<(Vec<Cluster>, Vec<Vec<Resource>>)> = LazyLock::new(|| {
        // Parts in files of their own are not at hand.
        let text =
            include_str!("../../examples/everything.yaml").replace("  catalogue: [builds/parts/poe-ssd.yaml]\n", "");
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        let asked = loaded.clusters.iter().flat_map(|cluster| desired(cluster, &Observation::default())).collect();
        assert!(!loaded.clusters.is_empty(), "{}", loaded.report.render(false));
        (loaded.clusters, asked)
    });
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        parse_record(line);
    }
    bramble_kube::parse_nodes(&text);
    let (clusters, asked) = &*ASKED;
    for resources in asked {
        let Ok(seen) = Observation::parse(&text, resources) else { continue };
        plan(resources, &seen);
        for cluster in clusters {
            desired(cluster, &seen).iter().for_each(|resources| drop(plan(resources, &seen)));
        }
    }
}

fn desired(cluster: &Cluster, seen: &Observation) -> Vec<Vec<Resource>> {
    let inputs = bramble_kube::Inputs::default();
    cluster.nodes.iter().map(|node| bramble_kube::prepare(cluster, node, seen, &inputs)).collect()
}
