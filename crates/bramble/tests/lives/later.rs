//! What is said at a cluster's birth and changed later, and what the manager of a network forgets: kubeadm, a real Kubernetes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::Row;
use crate::common::{Rack, assert_code, read, text, wait_for};
use crate::shelf::{Saved, Shelf};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "lives::later::labels_changed_later", test: labels_changed_later },
    Row { name: "lives::later::ranges_changed_later", test: ranges_changed_later },
    Row {
        name: "lives::later::routes_outlast_a_switch_that_is_off_and_a_network_manager_that_starts_anew",
        test: routes_outlast,
    },
    Row { name: "lives::later::it_outlasts_boots_and_upgrades_of_its_systems", test: outlasts_boots_and_upgrades },
];

fn on_two_workers(shelf: &Shelf, test: impl FnOnce(&mut Saved)) {
    shelf.with("t-late", make, test);
}

fn make(name: &'static str) -> (Rack, BTreeMap<String, String>) {
    let systems = ["--system", "trixie,bookworm,trixie"];
    let own = ["--control-planes", "1", "--workers", "2", "--subnet", "10.78.15.0/24"];
    let rack = Rack::up(name, &[&own[..], &systems].concat());
    rack.go_up();
    (rack, BTreeMap::new())
}

/// What the record of a node says.
fn labels(rack: &Rack, n: usize) -> String {
    rack.kubectl(1, &format!("get node {} -o jsonpath={{.metadata.labels}}", rack.node(n)))
}

fn taints(rack: &Rack, n: usize) -> String {
    rack.kubectl(1, &format!("get node {} -o jsonpath={{.spec.taints}}", rack.node(n)))
}

/// Adds settings to the line of a node.
fn with(file: &str, node: &str, more: &str) -> String {
    file.replace(&format!("name: {node},"), &format!("name: {node}, {more},"))
}

fn labels_changed_later(shelf: &Shelf) {
    on_two_workers(shelf, |Saved { rack, .. }| {
        let bare = read(&rack.file());
        let worker = rack.node(2);
        rack.kubectl(1, &format!("label node {worker} mine=1"));
        let named = "labels: { disk: ssd, node-role.kubernetes.io/worker: \"\" }, taints: [\"slow=yes:NoSchedule\"]";
        fs::write(rack.file(), with(&bare, &worker, named)).unwrap();
        let plan = rack.run(&["plan"]);
        assert_code(&plan, 3);
        let said = text(&plan);
        for step in [
            "set the label disk=ssd",
            "set the label node-role.kubernetes.io/worker=",
            "set the taint slow=yes:NoSchedule",
        ] {
            assert!(said.contains(step), "{step}: {said}");
        }
        rack.go_up();
        let there = labels(rack, 2);
        for label in ["\"disk\":\"ssd\"", "\"node-role.kubernetes.io/worker\":\"\"", "\"mine\":\"1\""] {
            assert!(there.contains(label), "{label}: {there}");
        }
        assert!(taints(rack, 2).contains("\"slow\""), "{}", taints(rack, 2));
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());

        fs::write(rack.file(), with(&bare, &worker, "labels: { disk: hdd }")).unwrap();
        rack.go_up();
        let there = labels(rack, 2);
        assert!(there.contains("\"disk\":\"hdd\"") && there.contains("\"mine\":\"1\""), "{there}");
        assert!(!there.contains("node-role.kubernetes.io/worker"), "{there}");
        assert_eq!(taints(rack, 2), "");

        // The control plane is to run workloads, too.
        fs::write(rack.file(), with(&bare, &rack.node(1), "taints: []")).unwrap();
        rack.go_up();
        assert_eq!(taints(rack, 1), "");
        assert!(!labels(rack, 2).contains("\"disk\""), "{}", labels(rack, 2));
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    });
}

