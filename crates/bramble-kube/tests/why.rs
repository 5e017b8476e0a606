//! From what nodes tell to the causes.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_kube::{Case, Cause, ClusterReport, NodeCase, NodeReport, Told, causes};
use bramble_spec::Cluster;
use bramble_state::Observation;

const FILE: &str = "cluster: shelf\nnetwork: { subnet: 10.0.0.0/24, gateway: 10.0.0.1 }\n\
                    distribution: { kubeadm: { version: \"1.36\" } }\nnodes:\n  \
                    - { name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }\n  \
                    - { name: kube2, role: worker, board: rpi-4b-4gb, address: 10.0.0.52 }\n";

/// What a board says that is well.
const WELL: &str = "throttled 0x0\ntemperature 52000\nmemory MemTotal 4000000\nmemory MemAvailable 3000000\n\
                    clock NTPSynchronized=yes\ndisk 41 9000000 12 /\nlink eth0 1 1000\ngateway 10.0.0.1 REACHABLE\n\
                    name good deb.debian.org 10.0.0.1\nunit kubelet.service active running 0 success\n";

fn cluster() -> Cluster {
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), FILE);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters.into_iter().next().unwrap()
}

fn seen(more: &str) -> Observation {
    let output = format!(
        "bramble 1\nfact cgroup 2\nfact controllers cpu memory\nfact os debian 13 trixie\nfact arch arm64\n\
         fact address 10.0.0.52 eth0\nfact mac eth0 dc:a6:32:00:00:02\ndone kubernetes worker ab\n{more}end\n"
    );
    Observation::parse(&output, &[]).unwrap()
}

fn report(ready: Result<(), String>) -> ClusterReport {
    let node = |name: &str, ready| NodeReport {
        name: name.into(),
        ready,
        pressures: vec![],
        cordoned: false,
        version: "v1.36.3".into(),
    };
    ClusterReport {
        nodes: vec![node("kube1", Ok(())), node("kube2", ready)],
        bad_pods: vec![],
        system_pods: 9,
        dns: true,
        addons: Default::default(),
        address: None,
        backups: None,
    }
}

/// The causes of kube2, which says this beside what a board says that is well: a line takes the place of those that begin
/// with the same word.
fn found(told: &str, more: &str) -> Vec<Cause> {
    let words: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    let kept = WELL.lines().filter(|line| !words.iter().any(|word| line.starts_with(&format!("{word} "))));
    let text: String = kept.chain(told.lines()).map(|line| format!("{line}\n")).collect();
    let (cluster, seen, told) = (cluster(), seen(more), Told::parse(&text));
    let pods = Told::default();
    let report = report(Ok(()));
    let nodes = vec![NodeCase { node: &cluster.nodes[1], answer: Ok((&seen, &told)) }];
    causes(&Case { cluster: &cluster, nodes, report: Some(Ok(&report)), pods: &pods })
}

#[test]
fn a_board_that_is_well_has_no_cause() {
    assert_eq!(found("", ""), []);
}

#[test]
fn each_cause_is_named_once_with_its_evidence() {
    for (told, more, kind, evidence) in [
        ("throttled 0x50005", "", "under-voltage", "under-voltage now (get_throttled 0x50005)"),
        ("throttled 0x50000", "", "under-voltage", "under-voltage since it booted"),
        ("kernel       3 hwmon hwmon1: Undervoltage detected!", "", "under-voltage", "kernel, 3 times: hwmon hwmon1"),
        ("temperature 84200", "", "heat", "84 °C"),
        ("throttled 0x80008", "", "heat", "has slowed it down now"),
        ("kernel      12 mmc0: Card stuck being busy! error -110", "", "disk-failing", "kernel, 12 times: mmc0"),
        (
            "kernel       1 EXT4-fs error (device mmcblk0p2): ext4_find_entry",
            "",
            "disk-failing",
            "kernel: EXT4-fs error",
        ),
        ("", "fact root read-only\n", "disk-failing", "mounted read-only"),
        ("disk 98 120000 12 /", "", "disk-full", "/ is 98 % full: 117 MiB are free"),
        ("disk 20 9000000 99 /var", "", "disk-full", "/var has used 99 % of its inodes"),
        ("kernel       2 Out of memory: Killed process 812 (java) total-vm", "", "memory", "killed java 2 times"),
        ("memory MemTotal 1000000\nmemory MemAvailable 20000", "", "memory", "20 of 977 MiB are left"),
        ("link eth0 1 100", "", "slow-link", "eth0 runs at 100 Mbit/s"),
        ("gateway none", "", "gateway", "has no default"),
        ("gateway 10.0.0.254 REACHABLE", "", "gateway", "its way out is 10.0.0.254, the cluster file says 10.0.0.1"),
        ("gateway 10.0.0.1 FAILED", "", "gateway", "10.0.0.1 does not answer"),
        ("name bad deb.debian.org 192.168.9.9", "", "dns", "its name servers: 192.168.9.9"),
        (
            "unit kubelet.service activating auto-restart 7 exit-code\nsaid kubelet.service E1128 no such file",
            "",
            "program",
            "it said: E1128",
        ),
        ("", "fact swap /dev/zram0\n", "swap", "in use: /dev/zram0"),
    ] {
        let all = found(told, more);
        let kinds: Vec<&str> = all.iter().map(|cause| cause.kind).collect();
        assert_eq!(kinds, [kind], "{told}{more}: {all:?}");
        assert!(all[0].evidence.iter().any(|line| line.contains(evidence)), "{told}{more}: {:?}", all[0].evidence);
        assert!(!all[0].next.is_empty());
    }
}

