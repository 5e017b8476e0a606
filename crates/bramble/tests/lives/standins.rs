//! k3s, k0s and MicroK8s through their lives, with stand-ins in their places: releases of them cannot be had where the tests run. A
//! stand-in has the flags, the files and the behaviour that the source of the real one shows (docs/distributions/), refuses
//! everything else, and runs a real Kubernetes behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::Row;
use crate::common::{Rack, assert_code, read, text, wait_for, without};
use crate::shelf::{Saved, Shelf};
use crate::wreck;

/// The versions of the two bundles (`modules/` of bramble-bundle).
const VERSIONS: [&str; 2] = ["1.36.3", "1.37.2"];

/// The range of pods that a cluster file has where it names none.
const PODS: &str = "10.244.0.0/16";

/// What the lives of the distributions differ in.
struct Life {
    name: &'static str,
    /// The name of its rack.
    rack: &'static str,
    /// The third number of the rack's network.
    network: u8,
    /// The port of its API.
    port: u16,
    /// What stands behind the version of a release, and behind that which its kubelets tell.
    build: &'static str,
    kubelet: &'static str,
    /// Its units that bramble writes.
    units: &'static str,
    /// Prints files with secrets that others can read, and tokens that still let somebody in.
    open_secrets: &'static str,
    /// What curl needs so that the API answers it.
    probe: &'static str,
    /// Prints the names of etcd's members.
    members: &'static str,
    /// The folder of etcd's data, without the first `/`.
    data: &'static str,
    /// What must be gone in the end.
    places: &'static str,
}

const K3S: Life = Life {
    name: "k3s",
    rack: "t-k3s",
    network: 12,
    port: 6443,
    build: "k3s1",
    kubelet: "+k3s1",
    units: "/etc/systemd/system/k3s*.service",
    open_secrets: "stat -c '%a %n' /etc/rancher/k3s/* /etc/rancher/k3s/config.yaml.d/* | grep -v '^[67]00 \\|config.yaml.d$'",
    probe: "--cert /var/lib/rancher/k3s/server/tls/client-admin.crt --key /var/lib/rancher/k3s/server/tls/client-admin.key",
    // Members are called after their node, with eight digits of their own behind it.
    members: "cd /var/lib/rancher/k3s/server/standin && /var/lib/rancher/k3s/data/current/bin/etcdctl \
              --endpoints=https://127.0.0.1:2379 --cacert=etcd/ca.crt --cert=etcd/healthcheck-client.crt \
              --key=etcd/healthcheck-client.key member list | cut -d, -f3 | sed 's/-[0-9a-f]*$//'",
    data: "var/lib/rancher/k3s/server/db/etcd",
    places: "/var/lib/rancher /etc/rancher /run/k3s /usr/local/bin/k3s",
};

const K0S: Life = Life {
    name: "k0s",
    rack: "t-k0s",
    network: 14,
    port: 6443,
    build: "k0s.0",
    kubelet: "+k0s",
    units: "/etc/systemd/system/k0s*.service",
    open_secrets: "stat -c '%a %n' /etc/k0s/* 2>/dev/null | grep -v '^600 \\|/member$'; ls /run/bramble/k0s.token /run/systemd/system/k0s* 2>/dev/null",
    probe: "",
    members: "k0s etcd member-list | grep -o '\"[a-z0-9-]*\":\"https' | cut -d'\"' -f2",
    data: "var/lib/k0s/etcd",
    places: "/var/lib/k0s /etc/k0s /run/k0s /usr/local/bin/k0s",
};

