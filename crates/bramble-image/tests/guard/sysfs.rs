//! What /sys, /proc and udev tell of a disk.

use std::fs;
use std::path::Path;

use bramble_image::Machine;

use crate::fake::{Fake, GB, NVME, SATA, SLOT, USB};

const ISCSI: &str = "platform/host3/session1/target3:0:0/3:0:0:1/block";
const FIBRE: &str = "pci0000:00/host2/rport-2:0-0/target2:0:0/2:0:0:0/block";
const VIRTIO: &str = "pci0000:00/virtio1/block";

fn stick() -> Fake {
    Fake::new().disk("sda", USB, 32 * GB).part("sda", "sda1").part("sda", "sda2")
}

fn card() -> Fake {
    Fake::new().disk("mmcblk0", SLOT, 32 * GB).with("mmcblk0/device/type", "SD").part("mmcblk0", "mmcblk0p1")
}

/// One disk of a disk shelf, by two cables.
fn twins() -> Fake {
    let wwid = "naa.5000c500a1b2c3d4";
    let fake = Fake::new().disk("sda", SATA, 32 * GB).with("sda/device/wwid", wwid);
    fake.disk("sdb", SATA, 32 * GB).with("sdb/device/wwid", wwid)
}

const FIXED: &str = "it is not removable";
const LARGE: &str = "more than a board's disk has";

/// A situation: its name in docs/disks.md, the machine, how often its disk was named, and what stands against it.
type Situation = (&'static str, Fake, u8, Vec<&'static str>);

