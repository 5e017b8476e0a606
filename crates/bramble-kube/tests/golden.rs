//! What the nodes are given for each version of Kubernetes and containerd, word for word.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_kube::{Inputs, JoinFacts, JoinFactsSeed, Token, Token32, prepare};
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

fn seed(planes: usize) -> JoinFactsSeed {
    JoinFactsSeed { token: Token::new([0; 22]), certificate_key: (planes > 1).then(|| Token32::new([7; 32])) }
}

fn init(version: &str, planes: usize) -> String {
    let cluster = cluster(version, planes);
    let step =
        bramble_kube::init(&cluster, &cluster.nodes[0], &seen("1.6.20"), &Inputs::default(), &seed(planes)).unwrap();
    let text = step.apply.as_str();
    text[text.find("\nprivate_file /run").unwrap()..].to_owned()
}

#[test]
fn kubeadm_init_in_the_three_versions_of_its_configuration() {
    for (version, planes) in [("1.21.14", 1), ("1.30.2", 1), ("1.36", 3)] {
        insta::assert_snapshot!(format!("init_{}", version.replace('.', "_")), init(version, planes));
    }
}

#[test]
fn kubeadm_join_of_a_worker_and_a_control_plane() {
    let cluster = cluster("1.36.2", 3);
    let facts = JoinFacts {
        token: Token::new([0; 22]),
        ca_hash: format!("sha256:{}", "ab".repeat(32)),
        certificate_key: Some(Token32::new([7; 32])),
    };
    let mut all = String::new();
    for node in [&cluster.nodes[3], &cluster.nodes[1]] {
        let step = bramble_kube::join(&cluster, node, &Inputs::default(), &facts).unwrap();
        assert_eq!(step.version, format!("{} {}", node.role, facts.ca_hash));
        let text = step.apply.as_str();
        all.push_str(&text[text.find("\nprivate_file /run").unwrap()..]);
    }
    insta::assert_snapshot!(all);
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
fn tokens_have_the_form_that_kubeadm_takes_and_are_never_shown() {
    let random: Vec<u8> = (0..22).map(|n| n * 11).collect();
    let token = Token::new(random.try_into().unwrap());
    assert_eq!(format!("{token:?}"), "Token(…)");
    assert!(Token::parse("abcdef.0123456789abcdef").is_some());
    for bad in ["abcdef", "abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde$"] {
        assert!(Token::parse(bad).is_none(), "{bad}");
    }
}
