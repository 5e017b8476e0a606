//! The smoke test: `smoke.sh`.

use super::*;

#[test]
fn the_smoke_test_finds_what_does_not_work() {
    let good = || {
        k3s("smoke_test 2 mark")
            .file("/run/bramble/smoke.json", "{}")
            .file("/var/lib/bramble/done/", "")
            .file("/var/lib/bramble/pending/", "")
            .says("k3s kubectl*spec.clusterIP*", "10.43.0.9")
            .on("k3s kubectl*podIP*", "printf 'p1 n1 10.42.0.2\\np2 n2 10.42.1.2\\n'")
    };
    let run = check(good());
    assert!(run.stdout.contains("@fact smoke 4 paths between pods, 2 through the service"));
    let run = good().on("k3s kubectl*exec p2*", "echo no answer; false").refuses("from n2: no answer");
    assert!(run.file("var/lib/bramble/done/smoke").is_none());
    good().on("k3s kubectl*rollout*", "false").refuses("does not become ready");
    check(k3s("smoke_clean true"));
    k3s("smoke_clean true")
        .on("k3s kubectl*delete namespace*", "echo timed out >&2; false")
        .says("k3s kubectl*get namespace*", "Discovery failed for some groups")
        .refuses("does not go:\nDiscovery failed for some groups");
}
