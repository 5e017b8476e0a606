//! What the scripts of all distributions share: `cluster.sh`, and `own_runtime.sh` for those with a runtime of their own.

use super::*;

#[test]
fn a_private_file_is_nobody_elses() {
    check(k3s("private_folder"));
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
fn the_last_warning_of_each_pod_is_told() {
    let said = "dns-1: no sandbox\ndns-10: another\ndns-1: cannot start the sandbox\nin two lines";
    let run = check(k3s("pods_warnings kube-system dns-1 dns-2").says("k3s kubectl*get events*", said));
    assert_eq!(run.stdout, "dns-1: cannot start the sandbox\n");
}

#[test]
fn what_stays_mounted_is_not_emptied() {
    let mounts = "36 25 0:1 / /var/lib/kubelet/pods/1 rw - tmpfs tmpfs rw\n";
    let case = k3s("unmount_below /var/lib/kubelet/").file("/proc/self/mountinfo", mounts);
    case.clone().refuses("these stay mounted");
    // What counts is that it is not mounted afterwards.
    check(case.on("umount -l*", ": >/proc/self/mountinfo"));
    let reset = with_pods(k3s("remove_pods_network")).file("/proc/self/mountinfo", mounts);
    let run = reset.refuses("these stay mounted");
    assert!(run.file("var/lib/kubelet/pods/1/x").is_some());
}

#[test]
fn the_network_of_pods_goes() {
    let run = check(with_pods(k3s("remove_pods_network")));
    assert!(run.called("ip link del cni0") && run.called("ip link del veth1") && run.called("iptables-restore"));
    assert!(run.called("systemctl stop kubepods.slice kubepods-pod1.slice"));
    assert!(!run.called("ip6tables-restore") && !run.called("ip link del flannel.1"));
    assert!(run.file("var/lib/kubelet/pods/1/x").is_none() && run.file("run/netns/cni-1").is_none());
    check(without_packet_filter(k3s("remove_pods_network")).best_effort("ip route flush*"));
    assert!(run.called("ip route flush proto 80") && run.called("iptables-legacy-restore"));
    let routed = with_pods(k3s("remove_pods_network"))
        .file("/run/flannel/subnet.env", "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.1.1/24\n")
        .best_effort("ip route flush*");
    assert!(check(routed).called("ip route flush root 10.42.0.0/16 proto boot"));
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
    let rejected = never.says("journalctl*--since*", "Node password rejected").says("journalctl*", "its last words");
    rejected.refuses("its last words");
    let again = "tr '\\000' '\\n' <\"$R/calls\" | grep -c NRestarts";
    let restarted =
        k3s("service_runs start").on("systemctl show -p NRestarts*", again).on("systemctl -q is-active*", "false");
    restarted.refuses("the last lines of k3s:");
    // Where functions are called in conditions the shell goes on after failures: this ends all the same.
    let tested = service(k3s("if service_runs start; then :; else exit 7; fi").on("systemctl -q is-active*", "false"));
    assert_eq!(tested.run(None).code, 7);
}

#[test]
fn each_distribution_has_its_kubectl() {
    for case in [k3s, k0s, microk8s, kubeadm] {
        let run = check(case("kubectl_admin get nodes"));
        assert!(run.calls.len() == 1 && run.called("*kubectl* get nodes"), "{:?}", run.calls);
    }
}
