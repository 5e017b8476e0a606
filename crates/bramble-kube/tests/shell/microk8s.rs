//! The library of MicroK8s.

use super::*;

const D: &str = "/var/snap/microk8s/current";
const SNAPS: &str = "/var/lib/bramble/snaps";

fn planes(case: Case) -> Case {
    case.says("microk8s status*", "  - address: 10.0.0.1:19001")
}

fn with_snaps(case: Case) -> Case {
    let case = case
        .may_fail("readlink /snap/*/current", "it is not there yet")
        .may_fail("cmp*", "it is not the same, and both stay");
    ["core24", "microk8s"].into_iter().fold(case, |case, name| {
        case.file(&format!("{SNAPS}/{name}.snap"), name).file(&format!("{SNAPS}/{name}.assert"), "snap-revision: 7\n")
    })
}

/// A node whose snap is there already, with its certificates.
fn running(case: Case) -> Case {
    without_packet_filter(with_snaps(service(case)))
        .best_effort("ip route flush*")
        .file(&format!("{D}/var/lock/cni-loaded"), "")
        .file(&format!("{D}/certs/ca.crt"), "x")
        .file(&format!("{D}/credentials/x"), "")
        .file("/var/lib/bramble/done/", "")
        .file("/var/lib/bramble/pending/", "")
        .says("microk8s add-node*", "10.0.0.1:25000/t0ken/check")
}

/// What is left of an older one goes first, as far as it can.
fn anew(case: Case) -> Case {
    case.best_effort("snap stop microk8s")
        .on("snap remove*", "mkdir -p $R/keep; cp -r $R/var/snap/microk8s/current $R/keep/")
        .on("snap install*microk8s.snap", "mkdir -p $R/var/snap/microk8s; cp -r $R/keep/current $R/var/snap/microk8s/")
}

#[test]
fn it_runs_when_its_api_answers() {
    let says = |case: Case| case.run(None).stdout;
    let asks = "if runs; then echo yes; else echo no; fi; if is_worker; then echo worker; fi";
    assert_eq!(says(microk8s(asks)), "yes\n");
    assert_eq!(says(microk8s(asks).on("kubectl*", "false")), "no\n");
    let worker =
        says(microk8s(asks).file(&format!("{D}/var/lock/clustered.lock"), "").on("kubectl*client.config*", "false"));
    assert_eq!(worker, "yes\nworker\n");
    assert_eq!(says(planes(microk8s("planes"))), "10.0.0.1\n");
    assert_eq!(
        says(microk8s(
            "end=$(date +%s); end=$((end + 300)); if in_time; then echo yes; fi; if in_time; then echo no; fi"
        )),
        "yes\n"
    );
    check(microk8s("begin_waiting\n[ -n \"$end\" ]"));
    assert_eq!(says(microk8s("if was_member; then echo yes; fi")), "yes\n");
    check(microk8s("microk8s status"));
    check(microk8s("stop_kubernetes"));
}

#[test]
fn members_are_forgotten() {
    // What it says of itself is what counts, not how its programs end.
    let case = planes(microk8s("forget_node n2 10.0.0.2"))
        .may_fail("microk8s remove-node*", "what is there afterwards counts");
    check(case.may_fail("kubectl*get node*", "then it is gone already"));
    planes(microk8s("forget_node n1 10.0.0.1")).refuses("dqlite keeps its member 10.0.0.1");
    microk8s("forget_node n1 10.0.0.1").refuses("dqlite keeps its member 10.0.0.1");
}

#[test]
fn snaps_are_installed_with_patience() {
    let run = check(with_snaps(microk8s("install_snaps")));
    assert_eq!(run.file("var/lib/bramble/snaps.ours").as_deref(), Some("core24\nmicrok8s\n"));
    let linked = with_snaps(microk8s("snaps=core24\ninstall_snaps"))
        .file("/var/lib/snapd/snaps/core24_7.snap", "core24")
        .best_effort("ln -f*");
    check(linked);
    with_snaps(microk8s("install_snaps")).file(&format!("{SNAPS}/core24.assert"), "").refuses("names no revision");
    let busy = "[ -e $R/x ] || { : >$R/x; echo 'error: change in progress'; false; }";
    assert_eq!(microk8s("patiently snap refresh").on("snap refresh", busy).run(None).code, 0);
    microk8s("patiently snap refresh").on("snap refresh", "echo broken; false").refuses("broken");
    assert_eq!(check(microk8s("asserted a").file(&format!("{SNAPS}/a.assert"), "snap-revision: 7\n")).stdout, "7\n");
    assert_eq!(microk8s("installed core24").run(None).stdout, "");
    check(microk8s("send_images").file(&format!("{SNAPS}/images.tar"), "x").may_fail("ln*", "then it is copied"));
    let again = microk8s("send_images").file(&format!("{SNAPS}/images.tar"), "x");
    check(again.file("/var/snap/microk8s/common/etc/sideload/", ""));
    check(microk8s("images_arrived"));
    let stuck = microk8s("images_arrived").file("/var/snap/microk8s/common/etc/sideload/bramble.tar", "");
    stuck.refuses("does not take the images");
}

