//! The library of k3s.

use super::*;

const K: &str = "/var/lib/rancher/k3s";

fn with_tokens(case: Case) -> Case {
    case.file(&format!("{K}/server/token"), "K10abc::server:s3cret\n")
        .file("/etc/rancher/k3s/token", "K10abc::server:s3cret")
        .file("/etc/rancher/k3s/agent-token", "0ther")
}

#[test]
fn nodes_are_forgotten_and_stopped() {
    check(k3s("forget_node n1 10.0.0.1"));
    check(k3s("stop_kubernetes"));
    check(k3s("forget_tokens"));
    let started = |path: &str| check(k3s("if was_member; then echo yes; fi").file(path, "")).stdout;
    assert_eq!(started(&format!("{K}/server/db/x")), "yes\n");
    assert_eq!(started("/etc/x"), "");
}

#[test]
fn a_reset_takes_all_but_images() {
    let case = with_pods(k3s("reset_kubernetes"))
        .file(&format!("{K}/agent/images/a.tar"), "")
        .file(&format!("{K}/agent/client-kubelet.crt"), "")
        .file(&format!("{K}/agent/etc/crictl.yaml"), "")
        .file(&format!("{K}/agent/etc/containerd/config.toml"), "")
        .file(&format!("{K}/agent/etc/containerd/config-v3.toml.tmpl"), "")
        .file(&format!("{K}/agent/etc/containerd/config-v3.toml.d/own.toml"), "")
        .file(&format!("{K}/server/db/x"), "");
    let run = check(case);
    for stays in ["images/a.tar", "etc/containerd/config-v3.toml.tmpl", "etc/containerd/config-v3.toml.d/own.toml"] {
        assert!(run.file(&format!("{K}/agent/{stays}")).is_some(), "{stays}");
    }
    for goes in ["etc/crictl.yaml", "etc/containerd/config.toml"] {
        assert!(run.file(&format!("{K}/agent/{goes}")).is_none(), "{goes}");
    }
    assert!(run.file(&format!("{K}/server/db/x")).is_none());
    assert!(run.file(&format!("{K}/agent/client-kubelet.crt")).is_none());
    // Nothing is there.
    check(empty(k3s("reset_kubernetes")));
}

#[test]
fn it_tells_how_others_join() {
    let run = check(with_tokens(k3s("tell_how_to_join 10.0.0.1")));
    assert_eq!(
        run.stdout,
        "@fact ca-hash abc\n@fact server https://10.0.0.1:6443\n@fact token s3cret\n@fact agent-token 0ther\n"
    );
    let missing = k3s("tell_how_to_join 10.0.0.1").file(&format!("{K}/server/token"), "K10abc::server:s\n");
    let run = missing.refuses("/etc/rancher/k3s/token");
    assert!(!run.stdout.contains("@fact token"));
    let bare = k3s("tell_how_to_join 10.0.0.1").file(&format!("{K}/server/token"), "s3cret\n");
    assert!(!bare.refuses("does not hold the digest").stdout.contains("s3cret"));
}

#[test]
fn it_begins_a_cluster_or_joins_one() {
    check(k3s("begin a b https://10.0.0.1:6443"));
    let started = |case: Case| {
        service(case)
            .may_fail("systemctl reset-failed*", "it is not loaded")
            .file("/var/lib/bramble/done/", "")
            .file("/var/lib/bramble/pending/", "")
    };
    let init = started(k3s("k3s_init s3cret 0ther 10.0.0.1 '' coredns"))
        .file(&format!("{K}/server/token"), "K10abc::server:s3cret\n")
        .says("k3s kubectl*get deployment*", "deployment.apps/coredns");
    let run = check(init);
    assert_eq!(run.file("var/lib/bramble/done/ca-hash").as_deref(), Some("abc\n"));
    check(started(k3s("k3s_join a b https://10.0.0.1:6443 etcd").says("k3s kubectl*EtcdIsVoter*", "True")));
    let made = "mkdir -p $R/var/lib/rancher/k3s/agent; for f in client-kubelet.crt kubelet.kubeconfig; do : >$R/var/lib/rancher/k3s/agent/$f; done";
    let agent = || started(k3s("service=k3s-agent\nk3s_join a '' https://10.0.0.1:6443 etcd"));
    check(agent().on("systemctl --no-block start*", &format!("PATH=/bin; {made}")));
    // One that is never let in is not waited for for ever, and neither is one that ends again and again.
    assert_ne!(agent().run(None).code, 0);
    check(started(k3s("k3s_join a b '' ''")));
    started(k3s("k3s_join a b c etcd")).refuses("its etcd does not catch up");
}

