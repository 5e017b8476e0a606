//! What nodes tell of how they are: each program that fails is left out.

use super::*;

const WHY: &str = include_str!("../../src/why/why.sh");

fn why(body: &str) -> Case {
    Case::new(
        format!("units='kubelet.service containerd.service'\nkubectl_admin() {{ kubectl \"$@\"; }}\n{STEPS}{WHY}"),
        body,
    )
}

fn said(case: Case) -> String {
    let run = case.run(None);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout
}

#[test]
fn what_a_program_prints_stands_behind_a_word() {
    assert_eq!(said(why("tell a echo one\ntell b false\ntell c true")), "a one\n");
}

#[test]
fn the_kernel_is_heard_with_how_often_it_said_something() {
    let log = "usb 1-1: new device\nmmc0: error -110\nmmc0: error -110\nOut of memory: Killed process 7 (java)";
    let told = said(why("kernel_says").says("journalctl*-t kernel*", log));
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    assert_eq!(lines, ["2 mmc0: error -110", "1 Out of memory: Killed process 7 (java)"]);
}

#[test]
fn units_that_do_not_run_say_their_last_errors() {
    let show = "Id=kubelet.service\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\nNRestarts=7\nResult=exit-code\n\n\
                Id=containerd.service\nLoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=0\nResult=success";
    let case = |body: &str| {
        why(body).says("systemctl show*", show).says("journalctl*kubelet.service", "I1128 fine\nE1128 no such file")
    };
    assert_eq!(
        said(case("unit_states")),
        "kubelet.service activating auto-restart 7 exit-code\ncontainerd.service active running 0 success\n"
    );
    assert_eq!(said(case("unit_says")), "kubelet.service E1128 no such file\n");
}

#[test]
fn disks_links_and_neighbours_are_listed() {
    let disks = why("disks")
        .says("df -P -k /", "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 10 9 1 91% /")
        .says("df -P -k*", "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/b 10 1 9 10% /var")
        .says("df -P -i*", "Filesystem Inodes IUsed IFree IUse% Mounted\n/dev/a 10 1 9 12% /");
    let told = said(disks);
    assert!(told.starts_with("91 1 12 /\n"), "{told}");
    let links = why("link_speeds")
        .file("/sys/class/net/eth0/speed", "100\n")
        .file("/sys/class/net/eth0/carrier", "1\n")
        .file("/sys/class/net/cni0/carrier", "1\n")
        .file("/sys/class/net/lo/carrier", "1\n");
    assert_eq!(said(links), "eth0 1 100\n");
    let neighbours = why("neighbours")
        .says("ip -4 neigh show", "10.0.0.1 dev eth0 lladdr dc:a6:32:00:00:01 REACHABLE\n10.0.0.9 dev eth0 FAILED");
    assert_eq!(said(neighbours), "10.0.0.1 dc:a6:32:00:00:01 REACHABLE\n10.0.0.9 - FAILED\n");
}

#[test]
fn the_way_out_and_names_are_tried() {
    assert_eq!(said(why("way_out")), "none\n");
    let out = why("sleep() { :; }\nway_out")
        .says("ip -4 route show default", "default via 10.0.0.1 dev eth0 proto dhcp")
        .says("ip -4 neigh show 10.0.0.1", "10.0.0.1 dev eth0 lladdr dc:a6:32:00:00:01 REACHABLE");
    assert_eq!(said(out), "10.0.0.1 REACHABLE\n");
    let lookup = || {
        why("lookup")
            .file("/etc/apt/sources.list", "# deb http://old/\ndeb http://deb.debian.org/debian trixie main\n")
            .file("/etc/resolv.conf", "nameserver 10.0.0.1\nnameserver 10.0.0.2\n")
    };
    assert_eq!(said(lookup().on("getent*", ":").on("timeout*getent*", ":")), "good deb.debian.org 10.0.0.1,10.0.0.2\n");
    assert_eq!(said(lookup().on("timeout*getent*", "false")), "bad deb.debian.org 10.0.0.1,10.0.0.2\n");
    assert_eq!(said(why("lookup")), "");
}

#[test]
fn firmware_heat_clock_and_etcd_are_asked() {
    let bits = why("firmware").file("/sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
    assert_eq!(said(bits), "0x50005\n");
    assert_eq!(said(why("temperatures").file("/sys/class/thermal/thermal_zone0/temp", "52000\n")), "52000\n");
    said(why("clock_state"));
    let page = "etcd_server_has_leader 1\netcd_disk_wal_fsync_duration_seconds_sum 2.5\nother 3";
    assert_eq!(said(why("etcd_metrics 2").on("curl *", "false")), "", "there is no etcd of kubeadm");
    let etcd = why("etcd_says").says("curl*", page).says("journalctl*", "etcd: slow fdatasync\nfine");
    assert_eq!(
        said(etcd),
        "etcd_server_has_leader 1\netcd_disk_wal_fsync_duration_seconds_sum 2.5\nslow_lines 2\nleader_lines 0\n"
    );
}

#[test]
fn a_node_tells_all_of_it_and_pods_that_cannot_run_are_told() {
    let node = said(
        why("sleep() { :; }\ntell_node")
            .file("/proc/meminfo", "MemTotal: 4000 kB\nMemFree: 9 kB\nMemAvailable: 3000 kB\n"),
    );
    assert!(
        node.contains("memory MemTotal 4000\nmemory MemAvailable 3000\n") && node.contains("gateway none\n"),
        "{node}"
    );
    let pods = "n1\ta/web\tPending\tImagePullBackOff x\t\nn1\ta/ok\tRunning\t\t\n\ta/big\tPending\t\t0/2 nodes";
    assert_eq!(
        said(why("tell_pods").says("kubectl get pods*", pods)),
        "pod\tn1\ta/web\tPending\tImagePullBackOff x\t\npod\t\ta/big\tPending\t\t0/2 nodes\n"
    );
}
