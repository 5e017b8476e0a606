//! How the cluster is at this moment: `health.sh`.

use super::*;

fn health(nodes: &str, pods: &str) -> Case {
    k3s("tell_health '' n1 n2 n3")
        .on("k3s kubectl*get nodes*", nodes)
        .on("k3s kubectl*get pods*", pods)
        .may_fail("k3s kubectl*get --raw /readyz*", "then it is told that the API does not answer")
}

#[test]
fn what_is_not_ready_is_told() {
    let nodes = "printf '%s\\n' 'n1 True ' '@fact node n1 label=a=b' 'n2 False yes' '@fact service 10.96.0.1'";
    let pods =
        "printf '%s\\n' 'coredns-1 Running True' 'job-1 Succeeded False' 'old-1 Failed False' 'dns-2 Pending False'";
    let run = check(health(nodes, pods));
    assert_eq!(
        run.stdout,
        "@fact node n1 label=a=b\n@fact service 10.96.0.1\n@fact unready the node n2 is not Ready\n@fact unready the node n2 was left cordoned\n\
         @fact unready the node n3 is not there\n@fact unready the pod dns-2 is not ready\n@fact answers yes\n"
    );
    let well = check(health("printf 'n%s True \\n' 1 2 3", "echo 'coredns-1 Running True'"));
    assert_eq!(well.stdout, "@fact answers yes\n");
}

#[test]
fn records_are_told_or_it_fails() {
    let told = "@fact node n1 label=a=b\n";
    let run = check(k3s("tell_records").on("k3s kubectl*get nodes,services*", "echo '@fact node n1 label=a=b'"));
    assert_eq!(run.stdout, told);
}

#[test]
fn an_api_that_does_not_answer_is_told_and_no_failure() {
    let silent = k3s("tell_health '' n1").on("k3s kubectl*readyz*", "false").run(None);
    assert_eq!((silent.code, silent.stdout.as_str()), (0, "@fact answers no\n"));
    let absent = k3s("tell_health '' n1").without("k3s").run(None);
    assert_eq!((absent.code, absent.stdout.as_str()), (0, "@fact answers no\n"));
    // One that falls silent in between is not well.
    let cut = k3s("tell_health '' n1").on("k3s kubectl*get pods*", "false").run(None);
    assert!(cut.code != 0 && !cut.stdout.contains("answers yes"));
}

#[test]
fn the_objects_of_add_ons_are_told_without_kinds_that_are_gone() {
    let objects = "printf '%s\\t%s\\t%s\\t%s\\n' v1 Namespace '' n apps/v1 Deployment n d";
    let told = "@fact object /Namespace/default/n\n@fact object apps/Deployment/n/d\n@fact objects all\n";
    let run = check(k3s("tell_objects Namespace.v1.,Deployment.v1.apps").on("k3s kubectl*get Namespace*", objects));
    assert_eq!(run.stdout, told);
    let gone = "case $* in *Pool*) echo 'error: the server doesn t have a resource type \"Pool\"' >&2; exit 1 ;; *) ";
    let run = k3s("tell_objects Namespace.v1.,Pool.v1.x.io,Deployment.v1.apps")
        .on("k3s kubectl*get Namespace*", &format!("{gone}{objects} ;; esac").replace("\\\\'", "'\\''"))
        .run(None);
    assert_eq!((run.code, run.stdout.as_str()), (0, told), "{}", run.stderr);
    k3s("tell_objects Pool.v1.x.io")
        .on("k3s kubectl*get Pool*", "echo 'Unable to connect' >&2; exit 1")
        .refuses("Unable to connect");
}
