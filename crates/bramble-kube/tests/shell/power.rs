//! Nodes without power.

use super::*;

#[test]
fn what_runs_is_listed() {
    let run = check(
        k3s("print_running")
            .says("k3s kubectl*get nodes*", "node n1 True")
            .says("k3s kubectl*get deployments*", "Deployment a/web 3"),
    );
    assert_eq!(run.stdout, "node n1 True\nDeployment a/web 3\n");
}

#[test]
fn a_node_is_out_only_when_it_has_been_silent() {
    let out = |lease: &'static str| k3s("out_of_service n1").says("k3s kubectl*get lease*", lease);
    let run = check(out("1970-01-01T00:00:10Z"));
    assert!(
        run.called("k3s kubectl*taint node n1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute --overwrite")
    );
    assert!(run.called("k3s kubectl*annotate node n1 bramble/out=yes*"));
    let lives = out("2999-01-01T00:00:00Z");
    assert!(!lives.refuses("n1 has reported itself within the last 20 s: it runs").called("k3s kubectl*taint*"));
    assert!(check(out("")).called("k3s kubectl*taint*"), "one that never had a lease");
}

#[test]
fn only_nodes_that_were_out_and_are_ready_take_pods_again() {
    let run = check(
        k3s("in_service")
            .file("/run/bramble/x", "")
            .says("k3s kubectl*get nodes*", "n1 yes True node.kubernetes.io/out-of-service\nn2  True\nn3 yes Unknown node.kubernetes.io/out-of-service\nn4 yes True"),
    );
    assert!(run.called("k3s kubectl*taint node n1 node.kubernetes.io/out-of-service:NoExecute-"));
    assert!(run.called("k3s kubectl*annotate node n1 bramble/out-"));
    assert!(run.called("k3s kubectl*annotate node n4 bramble/out-") && !run.called("k3s kubectl*taint node n4*"));
    assert!(!run.called("k3s kubectl*taint node n2*") && !run.called("k3s kubectl*taint node n3*"));
}
