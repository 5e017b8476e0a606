//! Boards that boot for real, in QEMU, from a disk that `bramble flash` wrote.
//!
//! What the firmware of a Raspberry Pi does is done by the test: whenever the board starts, it takes the kernel, its initrd
//! and its command line from the boot partition. The system is Debian 13, with Debian's own cloud-init, netplan and NetworkManager
//! (or networkd), or Debian 12 with NetworkManager and a user of its own, as Raspberry Pi OS has had them.

pub(crate) mod machine;
mod netboot;

use std::fs;

use crate::common::{Rack, assert_code, bramble, read, text};
use machine::{AMD64, ARM64, Board, CLOUD_INIT, CLOUD_INIT_NETWORKD, FIRSTRUN, Machine, System};

fn through(number: u8, machine: &'static Machine, system: &System) -> Board {
    let mut board = Board::alone(number, machine, system);
    board.flash();
    board.switch_on(machine);
    board.meet();
    board
}

fn with_cloud_init(number: u8, machine: &'static Machine, system: &System) {
    let mut board = through(number, machine, system);
    // It exits with 2 where something was not as it should be.
    let said = board.on_board("cloud-init status --wait --long || [ $? = 2 ]");
    // The name of the boot partition, which images give as Ubuntu's do, is a deprecated setting of the image's own.
    let of_ours = |line: &&str| line.starts_with("\t- ") && !line.contains("Custom fs_label keys is deprecated");
    assert!(said.contains("status: done\n") && said.contains("errors: []\n"), "{said}");
    assert_eq!(said.lines().find(of_ours), None, "{said}");
    assert_eq!(board.starts(), 1);
    let schema = board.on_board("sudo cloud-init schema --system");
    for kind in ["user-data", "network-config"] {
        assert!(schema.contains(&format!("Valid schema {kind}\n")), "{schema}");
    }
    // What is left of the disk is the root's.
    assert_eq!(board.on_board("df -m --output=size / | tail -n 1 | awk '{ print ($1 > 1270) }'"), "1\n");
    assert_is(&board, "kube1");
    assert_prepared(&board);
    board.reboot();
    assert_is(&board, "kube1");
    assert_code(&board.bramble(&["plan"]), 0);

    // It gets another name, which cloud-init leaves it.
    let file = board.dir.join("bramble.yaml");
    fs::write(&file, read(&file).replace("name: kube1,", "name: shelf-1,")).unwrap();
    board.name = "shelf-1".into();
    assert_code(&board.bramble(&["up", "--yes"]), 0);
    assert_is(&board, "shelf-1");
    board.reboot();
    assert_is(&board, "shelf-1");
    assert_code(&board.bramble(&["plan"]), 0);
    board.switch_off();
    board.name = "kube1".into();
    board.assert_keeps_its_key();
}

fn with_firstrun(number: u8, machine: &'static Machine) {
    let mut board = through(number, machine, &FIRSTRUN);
    assert_eq!(board.starts(), 2, "once for the script, once for good");
    move_root(&board);
    assert_is(&board, "kube1");
    assert_prepared(&board);
    board.switch_off();
    board.assert_keeps_its_key();
}

/// Moves the board's system from its card to an SSD.
fn move_root(board: &Board) {
    for (disk, why) in [("/dev/vda", "already"), ("/dev/vdc", "is no disk of it; there are: /dev/vda /dev/vdb")] {
        let refused = board.bramble(&["move-root", "kube1", "--yes", "--to", disk]);
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
    board.on_board("sudo mkfs.ext4 -q /dev/vdb && sudo mount /dev/vdb /mnt && sudo touch /mnt/precious");
    let refused = board.bramble(&["move-root", "kube1", "--yes", "--to", "/dev/vdb"]);
    assert!(text(&refused).contains("/dev/vdb is in use: /mnt"), "{}", text(&refused));
    board.on_board("sudo umount /mnt");
    let moved = board.bramble(&["move-root", "kube1", "--yes", "--to", "/dev/vdb"]);
    assert_code(&moved, 0);
    assert!(text(&moved).contains("it holds vdb ext4"), "{}", text(&moved));
    assert!(text(&moved).contains("device 254:16, 6291456 sectors, diskseq"), "{}", text(&moved));
    board.reboot();
    assert_eq!(board.on_board("findmnt -nvo SOURCE /"), "/dev/vdb2\n", "{}", board.console());
    assert_eq!(board.on_board("findmnt -nvo SOURCE /boot/firmware"), "/dev/vdb1\n");
    let there = board.bramble(&["move-root", "kube1", "--yes", "--to", "/dev/vdb"]);
    assert!(text(&there).contains("runs from /dev/vdb already"), "{}", text(&there));
}

/// That the board is who it should be.
fn assert_is(board: &Board, name: &str) {
    let said = board.on_board(
        "hostname; getent hosts $(hostname) >/dev/null && id -un; sudo -n id -u; readlink -f /etc/localtime; \
         ip -4 -o address show scope global | awk '{print $4}'; ip route show default | awk '{print $3}'; \
         ls /etc/ssh/ssh_host_*_key; cut -d: -f2 /etc/shadow >/dev/null 2>&1; echo $?",
    );
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            name,
            "ada",
            "0",
            "/usr/share/zoneinfo/Europe/Berlin",
            "10.79.0.50/24",
            "10.79.0.1",
            "/etc/ssh/ssh_host_ed25519_key",
            "1"
        ]
    );
}

