//! The library of k0s.

use super::*;

const MEMBERS: &str = r#"{"members":{"n1":"https://10.0.0.1:2380"}}"#;

const CONNECTED: &str = r#"{ "WorkerToAPIConnectionStatus": { "Message": "", "Success": true } }"#;

/// A token as k0s gives it: a kubeconfig, packed.
const TOKEN: &str = "H4sIAAAAAAAAAyvJz07Ns1JITEpOSU3TMzA0MjYxNTO3sIQIcAEA/9WXyR8AAAA=";

#[test]
fn it_runs_when_it_says_so() {
    let says = |service: &str, case: fn(Case) -> Case| {
        case(k0s(&format!("service={service}\nif runs; then echo yes; else echo no; fi"))).run(None).stdout
    };
    assert_eq!(says("k0scontroller", |case| case), "yes\n");
    assert_eq!(says("k0scontroller", |case| case.on("k0s kubectl*", "false")), "no\n");
    assert_eq!(says("k0sworker", |case| case), "no\n");
    assert_eq!(says("k0sworker", |case| case.says("k0s status*", CONNECTED)), "yes\n");
    assert_eq!(k0s("if etcd_has 10.0.0.1; then echo yes; fi").says("k0s etcd*", MEMBERS).run(None).stdout, "yes\n");
    assert_eq!(k0s("if was_member; then echo yes; fi").file("/var/lib/k0s/pki/ca.crt", "").run(None).stdout, "yes\n");
}

#[test]
fn nodes_are_forgotten_and_stopped() {
    let forget =
        k0s("forget_node n1 10.0.0.1").says("k0s etcd member-list", MEMBERS).best_effort("k0s kubectl*controlnodes*");
    assert!(check(forget).called("k0s etcd leave --peer-address 10.0.0.1"));
    let worker =
        k0s("forget_node n2 10.0.0.2").says("k0s etcd member-list", MEMBERS).best_effort("k0s kubectl*controlnodes*");
    assert!(!check(worker).called("k0s etcd leave*"));
    // No answer is no reason to leave a member in.
    k0s("forget_node n1 10.0.0.1").on("k0s etcd member-list", "echo 'no leader' >&2; false").refuses("no leader");
    check(k0s("stop_kubernetes"));
}

#[test]
fn users_come_and_go() {
    let make = k0s("make_users").says("id -u etcd", "7").on("id*", "false");
    let make = make.may_fail("id*", "then it is not there");
    let run = make.run(None);
    assert!(run.code == 0 && run.called("useradd*kube-apiserver") && !run.called("useradd* etcd"), "{}", run.stderr);
    let add = k0s("make_users").on("id*", "false").on("useradd*etcd", "false").run(None);
    assert!(add.code != 0 && add.file("var/lib/bramble/k0s.users/etcd").is_none());
    let case = k0s("remove_users").file("/var/lib/bramble/k0s.users/etcd", "");
    let run = check(case.clone().may_fail("id*", "then it is gone"));
    assert!(run.called("userdel etcd") && !run.called("userdel kube-apiserver"));
    // One that cannot go yet is not forgotten.
    let busy = case.on("userdel*", "echo busy >&2; false").refuses("busy");
    assert!(busy.file("var/lib/bramble/k0s.users/etcd").is_some());
}

#[test]
fn a_reset_takes_all_but_images() {
    let case = with_pods(k0s("reset_kubernetes"))
        .file("/sys/class/net/kube-bridge/x", "")
        .file("/var/lib/k0s/images/a.tar", "")
        .file("/var/lib/k0s/pki/ca.crt", "")
        .best_effort("ip route flush proto 17");
    let run = check(case);
    assert!(run.called("ip link del kube-bridge") && run.file("var/lib/k0s/images/a.tar").is_some());
    assert!(run.file("var/lib/k0s/pki/ca.crt").is_none());
}

#[test]
fn tokens_are_told_written_down_and_taken_back() {
    let case = k0s("tell_tokens worker controller").says("k0s token create*", TOKEN);
    let run = check(case);
    assert_eq!(run.file("run/bramble/k0s.tokens").as_deref(), Some("abcdef\nabcdef\n"));
    assert!(run.stdout.contains("@fact worker-token ") && run.stdout.contains("@fact controller-token "));
    let strange = k0s("tell_tokens worker").says("k0s token create*", "@@@").refuses("there is no token");
    assert!(!strange.stdout.contains("@fact"));
    let forget = k0s("forget_tokens").file("/run/bramble/k0s.tokens", "abcdef\nghijkl\n");
    let run = check(forget.clone());
    assert!(run.called("k0s token invalidate ghijkl") && run.file("run/bramble/k0s.tokens").is_none());
    assert!(forget.on("k0s token*", "false").run(None).file("run/bramble/k0s.tokens").is_some());
    assert!(check(k0s("forget_tokens")).calls.is_empty());
    let unit = ("/etc/systemd/system/k0scontroller.service", "[Service]\nExecStart=/usr/local/bin/k0s controller\n");
    check(k0s("with_token secret").file(unit.0, unit.1));
    k0s("with_token secret").file(unit.0, "").refuses("has no ExecStart");
    check(k0s("forget_token"));
    check(k0s("tell_ca").file("/var/lib/k0s/pki/ca.crt", "x"));
}

fn started(case: Case) -> Case {
    service(case)
        .may_fail("systemctl reset-failed*", "it is not loaded")
        .file("/etc/systemd/system/k0scontroller.service", "ExecStart=k0s controller\n")
        .file("/etc/k0s/", "")
        .file("/var/lib/bramble/done/", "")
        .file("/var/lib/bramble/pending/", "")
        .says("k0s etcd member-list", MEMBERS)
        .says("k0s token create*", TOKEN)
}

#[test]
fn it_begins_a_cluster_or_joins_one() {
    let ca = ("/var/lib/k0s/pki-made", "x");
    let made = "mkdir -p $R/var/lib/k0s/pki; echo x >$R/var/lib/k0s/pki/ca.crt";
    let init = started(k0s("k0s_init '' worker")).on("systemctl --no-block*", made).may_fail("id*", "then it is made");
    let run = check(init.file(ca.0, ca.1));
    assert!(run.stdout.contains("@fact joinable yes") && run.file("var/lib/bramble/done/ca-hash").is_some());
    let restore = started(k0s("k0s_init /run/bramble/b.tgz worker"))
        .on("systemctl --no-block*", made)
        .on("tar*", ": >$R/var/lib/bramble/restore/k0s_backup_1")
        .may_fail("id*", "then it is made");
    assert!(check(restore).called("k0s restore*"));
    let run = check(started(k0s("k0s_join secret 10.0.0.1")).may_fail("id*", "then it is made"));
    assert!(run.file("run/bramble/k0s.token").is_none());
    started(k0s("k0s_join secret 10.0.0.9")).refuses("its etcd does not become a member");
}

#[test]
fn its_state_is_saved() {
    let saves = "unshare --mount*k0s backup --save-path*";
    let run = check(k0s("snapshot_state /run/bramble").on(saves, "echo x >$R/run/bramble/k0s_backup_1"));
    assert!(run.called("unshare* /run/bramble/none /var/lib/k0s/images /run/bramble"), "{:?}", run.calls);
    assert!(k0s("snapshot_state /run/bramble").run(None).code != 0);
}
