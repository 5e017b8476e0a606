//! Two clusters on one rack and in one file: upstream Kubernetes, and k3s with a stand-in in its place.

use std::fs;
use std::process::Output;

use crate::common::{Rack, assert_code, read, text, wait_for};
use serde_json::Value;

use crate::Row;
use crate::shelf::Shelf;

struct Two {
    rack: Rack,
    standins: String,
}

impl Two {
    fn run(&self, cluster: &str, args: &[&str]) -> Output {
        let mut command = self.rack.command(args);
        command.args(["--cluster", cluster]);
        if cluster == "small" {
            command.args(["--bundle", &self.standins]);
        }
        command.output().unwrap()
    }

    fn up(&self, cluster: &str) {
        let output = self.run(cluster, &["up", "--yes"]);
        assert_code(&output, 0);
        assert!(text(&output).contains("Smoke test passed: 4 paths"), "{}", text(&output));
    }

    /// It is well, and nothing is left to change on it.
    fn assert_well(&self, cluster: &str) {
        wait_for("a cluster that is well", || {
            let output = self.run(cluster, &["status", "-o", "json"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
            status["well"] == true
        });
        let plan = self.run(cluster, &["plan"]);
        assert_code(&plan, 0);
    }
}

pub(crate) const ROWS: &[Row] = &[Row {
    name: "lives::two_clusters_on_one_rack_leave_each_other_alone_k3s_by_a_stand_in",
    test: leave_each_other_alone,
}];

fn leave_each_other_alone(shelf: &Shelf) {
    shelf.clear();
    let rack = Rack::up("t-two", &["--control-planes", "1", "--workers", "3", "--subnet", "10.78.13.0/24"]);
    let standins = rack.standins(&[]);
    let file = read(&rack.file());
    let (head, nodes) = file.split_once("nodes:\n").unwrap();
    let nodes: Vec<&str> = nodes.lines().collect();
    let access = &head[head.find("access:").unwrap()..head.find("network:").unwrap()];
    let both = format!(
        "{}nodes:\n{}\n{}\n---\ncluster: small\n{access}\
         network: {{ subnet: 10.78.13.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16 }}\n\
         distribution: {{ k3s: {{ version: stable, disable: [coredns] }} }}\nnodes:\n{}\n{}\n",
        head.replace("cluster: t-two", "cluster: big"),
        nodes[0],
        nodes[1],
        nodes[2].replace("role: worker", "role: control-plane"),
        nodes[3],
    );
    fs::write(rack.file(), both).unwrap();
    let two = Two { rack, standins };
    let unnamed = two.rack.run(&["status"]);
    assert_code(&unnamed, 1);
    assert!(text(&unnamed).contains("choose one with --cluster (big, small)"), "{}", text(&unnamed));
    two.up("big");
    two.up("small");
    two.assert_well("big");
    two.assert_well("small");
    let names = |n: usize| two.rack.kubectl(n, "get nodes -o 'jsonpath={.items[*].metadata.name}'");
    assert_eq!(names(1), format!("{} {}", two.rack.node(1), two.rack.node(2)));
    assert_eq!(names(3), format!("{} {}", two.rack.node(3), two.rack.node(4)));

    // One goes: the other one does not notice.
    let uid = two.rack.uid(3, "namespace kube-system");
    assert_code(&two.run("big", &["down", "--yes"]), 0);
    two.assert_well("small");
    assert_eq!(two.rack.uid(3, "namespace kube-system"), uid);
    two.up("big");
    let uid = two.rack.uid(1, "namespace kube-system");
    assert_code(&two.run("small", &["down", "--yes"]), 0);
    two.assert_well("big");
    assert_eq!(two.rack.uid(1, "namespace kube-system"), uid);
    assert_code(&two.run("big", &["down", "--yes"]), 0);
}