#[test]
fn releases_that_nobody_runs_any_more_go() {
    check(k3s("unpack"));
    let data = format!("{K}/data");
    let mut case = k3s("forget_releases")
        .on("readlink*/current", &format!("echo $R{data}/new"))
        .on("readlink*/previous", &format!("echo $R{data}/last"))
        .on("ls -l*", &format!("echo \"x -> $R{data}/shim/bin/containerd-shim-runc-v2\"; false"));
    for release in ["new", "last", "shim", "shi", "cni"] {
        case = case.file(&format!("{data}/{release}/bin/k3s"), "");
    }
    let case = case
        .may_fail("readlink */current", "there is no such link")
        .may_fail("readlink */previous", "there is no such link")
        .may_fail("ls -l*", "some processes have ended");
    let run = check(case);
    for (release, stays) in [("new", true), ("last", true), ("shim", true), ("cni", true), ("shi", false)] {
        assert_eq!(run.file(&format!("{data}/{release}/bin/k3s")).is_some(), stays, "{release}");
    }
}

#[test]
fn passwords_of_boards_are_not_those_of_a_backup() {
    let secrets = "secret/kube2.node-password.k3s\nsecret/k3s-serving";
    let run = check(k3s("forget_passwords").says("k3s kubectl*get secrets*", secrets));
    assert!(
        run.called("k3s kubectl* delete secret/kube2.node-password.k3s*") && !run.called("*delete secret/k3s-serving*")
    );
}

#[test]
fn sockets_of_shims_go_unless_they_are_the_systems() {
    let case = || k3s("remove_sockets").file("/run/containerd/s/1", "").file("/run/nri/nri.sock", "");
    let run = check(case());
    assert!(run.file("run/containerd/s/1").is_none() && run.file("run/nri/nri.sock").is_none());
    let docker = "/usr/bin/containerd-shim-runc-v2\0-namespace\0moby\0";
    for others in [case().file("/run/containerd/containerd.sock", ""), case().file("/proc/42/cmdline", docker)] {
        let run = check(others);
        assert!(run.file("run/containerd/s/1").is_some() && run.file("run/nri/nri.sock").is_some());
    }
}

#[test]
fn its_state_is_saved() {
    let etcd = with_tokens(k3s("snapshot_state /run/bramble"))
        .file(&format!("{K}/server/db/etcd/member/x"), "")
        // It makes no folder.
        .on("k3s etcd-snapshot save*", "echo x >$R/run/bramble/etcd/bramble-1");
    assert!(check(etcd).file("run/bramble/etcd.db").is_some());
    let sqlite = service(with_tokens(k3s("snapshot_state /run/bramble")))
        .file(&format!("{K}/server/db/etcd/name"), "kube1-0a1b2c3d")
        .file(&format!("{K}/server/db/state.db"), "db")
        .file(&format!("{K}/server/db/state.db-wal"), "wal");
    let run = check(sqlite.clone());
    assert!(run.called("kill -STOP 42") && run.called("kill -CONT 42"));
    // k3s goes on whatever fails while it stands still.
    let cut = sqlite.on("cp*state.db-wal*", "false").run(None);
    assert!(cut.code != 0 && cut.called("kill -CONT 42"));
    // Number 0 would be this script itself.
    let dead = with_tokens(k3s("snapshot_state /run/bramble"))
        .says("systemctl show*", "0")
        .file(&format!("{K}/server/db/state.db"), "db");
    assert!(!check(dead).called("kill*"));
}