pub(crate) fn situations() -> Vec<Situation> {
    vec![
        ("a stick", stick(), 0, vec![]),
        ("a card", card(), 0, vec![]),
        (
            "somebody's backup",
            Fake::new().disk("sda", USB, 500 * GB).part("sda", "sda1").udev("sda1", "ntfs"),
            0,
            vec!["it is a USB disk of 500 GB: name it with --disk if it is meant"],
        ),
        ("a large USB disk that was named", Fake::new().disk("sda", USB, 500 * GB), 1, vec![]),
        ("a reader with a card", Fake::new().disk("sdb", USB, 16 * GB).with("sdb/removable", "1"), 0, vec![]),
        (
            "a reader without a card",
            Fake::new().disk("sdb", USB, 0).with("sdb/removable", "1"),
            0,
            vec!["there is no medium in it"],
        ),
        (
            "a mounted stick",
            stick().mount("sda1", "/media/me/bootfs"),
            0,
            vec!["sda1 is mounted at /media/me/bootfs: unmount it first"],
        ),
        ("a mounted stick, named twice", stick().mount("sda1", "/mnt"), 2, vec!["sda1 is mounted at /mnt"]),
        (
            "mounted at a place with blanks",
            stick().mount("sda1", "/media/my\\040stick"),
            0,
            vec!["mounted at /media/my stick:"],
        ),
        (
            "both partitions mounted",
            stick().mount("sda1", "/a").mount("sda2", "/b"),
            0,
            vec!["sda1 is mounted at /a", "sda2 is mounted at /b"],
        ),
        ("mounted twice", stick().mount("sda1", "/a").mount("sda1", "/b"), 0, vec!["at /a", "at /b"]),
        (
            "mounted without a table",
            Fake::new().disk("sda", USB, 32 * GB).mount("sda", "/mnt"),
            0,
            vec!["sda is mounted at /mnt"],
        ),
        (
            "btrfs, with a number of its own",
            stick().mount_line("0:55 /@ /mnt", "btrfs /dev/sda2"),
            0,
            vec!["sda2 is mounted at /mnt"],
        ),
        (
            "a stick that this machine runs from",
            stick().mount("sda2", "/"),
            2,
            vec!["this machine's own system is on it (sda2)"],
        ),
        (
            "a card with this machine's boot partition",
            card().mount("mmcblk0p1", "/boot/firmware"),
            2,
            vec!["own system is on it (mmcblk0p1)"],
        ),
        ("swap", stick().swap("/dev/sda2"), 0, vec!["sda2 is swap in use: `swapoff /dev/sda2` first"]),
        ("swap in a file elsewhere", stick().swap("/swapfile"), 0, vec![]),
        (
            "LVM that is mounted",
            stick()
                .holder("sda/sda2", "dm-0")
                .with("dm-0/dm/name", "vg-data")
                .with("dm-0/dev", "dm-0:0")
                .mount("dm-0", "/data"),
            0,
            vec!["sda2 is a part of dm-0 (vg-data)", "sda2 is mounted at /data"],
        ),
        (
            "LVM with swap in it",
            stick().holder("sda/sda2", "dm-1").with("dm-1/dm/name", "vg-swap").swap("/dev/mapper/vg-swap"),
            0,
            vec!["a part of dm-1 (vg-swap)", "sda2 is swap in use"],
        ),
        ("RAID", stick().holder("sda/sda1", "md0").with("md0/md/level", "raid1"), 0, vec!["sda1 is a part of md0"]),
        (
            "RAID without a table",
            stick().holder("sda", "md0").with("md0/md/level", "raid1"),
            2,
            vec!["sda is a part of md0"],
        ),
        (
            "encryption below LVM below the system",
            stick()
                .holder("sda/sda2", "dm-0")
                .with("dm-0/dm/name", "crypt")
                .holder("dm-0", "dm-1")
                .with("dm-1/dm/name", "vg-root")
                .with("dm-1/dev", "dm-1:0")
                .mount("dm-1", "/"),
            2,
            vec!["a part of dm-0 (crypt)", "a part of dm-1 (vg-root)", "own system is on it (sda2)"],
        ),
        ("a file system", stick().udev("sda1", "vfat").udev("sda2", "ext4"), 0, vec![]),
        (
            "LVM that is not in use",
            stick().udev("sda2", "LVM2_member"),
            1,
            vec!["sda2 is a part of LVM, which is not in use now"],
        ),
        ("LVM that is not in use, named twice", stick().udev("sda2", "LVM2_member"), 2, vec![]),
        (
            "half of a RAID",
            Fake::new().disk("sda", USB, 32 * GB).udev("sda", "linux_raid_member"),
            0,
            vec!["sda is a part of a RAID, which is not in use now"],
        ),
        (
            "LVM that udev knows, and that is in use",
            stick().udev("sda2", "LVM2_member").holder("sda/sda2", "dm-0").with("dm-0/dm/name", "vg-data"),
            0,
            vec!["sda2 is a part of dm-0 (vg-data)"],
        ),
        (
            "a locked card",
            card().with("mmcblk0/ro", "1"),
            0,
            vec!["it cannot be written: a card has a switch on its side"],
        ),
        ("too small", Fake::new().disk("sda", USB, 2 * GB), 0, vec!["it has 2.0 GB, and the image 4.0 GB"]),
        ("too small, named twice", Fake::new().disk("sda", USB, 2 * GB), 2, vec!["it has 2.0 GB"]),
        ("the machine's SATA disk", Fake::new().disk("sda", SATA, 500 * GB), 0, vec![FIXED]),
        ("the machine's SATA disk, named once", Fake::new().disk("sda", SATA, 500 * GB), 1, vec![FIXED]),
        ("the machine's SATA disk, named twice", Fake::new().disk("sda", SATA, 500 * GB), 2, vec![]),
        ("NVMe", Fake::new().disk("nvme0n1", NVME, 500 * GB).part("nvme0n1", "nvme0n1p1"), 0, vec![FIXED]),
        (
            "soldered memory",
            Fake::new().disk("mmcblk1", SLOT, 32 * GB).with("mmcblk1/device/type", "MMC"),
            0,
            vec!["it is soldered to this machine"],
        ),
        ("twelve terabytes on USB", Fake::new().disk("sda", USB, 12_000 * GB), 1, vec![LARGE]),
        ("twelve terabytes, named twice", Fake::new().disk("sda", USB, 12_000 * GB), 2, vec![]),
        (
            "a RAID of terabytes",
            Fake::new().disk("sda", SATA, 12_000 * GB).holder("sda", "md0").with("md0/md/level", "raid6"),
            0,
            vec!["a part of md0", FIXED, LARGE],
        ),
        ("a file", Fake::new().disk("loop0", "virtual/block", 8 * GB), 0, vec!["it is a file that is shown as a disk"]),
        ("a file that was named", Fake::new().disk("loop0", "virtual/block", 8 * GB), 1, vec![]),
        (
            "a file that is mounted",
            Fake::new().disk("loop0", "virtual/block", 8 * GB).mount("loop0", "/snap/core22"),
            1,
            vec!["loop0 is mounted at /snap/core22"],
        ),
        ("somebody else's device of the same beginning", stick().mount("sda11", "/mnt").swap("/dev/sda10"), 0, vec![]),
        (
            "a path of a multipath disk",
            Fake::new()
                .disk("sda", ISCSI, 32 * GB)
                .holder("sda", "dm-0")
                .with("dm-0/dm/name", "mpatha")
                .with("dm-0/dm/uuid", "mpath-3600140"),
            2,
            vec!["sda is a part of dm-0 (mpatha, multipath)"],
        ),
        (
            "a path of a multipath disk that is not assembled",
            Fake::new().disk("sda", USB, 32 * GB).udev("sda", "DM_MULTIPATH_DEVICE_PATH=1 ID_FS_TYPE=ext4"),
            1,
            vec!["sda is a part of a multipath disk"],
        ),
        ("one disk by two names", twins(), 1, vec!["it is the same disk as sdb", FIXED]),
        (
            "one disk by two names, mounted by the other",
            twins().part("sdb", "sdb1").mount("sdb1", "/data"),
            2,
            vec!["sdb1 is mounted at /data"],
        ),
        (
            "two readers with the same name of their maker",
            stick()
                .with("sda/device/wwid", "t10.Generic- SD/MMC")
                .disk("sdb", USB, 32 * GB)
                .with("sdb/device/wwid", "t10.Generic- SD/MMC"),
            0,
            vec![],
        ),
        (
            "mounted in another mount namespace",
            stick().file("proc/4711/mountinfo", "22 27 sda1:0 / /pod/data rw - ext4 /dev/sda1 rw\n"),
            2,
            vec!["sda1 is mounted at /pod/data in the mount namespace of process 4711"],
        ),
        (
            "the second disk of a btrfs file system that is mounted",
            Fake::new()
                .disk("sda", USB, 32 * GB)
                .file("sys/fs/btrfs/0f-1/devices/sda/size", "")
                .file("sys/fs/btrfs/0f-1/devices/sdz/size", "")
                .mount_line("0:55 / /data", "btrfs /dev/sdz"),
            2,
            vec!["sda is mounted at /data"],
        ),
        (
            "a btrfs file system that is mounted nobody sees where",
            Fake::new().disk("sda", USB, 32 * GB).file("sys/fs/btrfs/0f-1/devices/sda/size", ""),
            2,
            vec!["sda is a part of a btrfs file system that is mounted"],
        ),
        (
            "btrfs on LVM below the system",
            stick()
                .holder("sda/sda2", "dm-0")
                .with("dm-0/dm/name", "vg-root")
                .mount_line("0:55 /@ /", "btrfs /dev/mapper/vg-root"),
            2,
            vec!["a part of dm-0 (vg-root)", "own system is on it (sda2)"],
        ),
        (
            "the second disk of a bcachefs file system that is mounted",
            stick().mount_line("0:56 / /data", "bcachefs /dev/sdz:/dev/sda"),
            2,
            vec!["sda is mounted at /data"],
        ),
        (
            "a loop device shows it, and is mounted",
            stick()
                .disk("loop3", "virtual/block", 8 * GB)
                .with("loop3/loop/backing_file", "/dev/sda")
                .mount("loop3", "/mnt")
                .first("sda"),
            2,
            vec!["sda is a part of loop3", "sda is mounted at /mnt"],
        ),
        (
            "a loop device that shows a disk",
            Fake::new().disk("loop3", "virtual/block", 8 * GB).with("loop3/loop/backing_file", "/dev/sda"),
            2,
            vec!["it only shows /dev/sda: name that disk itself"],
        ),
        (
            "zram swaps to it",
            stick().disk("zram0", "virtual/block", GB).with("zram0/backing_dev", "/dev/sda2"),
            2,
            vec!["sda2 is a part of zram0"],
        ),
        (
            "bcache that is mounted as the system",
            stick().holder("sda/sda2", "bcache0").with("bcache0/dev", "bcache0:0").mount("bcache0", "/"),
            2,
            vec!["sda2 is a part of bcache0", "own system is on it (sda2)"],
        ),
        (
            "a disk of a ZFS pool while a pool is mounted",
            stick().udev("sda1", "zfs_member").mount_line("0:60 / /tank", "zfs tank"),
            2,
            vec!["sda1 is a part of a ZFS pool"],
        ),
        (
            "sectors of 4096 bytes",
            stick().with("sda/queue/logical_block_size", "4096"),
            2,
            vec!["it has sectors of 4096 bytes"],
        ),
        ("sectors of 512 bytes", stick().with("sda/queue/logical_block_size", "512"), 0, vec![]),
        ("a disk that does not answer", stick().with("sda/device/state", "offline"), 2, vec!["it does not answer"]),
        ("a disk that answers", stick().with("sda/device/state", "running"), 0, vec![]),
        ("iSCSI", Fake::new().disk("sda", ISCSI, 32 * GB), 1, vec!["it is in another machine"]),
        ("Fibre Channel", Fake::new().disk("sda", FIBRE, 32 * GB), 0, vec!["it is in another machine"]),
        (
            "a disk that /etc/fstab mounts, not mounted now",
            stick()
                .udev("sda1", "ID_FS_TYPE=ext4 ID_FS_UUID=11-22")
                .file("etc/fstab", "# UUID=11-22 /no\nUUID=11-22 /backup ext4 noauto 0 2\n"),
            1,
            vec!["/etc/fstab mounts sda1 at /backup"],
        ),
        (
            "a card whose label is that of this machine's own",
            stick()
                .udev("sda1", "ID_FS_TYPE=vfat ID_FS_LABEL=system-boot")
                .file("etc/fstab", "LABEL=system-boot /boot/firmware vfat defaults 0 1\n")
                .mount_line("179:1 / /boot/firmware", "vfat /dev/mmcblk0p1"),
            0,
            vec![],
        ),
        (
            "swap that only has a mapped name",
            stick().holder("sda/sda2", "dm-1").with("dm-1/dm/name", "vg/swap").swap("/dev/dm-1"),
            2,
            vec!["sda2 is a part of dm-1 (vg/swap)", "sda2 is swap in use"],
        ),
        ("a virtio disk", Fake::new().disk("vda", VIRTIO, 32 * GB), 1, vec![FIXED]),
        (
            "a RAID of the mainboard, not assembled",
            stick().udev("sda", "isw_raid_member"),
            1,
            vec!["sda is a part of a RAID"],
        ),
        (
            "encrypted, and locked now",
            stick().udev("sda1", "crypto_LUKS"),
            1,
            vec!["sda1 is a part of an encrypted volume"],
        ),
    ]
}