#[test]
fn it_begins_a_cluster() {
    let run = check(anew(running(microk8s("microk8s_init '' 10.0.0.1 '' n2"))));
    assert!(run.stdout.contains("@fact tokens n2=10.0.0.1:25000/t0ken/check\n@fact joinable yes"), "{}", run.stdout);
    assert!(run.file("var/lib/bramble/done/ca-hash").is_some());
    check(anew(running(microk8s("begin"))));
    let dead = anew(running(microk8s("begin"))).on("kubectl*", "false");
    dead.refuses("the last lines of snap.microk8s.daemon-kubelite:");
    let low = anew(running(microk8s("begin")))
        .file(&format!("{D}/var/lock/low-memory-guard.lock"), "")
        .on("kubectl*", "false");
    assert_eq!(low.run(None).code, 0);
}

#[test]
fn it_joins_one() {
    let body = "microk8s_join 10.0.0.1:25000 t0ken 10.0.0.1 ''";
    let case = planes(anew(running(microk8s(body)))).file(&format!("{D}/args/kubelet"), "--resolv-conf=/gone\n");
    let run = check(case.may_fail("systemctl reset-failed*", "it is not loaded"));
    assert!(run.called("systemctl restart snap.microk8s.daemon-cluster-agent"));
    check(anew(running(microk8s("microk8s_join 10.0.0.1:25000 t0ken 10.0.0.1 --worker"))));
    anew(running(microk8s(body))).refuses("it does not become a member");
    anew(running(microk8s(body))).on("snap run*", "echo wrong token; false").refuses("wrong token");
}

/// All arguments of all programs can be read by every user of the node.
#[test]
fn the_token_of_a_join_is_in_no_argument() {
    let body = "microk8s_join 10.0.0.1:25000 t0ken/check 10.0.0.1 --worker";
    let run = anew(running(microk8s(body))).on("snap run*", "cat >$R/given").run(None);
    let given = run.file("given").unwrap_or_default();
    assert!(given.trim() == "10.0.0.1:25000/t0ken/check" && !run.called("*t0ken*"), "{given} {:?}", run.calls);
}

#[test]
fn the_connection_of_a_join_does_not_stay_on_the_node() {
    let run = planes(anew(running(microk8s("microk8s_join 10.0.0.1:25000 t0ken 10.0.0.1 ''")))).run(None);
    assert_eq!((run.code, run.file("run/bramble/connection")), (0, None), "{}", run.stderr);
}

/// It shows the whole command with which a node without memory could join all the same.
#[test]
fn what_a_join_says_is_passed_on_without_its_token() {
    let case = microk8s("join_said t0ken")
        .file("/run/bramble/join", "too little memory\n\n  microk8s join 1:2/t0ken --worker\n");
    assert_eq!(check(case).stdout, "too little memory\n");
}

#[test]
fn tokens_are_written_where_only_root_can_look() {
    let body =
        "chmod 755 $R/run/bramble\ntell_tokens 10.0.0.1 n1\nstat -c %a $R/run/bramble $R/run/bramble/microk8s.tokens";
    let run = microk8s(body).says("microk8s add-node*", "t0ken/check").run(None);
    assert!(run.stdout.ends_with("700\n600\n"), "{}", run.stdout);
}

