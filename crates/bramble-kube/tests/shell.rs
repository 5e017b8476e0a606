//! The functions of the shell libraries, each with all of its programs succeeding and with each of them failing.

use bramble_shell::testing::{Case, Run};
use bramble_state::ENDS;

const CLUSTER: &str = include_str!("../src/distribution/cluster.sh");
const OWN_RUNTIME: &str = include_str!("../src/distribution/own_runtime.sh");
/// What scripts on a control plane have behind the functions of the distribution.
const ON_CONTROL_PLANES: [&str; 5] = [
    include_str!("../src/readiness.sh"),
    include_str!("../src/rolling.sh"),
    include_str!("../src/backup.sh"),
    include_str!("../src/smoke.sh"),
    include_str!("../src/addon/lib.sh"),
];

fn library(variables: &str, parts: &[&str]) -> String {
    format!("{variables}\n{ENDS}{}{}", parts.concat(), ON_CONTROL_PLANES.concat())
}

fn k3s(body: &str) -> Case {
    let text = library("service=k3s again=no", &[CLUSTER, OWN_RUNTIME, include_str!("../src/distribution/k3s/lib.sh")]);
    Case::new(text, body)
}

fn k0s(body: &str) -> Case {
    let text = library(
        "service=k0scontroller again=no",
        &[CLUSTER, OWN_RUNTIME, include_str!("../src/distribution/k0s/lib.sh")],
    );
    Case::new(text, body)
}

fn microk8s(body: &str) -> Case {
    let variables = "service=snap.microk8s.daemon-kubelite again=no snaps='core24 microk8s'";
    Case::new(library(variables, &[CLUSTER, OWN_RUNTIME, include_str!("../src/distribution/microk8s/lib.sh")]), body)
        .program("/snap/bin/microk8s")
        .program("/snap/microk8s/current/kubectl")
}

fn kubeadm(body: &str) -> Case {
    let text =
        library("service=kubelet again=no minor=36", &[CLUSTER, include_str!("../src/distribution/kubeadm/lib.sh")]);
    Case::new(text, body).says("hostname", "n1")
}

/// Runs a case with each of its programs failing in its turn.
fn check(case: Case) -> Run {
    case.check()
}

/// A node on which nothing of Kubernetes ever was.
fn empty(case: Case) -> Case {
    case.says("systemctl show*", "not-found").without("iptables-save").without("ip6tables-save")
}

/// What systemd says of a service that runs.
fn service(case: Case) -> Case {
    case.says("systemctl show -p LoadState*", "loaded")
        .says("systemctl show -p NRestarts*", "0")
        .says("systemctl show -p MainPID*", "42")
}

/// A node on which pods ran, and what ended them may fail.
fn with_pods(case: Case) -> Case {
    let case = case
        .file("/proc/42/stat", "42 (containerd-shim) S 1\n")
        .file("/proc/43/stat", "43 (sh) S 42\n")
        .file("/sys/class/net/cni0/address", "")
        .file("/sys/class/net/veth1/address", "")
        .file("/sys/fs/cgroup/kubepods/", "")
        .file("/run/netns/cni-1", "")
        .file("/var/lib/kubelet/pods/1/x", "")
        .file("/var/lib/cni/x", "")
        .says("ip -o link show type veth", "7: veth1@if2: <UP>")
        .says("iptables-save", "-A KUBE-SERVICES")
        .says("ip6tables-save", "-A OTHER");
    service(case)
        .best_effort("find /var/lib/kubelet*")
        .best_effort("find /sys/fs/cgroup/kubepods*")
        .may_fail("rmdir /sys/fs/cgroup/kubepods", "find says so, of which the log tells")
        .best_effort("ip link del*")
        .best_effort("ip*tables-*")
        .best_effort("rm -f /run/bramble/rules")
}

mod shared {
    use super::*;

    #[test]
    fn a_private_file_is_nobody_elses() {
        let run = check(k3s("private_file /run/bramble/x 'a secret'"));
        assert_eq!(run.file("run/bramble/x").as_deref(), Some("a secret"));
    }

    #[test]
    fn an_api_that_does_not_answer_is_given_up_with_its_reason() {
        check(k3s("api_answers 1 --server=https://10.0.0.1:6443"));
        let silent = k3s("api_answers 1").on("k3s kubectl*", "echo 'connection refused' >&2; false");
        silent.refuses("connection refused");
    }

