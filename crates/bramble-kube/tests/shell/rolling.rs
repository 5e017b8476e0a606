//! Nodes that stop their pods, one after the other: `rolling.sh`.

use super::*;

#[test]
fn controllers_work_when_one_of_them_has_done_something() {
    let case = |seen: &str| {
        k3s("private_folder\ncontrollers_work")
            .says("k3s kubectl*create -f*", "replicaset.apps/bramble-probe-x")
            .on("k3s kubectl*get replicaset.apps/bramble-probe-x*", seen)
    };
    let run = check(case("echo 1"));
    assert!(run.called("k3s kubectl*delete replicaset.apps/bramble-probe-x --wait=false"));
    assert!(run.file("/run/bramble/probe.yaml").is_none());
    // The one that leads comes a little later.
    let late = case("if [ -e $R/asked ]; then echo 1; else : >$R/asked; fi").run(None);
    assert_eq!(late.code, 0, "{}", late.stderr);
    let never = case("echo").refuses("no kube-controller-manager leads");
    assert!(never.called("k3s kubectl*delete replicaset.apps/bramble-probe-x --wait=false"));
}

#[test]
fn nodes_are_drained_and_uncordoned() {
    let found = |line| k3s("drain_node n1 60").says("k3s kubectl*get node n1 --ignore-not-found*", line);
    let drained = || found("n1 ");
    let run = check(drained());
    assert!(run.called("k3s kubectl*cordon n1"));
    let kept = check(found("n1 true"));
    assert!(!kept.called("k3s kubectl*annotate*"));
    // An earlier attempt has taken it out of the cluster.
    let gone = check(k3s("drain_node n1 60"));
    assert!(!gone.called("k3s kubectl*cordon*") && !gone.called("k3s kubectl*drain*"));
    let stuck = drained()
        .says("k3s kubectl*annotations*", "yes")
        .on("k3s kubectl* drain*", "echo 'error: a budget forbids it'; false")
        .says(
            "k3s kubectl*get poddisruptionbudgets*",
            "the disruption budget never of the namespace shop allows no pod to go",
        );
    let run = stuck.refuses("a budget forbids it");
    assert!(run.stderr.contains("the disruption budget never"), "{}", run.stderr);
    assert!(run.called("k3s kubectl*uncordon n1"));
    // kubectl since 1.34 says all in a line.
    let line = "error: unable to drain node \"n1\" due to error: [error when deleting pods: declare no controller], continuing command...";
    let run = drained().on("k3s kubectl* drain*", &format!("echo '{line}'; false")).refuses("declare no controller");
    assert!(!run.stderr.contains("unable to drain") && !run.stderr.contains("continuing"), "{}", run.stderr);
    let bare = "echo 'error: unable to drain node \"n1\", aborting command...'; echo 'error: why'; false";
    let run = drained().on("k3s kubectl* drain*", bare).refuses("why");
    assert!(!run.stderr.contains("aborting"), "{}", run.stderr);
    check(k3s("uncordon n1").says("k3s kubectl*annotations*", "yes"));
    check(k3s("uncordon n1"));
}

#[test]
fn a_node_is_back_when_it_says_so_itself() {
    let lease = "tr '\\000' '\\n' <\"$R/calls\" | grep -c lease";
    let case = k3s("node_returns n1 1.36.0")
        .on("k3s kubectl*lease*", lease)
        .says("k3s kubectl*kubeletVersion*", "v1.36.0 True");
    check(case);
    // An old sign of life is none, whether or not the first question was answered.
    let old = k3s("node_returns n1 1.36.0")
        .says("k3s kubectl*lease*", "then")
        .says("k3s kubectl*kubeletVersion*", "v1.36.0 True");
    old.refuses("does not come back");
    let late = k3s("node_returns n1 1.36.0")
        .on("k3s kubectl*lease*", "if [ -e \"$R/x\" ]; then echo then; else : >\"$R/x\"; false; fi")
        .says("k3s kubectl*kubeletVersion*", "v1.36.0 True");
    late.refuses("does not come back");
}

#[test]
fn what_a_cut_run_left_cordoned_is_uncordoned() {
    let case = || {
        k3s("uncordon_left")
            .on("k3s kubectl*get nodes*", "printf '%s\\n' 'n1 yes' 'n2 ' 'n3 yes'")
            .says("k3s kubectl*annotations*", "yes")
    };
    let run = check(case());
    assert!(run.called("k3s kubectl*uncordon n1") && run.called("k3s kubectl*uncordon n3"));
    assert!(!run.called("k3s kubectl*uncordon n2") && run.file("run/bramble/cordoned").is_none());
    assert!(!check(k3s("uncordon_left")).called("k3s kubectl*uncordon*"));
}
