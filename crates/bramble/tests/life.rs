//! A highly available cluster (kubeadm, a real Kubernetes from Debian's source) through what comes after the first
//! installation: a control plane lost, nodes removed, added and replaced, a backup, a wreck, a restore, an upgrade.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Rack, WORK, assert_code, read, text, wait_for, without};

const API: &str = "10.78.10.9";

/// Whether the API answers at the address that moves.
fn api_answers(rack: &Rack, from: usize) -> bool {
    let ask = format!("curl -sfk --max-time 2 https://{API}:6443/readyz");
    rack.shell(&rack.node(from), &ask) == "ok"
}

fn etcd_members(rack: &Rack, n: usize) -> BTreeSet<String> {
    let command = format!(
        "-n kube-system exec etcd-{} -- etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
         --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key member list",
        rack.node(n)
    );
    rack.kubectl(n, &command).lines().filter_map(|line| line.split(", ").nth(2)).map(str::to_owned).collect()
}

#[test]
fn a_highly_available_cluster_through_its_whole_life() {
    let rack = Rack::up("t-life", &["--control-planes", "3", "--workers", "2", "--subnet", "10.78.10.0/24"]);
    let file = read(&rack.file()).replace("cni: routed }", &format!("cni: routed, api: {API} }}"));
    fs::write(rack.file(), &file).unwrap();
    // sudo leaves a file of its own in the home folder.
    assert_code(&rack.run(&["run", "--sudo", "true"]), 0);
    let before = rack.listing(&rack.node(5));
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 25 paths between pods"), "{said}");
    rack.assert_well();
    let names = |numbers: &[usize]| numbers.iter().map(|n| rack.node(*n)).collect::<BTreeSet<_>>();
    assert_eq!(etcd_members(&rack, 2), names(&[1, 2, 3]));

    // The control plane that holds the API's address loses its power: another one takes the address over.
    let holder =
        (1..=3).find(|n| rack.shell(&rack.node(*n), "ip -4 addr show").contains(&format!("{API}/32"))).unwrap();
    assert!(rack.lab(&["cut", &format!("t-life/{}", rack.node(holder))]).status.success());
    let took = wait_for("the API, elsewhere", || api_answers(&rack, holder % 3 + 1));
    assert!(took > Duration::ZERO);
    let status = rack.well();
    assert_eq!(status["conditions"][0]["state"], "good", "{status:#}");
    assert!(rack.lab(&["start", &format!("t-life/{}", rack.node(holder))]).status.success());
    rack.assert_well();

    // A worker is taken out of the file: it leaves, and is the board that it was.
    fs::write(rack.file(), without(&file, &rack.node(5))).unwrap();
    let plan = rack.run(&["plan"]);
    assert_code(&plan, 3);
    assert!(text(&plan).contains("leave the cluster t-life"), "{}", text(&plan));
    for unnamed in [&["up"][..], &["up", "--yes"], &["up", "--yes=t-life"]] {
        let refused = rack.run(unnamed);
        assert_code(&refused, 1);
        assert!(text(&refused).contains(&format!("pass --yes={}", rack.node(5))), "{}", text(&refused));
    }
    rack.go_up_without(&[&rack.node(5)]);
    assert!(!rack.kubectl(1, "get nodes").contains(&rack.node(5)));
    rack.assert_undone(&rack.node(5), &before);
    rack.assert_well();

    // It comes back, as a new board with an empty disk and other host keys.
    fs::write(rack.file(), &file).unwrap();
    let dir = rack.dir.path().to_str().unwrap();
    assert!(rack.lab(&["replace", &format!("t-life/{}", rack.node(5)), "--dir", dir]).status.success());
    rack.go_up();
    rack.assert_well();

    // A worker and a control plane are replaced while they are members. A host key is never taken for granted.
    let known = rack.dir.path().join(".bramble/known_hosts");
    let old_keys = read(&known);
    let old = [4, 2].map(|n| rack.uid(1, &format!("node {}", rack.node(n))));
    for n in [4, 2] {
        assert!(rack.lab(&["replace", &format!("t-life/{}", rack.node(n)), "--dir", dir]).status.success());
    }
    let new_keys = read(&known);
    fs::write(&known, &old_keys).unwrap();
    let refused = rack.run(&["up", "--yes"]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains("up --replaced"), "{}", text(&refused));
    let unseen = rack.run(&["up", "--yes", "--replaced", &rack.node(2), "--replaced", &rack.node(4)]);
    assert_code(&unseen, 1);
    assert!(text(&unseen).contains("New host keys"), "{}", text(&unseen));
    fs::write(&known, &new_keys).unwrap();
    let plan = rack.run(&["plan"]);
    assert!(text(&plan).contains("in the place of the board that had this name"), "{}", text(&plan));
    rack.go_up();
    rack.assert_well();
    assert_eq!(etcd_members(&rack, 2), names(&[1, 2, 3]));
    for (n, old) in [4, 2].into_iter().zip(&old) {
        assert_ne!(rack.uid(1, &format!("node {}", rack.node(n))), *old, "node {n} has its old record");
    }

    // A certificate that ends soon is renewed.
    let resign = "cd /etc/kubernetes/pki && c=apiserver-kubelet-client && exec 2>/dev/null && \
                  echo extendedKeyUsage=clientAuth >/tmp/ext && openssl x509 -x509toreq -in $c.crt -signkey $c.key -out /tmp/csr && \
                  openssl x509 -req -in /tmp/csr -CA ca.crt -CAkey ca.key -CAserial /tmp/serial -CAcreateserial -days 10 \
                  -extfile /tmp/ext -out /tmp/short && cat /tmp/short >$c.crt && rm /tmp/csr /tmp/short /tmp/serial /tmp/ext";
    rack.shell(&rack.node(3), resign);
    let status = text(&rack.run(&["status"]));
    assert!(status.contains("apiserver-kubelet-client.crt ends in "), "{status}");
    assert_eq!(rack.titles(), [format!("{}: renew the certificates", rack.node(3))]);
    rack.go_up();
    rack.assert_well();

    // A backup; then the data of all control planes are lost, and one board with them.
    fs::write(rack.disk(&rack.node(1)).join("root/work.yaml"), WORK).unwrap();
    rack.kubectl(1, "apply -f /root/work.yaml");
    wait_for("the workload", || rack.ready_pods(1) == Some(4));
    let work = rack.uid(1, "deployment work");
    let backup = rack.dir.path().join("backup");
    assert_code(&rack.run(&["backup", "--to", backup.to_str().unwrap()]), 0);
    let left = rack.shell(&rack.node(1), "ls -d /var/lib/bramble/backup /var/lib/etcd/bramble.db 2>/dev/null");
    assert_eq!(left, "", "the state was left on the node");
    rack.kubectl(1, "delete deployment work");
    for n in 1..=3 {
        assert!(rack.lab(&["cut", &format!("t-life/{}", rack.node(n))]).status.success());
        fs::remove_dir_all(rack.disk(&rack.node(n)).join("var/lib/etcd/member")).unwrap();
    }
    assert!(rack.lab(&["replace", &format!("t-life/{}", rack.node(1)), "--dir", dir]).status.success());
    for n in 2..=3 {
        assert!(rack.lab(&["start", &format!("t-life/{}", rack.node(n))]).status.success());
    }
    let restored = rack.run(&["restore", backup.to_str().unwrap(), "--yes"]);
    assert_code(&restored, 0);
    assert!(text(&restored).contains("objects of the backup are there, with their UIDs"), "{}", text(&restored));
    assert_eq!(rack.uid(1, "deployment work"), work);
    assert_eq!(etcd_members(&rack, 1), names(&[1, 2, 3]));
    rack.assert_well();
    assert_code(&rack.run(&["down", "--yes"]), 0);
}

