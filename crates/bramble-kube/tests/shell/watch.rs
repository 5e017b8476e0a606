//! How boards and the cluster are at a moment.

use super::*;

const WATCH: &str = concat!(include_str!("../../src/why/why.sh"), include_str!("../../src/watch/watch.sh"));

fn watch(body: &str) -> Case {
    let calls = "units= again=no\nkubectl_admin() { kubectl \"$@\"; }";
    Case::new(format!("{calls}\n{STEPS}{WATCH}"), body)
        .file("/proc/stat", "cpu  10 20 30 40 50 6 7 8 0 0\ncpu0 1 1 1 1\n")
        .file("/proc/loadavg", "0.50 0.40 0.30 1/100 4242\n")
        .file("/proc/meminfo", "MemTotal:   4000 kB\nMemFree: 1 kB\nMemAvailable:   1000 kB\n")
        .file("/proc/uptime", "93600.5 1.0\n")
        .says("df -P -k /", "/dev/mmcblk0p2 100 42 58 42% /")
}

#[test]
fn a_board_says_how_it_is_and_leaves_out_what_it_does_not_know() {
    let told = watch("sample").run(None).stdout;
    assert_eq!(
        told,
        "cpu 171 90\nload 0.50 0.40 0.30 1/100 4242\nmemory MemTotal 4000\nmemory MemAvailable 1000\nuptime 93600.5 1.0\n\
         disk /dev/mmcblk0p2 100 42 58 42% /\n"
    );
    let etcd = "etcd_server_has_leader 1\netcd_other 2\netcd_disk_wal_fsync_duration_seconds_count 7";
    let told = watch("sample").says("curl *", etcd).run(None).stdout;
    assert!(
        told.ends_with("etcd etcd_server_has_leader 1\netcd etcd_disk_wal_fsync_duration_seconds_count 7\n"),
        "{told}"
    );
}

#[test]
fn a_run_that_changes_the_board_is_told_of() {
    let works = watch("who_works").file("/run/bramble/lock", "").file("/var/lib/bramble/run", "ab.1 alice on desk\n");
    assert_eq!(works.clone().on("flock*", "false").run(None).stdout, "alice on desk\n");
    assert_eq!(works.run(None).stdout, "");
    assert_eq!(watch("who_works").run(None).stdout, "");
}

#[test]
fn an_api_that_does_not_tell_is_an_error() {
    check(watch("sample_api"));
}