const MICROK8S: Life = Life {
    name: "microk8s",
    rack: "t-microk8s",
    network: 18,
    port: 16443,
    build: "r1",
    kubelet: "",
    units: "",
    open_secrets: "stat -c '%a %n' /etc/microk8s.yaml | grep -v '^600 '; cat /var/snap/microk8s/current/credentials/cluster-tokens.txt 2>/dev/null; \
                   ls /run/bramble/microk8s.tokens 2>/dev/null",
    probe: "",
    members: "/snap/bin/microk8s status --format yaml | sed -n 's/.*address: \\([0-9.]*\\):.*/\\1/p' | while read -r a; do \
              awk -v a=\"$a\" '$1 == a { print $2 }' /etc/hosts; done",
    data: "var/snap/microk8s/current/var/kubernetes/backend/etcd",
    places: "/var/snap/microk8s /snap/microk8s /snap/core22 /etc/microk8s.yaml /var/lib/kubelet /var/lib/bramble",
};

/// A row for each of them.
macro_rules! row {
    ($name:literal, $life:ident, $test:ident) => {
        Row { name: $name, test: |shelf| $test(&$life, shelf) }
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!("lives::ci::k3s_by_a_stand_in::it_comes_up_and_goes", K3S, comes_up_and_goes),
    row!("lives::k3s_by_a_stand_in::the_api_moves", K3S, the_api_moves),
    row!("lives::k3s_by_a_stand_in::boards_leave_and_are_replaced", K3S, boards_leave_and_are_replaced),
    row!("lives::k3s_by_a_stand_in::a_wreck_comes_back_from_a_backup", K3S, a_wreck_comes_back),
    row!("lives::k3s_by_a_stand_in::it_goes_to_another_release", K3S, goes_to_another_release),
    row!("lives::k0s_by_a_stand_in::it_comes_up_and_goes", K0S, comes_up_and_goes),
    row!("lives::k0s_by_a_stand_in::the_api_moves", K0S, the_api_moves),
    row!("lives::k0s_by_a_stand_in::boards_leave_and_are_replaced", K0S, boards_leave_and_are_replaced),
    row!("lives::k0s_by_a_stand_in::a_wreck_comes_back_from_a_backup", K0S, a_wreck_comes_back),
    row!("lives::k0s_by_a_stand_in::it_goes_to_another_release", K0S, goes_to_another_release),
    row!("lives::microk8s_by_a_stand_in::it_comes_up_and_goes", MICROK8S, comes_up_and_goes),
    row!("lives::microk8s_by_a_stand_in::the_api_moves", MICROK8S, the_api_moves),
    row!("lives::microk8s_by_a_stand_in::boards_leave_and_are_replaced", MICROK8S, boards_leave_and_are_replaced),
    row!("lives::microk8s_by_a_stand_in::a_wreck_comes_back_from_a_backup", MICROK8S, a_wreck_comes_back),
    row!("lives::microk8s_by_a_stand_in::it_goes_to_another_release", MICROK8S, goes_to_another_release),
    Row {
        name: "lives::microk8s_by_a_stand_in::its_own_addons_come_and_go",
        test: |shelf| on_three_servers(&MICROK8S, shelf, |saved| own_addons(&saved.rack)),
    },
];

impl Life {
    fn subnet(&self) -> String {
        format!("10.78.{}.0/24", self.network)
    }

    fn api(&self) -> String {
        format!("10.78.{}.9", self.network)
    }
}

fn members(rack: &Rack, life: &Life, n: usize) -> BTreeSet<String> {
    rack.shell(&rack.node(n), life.members).lines().map(|line| line.trim().to_owned()).collect()
}

/// Add-ons of MicroK8s' own come and go by name.
fn own_addons(rack: &Rack) {
    let file = read(&rack.file());
    fs::write(rack.file(), file.replace("distribution:", "addons: { microk8s: [hostpath-storage] }\ndistribution:"))
        .unwrap();
    let planned = rack.run(&["plan"]);
    assert_code(&planned, 3);
    assert!(text(&planned).contains("microk8s enable hostpath-storage"), "{}", text(&planned));
    rack.go_up();
    assert_eq!(rack.plan().0, 0);
    assert!(rack.kubectl(1, "get storageclass").contains("microk8s-hostpath"));
    fs::write(rack.file(), file).unwrap();
    rack.go_up_without(&["microk8s-hostpath-storage"]);
    assert!(!rack.kubectl(1, "get storageclass").contains("microk8s-hostpath"));
}

/// Another release, whose channel is looked up anew because its pin is gone.
fn to_another_release(rack: &mut Rack, life: &Life) {
    rack.bundle = Some(rack.standins(&["--kubernetes", "1.37"]));
    assert_eq!(rack.plan().0, 0, "a release that was chosen stays chosen: {:?}", rack.titles());
    let lock = rack.dir.path().join("bramble.lock");
    let mut pins: serde_json::Value = serde_json::from_str(&read(&lock)).unwrap();
    for kind in ["files", "versions", "snaps"] {
        pins[kind] = serde_json::json!({});
    }
    fs::write(&lock, pins.to_string()).unwrap();
    let plan = rack.run(&["plan"]);
    assert_code(&plan, 3);
    assert!(
        text(&plan)
            .contains(&format!("upgrade Kubernetes from {}+{2} to {}+{2}", VERSIONS[0], VERSIONS[1], life.build)),
        "{}",
        text(&plan)
    );
    rack.go_up();
    let versions = rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.nodeInfo.kubeletVersion}'");
    assert_eq!(versions.split_whitespace().collect::<Vec<_>>(), vec![format!("v{}{}", VERSIONS[1], life.kubelet); 4]);
    rack.assert_well();
}