#[test]
fn each_situation_of_sysfs_is_refused_or_not_as_the_table_says() {
    for (what, fake, named, expected) in situations() {
        let found = fake.against(named);
        assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{what}: `{found}` instead of `{expected}`");
        }
    }
}

/// The serial number of the disk, where these files have one each.
fn serial(fake: Fake, files: &[(&str, &str)]) -> String {
    files.iter().fold(fake, |fake, (path, text)| fake.file(path, text)).asked().serial
}

#[test]
fn the_serial_number_of_a_stick_is_that_of_its_plug() {
    let stick = || Fake::new().disk("sda", USB, 32 * GB);
    let controller = ("sys/devices/pci0000:00/usb1/serial", "0000:01:00.0\n");
    assert_eq!(serial(stick(), &[controller, ("sys/devices/pci0000:00/usb1/1-1/serial", "AA01\n")]), "AA01");
    assert_eq!(serial(stick(), &[controller]), "");
}

#[test]
fn the_serial_number_of_a_card_is_all_that_it_says_of_itself() {
    assert_eq!(
        serial(card(), &[("sys/block/mmcblk0/device/cid", "03aa\n"), ("sys/block/mmcblk0/device/serial", "0x1\n")]),
        "03aa"
    );
}

#[test]
fn what_is_no_disk_is_not_listed() {
    let names = [
        "dm-0",
        "md127",
        "md_home",
        "sr0",
        "zram0",
        "ram0",
        "nbd0",
        "rbd0",
        "drbd1",
        "zd16",
        "bcache0",
        "mtdblock0",
        "mmcblk1boot0",
        "mmcblk1boot1",
        "mmcblk1rpmb",
        "mmcblk1gp0",
        "nullb0",
    ];
    let fake = names.into_iter().fold(stick(), |fake, name| fake.disk(name, "virtual/block", 8 * GB));
    let fake = fake.disk("loop7", "virtual/block", 0).disk("nvme0c0n1", NVME, GB).with("nvme0c0n1/hidden", "1");
    let names: Vec<String> = fake.look().into_iter().map(|disk| disk.name).collect();
    assert_eq!(names, ["sda"]);
}

#[test]
fn the_disk_that_this_machine_runs_from_is_refused_however_often_it_is_named() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let source = root.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap().to_owned();
    let all = Machine::new(Path::new("/")).disks().unwrap();
    let own = all
        .iter()
        .find(|disk| disk.refusals(0, 2).iter().any(|refusal| refusal.to_string().contains("own system is on it")));
    // In a container the root is no disk of its own.
    let on_a_disk = source.strip_prefix("/dev/").is_some_and(|name| Path::new("/sys/class/block").join(name).exists());
    assert_eq!(own.is_some(), on_a_disk, "{source}: {all:?}");
}