    #[test]
    fn a_node_leaves_what_it_was_in() {
        let case = |variables: &str| k3s(&format!("{variables}\nreset_kubernetes() {{ kubeadm reset; }}\nleave_old"));
        assert!(check(case("again=yes")).called("kubeadm reset"));
        assert!(check(case("again=no").file("/var/lib/rancher/k3s/server/db/x", "")).called("kubeadm reset"));
        assert!(!check(case("again=no")).called("kubeadm reset"));
        check(k3s("forget_cluster").file("/var/lib/bramble/done/version", ""));
    }

    #[test]
    fn units_that_are_not_there_need_no_stop() {
        let run = check(service(k3s("stop_units k3s k3s-agent").says("systemctl show*k3s-agent", "not-found")));
        assert!(run.called("systemctl stop k3s") && !run.called("systemctl stop k3s-agent"));
    }

    #[test]
    fn what_stays_mounted_is_not_emptied() {
        let mounts = "tmpfs /var/lib/kubelet/pods/1 tmpfs rw 0 0\n";
        let case = k3s("unmount_below /var/lib/kubelet/").file("/proc/self/mounts", mounts);
        case.clone().refuses("these stay mounted");
        // What counts is that it is not mounted afterwards.
        check(case.on("umount -l*", ": >/proc/self/mounts"));
        let reset = with_pods(k3s("remove_pods_network")).file("/proc/self/mounts", mounts);
        let run = reset.refuses("these stay mounted");
        assert!(run.file("var/lib/kubelet/pods/1/x").is_some());
    }

    #[test]
    fn the_network_of_pods_goes() {
        let run = check(with_pods(k3s("remove_pods_network")));
        assert!(run.called("ip link del cni0") && run.called("ip link del veth1") && run.called("iptables-restore"));
        assert!(!run.called("ip6tables-restore") && !run.called("ip link del flannel.1"));
        assert!(run.file("var/lib/kubelet/pods/1/x").is_none() && run.file("run/netns/cni-1").is_none());
        check(k3s("remove_pods_network").without("iptables-save").without("ip6tables-save"));
        check(k3s("remove_rules iptables").says("iptables-save", "-A KUBE-A"));
        check(k3s("remove_link cni0").file("/sys/class/net/cni0/x", "").best_effort("ip link del cni0"));
    }

    #[test]
    fn processes_of_pods_end_with_all_that_they_started() {
        let case = k3s("end_pods /data")
            .file("/proc/42/cmdline", "/data/bin/containerd-shim-runc-v2\0-id\0")
            .file("/proc/42/stat", "42 (containerd-shim) S 1 42\n")
            .file("/proc/43/cmdline", "sleep\0")
            .file("/proc/43/stat", "43 (sleep) S 42 43\n")
            .file("/proc/44/cmdline", "sshd\0")
            .file("/proc/44/stat", "44 (sshd) S 1 44\n")
            .best_effort("kill -9*");
        let run = check(case);
        assert!(run.calls.iter().any(|call| call == "kill -9 42 43" || call == "kill -9 43 42"), "{:?}", run.calls);
    }

    #[test]
    fn a_service_runs_or_has_failed() {
        let forgets = |case: Case| case.may_fail("systemctl reset-failed*", "it is not loaded");
        check(forgets(service(k3s("service_runs restart"))));
        let never = service(k3s("service_runs start").on("systemctl -q is-active*", "false"));
        never.refuses("the last lines of k3s:");
        let rejected =
            never.says("journalctl*--since*", "Node password rejected").says("journalctl*", "its last words");
        rejected.refuses("its last words");
        let again = "tr '\\000' '\\n' <\"$R/calls\" | grep -c NRestarts";
        let restarted =
            k3s("service_runs start").on("systemctl show -p NRestarts*", again).on("systemctl -q is-active*", "false");
        restarted.refuses("the last lines of k3s:");
        // Where functions are called in conditions the shell goes on after failures: this ends all the same.
        let tested =
            service(k3s("if service_runs start; then :; else exit 7; fi").on("systemctl -q is-active*", "false"));
        assert_eq!(tested.run(None).code, 7);
    }
}