#[test]
fn kubernetes_is_upgraded_under_a_workload() {
    let rack = Rack::up("t-upgrade", &["--control-planes", "3", "--workers", "2", "--subnet", "10.78.11.0/24"]);
    rack.go_up();
    fs::write(rack.disk(&rack.node(1)).join("root/work.yaml"), WORK).unwrap();
    rack.kubectl(1, "apply -f /root/work.yaml");

    // The budget of the workload is kept, and whom the user cordoned stays cordoned.
    wait_for("the workload", || rack.ready_pods(1) == Some(4));
    rack.kubectl(1, &format!("cordon {}", rack.node(5)));
    let bundle = |next: &[&str]| {
        let output = rack.lab(&[&["bundle"], next].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        let (version, path) = said.trim().strip_prefix("Kubernetes ").unwrap().split_once(" is in ").unwrap();
        (version.to_owned(), path.to_owned())
    };
    let (now, next) = (bundle(&[]), bundle(&["--kubernetes", "1.37"]));
    let upgraded = read(&rack.file()).replace(&now.1, &next.1).replace(&now.0, &next.0);
    fs::write(rack.file(), upgraded).unwrap();
    let plan = rack.run(&["plan"]);
    assert_code(&plan, 3);
    let step = format!("upgrade Kubernetes from {} to {}", now.0, next.0);
    assert!(text(&plan).contains(&step), "{}", text(&plan));
    let running = AtomicBool::new(true);
    let fewest = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut fewest = 4;
            while running.load(Ordering::Relaxed) {
                // While a control plane is exchanged there may be no answer.
                fewest = rack.ready_pods(3).or(rack.ready_pods(1)).unwrap_or(fewest).min(fewest);
                std::thread::sleep(Duration::from_millis(500));
            }
            fewest
        });
        let output = rack.run(&["up", "--yes"]);
        running.store(false, Ordering::Relaxed);
        let fewest = watcher.join().unwrap();
        assert_code(&output, 0);
        fewest
    });
    assert!(fewest >= 3, "only {fewest} pods of the workload were ready");
    let versions = rack.kubectl(1, "get nodes -o 'jsonpath={.items[*].status.nodeInfo.kubeletVersion}'");
    assert_eq!(versions.split_whitespace().collect::<Vec<_>>(), vec![format!("v{}", next.0); 5]);
    let server = rack.kubectl(1, "get --raw /version");
    assert!(server.contains(&format!("v{}", next.0)), "{server}");
    let cordoned =
        |n: usize| rack.kubectl(1, &format!("get node {} -o jsonpath={{.spec.unschedulable}}", rack.node(n)));
    assert_eq!([cordoned(1), cordoned(4), cordoned(5)], ["", "", "true"]);
    rack.kubectl(1, &format!("uncordon {}", rack.node(5)));
    rack.assert_well();
    assert_code(&rack.run(&["down", "--yes"]), 0);
}
