//! What follows from the marks of the nodes and the cluster file.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_kube::{Agenda, Inputs, Task, agenda, lifecycle, restoration};
use bramble_spec::Cluster;
use bramble_state::Observation;

const CA: &str = "sha256:aa";

fn cluster(version: &str, nodes: &[(&str, &str, u8)]) -> Cluster {
    let mut text = format!(
        "cluster: shelf\nnetwork: {{ subnet: 10.0.0.0/24, api: 10.0.0.9 }}\ndistribution:\n  kubeadm: {{ version: \"{version}\" }}\nnodes:\n"
    );
    for (name, role, number) in nodes {
        text.push_str(&format!("  - {{ name: {name}, role: {role}, board: rpi-5-8gb, address: 10.0.0.{number} }}\n"));
    }
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters.into_iter().next().unwrap()
}

fn seen(marks: &[(&str, &str)]) -> Observation {
    let marks: String = marks.iter().map(|(name, text)| format!("done {name} {text}\n")).collect();
    Observation::parse(&format!("bramble 1\n{marks}end\n"), &[]).unwrap()
}

fn run(cluster: &Cluster, seen: &[Observation]) -> Agenda {
    let inputs = Inputs::default();
    let life = lifecycle(cluster, &inputs).unwrap();
    let nodes: Vec<_> = cluster.nodes.iter().zip(seen).collect();
    agenda(cluster, &*life, &nodes, None)
}

fn tasks(agenda: &Agenda) -> Vec<Task> {
    agenda.tasks.values().cloned().collect()
}

const THREE: &[(&str, &str, u8)] = &[("a", "control-plane", 50), ("b", "control-plane", 51), ("c", "worker", 52)];
const MEMBERS: (&str, &str) = ("members", "a=10.0.0.50 c=10.0.0.52");

fn two() -> Cluster {
    cluster("1.36.2", &[THREE[0], THREE[2]])
}

fn maker(version: &str) -> Observation {
    seen(&[("kubernetes", "control-plane"), ("ca-hash", CA), ("version", version), MEMBERS])
}

fn worker(version: &str) -> Observation {
    seen(&[("kubernetes", &format!("worker {CA}")), ("version", version)])
}

#[test]
fn fresh_boards_become_a_cluster_and_members_stay() {
    let fresh = run(&two(), &[seen(&[]), seen(&[])]);
    assert_eq!(tasks(&fresh), [Task::Init, Task::Join]);
    assert!(!fresh.runs());
    let done = run(&two(), &[maker("1.36.2"), worker("1.36.2")]);
    assert_eq!(tasks(&done), [Task::Nothing, Task::Nothing]);
    assert_eq!((done.leavers.len(), done.problems.len(), done.ca.as_deref()), (0, 0, Some(CA)));
}

#[test]
fn a_control_plane_that_was_cut_off_before_it_had_a_ca_begins_again() {
    let cut = run(&two(), &[seen(&[("kubernetes", "control-plane")]), seen(&[])]);
    assert_eq!(tasks(&cut), [Task::Init, Task::Join]);
}

#[test]
fn an_empty_board_in_the_place_of_a_member_joins_also_where_the_maker_was() {
    let worker_gone = run(&two(), &[maker("1.36.2"), seen(&[])]);
    assert_eq!(tasks(&worker_gone), [Task::Nothing, Task::Join]);
    let cluster = cluster("1.36.2", &[THREE[0], THREE[1], ("d", "control-plane", 53), THREE[2]]);
    let joined = || seen(&[("kubernetes", &format!("control-plane {CA}")), ("version", "1.36.2"), MEMBERS]);
    let maker_gone = run(&cluster, &[seen(&[]), joined(), joined(), worker("1.36.2")]);
    assert_eq!(tasks(&maker_gone), [Task::Join, Task::Nothing, Task::Nothing, Task::Nothing], "by name: a b c d");
}

#[test]
fn a_node_of_another_cluster_is_no_member() {
    let other = seen(&[("kubernetes", "worker sha256:bb"), ("version", "1.36.2")]);
    assert_eq!(tasks(&run(&two(), &[maker("1.36.2"), other])), [Task::Nothing, Task::Join]);
    let agenda =
        run(&two(), &[maker("1.36.2"), seen(&[("kubernetes", "control-plane sha256:bb"), ("version", "1.36.2")])]);
    assert!(
        agenda.problems[0].message.contains("the control plane of another cluster than a"),
        "{:?}",
        agenda.problems
    );
}

