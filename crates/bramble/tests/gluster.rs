//! A real GlusterFS volume on three boards: a writer goes on while a board is cut off, and nothing that was written is lost.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Rack, assert_code, read, text, wait_for};

/// Writes numbers into a file of the volume, each flushed to the disks, and notes beside it which were.
const WRITER: &str = r#"
n=0
while [ ! -e /run/stop ]; do
    n=$((n + 1))
    if printf '%s\n' "$n" | dd of=/mnt/shared/numbers oflag=append conv=notrunc,fsync status=none 2>/dev/null; then echo "$n" >>/run/written; fi
done
echo done >/run/stopped
"#;

mod lives {
    use super::*;

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_glusterfs_volume_loses_no_write_when_a_board_is_cut_and_heals_it_afterwards() {
        let rack = Rack::up("t-glus", &["--bare", "--workers", "2"]);
        let file = read(&rack.file());
        let storage = "storage:\n  glusterfs: { nodes: [t-glus-1, t-glus-2, t-glus-3], brick: /var/lib/brick }\n";
        fs::write(rack.file(), file.replace("distribution:", &format!("{storage}distribution:"))).unwrap();
        let said = rack.go_up();
        assert!(said.contains("mount the shared folders"), "{said}");
        assert_eq!(rack.plan().0, 0);
        for n in 1..=3 {
            rack.assert_units(&rack.node(n), "/etc/systemd/system/bramble-mount-glusterfs.service");
            assert!(rack.shell(&rack.node(n), "grep /mnt/shared /proc/mounts").contains("fuse.glusterfs"));
        }
        rack.shell(&rack.node(2), "echo from two >/mnt/shared/greeting");
        assert_eq!(rack.shell(&rack.node(3), "cat /mnt/shared/greeting"), "from two\n");

        fs::write(rack.disk(&rack.node(1)).join("root/writer.sh"), WRITER).unwrap();
        rack.shell(&rack.node(1), "systemd-run --quiet --unit writer sh /root/writer.sh");
        let written =
            || rack.shell(&rack.node(1), "tail -n 1 /run/written 2>/dev/null").trim().parse::<u32>().unwrap_or(0);
        wait_for("the writer", || written() > 20);
        assert_code(&rack.lab(&["cut", "t-glus/t-glus-2"]), 0);
        let before = written();
        // Writes wait until the volume gives the lost board up, and go on without it.
        wait_for("writes without one board", || written() > before + 100);
        rack.shell(&rack.node(1), "touch /run/stop");
        wait_for("the end of the writer", || rack.shell(&rack.node(1), "cat /run/stopped 2>/dev/null") == "done\n");
        let lost = rack.shell(&rack.node(3), "sort -n /mnt/shared/numbers");
        let kept: std::collections::BTreeSet<u32> = lost.lines().map(|line| line.parse().unwrap()).collect();
        for number in rack.shell(&rack.node(1), "cat /run/written").lines() {
            assert!(kept.contains(&number.parse().unwrap()), "{number} was written and is lost");
        }

        // The board comes back, and its own copy becomes what the others have.
        assert_code(&rack.lab(&["start", "t-glus/t-glus-2"]), 0);
        let copy = |n: usize| rack.shell(&rack.node(n), "sha256sum </var/lib/brick/shared/numbers");
        wait_for("the volume to heal", || {
            let pending =
                rack.shell(&rack.node(1), "gluster volume heal shared info | grep -c '^Number of entries: 0'");
            pending == "3\n" && copy(2) == copy(1)
        });
        assert_eq!(copy(2), copy(3));

        // All without power, back in another order.
        for n in 1..=3 {
            assert_code(&rack.lab(&["cut", &format!("t-glus/t-glus-{n}")]), 0);
        }
        for n in [3, 1, 2] {
            assert_code(&rack.lab(&["start", &format!("t-glus/t-glus-{n}")]), 0);
        }
        for n in 1..=3 {
            wait_for("the folder after a power cut", || {
                rack.shell(&rack.node(n), "timeout 5 cat /mnt/shared/greeting") == "from two\n"
            });
        }
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());

        // A board that boots without the others has no volume, and nothing can be written where it was.
        for n in 1..=3 {
            assert_code(&rack.lab(&["cut", &format!("t-glus/t-glus-{n}")]), 0);
        }
        assert_code(&rack.lab(&["start", "t-glus/t-glus-3"]), 0);
        wait_for("the board", || {
            rack.shell(&rack.node(3), "systemctl show -p NRestarts --value bramble-mount-glusterfs")
                .trim()
                .parse::<u32>()
                .is_ok_and(|tries| tries > 1)
                || rack.shell(&rack.node(3), "grep /mnt/shared /proc/mounts").contains("fuse")
        });
        let tried =
            rack.shell(&rack.node(3), "timeout 20 sh -c 'echo lost >/mnt/shared/lost' 2>/dev/null || echo refused");
        assert_eq!(tried, "refused\n");
        for n in 1..=2 {
            assert_code(&rack.lab(&["start", &format!("t-glus/t-glus-{n}")]), 0);
        }
        wait_for("the volume", || rack.shell(&rack.node(3), "timeout 5 cat /mnt/shared/greeting") == "from two\n");
        assert_eq!(rack.shell(&rack.node(1), "ls /mnt/shared/lost 2>/dev/null"), "");

        // What goes out of the file goes from the boards, but for what was written.
        fs::write(rack.file(), &file).unwrap();
        let planned = rack.run(&["plan"]);
        assert!(text(&planned).contains("remove the folder of GlusterFS"), "{}", text(&planned));
        rack.go_up();
        for n in 1..=3 {
            let left = "ls -d /etc/bramble/mounts/* /etc/systemd/system/bramble-mount* /mnt/shared /usr/sbin/glusterd 2>/dev/null; \
                        grep gluster /proc/mounts; cat /var/lib/brick/shared/greeting";
            assert_eq!(rack.shell(&rack.node(n), left), "from two\n", "node {n}");
        }
        assert_eq!(rack.plan().0, 0, "{:?}", rack.titles());
    }
}
