//! What is written to a node's disk.

use super::*;

const WEAR: &str = include_str!("../../src/wear.sh");

fn wear(body: &str) -> Case {
    let disks = "   8       0 sda 10 0 100 0 20 0 2000 0\n 179       0 mmcblk0 10 0 100 0 20 0 4000 0\n";
    // A test has no block device: a file stands in for it.
    let script = WEAR.replace("[ -b ", "[ -e ");
    Case::new(format!("seconds=1\nsleep() {{ :; }}\n{script}"), body)
        .file("/run/dev/mmcblk0p2", "")
        .file("/proc/diskstats", disks)
        .file("/proc/7/comm", "etcd\n")
        .file("/proc/7/io", "rchar: 1\nwrite_bytes: 9000\ncancelled_write_bytes: 1000\n")
        .file("/proc/8/comm", "gone\n")
        .says("findmnt*", "/run/dev/mmcblk0p2")
        .says("lsblk*", "mmcblk0")
}

#[test]
fn programs_and_the_disk_tell_what_they_have_written() {
    assert_eq!(wear("writers").run(None).stdout, "7 8000 etcd\n");
    assert_eq!(check(wear("disk_writes")).stdout, "mmcblk0 2048000\n");
    let overlay = wear("disk_writes").before_all("findmnt*", "echo overlay").run(None);
    assert_eq!((overlay.stdout.as_str(), overlay.called("lsblk*")), ("overlay 0\n", false));
    let later = "disk_writes() { echo \"mmcblk0 $(cat $R/n 2>/dev/null || echo 100)\"; echo 700 >$R/n; }\n\
                 sleep() { echo 'write_bytes: 12000' >/proc/7/io; echo 'cancelled_write_bytes: 0' >>/proc/7/io; }\ntell_writes";
    let run = wear(later).run(None);
    assert_eq!(run.stdout, "writer 4000 etcd\ndisk 600 mmcblk0\n", "{}", run.stderr);
}
