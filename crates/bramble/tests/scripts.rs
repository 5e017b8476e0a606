//! The scripts of commands that change a board's boot, each with all of its programs succeeding and with each of them
//! failing.

use bramble_shell::testing::{Case, assert_covered};
use bramble_state::EEPROM;
use sha2::{Digest, Sha256};

/// A test has no block device: a file stands in for it.
fn without_devices(script: &str) -> String {
    script.replace("[ ! -b ", "[ ! -e ")
}

fn boot_order(wanted: &str) -> Case {
    let script = include_str!("../src/commands/boot_order.sh");
    Case::new(format!("{EEPROM}\nwanted={wanted}"), script)
        .says("rpi-eeprom-update -b", "/var/eeprom")
        .says("rpi-eeprom-update -l", "/var/eeprom/newest")
        .file("/var/eeprom/newest", "")
        .says("rpi-eeprom-update", "CURRENT: a (1746713597)\nLATEST: b (1778249597)")
}

const SETTINGS: &str = "printf '[all]\\nBOOT_UART=0\\nBOOT_ORDER=0xF41\\n[gpio8=0]\\nBOOT_ORDER=0x1\\n'";
const UPDATE: &str = "an update";
const SIG: &str = "8e7bd8bb53cb8d4e1a2ed4c8d8e6cc1a9d1a3d0eb1c5dd1b1b5d1b2f1b0a0000\nts: 1778246781\n";

#[test]
fn a_boot_order_is_told() {
    let run = boot_order("''").on("rpi-eeprom-config", SETTINGS).check();
    assert_eq!(run.stdout, "order 0xf41\n");
    // What the next boot brings counts more than what is there: a file that is whole, and newer than the last update.
    let waiting = |sig: &str| {
        boot_order("''")
            .file("/var/eeprom/pieeprom.upd", UPDATE)
            .file("/var/eeprom/pieeprom.sig", sig)
            .on("rpi-eeprom-config *pieeprom.upd", "echo BOOT_ORDER=0xf14")
            .on("rpi-eeprom-config", SETTINGS)
    };
    let whole = waiting(&SIG.replace(&SIG[..64], &hex(UPDATE)));
    assert_eq!(whole.check().stdout, "waiting yes\norder 0xf14\n");
    assert_eq!(waiting(SIG).run(None).stdout, "order 0xf41\n", "one that was cut off");
    // 1778246781, as the device tree has it: it was written, and its file stays.
    let stamp = "/proc/device-tree/chosen/bootloader/update-timestamp";
    let written = whole.clone().file(stamp, "").after(format!("printf '\\151\\375\\344\\175' >{stamp}"));
    assert_eq!(written.run(None).stdout, "order 0xf41\n");
    // A Raspberry Pi 5 has written it already, and shows the one that it booted with.
    let written = boot_order("''").file("/run/bramble/boot-order", "0xf14\n").on("rpi-eeprom-config", SETTINGS).check();
    assert_eq!(written.stdout, "waiting yes\norder 0xf14\n");
    boot_order("''").without("rpi-eeprom-config").refuses("install the package rpi-eeprom");
    let silent = boot_order("0xf14").says("rpi-eeprom-config", "ioctl_set_msg failed:-1");
    assert!(!silent.refuses("cannot be read").called("*--apply*"));
}

