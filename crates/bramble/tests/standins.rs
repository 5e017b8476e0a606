//! k3s through its life, with a stand-in in its place: its release cannot be had where the tests run. The stand-in has the
//! flags, the files and the behaviour that k3s' source shows (docs/distributions/k3s.md), refuses everything else, and
//! runs a real Kubernetes behind them.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::{Rack, WORK, assert_code, differences, read, text, wait_for, without};

const API: &str = "10.78.12.9";

/// The nodes that have a member of etcd.
fn etcd_members(rack: &Rack, n: usize) -> BTreeSet<String> {
    let list = rack.shell(
        &rack.node(n),
        "cd /var/lib/rancher/k3s/server/standin && ETCDCTL_API=3 /var/lib/rancher/k3s/data/current/bin/etcdctl \
         --endpoints=https://127.0.0.1:2379 --cacert=etcd/ca.crt --cert=etcd/healthcheck-client.crt \
         --key=etcd/healthcheck-client.key member list",
    );
    // Members are called after their node, with eight digits of their own behind it.
    let name = |line: &str| line.split(", ").nth(2).and_then(|name| Some(name.rsplit_once('-')?.0.to_owned()));
    list.lines().filter_map(name).collect()
}

#[test]
fn k3s_through_its_whole_life_with_a_stand_in_in_its_place() {
    let arguments = ["--distribution", "k3s", "--control-planes", "3", "--workers", "2", "--subnet", "10.78.12.0/24"];
    let mut rack = Rack::up("t-k3s", &arguments);
    rack.bundle = Some(rack.standins(&[]));
    let file = read(&rack.file()).replace("cni: routed }", &format!("cni: routed, api: {API} }}"));
    fs::write(rack.file(), &file).unwrap();
    // sudo leaves a file of its own in the home folder.
    assert_code(&rack.run(&["run", "sudo true"]), 0);
    let before = rack.listing(&rack.node(5));
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 25 paths between pods"), "{said}");
    rack.assert_well();
    let names = |numbers: &[usize]| numbers.iter().map(|n| rack.node(*n)).collect::<BTreeSet<_>>();
    assert_eq!(etcd_members(&rack, 2), names(&[1, 2, 3]));
    for n in [1, 5] {
        let secrets = "stat -c '%a %n' /etc/rancher/k3s/* /etc/rancher/k3s/config.yaml.d/* | grep -v '^[67]00 '";
        assert_eq!(rack.shell(&rack.node(n), secrets), "", "others can read files of node {n}");
        let verified = rack.shell(&rack.node(n), "systemd-analyze verify /etc/systemd/system/k3s*.service 2>&1");
        assert_eq!(verified, "", "the unit of node {n}");
    }

    // The server that holds the API's address loses its power: another one takes the address over.
    let holder =
        (1..=3).find(|n| rack.shell(&rack.node(*n), "ip -4 addr show").contains(&format!("{API}/32"))).unwrap();
    assert!(rack.lab(&["cut", &format!("t-k3s/{}", rack.node(holder))]).status.success());
    let ask = "curl -sk --max-time 2 --cert /var/lib/rancher/k3s/server/tls/client-admin.crt \
               --key /var/lib/rancher/k3s/server/tls/client-admin.key";
    let ask = format!("{ask} https://{API}:6443/readyz");
    let took = wait_for("the API, elsewhere", || rack.shell(&rack.node(holder % 3 + 1), &ask) == "ok");
    assert!(took > Duration::ZERO);
    assert!(rack.lab(&["start", &format!("t-k3s/{}", rack.node(holder))]).status.success());
    rack.assert_well();

    // A worker is taken out of the file: it leaves, and is the board that it was. Then it comes back as a new board, and a
    // server is replaced while it is a member.
    fs::write(rack.file(), without(&file, &rack.node(5))).unwrap();
    rack.go_up();
    assert!(!rack.kubectl(1, "get nodes").contains(&rack.node(5)));
    assert_eq!(differences(&before, &rack.listing(&rack.node(5))), [] as [String; 0]);
    fs::write(rack.file(), &file).unwrap();
    let dir = rack.dir.path().to_str().unwrap();
    let old = rack.uid(1, &format!("node {}", rack.node(2)));
    for n in [5, 2] {
        assert!(rack.lab(&["replace", &format!("t-k3s/{}", rack.node(n)), "--dir", dir]).status.success());
    }
    rack.go_up();
    rack.assert_well();
    assert_eq!(etcd_members(&rack, 2), names(&[1, 2, 3]));
    assert_ne!(rack.uid(1, &format!("node {}", rack.node(2))), old);

    // A backup; then the data of all servers are lost, and one board with them.
    let manifest = WORK.replace("node-role.kubernetes.io/master", "any");
    fs::write(rack.disk(&rack.node(1)).join("root/work.yaml"), manifest).unwrap();
    rack.kubectl(1, "apply -f /root/work.yaml");
    wait_for("the workload", || rack.ready_pods(1) == Some(4));
    let work = rack.uid(1, "deployment work");
    let backup = rack.dir.path().join("backup");
    assert_code(&rack.run(&["backup", "--to", backup.to_str().unwrap()]), 0);
    rack.kubectl(1, "delete deployment work");
    for n in 1..=3 {
        assert!(rack.lab(&["cut", &format!("t-k3s/{}", rack.node(n))]).status.success());
        fs::remove_dir_all(rack.disk(&rack.node(n)).join("var/lib/rancher/k3s/server/db/etcd")).unwrap();
    }
    assert!(rack.lab(&["replace", &format!("t-k3s/{}", rack.node(1)), "--dir", dir]).status.success());
    for n in 2..=3 {
        assert!(rack.lab(&["start", &format!("t-k3s/{}", rack.node(n))]).status.success());
    }
    let restored = rack.run(&["restore", backup.to_str().unwrap(), "--yes"]);
    assert_code(&restored, 0);
    assert!(text(&restored).contains("objects of the backup are there, with their UIDs"), "{}", text(&restored));
    assert_eq!(rack.uid(1, "deployment work"), work);
    assert_eq!(etcd_members(&rack, 1), names(&[1, 2, 3]));
    rack.assert_well();

    // Another release, whose channel is looked up anew because its pin is gone.
    rack.bundle = Some(rack.standins(&["--next"]));
    assert_eq!(rack.plan().0, 0, "a release that was chosen stays chosen: {:?}", rack.titles());
    fs::remove_file(rack.dir.path().join("bramble.lock")).unwrap();
    let plan = rack.run(&["plan"]);
    assert_code(&plan, 3);
    assert!(text(&plan).contains("upgrade Kubernetes from 1.20.2+k3s1 to 1.20.3+k3s1"), "{}", text(&plan));
    rack.go_up();
    let versions = rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.nodeInfo.kubeletVersion}'");
    assert_eq!(versions.split_whitespace().collect::<Vec<_>>(), ["v1.20.3+k3s1"; 5]);
    rack.assert_well();
    assert_code(&rack.run(&["down", "--yes"]), 0);
    assert_eq!(
        rack.shell(&rack.node(1), "ls -d /var/lib/rancher /etc/rancher /run/k3s /usr/local/bin/k3s 2>/dev/null"),
        ""
    );
}