mod own_k3s {
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
            .file(&format!("{K}/server/db/x"), "");
        let run = check(case);
        assert!(run.file(&format!("{K}/agent/images/a.tar")).is_some());
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
        check(started(k3s("k3s_join a b https://10.0.0.1:6443").says("k3s kubectl*EtcdIsVoter*", "True")));
        check(started(k3s("service=k3s-agent\nk3s_join a '' https://10.0.0.1:6443")));
        started(k3s("k3s_join a b c")).refuses("its etcd does not catch up");
    }

    #[test]
    fn its_state_is_saved() {
        let etcd = with_tokens(k3s("snapshot_state /run/bramble"))
            .file(&format!("{K}/server/db/etcd/x"), "")
            .on("k3s etcd-snapshot save*", "mkdir -p /run/bramble/etcd; echo x >/run/bramble/etcd/bramble-1");
        assert!(check(etcd).file("run/bramble/etcd.db").is_some());
        let sqlite = service(with_tokens(k3s("snapshot_state /run/bramble")))
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
        let etcd = k3s("k3s_restore /run/bramble/b.tgz")
            .on("tar*", &archive("echo x >$R/var/lib/bramble/restore/etcd.db"))
            .on(
                "k3s server*",
                "mkdir -p /var/lib/rancher/k3s/server/db; : >/var/lib/rancher/k3s/server/db/reset-flag; false",
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
}

mod gates {
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
        let waiting = k3s("system_ready").says("k3s kubectl*jsonpath*", "coredns-1 Running False");
        waiting.refuses("pods of the system do not become ready");
        check(k3s("drain_all n1 n2").best_effort("k3s kubectl*drain*"));
    }

    #[test]
    fn nodes_are_drained_and_uncordoned() {
        let run = check(k3s("drain_node n1 60"));
        assert!(run.called("k3s kubectl*cordon n1"));
        let kept = check(k3s("drain_node n1 60").says("k3s kubectl*unschedulable*", "true"));
        assert!(!kept.called("k3s kubectl*annotate*"));
        let stuck = k3s("drain_node n1 60")
            .says("k3s kubectl*annotations*", "yes")
            .on("k3s kubectl* drain*", "echo 'error: a budget forbids it'; false");
        let run = stuck.refuses("a budget forbids it");
        assert!(run.called("k3s kubectl*uncordon n1"));
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
    fn a_backup_is_whole_or_fails() {
        let run = check(k3s("snapshot_state() { kubectl get >\"$1/x\"; }\nprint_state"));
        assert!(run.file("var/lib/bramble/backup/x").is_none() && !run.stdout.is_empty());
        check(k3s("print_objects"));
    }

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
    }
}

mod addons {
    use super::*;

    const OBJECT: &str = "{\"kind\":\"Namespace\"}";

    fn lines() -> String {
        format!(
            "1\tv1/Namespace/a\t{OBJECT}\t{OBJECT}\n2\tapps/Deployment/a/a\t{{}}\t{{}}\n3\tx.io/Pool/a\t{{}}\t{{}}\n"
        )
    }

    #[test]
    fn an_addon_comes_and_what_it_lost_goes() {
        let case = k3s("addon_apply a /run/bramble/lines kept/x")
            .file("/run/bramble/lines", &lines())
            .on("k3s kubectl*get configmap*", "printf '2\\tv1/Old/a\\t{\"old\":1}\\n2\\tkept/x\\t{}\\n'")
            .says("k3s kubectl*get deployments*", "a Deployment/a");
        let run = check(case.clone());
        assert!(run.called("k3s kubectl*delete*objects") && run.called("k3s kubectl*apply*books.json"));
        case.on("k3s kubectl*rollout*", "false").refuses("does not get ready");
        let job =
            k3s("addon_apply a /run/bramble/lines ''").file("/run/bramble/lines", "2\tbatch/Job/a/j\t{}\t{}\n").on(
                "k3s kubectl*apply*objects",
                "if [ -e $R/x ]; then :; else : >$R/x; echo 'The Job \"j\" is invalid: field is immutable'; false; fi",
            );
        let run = job.run(None);
        assert!(run.code == 0 && run.called("k3s kubectl*delete*old-jobs"), "{}", run.stdout);
    }

    #[test]
    fn an_addon_goes() {
        let case = k3s("addon_remove a kept/x")
            .on("k3s kubectl*get configmap*", "printf '2\\tv1/Old/a\\t{\"old\":1}\\n2\\tkept/x\\t{}\\n'");
        let run = check(case);
        assert!(run.called("k3s kubectl*delete configmap bramble-addon-a*"));
        let gone = k3s("addon_remove a ''")
            .on("k3s kubectl*get configmap*", "printf '2\\tv1/Old/a\\t{}\\n'")
            .on("k3s kubectl*delete*objects", "echo 'no matches for kind \"Old\"'; false");
        assert_eq!(gone.run(None).code, 0);
    }