#[test]
fn a_member_keeps_its_role_and_its_name() {
    let plane = || seen(&[("kubernetes", &format!("control-plane {CA}")), ("version", "1.36.2"), MEMBERS]);
    let role = run(&two(), &[maker("1.36.2"), plane()]);
    assert!(role.problems[0].message.contains("is a control-plane of the cluster"), "{:?}", role.problems);
    assert!(role.leavers.is_empty() && role.tasks.values().all(|task| *task == Task::Nothing));
    let renamed = run(&cluster("1.36.2", &[THREE[0], ("x", "worker", 52)]), &[maker("1.36.2"), worker("1.36.2")]);
    assert!(renamed.problems[0].to_string().contains("call it c"), "{:?}", renamed.problems);
    assert!(renamed.leavers.is_empty());
    // A new board in the place of a member is no member.
    let replaced = run(&cluster("1.36.2", &[THREE[0], ("x", "worker", 52)]), &[maker("1.36.2"), seen(&[])]);
    assert!(replaced.problems.is_empty() && replaced.leavers[0].replaced, "{replaced:?}");
}

#[test]
fn the_cluster_that_the_lock_file_knows_is_the_one_that_runs() {
    let other = seen(&[("kubernetes", "control-plane sha256:bb"), ("version", "1.36.2")]);
    let cluster = cluster("1.36.2", &[THREE[0], THREE[1], ("d", "control-plane", 53)]);
    let (inputs, seen) = (Inputs::default(), [other, maker("1.36.2"), seen(&[])]);
    let nodes: Vec<_> = cluster.nodes.iter().zip(&seen).collect();
    let agenda = agenda(&cluster, &*lifecycle(&cluster, &inputs).unwrap(), &nodes, Some(CA));
    assert_eq!(agenda.ca.as_deref(), Some(CA));
    assert_eq!(agenda.orphans, ["a".parse().unwrap()]);
}

#[test]
fn who_is_not_in_the_file_any_more_leaves_and_nobody_moves() {
    let gone = run(&cluster("1.36.2", &THREE[..1]), &[maker("1.36.2")]);
    let leavers: Vec<String> = gone.leavers.iter().map(|l| format!("{} {}", l.name, l.address)).collect();
    assert_eq!(leavers, ["c 10.0.0.52"]);
    let moved = run(&cluster("1.36.2", &[THREE[0], ("c", "worker", 99)]), &[maker("1.36.2"), worker("1.36.2")]);
    assert!(moved.leavers.is_empty());
    assert!(moved.problems[0].message.contains("a member cannot move"), "{:?}", moved.problems);
}

#[test]
fn versions_go_up_one_minor_at_a_time() {
    let upgrade = |from: &str, to: &str| run(&cluster(to, &[THREE[0], THREE[2]]), &[maker(from), worker(from)]);
    for (from, to) in [("1.36.2", "1.36.10"), ("1.35.9", "1.36.0")] {
        let agenda = upgrade(from, to);
        assert_eq!(tasks(&agenda), vec![Task::Upgrade { from: from.to_owned() }; 2], "{from} {to}");
        assert!(agenda.problems.is_empty() && agenda.is_member(&"c".parse().unwrap()));
    }
    for (from, to, why) in [
        ("1.34.9", "1.36.0", "go to 1.35 first"),
        ("1.36.10", "1.36.9", "cannot go back"),
        ("1.36.0", "1.35.9", "cannot go back"),
    ] {
        let problems = upgrade(from, to).problems;
        assert!(problems.len() == 2 && problems[0].to_string().contains(why), "{from} {to}: {problems:?}");
    }
}

#[test]
fn a_backup_keeps_the_workers_that_trust_it() {
    let cluster = cluster("1.36.2", &[THREE[0], THREE[1], ("d", "control-plane", 53), THREE[2], ("e", "worker", 54)]);
    let seen = [maker("1.36.2"), seen(&[]), maker("1.36.2"), worker("1.36.2"), seen(&[])];
    let nodes: Vec<_> = cluster.nodes.iter().zip(&seen).collect();
    let kept = restoration(&cluster, &nodes, CA, false);
    assert_eq!(tasks(&kept), [Task::Init, Task::Join, Task::Nothing, Task::Join, Task::Join], "by name: a b c d e");
    let moved = restoration(&cluster, &nodes, CA, true);
    assert_eq!(tasks(&moved)[2], Task::Join);
}
