//! What the nodes are given for each version of Kubernetes and containerd, word for word.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use bramble_kube::{BackupKeys, Inputs, JoinFacts, LocalFile, Release, lifecycle, prepare};
use bramble_spec::Cluster;
use bramble_state::{Observation, Resource};

fn cluster(version: &str, planes: usize) -> Cluster {
    of(&format!("kubeadm: {{ version: \"{version}\" }}"), planes)
}

fn of(distribution: &str, planes: usize) -> Cluster {
    let mut text =
        format!("cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution:\n  {distribution}\nnodes:\n");
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
    let functions = script.find("\nprivate_file /run").or_else(|| script.rfind("\n}\n").map(|at| at + 2));
    &script[functions.unwrap()..]
}

fn init(version: &str, planes: usize) -> String {
    let (cluster, inputs) = (cluster(version, planes), Inputs::default());
    let life = lifecycle(&cluster, &inputs).unwrap();
    let step = life.init(&cluster.nodes[0], &seen("1.6.20"), &life.secrets([0; 64]), None).unwrap();
    calls(step.apply.as_str()).to_owned()
}

#[test]
fn kubeadm_init_in_the_versions_of_its_configuration() {
    for (version, planes) in [("1.30.2", 1), ("1.36", 3)] {
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

/// What k0s publishes of a release.
fn k0s_release(version: &str) -> Inputs {
    let names = ["amd64", "arm64", "arm"].map(|arch| format!("k0s-v{version}-{arch}"));
    let bundles = ["amd64", "arm64", "arm"].map(|arch| format!("k0s-airgap-bundle-v{version}-linux-{arch}.tar"));
    let mut inputs = k3s_release();
    let release = inputs.release.as_mut().unwrap();
    let file = release.files["k3s"].clone();
    release.version = version.to_owned();
    release.files = names.into_iter().chain(bundles).map(|name| (name, file.clone())).collect();
    inputs
}

#[test]
fn k0s_controllers_and_workers_are_given_their_files() {
    let inputs = k0s_release("1.36.3+k0s.2");
    let pi = seen("1.6.20");
    let mut all = String::new();
    for moving in [true, false] {
        let mut cluster = of("k0s: { version: v1.36.3+k0s.2, images: upload }", 3);
        if moving {
            cluster.network.api = "10.0.0.9".parse().unwrap();
        }
        let life = lifecycle(&cluster, &inputs).unwrap();
        assert_eq!(life.kubelet_version(), "1.36.3+k0s");
        for node in [1, 3] {
            all.push_str(&format!("=== {}, the API's address moves: {moving}\n", cluster.nodes[node].name));
            all.push_str(&given(&cluster, &inputs, node, &pi));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn k0s_is_told_how_it_begins() {
    let inputs = k0s_release("1.36.3+k0s.2");
    let cluster = of("k0s: { version: stable }", 3);
    let life = lifecycle(&cluster, &inputs).unwrap();
    let mut facts = life.secrets([7; 64]);
    let step = life.init(&cluster.nodes[0], &seen(""), &facts, Some("/var/lib/bramble/blobs/state")).unwrap();
    let mut all = calls(step.apply.as_str()).to_owned();
    let joining: Vec<_> = cluster.nodes.iter().skip(3).collect();
    all.push_str(life.join_facts(&cluster.nodes[0], &seen(""), &joining, &facts).unwrap().as_str());
    facts.set(JoinFacts::CA, &"cd".repeat(32));
    assert!(life.join(&cluster.nodes[3], &seen(""), &facts).unwrap_err().to_string().contains("worker-token"));
    facts.set("worker-token", "WORKERS");
    facts.set("controller-token", "CONTROLLERS");
    for node in &cluster.nodes[1..] {
        all.push_str(calls(life.join(node, &seen(""), &facts).unwrap().apply.as_str()));
    }
    insta::assert_snapshot!(all);
}

/// A release of MicroK8s, as it comes from the store or out of a bundle.
fn microk8s_release(version: &str) -> Inputs {
    let mut inputs = k3s_release();
    let release = inputs.release.as_mut().unwrap();
    let file = release.files["k3s"].clone();
    release.version = version.to_owned();
    release.offline = true;
    let names =
        ["core22", "microk8s", "snapd"].map(|snap| [format!("{snap}_arm64.snap"), format!("{snap}_arm64.assert")]);
    let names = names.into_iter().flatten().chain(["images_arm64.tar".to_owned()]);
    release.files = names.map(|name| (name, file.clone())).collect();
    inputs
}

#[test]
fn microk8s_nodes_are_given_their_files() {
    let inputs = microk8s_release("1.36.3+r9123");
    let mut cluster = of("microk8s: { version: \"1.36\" }", 3);
    cluster.network.api = "10.0.0.9".parse().unwrap();
    let life = lifecycle(&cluster, &inputs).unwrap();
    assert_eq!((life.kubelet_version().as_str(), life.api_port()), ("1.36.3", 16443));
    let new = seen("1.6.20");
    let mut all = String::new();
    for node in [1, 3] {
        all.push_str(&format!(
            "=== {}, packages {:?}\n",
            cluster.nodes[node].name,
            life.packages(&cluster.nodes[node], &new).install
        ));
        all.push_str(&given(&cluster, &inputs, node, &new));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn microk8s_is_told_how_it_begins() {
    let inputs = microk8s_release("1.36.3+r9123");
    let cluster = of("microk8s: { version: \"1.36\" }", 3);
    let life = lifecycle(&cluster, &inputs).unwrap();
    let mut facts = life.secrets([7; 64]);
    let step = life.init(&cluster.nodes[0], &seen(""), &facts, Some("/var/lib/bramble/blobs/state")).unwrap();
    assert!(step.apply.as_str().contains("\nsnaps='snapd core22 microk8s'\n"), "each after those that it needs");
    let mut all = calls(step.apply.as_str()).to_owned();
    let joining: Vec<_> = cluster.nodes.iter().skip(2).collect();
    all.push_str(life.join_facts(&cluster.nodes[1], &seen(""), &joining, &facts).unwrap().as_str());
    facts.set(JoinFacts::CA, &"cd".repeat(32));
    facts.set("agent", "10.0.0.50:25000");
    facts.set("tokens", &format!("{}=AAA/111 {}=BBB/222", cluster.nodes[1].name, cluster.nodes[3].name));
    for node in [1, 3] {
        all.push_str(calls(life.join(&cluster.nodes[node], &seen(""), &facts).unwrap().apply.as_str()));
    }
    let missing = life.join(&cluster.nodes[2], &seen(""), &facts).unwrap_err().to_string();
    assert!(missing.contains("tokens"), "{missing}");
    all.push_str(calls(life.upgrade(&cluster.nodes[3], &seen(""), true).apply.as_str()));
    let mut other = cluster.clone();
    other.network.services = "10.96.0.0/12".parse().unwrap();
    let life = lifecycle(&other, &inputs).unwrap();
    all.push_str(calls(life.init(&cluster.nodes[0], &seen(""), &facts, None).unwrap().apply.as_str()));
    insta::assert_snapshot!(all);
}

/// What k3s publishes of a release.
fn k3s_release() -> Inputs {
    let file = |name: &str| {
        let path = Path::new("/cache").join(name);
        (name.to_owned(), LocalFile { path, sha256: "ab".repeat(32).parse().unwrap() })
    };
    let names = ["k3s", "k3s-arm64", "k3s-armhf"].into_iter().map(str::to_owned);
    let archives = ["amd64", "arm64", "arm"].map(|arch| format!("k3s-airgap-images-{arch}.tar.zst"));
    let release = Release {
        version: "1.36.3+k3s1".into(),
        files: names.chain(archives).map(|name| file(&name)).collect(),
        images: vec!["docker.io/rancher/mirrored-library-busybox:1.37.0".into()],
        urls: BTreeMap::new(),
        offline: false,
    };
    Inputs { release: Some(release), ..Inputs::default() }
}

/// Everything of a distribution that a node gets, in words.
fn given(cluster: &Cluster, inputs: &Inputs, node: usize, seen: &Observation) -> String {
    let life = lifecycle(cluster, inputs).unwrap();
    let mut text = String::new();
    for resource in life.resources(&cluster.nodes[node], seen) {
        match resource {
            Resource::File(file) => text.push_str(&format!("--- {} {}\n{}", file.path, file.mode, file.content)),
            Resource::Blob(blob) => text.push_str(&format!("--- {} {} from {:?}\n", blob.path, blob.mode, blob.source)),
            Resource::Unit(unit) => {
                text.push_str(&format!("--- {} runs: {}, reads {:?}\n", unit.name, unit.running, unit.reads))
            }
            Resource::Certificates(certificates) => {
                text.push_str(&format!("--- certificates {:?}\n", certificates.files))
            }
            Resource::Step(step) => text.push_str(&format!("--- {} {}: {}\n", step.id, step.version, step.title)),
            Resource::Other(_) => {}
            other => panic!("{other:?}"),
        }
    }
    text
}

#[test]
fn k3s_servers_and_agents_are_given_their_files() {
    let mut cluster = of(
        "k3s: { version: stable, disable: [traefik], images: upload, server: { etcd-expose-metrics: true, kubelet-arg: [max-pods=50] }, agent: { kubelet-arg: max-pods=30 } }",
        3,
    );
    cluster.network.api = "10.0.0.9".parse().unwrap();
    let pi = seen("1.6.20");
    insta::assert_snapshot!("k3s_server", given(&cluster, &k3s_release(), 1, &pi));
    insta::assert_snapshot!("k3s_agent", given(&cluster, &k3s_release(), 3, &pi));
    // A PC in a container, with the old cgroups, among the boards.
    let output = "bramble 1\nfact cgroup 1\nfact container yes\nfact os debian 13 trixie\nfact arch amd64\nend\n";
    let pc = Observation::parse(output, &[]).unwrap();
    let on_pc = given(&cluster, &k3s_release(), 3, &pc);
    for part in ["fail-cgroupv1=false", "conntrack-max-per-core=0", "\"/cache/k3s\"", "k3s-airgap-images-amd64.tar.zst"]
    {
        assert!(on_pc.contains(part), "{part} is missing:\n{on_pc}");
    }
    // A 32-bit system on a 64-bit board.
    let output = "bramble 1\nfact cgroup 2\nfact os debian 12 bookworm\nfact arch armhf\nend\n";
    let on_arm = given(&cluster, &k3s_release(), 3, &Observation::parse(output, &[]).unwrap());
    for part in ["\"/cache/k3s-armhf\"", "k3s-airgap-images-arm.tar.zst"] {
        assert!(on_arm.contains(part), "{part} is missing:\n{on_arm}");
    }
    for node in 0..4 {
        assert!(cluster.nodes[node].pods.is_none(), "k3s gives nodes their ranges itself");
    }
}

#[test]
fn servers_of_k3s_meet_in_a_database_and_nodes_share_images() {
    let cluster = of(
        "k3s: { version: stable, server: { datastore-endpoint: \"mysql://k3s@tcp(10.0.0.99:3306)/k3s\", embedded-registry: true } }",
        3,
    );
    let inputs = k3s_release();
    let life = lifecycle(&cluster, &inputs).unwrap();
    assert!(life.state_elsewhere().is_some_and(|where_it_is| where_it_is.contains("pg_dump")));
    let text = given(&cluster, &inputs, 1, &seen(""));
    assert!(text.contains("datastore-endpoint: \"mysql://k3s@tcp(10.0.0.99:3306)/k3s\""), "{text}");
    assert!(!text.contains("cluster-init"), "{text}");
    assert!(
        text.contains("--- /etc/rancher/k3s/registries.yaml 600\n{\n  \"mirrors\": {\n    \"*\": {}\n  }\n}\n"),
        "{text}"
    );
    let mut facts = life.secrets([7; 64]);
    facts.set(JoinFacts::CA, &"cd".repeat(32));
    facts.set("server", "https://10.0.0.50:6443");
    let joins = |node: usize| {
        let step = life.join(&cluster.nodes[node], &seen(""), &facts).unwrap();
        step.apply.as_str().lines().find(|line| line.starts_with("k3s_join ")).unwrap().to_owned()
    };
    assert!(joins(1).ends_with(" '' ''"), "{}", joins(1));
    assert!(joins(3).ends_with(" https://10.0.0.50:6443 ''"), "{}", joins(3));
    // Nobody is led to a database with nothing in it.
    for (was, refused) in [("etcd", true), ("sqlite", true), ("external", false)] {
        let output = format!(
            "bramble 1\nfact cgroup 2\nfact os debian 13 trixie\nfact arch arm64\ndone kubernetes x\ndone datastore {was}\nend\n"
        );
        let problems = life.check(&cluster.nodes[0], &Observation::parse(&output, &[]).unwrap());
        assert_eq!(
            problems.iter().any(|problem| problem.message.contains("would begin anew")),
            refused,
            "{problems:?}"
        );
    }
}

#[test]
fn k3s_is_told_how_it_begins() {
    let inputs = k3s_release();
    let mut all = String::new();
    for (cluster, restored) in [
        (of("k3s: { version: stable }", 1), None),
        (of("k3s: { version: stable, disable: [coredns] }", 3), Some("/var/lib/bramble/blobs/state")),
    ] {
        let life = lifecycle(&cluster, &inputs).unwrap();
        assert_eq!(life.version(), "1.36.3+k3s1");
        let step = life.init(&cluster.nodes[0], &seen(""), &life.secrets([0; 64]), restored).unwrap();
        all.push_str(calls(step.apply.as_str()));
        let mut facts = life.secrets([7; 64]);
        facts.set(JoinFacts::CA, &"cd".repeat(32));
        assert!(
            life.join(cluster.nodes.last().unwrap(), &seen(""), &facts).unwrap_err().to_string().contains("server")
        );
        facts.set("server", "https://10.0.0.50:6443");
        for node in cluster.nodes.iter().skip(1) {
            all.push_str(calls(life.join(node, &seen(""), &facts).unwrap().apply.as_str()));
        }
        for first in [true, false] {
            let step = life.upgrade(&cluster.nodes[0], &seen(""), first);
            assert_eq!(step.title, "upgrade kube0 to k3s 1.36.3+k3s1 (restart its service)");
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn vxlan_missing() {
    let mut cluster = cluster("1.36.2", 1);
    let has = |cluster: &Cluster, os: &str| {
        let output =
            format!("bramble 1\nfact cgroup 2\nfact model Raspberry Pi 4\nfact os {os} x\nfact arch arm64\nend\n");
        let seen = Observation::parse(&output, &[]).unwrap();
        let all = prepare(cluster, &cluster.nodes[0], &seen, &Inputs::default());
        let module =
            all.iter().any(|r| matches!(r, Resource::Modules(names) if names.iter().any(|name| name == "vxlan")));
        let extra = "linux-modules-extra-raspi";
        (module, all.iter().any(|r| matches!(r, Resource::Packages(names) if names.iter().any(|name| name == extra))))
    };
    assert_eq!(has(&cluster, "ubuntu 22.04"), (false, false), "routes need none");
    cluster.network.cni = bramble_spec::Cni::Flannel;
    for (os, extra) in [("ubuntu 22.04", true), ("ubuntu 23.10", true), ("ubuntu 24.04", false), ("debian 13", false)] {
        assert_eq!(has(&cluster, os), (true, extra), "{os}");
    }
}

const ARGUMENTS: &str = "\narguments:\n  kubelet: { max-pods: 60, eviction-hard: \"nodefs.available<10%\" }\n  \
                         kube-apiserver: { audit-log-maxage: 7 }\n  kube-scheduler: { v: 2 }\n";

/// What a control plane and a worker that are members get otherwise when Kubernetes' programs have arguments.
#[test]
fn programs_of_every_distribution_have_the_arguments_of_the_cluster_file() {
    let mut all = String::new();
    for (distribution, inputs) in [
        ("kubeadm: { version: \"1.36\" }", Inputs::default()),
        ("k3s: { version: stable }", k3s_release()),
        ("k0s: { version: v1.36.3+k0s.2 }", k0s_release("1.36.3+k0s.2")),
        ("microk8s: { version: \"1.36\" }", microk8s_release("1.36.3+r9123")),
    ] {
        // MicroK8s keeps the state elsewhere.
        let etcd = if distribution.starts_with("microk8s") { "" } else { "  etcd: { snapshot-count: 5000 }\n" };
        let distribution = if etcd.is_empty() {
            distribution.to_owned()
        } else {
            distribution.replace("stable", "stable, datastore: etcd")
        };
        let plain = of(&distribution, 1);
        let told = of(&format!("{distribution}{ARGUMENTS}{etcd}"), 1);
        let output = "bramble 1\nfact cgroup 2\nfact os debian 13 trixie\nfact arch arm64\ndone kubernetes x\nend\n";
        let member = Observation::parse(output, &[]).unwrap();
        for node in [0, 1] {
            let before = given(&plain, &inputs, node, &member);
            all.push_str(&format!("=== {distribution}, {}\n", told.nodes[node].name));
            for line in given(&told, &inputs, node, &member).lines().filter(|line| !before.contains(*line)) {
                all.push_str(&format!("{line}\n"));
            }
        }
        let life = lifecycle(&told, &inputs).unwrap();
        let begins = life.init(&told.nodes[0], &member, &life.secrets([0; 64]), None).unwrap();
        let words = ["pod_patches", "tell_arguments", "step_ends settings", "step_ends arguments"];
        for line in begins.apply.as_str().lines().filter(|line| words.iter().any(|word| line.starts_with(word))) {
            all.push_str(&format!("{line}\n"));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn no_plan_shows_a_secret_of_k3s() {
    let cluster = of("k3s: { version: stable, server: { etcd-s3: true, etcd-s3-secret-key: hunter2 } }", 1);
    let life_inputs = k3s_release();
    let life = lifecycle(&cluster, &life_inputs).unwrap();
    let files = life.resources(&cluster.nodes[0], &seen("")).into_iter().filter_map(|resource| match resource {
        Resource::File(file) if file.content.contains("hunter2") => Some((file.path, file.mode, file.secret)),
        _ => None,
    });
    let place = ("/etc/rancher/k3s/config.yaml.d/bramble.yaml".to_owned(), "600".into(), true);
    assert_eq!(files.collect::<Vec<_>>(), [place]);
}

/// What backups and a UPS add to a control plane and to the worker that takes backups; texts that are never shown as their places.
#[test]
fn backups_and_a_ups() {
    let plain = cluster("1.36.2", 3);
    let text = "kubeadm: { version: \"1.36.2\" }\nbackup:\n  every: 6h\n  to:\n    - work:/srv/backups\n    \
                - { url: \"ssh://me@nas.lan:2222/kube\", host_key: \"ssh-ed25519 AAAAC3\", key: nas }\n    \
                - { url: \"s3://bucket/shelf\", endpoint: \"http://nas.lan:9000\", credentials: s3 }\n\
                power: { nut: { ups: \"ups@nas.lan\", user: me, password_file: nut } }";
    let told = of(text, 3);
    let keys = BackupKeys {
        volumes: "pass".into(),
        recipient: "age1recipient".into(),
        private: "PRIVATE".into(),
        public: "ssh-ed25519 AAAAOWN".into(),
        files: [("nas", "NAS KEY"), ("s3", "AWS SECRET")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
    };
    let inputs = Inputs { backups: Some(keys), ups_password: Some("pass \"word\\".into()), ..Inputs::default() };
    let mut all = String::new();
    for node in [0, 1, 3] {
        let before = prepare(&plain, &plain.nodes[node], &seen("1.7.24"), &Inputs::default());
        all.push_str(&format!("=== {}\n", told.nodes[node].name));
        for resource in prepare(&told, &told.nodes[node], &seen("1.7.24"), &inputs) {
            if before.contains(&resource) {
                continue;
            }
            match resource {
                Resource::File(file) if file.secret => all.push_str(&format!("{} {} (secret)\n", file.path, file.mode)),
                // The scripts differ in how long they wait.
                Resource::File(file) if file.path == "/etc/bramble/backup/make" => {
                    let own = file.content.lines().filter(|line| {
                        ["wait=", "every=", "keep=", "recipient=", "to_", "begin_backup", "end_backup"]
                            .iter()
                            .any(|word| line.starts_with(word) && !line.ends_with('{') && !line.contains("() {"))
                    });
                    all.push_str(&format!("{} {}\n{}\n", file.path, file.mode, own.collect::<Vec<_>>().join("\n")));
                }
                Resource::File(file) => all.push_str(&format!("{} {}\n{}", file.path, file.mode, file.content)),
                Resource::Step(step) => all.push_str(&format!("step {}: {}\n", step.id, step.title)),
                Resource::Packages(packages) => all.push_str(&format!("packages {}\n", packages.join(" "))),
                Resource::Unit(unit) => all.push_str(&format!("unit {} reads {}\n", unit.name, unit.reads.join(" "))),
                other => all.push_str(&format!("{other:?}\n")),
            }
        }
    }
    for hidden in ["PRIVATE", "NAS KEY", "AWS SECRET", "pass "] {
        assert!(!all.contains(hidden), "{hidden}: {all}");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn servers_with_a_database_elsewhere_save_volumes_and_not_the_state() {
    let cluster = of(
        "k3s: { version: stable, server: { datastore-endpoint: \"postgres://10.0.0.99/k3s\" } }\n\
         backup: { every: 6h, to: [work:/srv/backups], volumes: [shop/db] }",
        1,
    );
    let inputs = Inputs { backups: Some(BackupKeys::default()), ..k3s_release() };
    let units = |node: usize| {
        let all = prepare(&cluster, &cluster.nodes[node], &seen(""), &inputs);
        let units = all.into_iter().filter_map(|resource| match resource {
            Resource::Unit(unit) if unit.name.ends_with(".timer") => Some(unit.name),
            _ => None,
        });
        units.collect::<Vec<_>>()
    };
    assert_eq!(
        (units(0), units(1)),
        (vec!["bramble-volumes.timer".to_owned()], vec!["bramble-volumes.timer".to_owned()])
    );
}