#[test]
fn a_boot_order_is_set_where_it_is_another() {
    let with = |wanted: &str, settings: &str| {
        boot_order(wanted)
            .on("rpi-eeprom-config", settings)
            .on("rpi-eeprom-config --apply *", "/bin/cat \"$2\" >$R/applied; echo why")
            .may_fail("rpi-eeprom-update", "1 says that there is a newer one")
            .may_fail("rpi-eeprom-update -l", "then there is no file of that name")
    };
    let applied = |settings: &str| with("0xf416", settings).run(None).file("applied");
    let run = with("0xf416", SETTINGS).run(None);
    assert_eq!(run.stdout, "order 0xf41\nset yes\n");
    assert_eq!(
        run.file("applied").as_deref(),
        Some("[all]\nBOOT_UART=0\nBOOT_ORDER=0xf416\n[gpio8=0]\nBOOT_ORDER=0x1\n")
    );
    assert_eq!(run.file("run/bramble/boot-order").as_deref(), Some("0xf416\n"));
    // Where there is none it comes before the first part that is not for all; lines may end as on Windows.
    assert_eq!(
        applied("printf '[all]\\r\\nBOOT_UART=1\\r\\n[config.txt]\\r\\n[all]\\r\\ngpu_mem=16\\r\\n'").as_deref(),
        Some("[all]\nBOOT_UART=1\nBOOT_ORDER=0xf416\n[config.txt]\n[all]\ngpu_mem=16\n")
    );
    let again = with("0xf416", SETTINGS).file("/run/bramble/boot-order", "0xf416\n").run(None);
    assert!(!again.called("*--apply*"), "what is asked for twice is written once");
    assert!(!with("0xf41", SETTINGS).run(None).called("*--apply*"));
    let older = "echo 'CURRENT: b (1778249597)'; echo 'LATEST: a (1746713597)'";
    assert!(
        !with("0xf14", SETTINGS).before_all("rpi-eeprom-update", older).refuses("is newer than").called("*--apply*")
    );
    with("0xf14", SETTINGS).before_all("rpi-eeprom-update -l", "echo none").refuses("with rpiboot");
    let failed = with("0xf416", SETTINGS)
        .before_all("rpi-eeprom-config --apply *", "echo 'no space'; false")
        .refuses("no space");
    assert!(!failed.stdout.contains("set yes") && failed.called("rpi-eeprom-update -r"), "{:?}", failed.calls);
    let begun = with("0xf416", SETTINGS).before_all("rpi-eeprom-config --apply *", "echo 'UPDATE FAILED'; false");
    assert!(!begun.refuses("UPDATE FAILED").called("rpi-eeprom-update -r"));
}

fn hex(text: &str) -> String {
    bramble_spec::hex(&Sha256::digest(text.as_bytes()))
}

/// A board that boots from a card, with an empty disk beside it.
fn move_root(go: &str) -> Case {
    move_root_to(go, "one")
}

/// The same with a disk that says that it is this one, where `one` was shown.
fn move_root_to(go: &str, identity: &str) -> Case {
    let script = without_devices(include_str!("../src/commands/move_root.sh"))
        .replace("attempt same \"$m/root\" / ", "attempt same \"$m/root\" \"$R/card\" ");
    Case::new(format!("disk_identity() {{ echo {identity}; }}\nto=/run/dev/sda go={go} is=one"), script)
        .file("/run/dev/sda", "")
        .file("/boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=0-02 rootwait\n")
        .file("/boot/firmware/config.txt", "arm_64bit=1\n")
        .file("/etc/fstab", "PARTUUID=0-01 /boot/firmware vfat defaults 0 2\nPARTUUID=0-02 / ext4 defaults 0 1\n")
        .file("/card/etc/fstab", "the card's\n")
        .file("/card/usr/bin/a", "a\n")
        .file("/sys/block/sda/holders/", "")
        .says("lsblk -dnro TYPE*", "disk")
        .says("lsblk -nspro NAME*", "/dev/mmcblk0p2")
        .says("lsblk -dnro TRAN*", "usb")
        .says("lsblk -dno MODEL*", "T7 Shield")
        .says("lsblk -nro NAME,FSTYPE,LABEL*", "sda1 exfat old")
        .on("lsblk -npro NAME,TYPE*", "printf '%s\\n' '/dev/sda disk' '/dev/sda1 part' '/dev/sda2 part'")
        .says("findmnt -nvo SOURCE /", "/dev/mmcblk0p2")
        .says("findmnt -nvo SOURCE *", "/dev/mmcblk0p1")
        .on("df*", "printf '%s\\n' Used 1000000000 60000000")
        .says("blockdev --getss *", "512")
        .says("blockdev --getsize64 *sda", "64000000000")
        .says("blockdev --getsize64 *", "268435456")
        .on("cp -ax /. *", "/bin/cp -a \"$R/card/.\" \"$3\"")
}

/// What it does when all is there, and which failures stop nothing.
fn moving() -> Case {
    let leaving = "what is left is removed as far as it can be";
    move_root("yes")
        .may_fail("umount *move/boot *move/root", leaving)
        .may_fail("rmdir *move/root *move/boot *move", leaving)
}