    #[test]
    fn longhorn_stays_as_long_as_it_has_volumes_or_nobody_knows() {
        let with = |volumes: &str| {
            k3s("addon_remove longhorn ''")
                .says("k3s kubectl*get customresourcedefinition*", "crd")
                .on("k3s kubectl*get volumes.longhorn.io*", volumes)
        };
        with("echo volume/a").refuses("Longhorn holds 1 volumes");
        check(with(":"));
        check(k3s("addon_remove longhorn ''"));
    }

    #[test]
    fn addons_of_microk8s_are_as_it_says() {
        let status = |state: &str| ("microk8s status*", state.to_owned());
        let (call, state) = status("enabled");
        let tried = "what it says afterwards counts";
        let case = microk8s("addon_enable metallb:10.0.0.5-10.0.0.9 again").says(call, &state);
        check(case.may_fail("microk8s disable*", tried).may_fail("microk8s enable*", tried));
        let case = microk8s("addon_disable metallb").says(call, "disabled");
        check(case.may_fail("microk8s disable*", tried));
        microk8s("addon_disable metallb").says(call, "enabled").refuses("is not disabled");
        assert!(check(microk8s("addon_disable dns")).calls.is_empty());
    }
}

mod own_k0s {
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
        assert_eq!(
            k0s("if was_member; then echo yes; fi").file("/var/lib/k0s/pki/ca.crt", "").run(None).stdout,
            "yes\n"
        );
    }

    #[test]
    fn nodes_are_forgotten_and_stopped() {
        let forget = k0s("forget_node n1 10.0.0.1")
            .says("k0s etcd member-list", MEMBERS)
            .best_effort("k0s kubectl*controlnodes*");
        assert!(check(forget).called("k0s etcd leave --peer-address 10.0.0.1"));
        let worker = k0s("forget_node n2 10.0.0.2")
            .says("k0s etcd member-list", MEMBERS)
            .best_effort("k0s kubectl*controlnodes*");
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
        assert!(
            run.code == 0 && run.called("useradd*kube-apiserver") && !run.called("useradd* etcd"),
            "{}",
            run.stderr
        );
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
            .file("/var/lib/k0s/pki/ca.crt", "");
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
        let unit =
            ("/etc/systemd/system/k0scontroller.service", "[Service]\nExecStart=/usr/local/bin/k0s controller\n");
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
        let init =
            started(k0s("k0s_init '' worker")).on("systemctl --no-block*", made).may_fail("id*", "then it is made");
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
        check(k0s("snapshot_state /run/bramble").on("k0s backup*", "echo x >$R/run/bramble/k0s_backup_1"));
        assert!(k0s("snapshot_state /run/bramble").run(None).code != 0);
    }
}

mod own_kubeadm {
    use super::*;

    const RUNNING: &str = "printf 'TASK PID STATUS\\nc1 7 RUNNING\\n'";

    /// Containers that end when they are killed.
    fn with_containers(case: Case) -> Case {
        let killed = format!("[ -e \"$R/killed\" ] || {RUNNING}");
        case.on("ctr*containers ls -q labels*", "echo c1")
            .on("ctr*containers ls -q id*", "echo c1")
            .on("ctr*containers ls -q", "echo c1")
            .on("ctr*tasks ls -q", "echo c1")
            .on("ctr*containers info*", "echo '\"io.kubernetes.container.name\": \"etcd\",'")
            .on("ctr*tasks ls", &killed)
            .on("ctr*tasks kill -s KILL*", ": >\"$R/killed\"")
    }

    #[test]
    fn nodes_are_forgotten() {
        let case = kubeadm("forget_node n2 10.0.0.2").says(
            "kubectl*member list",
            "8e9e05c52164694d, started, n2, https://10.0.0.2:2380, https://10.0.0.2:2379, false",
        );
        assert!(check(case).called("kubectl*member remove 8e9e05c52164694d"));
        check(kubeadm("etcd_ctl endpoint health"));
        assert_eq!(
            kubeadm("if was_member; then echo yes; fi").file("/etc/kubernetes/kubelet.conf", "").run(None).stdout,
            "yes\n"
        );
    }

