//! What must be true before a run goes on: `readiness.sh`.

use super::*;

#[test]
fn gates_open_only_when_it_is_so() {
    check(k3s("adopt n1 10.42.1.0/24 1"));
    check(k3s("adopt n1 10.42.1.0/24 1").says("k3s kubectl*get node*", "10.42.1.0/24"));
    let run = check(k3s("nodes_ready n1 n2"));
    assert!(run.stdout.ends_with("@fact gate nodes-ready\n"));
    let failed = k3s("nodes_ready n1 n2").on("k3s kubectl*wait*", "false").run(None);
    assert!(failed.code != 0 && !failed.stdout.contains("@fact"));
    check(k3s("system_ready").says("k3s kubectl*jsonpath*", "coredns-1 Running True"));
    let waiting = k3s("system_ready")
        .says("k3s kubectl*get events*", "coredns-1: cannot start the sandbox")
        .says("k3s kubectl*jsonpath*", "coredns-1 Running False");
    let run = waiting.refuses("pods of the system do not become ready");
    assert!(run.stderr.contains("\ncoredns-1: cannot start the sandbox\n"), "{}", run.stderr);
    check(k3s("drain_all n1 n2").best_effort("k3s kubectl*drain*"));
}

#[test]
fn an_address_that_nobody_holds_is_told_although_each_control_plane_answers() {
    check(k3s("address_has_api 10.0.0.9 6443"));
    let case = k3s("address_answers 10.0.0.9 6443");
    assert!(check(case.clone()).called("curl*https://10.0.0.9:6443/readyz"));
    case.on("curl*", "false").refuses("and not at 10.0.0.9, the address that moves between them");
}