/// The way from `ask_to_join` to MicroK8s' own program, with the real bash and the real Python.
#[test]
fn the_program_that_joins_finds_the_connection_among_its_arguments_and_others_do_not() {
    let snap = tempfile::tempdir().unwrap();
    let place = |path: &str, text: &str| {
        let path = snap.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    place("actions/common/utils.sh", "use_snap_env() { export NOTED=yes; }\n");
    place("scripts/wrappers/common.py", "noted = 'noted'\n");
    let join = "import os, sys\nfrom common import noted\nif __name__ == '__main__':\n    \
                print(noted, os.environ['NOTED'], *sys.argv[1:])\n    print(open('/proc/self/cmdline').read())\n";
    place("scripts/wrappers/join.py", join);
    std::fs::create_dir_all(snap.path().join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/python3", snap.path().join("usr/bin/python3")).unwrap();
    let run = microk8s("echo 10.0.0.1:25000/t0ken | ask_to_join --worker")
        .on("snap run*", &format!("shift 3; SNAP={} /bin/bash \"$@\"", snap.path().display()))
        .run(None);
    let (said, arguments) = run.stdout.split_once('\n').unwrap_or_default();
    assert_eq!(
        (said, arguments.contains("t0ken")),
        ("noted yes 10.0.0.1:25000/t0ken --worker", false),
        "{}",
        run.stderr
    );
}

#[test]
fn tokens_are_told_written_down_and_taken_back() {
    let run = check(microk8s("tell_tokens 10.0.0.1 n1 n2").says("microk8s add-node*", "10.0.0.1:25000/t0ken/check"));
    assert_eq!(
        run.file("run/bramble/microk8s.tokens").as_deref(),
        Some("10.0.0.1:25000/t0ken\n10.0.0.1:25000/t0ken\n")
    );
    assert!(!microk8s("tell_tokens 10.0.0.1 n1").refuses("MicroK8s gives no token").stdout.contains("@fact tokens"));
    let file = format!("{D}/credentials/cluster-tokens.txt");
    let case = microk8s("forget_tokens").file("/run/bramble/microk8s.tokens", "t0ken\n");
    let run = check(case.clone().file(&file, "t0ken|1\nothers\n"));
    assert_eq!(run.file(&file).as_deref(), Some("others\n"));
    assert_eq!(check(case.clone().file(&file, "t0ken|1\n")).file(&file).as_deref(), Some(""));
    check(case);
    check(microk8s("tell_ca").file(&format!("{D}/certs/ca.crt"), "x"));
}

#[test]
fn nodes_are_upgraded() {
    let case = || with_snaps(microk8s("microk8s_upgrade")).file(&format!("{D}/var/lock/clustered.lock"), "");
    assert!(check(case()).called("kubectl*delete pod*calico-node*"));
    case().on("kubectl*readyz", "false").refuses("the last lines of");
}

#[test]
fn certificates_are_renewed_and_the_state_is_saved_and_comes_back() {
    let failed =
        microk8s("without_kicker microk8s refresh-certs").on("microk8s refresh*", "echo why; false").refuses("why");
    assert!(failed.called("systemctl start snap.microk8s.daemon-apiserver-kicker"));
    check(microk8s("without_kicker microk8s refresh-certs").file(&format!("{D}/x"), ""));
    check(microk8s("renew_certificates"));
    let certs = |case: Case| {
        ["certs/ca.crt", "certs/ca.key", "certs/serviceaccount.key", "credentials/callback-token.txt"]
            .into_iter()
            .fold(case, |case, name| case.file(&format!("{D}/{name}"), "x"))
    };
    let save =
        certs(microk8s("snapshot_state /run/bramble")).on("microk8s dbctl*", "echo x >$R/run/bramble/state.tar.gz");
    check(save);
    assert!(certs(microk8s("snapshot_state /run/bramble")).run(None).code != 0);
    let restore = || {
        service(certs(microk8s("restore_state /run/bramble/b.tgz"))).on(
            "tar*",
            ": >$R/var/lib/bramble/restore/serviceaccount.key; : >$R/var/lib/bramble/restore/callback-token.txt",
        )
    };
    // k8s-dqlite 1.8.1, and 1.3.5.
    for said in ["completed database restore", "Completed database restore"] {
        check(restore().says("microk8s dbctl*", said).may_fail("systemctl reset-failed*", "it is not loaded"));
    }
    for said in ["failed to restore key a", "Failed to restore key a"] {
        let both = format!("{said}\ncompleted database restore");
        restore().says("microk8s dbctl*", &both).refuses(said);
    }
    assert!(restore().run(None).code != 0, "it says nothing of its end");
}

#[test]
fn a_reset_takes_the_snaps_that_came_with_it() {
    let case = with_pods(microk8s("reset_kubernetes")).file("/etc/cni/x", "").best_effort("snap stop microk8s");
    let run = check(case.file(&format!("{D}/certs/ca.crt"), "x"));
    assert!(run.called("snap remove --purge microk8s") && run.file(&format!("{D}/certs/ca.crt")).is_none());
    let case = microk8s("ln -s core24 $R/snap/core24\ninstalled() { echo 7; }\nremove_snaps")
        .file("/snap/x", "")
        .file("/var/lib/bramble/snaps.ours", "core24\nsnapd\n")
        .best_effort("snap remove*");
    let run = check(case);
    assert!(run.called("snap remove --purge core24") && run.called("snap remove --purge snapd"));
    assert!(check(microk8s("remove_snaps")).calls.is_empty());
    let new = with_snaps(microk8s("rm -rf $R/snap/microk8s\ninstall_snaps")).on("getent group microk8s", "false");
    assert!(new.run(None).file("var/lib/bramble/group.ours").is_some());
    let run = check(
        microk8s("remove_snaps")
            .file("/var/lib/bramble/group.ours", "")
            .may_fail("getent*", "there is none")
            .best_effort("groupdel*"),
    );
    assert!(run.called("groupdel microk8s") && run.file("var/lib/bramble/group.ours").is_none());
}

#[test]
fn programs_have_their_arguments_once() {
    let file = format!("{D}/args/kubelet");
    let tell = |arguments: &str, before: &str| {
        check(microk8s(&format!("tell_arguments kubelet {arguments}")).file(&file, before)).file(&file).unwrap()
    };
    let told = tell("--max-pods=60 '--eviction-hard=nodefs.available<10%'", "--v=1\n--node-ip=10.0.0.1");
    assert_eq!(
        told,
        "--v=1\n--node-ip=10.0.0.1\n# bramble begins\n--max-pods=60\n--eviction-hard=nodefs.available<10%\n# bramble ends\n"
    );
    assert_eq!(
        tell("--max-pods=30", &told),
        "--v=1\n--node-ip=10.0.0.1\n# bramble begins\n--max-pods=30\n# bramble ends\n"
    );
    assert_eq!(tell("", &told), "--v=1\n--node-ip=10.0.0.1\n");
}