/// Three servers, whose API has an address that moves, and an agent.
fn on_three_servers(life: &'static Life, shelf: &Shelf, test: impl FnOnce(&mut Saved)) {
    shelf.with(
        life.rack,
        |name| make(life, name),
        |saved| {
            saved.rack.bundle = Some(saved.rack.standins(&[]));
            test(saved);
        },
    );
}

fn make(life: &Life, name: &str) -> (Rack, BTreeMap<String, String>) {
    let (subnet, api) = (life.subnet(), life.api());
    let mut rack =
        Rack::up(name, &["--distribution", life.name, "--control-planes", "3", "--workers", "1", "--subnet", &subnet]);
    rack.bundle = Some(rack.standins(&[]));
    let file = read(&rack.file()).replace(&format!("subnet: {subnet}"), &format!("subnet: {subnet}, api: {api}"));
    fs::write(rack.file(), &file).unwrap();
    let before = rack.listing(&rack.node(4));
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 16 paths between pods"), "{said}");
    (rack, before)
}

fn comes_up_and_goes(life: &'static Life, shelf: &Shelf) {
    on_three_servers(life, shelf, |Saved { rack, .. }| {
        assert_eq!(members(rack, life, 2), rack.names(&[1, 2, 3]));
        for n in [1, 4] {
            assert_eq!(rack.shell(&rack.node(n), life.open_secrets), "", "others can read files of node {n}");
            rack.assert_units(&rack.node(n), life.units);
        }
        // Labels and taints that a kubelet may not give itself come over the API, and go again.
        let file = read(&rack.file());
        let worker = rack.node(4);
        let more = format!(
            "name: {worker}, labels: {{ node-role.kubernetes.io/worker: \"\" }}, taints: [\"slow=yes:NoSchedule\"],"
        );
        // And what Kubernetes' own programs are told beside that.
        let told = "arguments: { kubelet: { max-pods: 47 }, kube-apiserver: { audit-log-maxage: 7 } }\nnodes:";
        let changed = file.replace(&format!("name: {worker},"), &more).replace("nodes:", told);
        fs::write(rack.file(), changed).unwrap();
        rack.go_up();
        let pods = || rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.capacity.pods}'");
        wait_for("kubelets to report", || pods() == "47 47 47 47");
        let api = || rack.shell(&rack.node(2), "tr '\\0' ' ' </proc/$(pgrep -o -f '[k]ube-apiserver')/cmdline");
        assert!(api().contains("--audit-log-maxage=7"), "{}", api());
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
        let record = || rack.kubectl(1, &format!("get node {worker} -o jsonpath={{.metadata.labels}}{{.spec.taints}}"));
        assert!(record().contains("node-role.kubernetes.io/worker") && record().contains("\"slow\""), "{}", record());
        fs::write(rack.file(), file).unwrap();
        rack.go_up();
        assert!(!api().contains("audit-log-maxage"), "{}", api());
        // Tokens are made anew, and all start with them; where there are none, it says so.
        let rotated = rack.run(&["rotate", "tokens"]);
        if life.name == "k3s" {
            assert_code(&rotated, 0);
            rack.cut(2);
            rack.start(2);
            rack.assert_well();
        } else {
            assert_code(&rotated, 1);
            assert!(text(&rotated).contains("this distribution has no tokens that last"), "{}", text(&rotated));
        }
        assert!(!record().contains("node-role.kubernetes.io/worker") && !record().contains("\"slow\""), "{}", record());
        assert_code(&rack.run(&["down", "--yes"]), 0);
        let left = format!("ls -d {} 2>/dev/null", life.places);
        assert_eq!(rack.shell(&rack.node(1), &left), "");
        // Of MicroK8s they belong to a link of its own, which its stand-in does not have.
        let routes = format!("ip route show root {PODS} | grep -v 'proto 143'");
        for n in [1, 4] {
            assert_eq!(rack.shell(&rack.node(n), &routes), "", "routes to pods are left on node {n}");
        }
    });
}

