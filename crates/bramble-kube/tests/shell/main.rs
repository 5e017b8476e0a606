//! The functions of the shell libraries, each with all of its programs succeeding and with each of them failing.

mod addon;
mod backup;
mod cluster;
mod coverage;
mod gateway;
mod health;
mod images;
mod k0s;
mod k3s;
mod kubeadm;
mod microk8s;
mod power;
mod readiness;
mod rolling;
mod smoke;
mod soak;
mod storage;
mod watch;
mod wear;
mod why;

use bramble_shell::testing::{Case, Run};
use bramble_state::STEPS;

const CLUSTER: &str = include_str!("../../src/distribution/cluster.sh");
const OWN_RUNTIME: &str = include_str!("../../src/distribution/own_runtime.sh");
/// What scripts on a control plane have behind the functions of the distribution.
const ON_CONTROL_PLANES: [&str; 8] = [
    include_str!("../../src/records.sh"),
    include_str!("../../src/readiness.sh"),
    include_str!("../../src/health.sh"),
    include_str!("../../src/rolling.sh"),
    include_str!("../../src/power.sh"),
    include_str!("../../src/backup/backup.sh"),
    include_str!("../../src/smoke.sh"),
    include_str!("../../src/addon/lib.sh"),
];

fn library(variables: &str, parts: &[&str]) -> String {
    format!("{variables}\n{STEPS}{}{}", parts.concat(), ON_CONTROL_PLANES.concat())
}

fn k3s(body: &str) -> Case {
    let text =
        library("service=k3s again=no", &[CLUSTER, OWN_RUNTIME, include_str!("../../src/distribution/k3s/lib.sh")]);
    Case::new(text, body)
}

fn k0s(body: &str) -> Case {
    let text = library(
        "service=k0scontroller again=no",
        &[CLUSTER, OWN_RUNTIME, include_str!("../../src/distribution/k0s/lib.sh")],
    );
    Case::new(text, body)
}

fn microk8s(body: &str) -> Case {
    let variables = "service=snap.microk8s.daemon-kubelite again=no snaps='core24 microk8s'";
    Case::new(library(variables, &[CLUSTER, OWN_RUNTIME, include_str!("../../src/distribution/microk8s/lib.sh")]), body)
        .program("/snap/bin/microk8s")
        .program("/snap/microk8s/current/kubectl")
}

fn kubeadm(body: &str) -> Case {
    let text = library("service=kubelet again=no", &[CLUSTER, include_str!("../../src/distribution/kubeadm/lib.sh")]);
    Case::new(text, body).says("hostname", "n1")
}

/// Runs a case with each of its programs failing in its turn.
fn check(case: Case) -> Run {
    case.check()
}

/// A node on which nothing of Kubernetes ever was.
fn empty(case: Case) -> Case {
    without_packet_filter(case.says("systemctl show*", "not-found")).best_effort("ip route flush*")
}

/// A node without a packet filter.
fn without_packet_filter(case: Case) -> Case {
    ["iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"]
        .into_iter()
        .fold(case, Case::without)
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
        .says(
            "systemctl list-units*kubepods*",
            "kubepods.slice loaded active active x\nkubepods-pod1.slice loaded active active x",
        )
        .says("iptables-save", "-A KUBE-SERVICES")
        .says("ip6tables-save", "-A OTHER")
        .says("iptables-legacy-save", "-A cali-PREROUTING");
    service(case)
        .best_effort("find /var/lib/kubelet*")
        .best_effort("find /sys/fs/cgroup/kubepods*")
        .may_fail("rmdir /sys/fs/cgroup/kubepods", "find says so, of which the log tells")
        .best_effort("systemctl stop kubepods*")
        .best_effort("ip link del*")
        .best_effort("ip route flush*")
        .best_effort("ip*tables-*")
        .best_effort("rm -f /run/bramble/rules")
}