#[test]
fn a_disk_is_looked_at_before_it_is_written() {
    let run = move_root("no").check();
    assert_eq!(run.stdout, "disk 64000 usb T7 Shield\nholds sda1 exfat old\nidentity one\n");
    for changes in ["wipefs*", "sfdisk*", "mkfs*", "dd*", "mount *"] {
        assert!(!run.called(changes), "{changes}");
    }
}

#[test]
fn a_system_is_moved_only_where_it_can_be() {
    let refused = |case: Case, why: &str| {
        let run = case.refuses(why);
        assert!(!run.called("wipefs*") && !run.called("sfdisk*") && !run.called("dd*"), "{why}");
    };
    let go = || move_root("yes");
    refused(go().without("sfdisk").without("mkfs.vfat"), "it has no sfdisk mkfs.vfat");
    refused(go().before_all("lsblk -dnro TYPE*", "echo part"), "is no disk of it");
    refused(go().before_all("mountpoint*", "false"), "its boot partition is not mounted");
    refused(go().before_all("lsblk -nro MOUNTPOINT*", "printf '\\n/mnt\\n'"), "is in use: /mnt");
    refused(go().before_all("blockdev --getsize64 *sda", "echo 1000000000"), "MB are needed");
    refused(go().before_all("blockdev --getss *", "echo 4096"), "has sectors of 4096 bytes");
    refused(go().file("/var/lib/bramble/done/kubernetes", ""), "Kubernetes runs on it");
    refused(go().file("/sys/block/sda/holders/dm-0", ""), "is a part of something else");
    let already = go().before_all("lsblk -nspro NAME*", "printf '%s\\n' /dev/sda2 \"$R/run/dev/sda\"").run(None);
    assert!(already.code == 0 && already.stdout == "already\n" && !already.called("wipefs*"));
}

#[test]
fn a_disk_that_is_not_the_one_that_was_shown_is_not_written() {
    let run = move_root_to("yes", "two").refuses("is not the disk that was shown (one) but another (two)");
    assert!(!run.called("wipefs*") && !run.called("sfdisk*") && !run.called("dd*"));
}

#[test]
fn a_disk_that_another_program_has_locked_is_not_written() {
    let run = move_root("yes").before_all("flock -w 10 8", "false").refuses("is locked by another program");
    assert!(!run.called("wipefs*") && !run.called("sfdisk*"));
}

#[test]
fn a_system_is_copied_and_read_back() {
    let run = moving().check();
    assert_eq!(run.stdout, "moved\n");
    let cmdline = run.file("run/bramble/move/boot/cmdline.txt").unwrap();
    assert!(cmdline.contains(" root=PARTUUID=") && !cmdline.contains("=0-02"), "{cmdline}");
    let fstab = run.file("run/bramble/move/root/etc/fstab").unwrap();
    assert!(!fstab.contains("PARTUUID=0-") && fstab.contains("-02 / ext4"), "{fstab}");
    assert!(run.file("run/bramble/move/table").is_none() && run.file("run/bramble/move/start").is_none());
}

#[test]
fn a_disk_that_damages_what_it_is_given_is_not_booted_from() {
    let damage = "/bin/cp -a \"$R/card/.\" \"$3\"; echo b >\"$3/usr/bin/a\"; /bin/touch -r \"$R/card/usr/bin/a\" \"$3/usr/bin/a\"";
    for (call, action) in
        [("cp -ax /. *", damage), ("e2fsck*", "false"), ("find . -xdev*", "false"), ("md5sum ./*", "false")]
    {
        let run = moving().before_all(call, action).refuses("use another disk");
        assert!(run.called("wipefs -qa *sda") && !run.stdout.contains("moved"), "{call}");
    }
    let blind = moving().before_all("lsblk -npro NAME,TYPE*", "echo '/dev/sda disk'");
    blind.refuses("the kernel does not see the partitions");
}

#[test]
fn every_function_that_a_board_runs_has_its_test() {
    let called = "move_root.sh calls it";
    assert_covered(
        env!("CARGO_MANIFEST_DIR"),
        &["tests/scripts.rs"],
        &[("fail", called), ("leave", called), ("bad", called)],
    );
}