    #[test]
    fn a_reset_takes_the_containers_as_far_as_it_can() {
        let case = || {
            with_pods(with_containers(kubeadm("reset_kubernetes")))
                .socket("/run/containerd/containerd.sock")
                .file("/etc/kubernetes/admin.conf", "")
                .file("/var/lib/etcd/member/x", "")
        };
        let fine =
            case().best_effort("ctr*").best_effort("rm -f /run/bramble/ending").best_effort("mkdir -p /run/bramble");
        // The folder for notes is needed by what follows: only that says so.
        let run = fine.run(None);
        assert!(run.code == 0 && run.called("ctr*containers rm c1"), "{}", run.stderr);
        assert!(run.file("etc/kubernetes/admin.conf").is_none() && run.file("var/lib/etcd/member/x").is_none());
        check(empty(kubeadm("reset_kubernetes")));
        let broken = with_pods(kubeadm("reset_kubernetes").on("ctr*", "echo 'no containerd' >&2; false"))
            .socket("/run/containerd/containerd.sock")
            .run(None);
        assert_eq!(broken.code, 0, "{}", broken.stderr);
        assert!(broken.stdout.contains("@tried 1 end the containers"));
        check(
            with_containers(kubeadm("end_containers")).best_effort("ctr*tasks rm*").best_effort("ctr*containers rm*"),
        );
    }

    #[test]
    fn containers_end_or_it_says_which_do_not() {
        let file = ("/run/bramble/ending", "c1\n");
        check(with_containers(kubeadm("kill_containers /run/bramble/ending")).file(file.0, file.1));
        let stubborn = kubeadm("kill_containers /run/bramble/ending").file(file.0, file.1).on("ctr*tasks ls", RUNNING);
        stubborn.refuses("these containers do not end:\nc1");
        check(with_containers(kubeadm("restart_system etcd")).best_effort("ctr*TERM*"));
        check(with_containers(kubeadm("stop_kubernetes")));
        assert_eq!(check(with_containers(kubeadm("system_containers"))).stdout, "c1\n");
        assert_eq!(check(with_containers(kubeadm("system_containers etcd"))).stdout, "c1\n");
        assert_eq!(check(with_containers(kubeadm("system_containers kube-apiserver"))).stdout, "");
        let gone = kubeadm("system_containers")
            .on("ctr*containers ls -q labels*", "echo c1")
            .on("ctr*containers info*", "false");
        assert_eq!(gone.run(None).code, 0);
        check(with_containers(kubeadm("renew_certificates")).best_effort("ctr*TERM*"));
    }

    #[test]
    fn it_begins_a_cluster_or_joins_one() {
        let init = || {
            kubeadm("kubeadm_init --upload-certs addon/coredns 10.0.0.1 ''")
                .file("/run/bramble/kubeadm.yaml", "x")
                .file("/etc/kubernetes/pki/ca.crt", "x")
                .file("/var/lib/bramble/done/", "")
                .file("/var/lib/bramble/pending/", "")
                .on("openssl pkey*", ": >$R/run/bramble/ca.der")
                .says("kubectl*cluster-info*", "jws-kubeconfig-abcdef")
        };
        let case = init().on(
            "kubeadm init --config*",
            "echo '[kubelet-finalize] x'; echo 'token abcdef.0123456789abcdef'; echo good",
        );
        let run = check(case.clone().may_fail("kubectl*cluster-info*", "those who join wait for it as well"));
        assert!(run.stdout.contains("@fact joinable yes\n[kubelet-finalize] x\ngood\n"), "{}", run.stdout);
        let failed = init().on("kubeadm init --config*", "echo why; exit 3").refuses("why");
        assert!(failed.stdout.contains("the last lines of kubelet:"));
        assert!(failed.file("var/lib/bramble/done/ca-hash").is_none());
        check(kubeadm("minor=20\nkubeadm_join").file("/run/bramble/kubeadm.yaml", "x"));
        assert_eq!(check(kubeadm("patched")).stdout, "");
        assert_eq!(check(kubeadm("minor=21\npatched")).stdout, "--experimental-patches=/run/bramble/patches\n");
        assert_eq!(kubeadm("printf 'a\\nexit 3\\n' | tell_progress").run(None).code, 3);
    }