#[test]
fn two_faults_are_both_named_and_what_follows_from_one_is_not() {
    let kinds = |told: &str| found(told, "").iter().map(|cause| cause.kind).collect::<Vec<_>>();
    assert_eq!(kinds("throttled 0x50005\ndisk 99 1 1 /"), ["under-voltage", "disk-full"]);
    // Without a way out no name is found.
    assert_eq!(kinds("gateway none\nname bad deb.debian.org 10.0.0.1"), ["gateway"]);
    // Under-voltage caps the frequency; that is no heat.
    assert_eq!(kinds("throttled 0x70007"), ["under-voltage"]);
}

#[test]
fn the_memory_cgroup_and_a_replaced_board_are_told() {
    let (cluster, told, pods, report) = (cluster(), Told::parse(WELL), Told::default(), report(Ok(())));
    let new = Observation::parse(
        "bramble 1\nfact cgroup 2\nfact controllers cpu\nfact os debian 13 x\nfact arch arm64\nend\n",
        &[],
    )
    .unwrap();
    let nodes = vec![NodeCase { node: &cluster.nodes[1], answer: Ok((&new, &told)) }];
    let all = causes(&Case { cluster: &cluster, nodes, report: Some(Ok(&report)), pods: &pods });
    let kinds: Vec<&str> = all.iter().map(|cause| cause.kind).collect();
    assert_eq!(kinds, ["cgroup", "replaced"]);
}

#[test]
fn nodes_that_do_not_answer_say_why_by_how_they_do_not() {
    let cluster = cluster();
    let pods = Told::default();
    for (error, kind) in [
        (
            "10.0.0.52:22 is unreachable: no answer within 10 s; is the board on, and is this its address?",
            "unreachable",
        ),
        ("10.0.0.52:22 refuses connections: the board is up, but sshd is not running on this port", "no-sshd"),
        (
            "the host key of 10.0.0.52:22 has changed: /h line 3 holds another one than the board shows now (SHA256:x)",
            "replaced",
        ),
        ("the host key of 10.0.0.52:22 is not known yet: SHA256:x; compare it with the board", "unknown-key"),
        ("10.0.0.52:22 accepts none of the keys for user `pi` (a); add the public key to the board", "login"),
        ("sudo asks for a password on this node; set `access.sudo: password` and bramble asks for it once", "sudo"),
        ("it has said nothing for 60 s, asked to look at the node: its disk may hang", "hung"),
    ] {
        let nodes = vec![NodeCase { node: &cluster.nodes[1], answer: Err(error) }];
        let all = causes(&Case { cluster: &cluster, nodes, report: None, pods: &pods });
        assert_eq!(all[0].kind, kind, "{error}");
    }
}

#[test]
fn what_the_api_and_the_pods_say_is_told_of_the_cluster() {
    let cluster = cluster();
    let pods = Told::parse(
        "pod\tkube2\tdefault/web\tPending\tImagePullBackOff Back-off pulling image \"nginx:arm7\"\t\n\
         pod\tkube2\tdefault/db\tRunning\tCrashLoopBackOff back-off 5m0s\t\n\
         pod\t\tdefault/big\tPending\t\t0/2 nodes are available: 2 Insufficient memory.\n",
    );
    let not_ready = report(Err("KubeletNotReady: PLEG is not healthy".into()));
    let (seen, told) = (seen(""), Told::parse(WELL));
    let nodes = vec![NodeCase { node: &cluster.nodes[1], answer: Ok((&seen, &told)) }];
    let all = causes(&Case { cluster: &cluster, nodes, report: Some(Ok(&not_ready)), pods: &pods });
    let kinds: Vec<&str> = all.iter().map(|cause| cause.kind).collect();
    assert_eq!(kinds, ["image", "pending", "not-ready", "crash"]);
    assert!(all[0].evidence[0].contains("default/web: ImagePullBackOff"));
    let silent = causes(&Case {
        cluster: &cluster,
        nodes: vec![],
        report: Some(Err("connection refused")),
        pods: &Told::default(),
    });
    assert_eq!((silent[0].kind, silent[0].evidence.as_slice()), ("api", &["connection refused".to_owned()][..]));
}

#[test]
fn two_machines_with_one_address_are_told_by_those_who_hear_them() {
    let cluster = cluster();
    let first = Told::parse("neighbour 10.0.0.52 dc:a6:32:00:00:99 REACHABLE\n");
    let second = Told::parse("neighbour 10.0.0.51 dc:a6:32:00:00:77 STALE\n");
    let one = Observation::parse("bramble 1\nfact cgroup 2\nfact controllers memory\nfact os debian 13 x\nfact arch arm64\nfact address 10.0.0.51 eth0\nfact mac eth0 dc:a6:32:00:00:01\nend\n", &[]).unwrap();
    let two = seen("");
    let nodes = vec![
        NodeCase { node: &cluster.nodes[0], answer: Ok((&one, &first)) },
        NodeCase { node: &cluster.nodes[1], answer: Ok((&two, &second)) },
    ];
    let all = causes(&Case { cluster: &cluster, nodes, report: None, pods: &Told::default() });
    let both: Vec<&Cause> = all.iter().filter(|cause| cause.kind == "two-machines").collect();
    assert_eq!(both.len(), 1, "{all:?}");
    assert_eq!(both[0].what, "two machines have the address 10.0.0.52");
    assert_eq!(both[0].evidence, ["dc:a6:32:00:00:02, as kube2 has it", "dc:a6:32:00:00:99, as kube1 has it"]);
}