/// The server that holds the API's address loses its power: another one takes the address over.
fn the_api_moves(life: &'static Life, shelf: &Shelf) {
    on_three_servers(life, shelf, |Saved { rack, .. }| {
        let api = life.api();
        let holds = |n: &usize| rack.shell(&rack.node(*n), "ip -4 addr show").contains(&format!("{api}/"));
        let holder = (1..=3).find(holds).unwrap();
        rack.cut(holder);
        let ask = format!("curl -sk --max-time 2 {} https://{api}:{}/version", life.probe, life.port);
        let took = wait_for("the API, elsewhere", || !rack.shell(&rack.node(holder % 3 + 1), &ask).is_empty());
        assert!(took > Duration::ZERO);
        rack.start(holder);
        rack.assert_well();
    });
}

/// A worker is taken out of the file: it leaves, and is the board that it was. Then it comes back as a new board, and a server
/// is replaced while it is a member.
fn boards_leave_and_are_replaced(life: &'static Life, shelf: &Shelf) {
    on_three_servers(life, shelf, |Saved { rack, before, .. }| {
        let file = read(&rack.file());
        fs::write(rack.file(), without(&file, &rack.node(4))).unwrap();
        rack.go_up_without(&[&rack.node(4)]);
        assert!(!rack.kubectl(1, "get nodes").contains(&rack.node(4)));
        rack.assert_undone(&rack.node(4), before);
        fs::write(rack.file(), &file).unwrap();
        let old = rack.uid(1, &format!("node {}", rack.node(2)));
        for n in [4, 2] {
            rack.replace(n);
        }
        rack.go_up();
        rack.assert_well();
        assert_eq!(members(rack, life, 2), rack.names(&[1, 2, 3]));
        assert_ne!(rack.uid(1, &format!("node {}", rack.node(2))), old);
    });
}

fn a_wreck_comes_back(life: &'static Life, shelf: &Shelf) {
    on_three_servers(life, shelf, |Saved { rack, .. }| {
        wreck::comes_back(rack, life.data, |rack, n| members(rack, life, n), |_| {});
    });
}

fn goes_to_another_release(life: &'static Life, shelf: &Shelf) {
    on_three_servers(life, shelf, |Saved { rack, .. }| to_another_release(rack, life));
}