fn ranges_changed_later(shelf: &Shelf) {
    on_two_workers(shelf, |Saved { rack, .. }| {
        let file = read(&rack.file());
        for (more, what) in [("pods: 10.200.0.0/16", "network.pods"), ("services: 10.97.0.0/16", "network.services")] {
            fs::write(rack.file(), file.replace("cni: routed", &format!("cni: routed, {more}"))).unwrap();
            for command in [&["plan"][..], &["up", "--yes"]] {
                let refused = rack.run(command);
                assert_code(&refused, 1);
                let said = text(&refused);
                assert!(said.contains(what) && said.contains("given at a cluster's birth"), "{said}");
            }
        }
        fs::write(rack.file(), &file).unwrap();
        assert_eq!(rack.plan().0, 0, "nothing was changed: {:?}", rack.titles());
        rack.assert_well();
    });
}

/// How many routes to the pods of others a board has.
fn routes(rack: &Rack, n: usize) -> usize {
    rack.shell(&rack.node(n), "ip route show proto 142").lines().count()
}

fn routes_outlast(shelf: &Shelf) {
    on_two_workers(shelf, |Saved { rack, .. }| {
        for n in [1, 2, 3] {
            assert_eq!(routes(rack, n), 2);
            for way in ["down", "up"] {
                assert_code(&rack.lab(&["link", way, &format!("{}/{}", rack.name, rack.node(n))]), 0);
                std::thread::sleep(Duration::from_secs(10));
            }
            wait_for("the routes", || routes(rack, n) == 2);
            let manager = if n == 2 { "systemd-networkd" } else { "NetworkManager" };
            rack.shell(&rack.node(n), &format!("systemctl restart {manager}"));
            std::thread::sleep(Duration::from_secs(5));
            wait_for("the routes", || routes(rack, n) == 2);
            rack.shell(&rack.node(n), "nft delete table ip bramble_routed; ip route flush proto 142");
            wait_for("the routes", || routes(rack, n) == 2);
            wait_for("the rules", || rack.shell(&rack.node(n), "nft list tables").contains("bramble_routed"));
        }
        rack.assert_well();
        // What nobody keeps is seen and mended.
        rack.shell(&rack.node(3), "systemctl kill -s STOP bramble-routes; ip route flush proto 142");
        let status = text(&rack.run(&["status"]));
        assert!(status.contains("there is no way to the pods of"), "{status}");
        assert!(
            rack.titles().iter().any(|title| title.contains("mend the routes to the pods of")),
            "{:?}",
            rack.titles()
        );
        rack.go_up();
        assert_eq!(routes(rack, 3), 2);
        rack.assert_well();
    });
}

/// What bramble has no part in: each time all is well again by itself. The first `up` of this row's rack came while the boards were
/// at their first boot.
fn outlasts_boots_and_upgrades(shelf: &Shelf) {
    on_two_workers(shelf, |Saved { rack, .. }| {
        let all = [1, 2, 3];
        let file = read(&rack.file());
        let mut tries = 0;
        let mut assert_works = |what: &str| {
            rack.assert_well();
            tries += 1;
            fs::write(rack.file(), with(&file, &rack.node(2), &format!("labels: {{ tries: \"{tries}\" }}"))).unwrap();
            let said = rack.go_up();
            assert!(said.contains("Smoke test passed: 9 paths between pods"), "after {what}: {said}");
        };
        all.iter().for_each(|n| rack.cut(*n));
        all.iter().for_each(|n| rack.start(*n));
        assert_works("a boot of all");
        for n in all {
            // As unattended-upgrades do it.
            let again = "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && \
                         apt-get -qq -y -o DPkg::Lock::Timeout=120 install --reinstall systemd containerd openssh-server 2>&1 | tail -n 3; echo end";
            let said = rack.shell(&rack.node(n), again);
            assert!(said.ends_with("end\n") && !said.contains("E:"), "{said}");
        }
        assert_works("upgrades of the system");
        for n in all {
            for way in ["down", "up"] {
                assert_code(&rack.lab(&["link", way, &format!("{}/{}", rack.name, rack.node(n))]), 0);
                std::thread::sleep(Duration::from_secs(10));
            }
        }
        assert_works("cables that were out for ten seconds");
        for n in all {
            let manager = if n == 2 { "systemd-networkd" } else { "NetworkManager" };
            rack.shell(&rack.node(n), &format!("systemctl restart {manager}"));
        }
        assert_works("restarts of the networks' managers");
    });
}
