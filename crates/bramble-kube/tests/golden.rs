//! What the nodes are given for each version of Kubernetes and containerd, word for word.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_kube::{Inputs, JoinFacts, lifecycle, prepare};
use bramble_spec::Cluster;
use bramble_state::{Observation, Resource};

fn cluster(version: &str, planes: usize) -> Cluster {
    let mut text = format!(
        "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution:\n  kubeadm: {{ version: \"{version}\" }}\nnodes:\n"
    );
    for n in 0..planes {
        text.push_str(&format!(
            "  - {{ name: kube{n}, role: control-plane, board: rpi-5-8gb, address: 10.0.0.5{n} }}\n"
        ));
    }
    text.push_str("  - { name: work, role: worker, board: rpi-4b-4gb, address: 10.0.0.60, labels: { disk: ssd }, taints: [\"slow=yes:NoSchedule\"] }\n");
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters.into_iter().next().unwrap()
}

/// A Raspberry Pi with cgroup v2 and a containerd of this version.
fn seen(containerd: &str) -> Observation {
    let output = format!(
        "bramble 1\nfact cgroup 2\nfact controllers cpu memory\nfact model Raspberry Pi 5 Model B\nfact os debian 12 bookworm\n\
         fact arch arm64\npackage containerd ii |{containerd}\nend\n"
    );
    Observation::parse(&output, &[]).unwrap()
}

/// What stands behind the functions of the scripts.
fn calls(script: &str) -> &str {
    &script[script.find("\nprivate_file /run").unwrap()..]
}

fn init(version: &str, planes: usize) -> String {
    let (cluster, inputs) = (cluster(version, planes), Inputs::default());
    let life = lifecycle(&cluster, &inputs).unwrap();
    let step = life.init(&cluster.nodes[0], &seen("1.6.20"), &life.secrets([0; 64]), None).unwrap();
    calls(step.apply.as_str()).to_owned()
}

#[test]
fn kubeadm_init_in_the_three_versions_of_its_configuration() {
    for (version, planes) in [("1.21.14", 1), ("1.30.2", 1), ("1.36", 3)] {
        insta::assert_snapshot!(format!("init_{}", version.replace('.', "_")), init(version, planes));
    }
}

#[test]
fn kubeadm_join_of_a_worker_and_a_control_plane() {
    let (cluster, inputs) = (cluster("1.36.2", 3), Inputs::default());
    let life = lifecycle(&cluster, &inputs).unwrap();
    let mut facts = life.secrets([7; 64]);
    let error = life.join(&cluster.nodes[3], &seen("1.6.20"), &facts).unwrap_err().to_string();
    assert!(error.contains("did not tell the ca-hash"), "{error}");
    let ca = format!("sha256:{}", "ab".repeat(32));
    facts.set(JoinFacts::CA, &ca);
    let mut all = String::new();
    for node in [&cluster.nodes[3], &cluster.nodes[1]] {
        let step = life.join(node, &seen("1.6.20"), &facts).unwrap();
        assert_eq!(step.version, format!("{} {ca}", node.role));
        all.push_str(calls(step.apply.as_str()));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_address_of_the_api_moves_when_no_node_owns_it() {
    let mut cluster = cluster("1.36.2", 3);
    let inputs = Inputs::default();
    let config = |cluster: &Cluster, node: usize| {
        prepare(cluster, &cluster.nodes[node], &seen("1.6.20"), &inputs).into_iter().find_map(|resource| match resource
        {
            Resource::File(file) if file.path.ends_with("keepalived.conf") => Some(file.content),
            _ => None,
        })
    };
    assert_eq!(config(&cluster, 0), None, "it is the first control plane's");
    cluster.network.api = [10, 0, 0, 9].into();
    assert_eq!(config(&cluster, 3), None, "a worker has no API");
    insta::assert_snapshot!(config(&cluster, 1).unwrap());
}

#[test]
fn containerd_is_configured_for_its_own_major_version() {
    let cluster = cluster("1.36.2", 1);
    let mut all = String::new();
    for version in ["1.6.20~ds1-1+deb12u1", "1.7.24", "2.1.4"] {
        let resources = prepare(&cluster, &cluster.nodes[0], &seen(version), &Inputs::default());
        let config = resources
            .iter()
            .find_map(|resource| match resource {
                Resource::File(file) if file.path == "/etc/containerd/config.toml" => Some(file.content.clone()),
                _ => None,
            })
            .unwrap();
        all.push_str(&format!("=== containerd {version}\n{config}\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn secrets_have_the_form_that_kubeadm_takes_and_are_never_shown() {
    let (cluster, inputs) = (cluster("1.36.2", 3), Inputs::default());
    let life = lifecycle(&cluster, &inputs).unwrap();
    let random: Vec<u8> = (0..64u8).map(|n| n.wrapping_mul(37)).collect();
    let secrets = life.secrets(random.try_into().unwrap());
    let token = secrets.get("token").unwrap();
    let (id, secret) = token.split_once('.').unwrap();
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    assert!(id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret), "{token}");
    let key = secrets.get("certificate-key").unwrap();
    assert!(key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
    let shown = format!("{secrets:?}");
    assert!(!shown.contains(token) && !shown.contains(key), "{shown}");
}