/// That it takes no password, and is prepared by `bramble up`, after which nothing is left to do.
fn assert_prepared(board: &Board) {
    let args = ["-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no", "-o", "StrictHostKeyChecking=yes"];
    let known = ["-o", "UserKnownHostsFile=.bramble/known_hosts", "ada@10.79.0.50", "true"];
    let refused = board.command("ssh", &[&args[..], &known].concat()).output().unwrap();
    assert_code(&refused, 255);
    // The methods that it offers: no password.
    assert!(text(&refused).contains("Permission denied (publickey)."), "{}", text(&refused));
    assert_code(&board.bramble(&["up", "--yes"]), 0);
    assert_code(&board.bramble(&["plan"]), 0);
}

/// A cluster of a rack's boards (cgroup v1, as this machine has it) and of one with a kernel of its own (cgroup v2).
fn beside_a_rack(name: &str, subnet: &str, address: &'static str, machine: &'static Machine) {
    let made = bramble().args(["lab", "bundle", "--arch", machine.arch]).output().unwrap();
    assert_code(&made, 0);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let bundle = said.trim().split_once(" is in ").unwrap().1;
    let own = ["--control-planes", "1", "--workers", "1", "--subnet", subnet, "--from", bundle, "--passwordless-sudo"];
    let rack = Rack::up(name, &own);
    let mut board = Board::beside(&rack, machine, &CLOUD_INIT, address);
    board.flash();
    board.switch_on(machine);
    board.meet();
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 9 paths between pods"), "{said}");
    let of = |what: &str| rack.kubectl(1, &format!("get node {} -o jsonpath={{.status.nodeInfo.{what}}}", board.name));
    assert_eq!(of("architecture"), machine.arch);
    assert!(of("kernelVersion").contains("cloud"), "{}", of("kernelVersion"));
    // What boards of one cluster do not have in common.
    let driver = "sudo grep cgroupDriver /var/lib/kubelet/config.yaml";
    assert_eq!(board.on_board("stat -fc %T /sys/fs/cgroup"), "cgroup2fs\n");
    assert_eq!(board.on_board(driver), "cgroupDriver: systemd\n");
    assert_eq!(rack.shell(&rack.node(2), driver), "cgroupDriver: cgroupfs\n");
    rack.assert_well();

    // Boots, and the system's own upgrades: nobody has to do anything.
    board.reboot();
    rack.assert_well();
    board.on_board("sudo apt-get -qq update && sudo apt-get -qq install --reinstall systemd udev network-manager");
    rack.assert_well();
    board.on_board("sudo systemctl restart NetworkManager");
    rack.assert_well();

    assert_code(&rack.run(&["down", "--yes"]), 0);
    assert_eq!(board.on_board("ls -d /etc/kubernetes /var/lib/kubelet /etc/bramble /opt/cni 2>/dev/null; true"), "");
    assert_eq!(board.on_board("systemctl list-units --all --no-legend 'kubepods*'"), "");
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_board_with_cloud_init_is_met_at_its_first_boot_under_the_key_that_was_written_and_keeps_its_new_name() {
    with_cloud_init(1, &AMD64, &CLOUD_INIT);
}

mod lives {
    use super::*;

    /// Debian carries the script as far as systemd, the user, the key, NetworkManager and the zone go. Raspberry Pi OS' own
    /// userconf and the stage before it, which gives the disk another id, are not in it.
    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_board_with_firstrun_is_met_after_its_script_under_the_key_that_was_written() {
        with_firstrun(2, &AMD64);
    }

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_board_with_cloud_init_and_networkd_keeps_its_new_name() {
        with_cloud_init(3, &AMD64, &CLOUD_INIT_NETWORKD);
    }

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn a_board_with_a_kernel_of_its_own_and_cgroup_v2_joins_boards_with_v1() {
        beside_a_rack("t-v2", "10.78.41.0/24", "10.78.41.70", &AMD64);
    }
}

#[test]
#[ignore = "`make test-arm64` runs it: its root takes a quarter of an hour to make under emulation"]
fn an_arm64_board_with_cloud_init_is_met_at_its_first_boot() {
    with_cloud_init(4, &ARM64, &CLOUD_INIT);
}

#[test]
#[ignore = "`make test-arm64` runs it: its root takes a quarter of an hour to make under emulation"]
fn an_arm64_board_with_firstrun_is_met_after_its_script() {
    with_firstrun(5, &ARM64);
}

#[test]
#[ignore = "`make test-arm64` runs it: its root takes a quarter of an hour to make under emulation"]
fn an_arm64_board_joins_a_cluster_of_amd64_boards() {
    beside_a_rack("t-arm", "10.78.42.0/24", "10.78.42.70", &ARM64);
}