#[test]
fn its_state_comes_back() {
    let archive = |etcd: &str| {
        format!(
            "d=$4; printf s3cret >$R/var/lib/bramble/restore/token; printf 0ther >$R/var/lib/bramble/restore/agent-token; {etcd}"
        )
    };
    let etcd =
        k3s("k3s_restore /run/bramble/b.tgz").on("tar*", &archive("echo x >$R/var/lib/bramble/restore/etcd.db")).on(
            "k3s server*",
            "[ \"$K3S_TOKEN\" = s3cret ] && mkdir -p $R/var/lib/rancher/k3s/server/db && : >$R/var/lib/rancher/k3s/server/db/reset-flag; false",
        );
    let run = check(etcd);
    assert_eq!(run.file("etc/rancher/k3s/token").as_deref(), Some("s3cret"));
    let sqlite = k3s("k3s_restore /run/bramble/b.tgz").on(
        "tar*",
        &archive("mkdir $R/var/lib/bramble/restore/sqlite; echo x >$R/var/lib/bramble/restore/sqlite/state.db"),
    );
    assert!(check(sqlite).file(&format!("{K}/server/db/state.db")).is_some());
    let bare = k3s("k3s_restore /run/bramble/b.tgz")
        .on("tar*", ": >$R/var/lib/bramble/restore/token; : >$R/var/lib/bramble/restore/agent-token");
    bare.refuses("the backup has no tokens");
}

#[test]
fn secrets_are_made_anew() {
    const PASSWD: &str = "/var/lib/rancher/k3s/server/cred/passwd";
    const USERS: &str = "s3rver,server,server,k3s:server\n0ld,node,node,k3s:agent\n";
    let rotate = || {
        k3s("rotate_token")
            .file("/var/lib/rancher/k3s/server/token", "K10ab::server:n3w\n")
            .file("/etc/rancher/k3s/token", "old")
            .file(PASSWD, USERS)
    };
    let run = check(rotate());
    let agents = run.file("/etc/rancher/k3s/agent-token").unwrap();
    assert_eq!(run.stdout, format!("@fact token n3w\n@fact agent-token {agents}\n"));
    assert_eq!(run.file("/etc/rancher/k3s/token").as_deref(), Some("n3w"));
    // What k3s saves with the token lets agents in by what they are given, and nobody else's entry is another one.
    assert_eq!(run.file(PASSWD), Some(USERS.replace("0ld", &agents)));
    assert!(agents.len() == 48 && run.file("/run/bramble/passwd").is_none());
    let failed = rotate().on("k3s token rotate", "echo why; false").refuses("why");
    assert_eq!(failed.file(PASSWD).as_deref(), Some(USERS));
    rotate().file(PASSWD, "s3rver,server,server,k3s:server\n").refuses("it has the old ones");
    rotate().file("/var/lib/rancher/k3s/server/token", "").refuses("server/token is empty");
    let take =
        || service(k3s("take_tokens K10ab::server:n3w ag3nt")).file("/etc/rancher/k3s/x", "").file(PASSWD, USERS);
    let run = check(take().may_fail("systemctl reset-failed*", "it is not loaded"));
    assert!(run.file(PASSWD).is_none());
    assert_eq!(run.file("/etc/rancher/k3s/token").as_deref(), Some("K10ab::server:n3w"));
    assert_eq!(run.file("/etc/rancher/k3s/agent-token").as_deref(), Some("ag3nt"));
    assert!(run.called("systemctl --no-block restart k3s"));
    check(k3s("keep_tokens t ''").file("/etc/rancher/k3s/x", ""));
    let status = |said: &str| k3s("rotate_encryption").says("k3s secrets-encrypt status", said);
    let well = "Encryption Status: Enabled\nServer Encryption Hashes: All hashes match";
    assert!(check(status(well)).called("k3s secrets-encrypt rotate-keys"));
    status("Encryption Status: Disabled, no configuration file found").refuses("k3s does not encrypt Secrets here");
    let late = "Encryption Status: Enabled\nServer Encryption Hashes: hash does not match";
    status(late).refuses("not all servers have");
    // One that has just started again says a little later what it has.
    let then = format!("if [ -e $R/asked ]; then printf '{well}\\n'; else : >$R/asked; printf '{late}\\n'; fi")
        .replace('\n', "\\n");
    assert!(
        check(k3s("rotate_encryption").on("k3s secrets-encrypt status", &then))
            .called("k3s secrets-encrypt rotate-keys")
    );
}