    #[test]
    fn tokens_are_made_and_taken_back() {
        let run = check(kubeadm("tell_token").says("kubeadm token create*", "abcdef.0123456789abcdef"));
        assert_eq!(run.stdout, "@fact token abcdef.0123456789abcdef\n");
        kubeadm("tell_token").refuses("kubeadm gives no token");
        check(kubeadm("upload_certificates").file("/run/bramble/kubeadm.yaml", ""));
        let run = check(kubeadm("forget_tokens").says("kubectl*get secrets*", "bootstrap-token-abcdef"));
        assert!(run.called("kubectl*delete secret bootstrap-token-abcdef*"));
    }

    #[test]
    fn it_goes_to_another_version() {
        let run = check(kubeadm("kubeadm_upgrade apply 1.36.1"));
        assert!(run.called("kubectl*delete deployment,configmap coredns*"));
        let run = check(kubeadm("kubeadm_upgrade apply 1.36.1").says("kubectl*get deployment*", "deployment/coredns"));
        assert!(!run.called("kubectl*delete*"));
        check(kubeadm("kubeadm_upgrade node 1.36.1"));
    }

    #[test]
    fn its_state_is_saved_and_comes_back() {
        let pki = |case: Case| {
            ["ca.crt", "front-proxy-ca.crt", "sa.key", "etcd/ca.crt"]
                .into_iter()
                .fold(case, |case, name| case.file(&format!("/etc/kubernetes/pki/{name}"), "x"))
        };
        let save = pki(kubeadm("snapshot_state /run/bramble"))
            .file("/var/lib/etcd/x", "")
            .on("kubectl*snapshot save*", "echo x >$R/var/lib/etcd/bramble.db");
        assert!(check(save).file("run/bramble/etcd.db").is_some());
        let unpack = || {
            kubeadm("unpack_state /run/bramble/b.tgz 10.0.0.1")
                .on("tar*", ":")
                .says("kubeadm config images list*", "registry.k8s.io/etcd:3.6.5-0")
                .may_fail("ctr*containers rm*", "there is none")
        };
        check(unpack().may_fail("ctr*run*etcdutl*", "then the older program does it"));
        check(
            unpack().says("ctr*images ls -q", "registry.k8s.io/etcd:3.6.5-0").may_fail("ctr*run*etcdutl*", "the same"),
        );
        unpack().on("ctr*run*", "echo it is damaged; false").refuses("it is damaged");
        kubeadm("unpack_state a b").on("tar*", ":").refuses("kubeadm names no image of etcd");
        let place = kubeadm("place_state /run/bramble/b.tgz")
            .file("/var/lib/bramble/restore/pki/ca.crt", "x")
            .file("/var/lib/bramble/restore/pki/etcd/ca.crt", "x")
            .file("/var/lib/bramble/restore/out/etcd/member/x", "x");
        assert!(check(place).file("var/lib/etcd/member/x").is_some());
    }
}

mod own_microk8s {
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
            case.file(&format!("{SNAPS}/{name}.snap"), name)
                .file(&format!("{SNAPS}/{name}.assert"), "snap-revision: 7\n")
        })
    }

    /// A node whose snap is there already, with its certificates.
    fn running(case: Case) -> Case {
        with_snaps(service(case))
            .file(&format!("{D}/var/lock/cni-loaded"), "")
            .file(&format!("{D}/certs/ca.crt"), "x")
            .file(&format!("{D}/credentials/x"), "")
            .file("/var/lib/bramble/done/", "")
            .file("/var/lib/bramble/pending/", "")
            .says("microk8s add-node*", "10.0.0.1:25000/t0ken/check")
            .without("iptables-save")
            .without("ip6tables-save")
    }

    /// What is left of an older one goes first, as far as it can.
    fn anew(case: Case) -> Case {
        case.best_effort("snap stop microk8s")
            .on("snap remove*", "mkdir -p $R/keep; cp -r $R/var/snap/microk8s/current $R/keep/")
            .on(
                "snap install*microk8s.snap",
                "mkdir -p $R/var/snap/microk8s; cp -r $R/keep/current $R/var/snap/microk8s/",
            )
    }

    #[test]
    fn it_runs_when_its_api_answers() {
        let says = |case: Case| case.run(None).stdout;
        let asks = "if runs; then echo yes; else echo no; fi; if is_worker; then echo worker; fi";
        assert_eq!(says(microk8s(asks)), "yes\n");
        assert_eq!(says(microk8s(asks).on("kubectl*", "false")), "no\n");
        let worker = says(
            microk8s(asks).file(&format!("{D}/var/lock/clustered.lock"), "").on("kubectl*client.config*", "false"),
        );
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
        assert_eq!(
            check(microk8s("asserted a").file(&format!("{SNAPS}/a.assert"), "snap-revision: 7\n")).stdout,
            "7\n"
        );
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
        assert!(
            run.stdout.contains("@fact tokens n2=10.0.0.1:25000/t0ken/check\n@fact joinable yes"),
            "{}",
            run.stdout
        );
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
        anew(running(microk8s(body))).on("microk8s join*", "echo wrong token; false").refuses("wrong token");
    }

    #[test]
    fn tokens_are_told_written_down_and_taken_back() {
        let run =
            check(microk8s("tell_tokens 10.0.0.1 n1 n2").says("microk8s add-node*", "10.0.0.1:25000/t0ken/check"));
        assert_eq!(
            run.file("run/bramble/microk8s.tokens").as_deref(),
            Some("10.0.0.1:25000/t0ken\n10.0.0.1:25000/t0ken\n")
        );
        assert!(
            !microk8s("tell_tokens 10.0.0.1 n1").refuses("MicroK8s gives no token").stdout.contains("@fact tokens")
        );
        let file = format!("{D}/credentials/cluster-tokens.txt");
        let case = microk8s("forget_tokens").file("/run/bramble/microk8s.tokens", "t0ken\n");
        let run = check(case.clone().file(&file, "t0ken|1\nothers\n"));
        assert_eq!(run.file(&file).as_deref(), Some("others\n"));
        assert_eq!(check(case.clone().file(&file, "t0ken|1\n")).file(&file).as_deref(), Some(""));
        check(case);
        check(microk8s("tell_ca").file(&format!("{D}/certs/ca.crt"), "x"));
    }

    #[test]
    fn nodes_are_introduced_and_upgraded() {
        check(microk8s("introduce n1 a=b c=d:NoSchedule"));
        assert!(check(microk8s("introduce n1 '' ''")).calls.is_empty());
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
        check(restore().may_fail("systemctl reset-failed*", "it is not loaded"));
        restore().on("microk8s dbctl*", "echo 'Failed to restore key a'").refuses("Failed to restore key a");
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
    }
}

mod storage {
    use super::*;

    fn gluster(body: &str) -> Case {
        Case::new(include_str!("../src/storage/gluster.sh"), body)
    }

    fn mount(body: &str) -> Case {
        Case::new(format!("{ENDS}{}", include_str!("../src/storage/mount.sh")), body)
    }

    #[test]
    fn folders_are_mounted() {
        let started = mount("mounted a.service")
            .file("/var/lib/bramble/pending/restart.a.service", "")
            .on("systemctl -q is-active*", "[ -e $R/up ]")
            .on("systemctl start*", ": >$R/up")
            .best_effort("systemctl restart*");
        check(started);
        mount("mounted a.service").on("systemctl -q is-active*", "false").refuses("a.service does not mount");
    }

    #[test]
    fn the_pool_has_its_members() {
        let case = || gluster("gluster_pool 10.0.0.1 10.0.0.2").says("ip -o*", "2: eth0 inet 10.0.0.1/24");
        let status = "printf 'Hostname: 10.0.0.2\\nState: Peer in Cluster (Connected)\\n'";
        check(case().on("gluster*peer status", status));
        case().refuses("10.0.0.2 does not join the pool");
        gluster("gluster_pool 10.0.0.1").on("gluster*pool list", "false").refuses("glusterd does not answer");
        check(gluster("q volume list"));
        gluster("q volume list").on("gluster*", "echo why; false").refuses("gluster volume list: why");
    }

    #[test]
    fn the_volume_has_its_bricks() {
        let case = || gluster("gluster_volume v /b 10.0.0.0/24 10.0.0.1 10.0.0.2");
        let new = case().on("gluster*volume info v", "[ -e $R/made ]").on("gluster*volume create*", ": >$R/made");
        let run = check(new);
        assert!(run.called("gluster*volume create v replica 2*10.0.0.1:/b 10.0.0.2:/b force"));
        let info = "printf 'Status: Started\\nBrick1: 10.0.0.1:/b/v\\nBrick2: 10.0.0.9:/b/v\\n'";
        let more = case().on("gluster*volume info v", info);
        let run = more.run(None);
        assert!(run.code == 0 && run.called("gluster*add-brick v replica 3 10.0.0.2:/b force"));
        assert!(run.stdout.contains("has a brick at 10.0.0.9") && !run.called("gluster*volume start v"));
    }
}
