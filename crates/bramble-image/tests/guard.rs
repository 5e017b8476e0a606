//! Which disks may be written, told by what the kernel would say in thirty situations, and by this machine's own.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bramble_image::{Disk, disks};

/// A machine as its kernel shows it.
struct Fake {
    root: tempfile::TempDir,
    mounts: String,
    swaps: String,
}

const USB: &str = "pci0000:00/usb1/1-1/host6/target6:0:0/6:0:0:0/block";
const SLOT: &str = "platform/mmc0/mmc_host/mmc0/mmc0:aaaa/block";
const SATA: &str = "pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block";
const NVME: &str = "pci0000:00/0000:01:00.0/nvme/nvme0";
const GB: u64 = 1_000_000_000 / 512;

impl Fake {
    fn new() -> Fake {
        let fake = Fake {
            root: tempfile::tempdir().unwrap(),
            mounts: String::new(),
            swaps: "Filename Type Size Used Priority\n".into(),
        };
        fs::create_dir_all(fake.root.path().join("sys/block")).unwrap();
        fs::create_dir_all(fake.root.path().join("proc/self")).unwrap();
        // What every machine has.
        fake.mount_line("0:21 / /proc", "proc proc").mount_line("0:40 / /home", "nfs 10.0.0.2:/sda1")
    }

    fn mount_line(mut self, left: &str, right: &str) -> Fake {
        self.mounts.push_str(&format!("22 27 {left} rw,relatime shared:1 - {right} rw\n"));
        self
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join("sys").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// A disk of so many sectors at this place.
    fn disk(self, name: &str, place: &str, sectors: u64) -> Fake {
        let dir = format!("devices/{place}/{name}");
        self.put(&format!("{dir}/size"), &sectors.to_string());
        self.put(&format!("{dir}/removable"), "0");
        self.put(&format!("{dir}/ro"), "0");
        self.put(&format!("{dir}/dev"), &format!("{name}:0"));
        symlink(format!("../{dir}"), self.root.path().join("sys/block").join(name)).unwrap();
        self
    }

    fn with(self, path: &str, text: &str) -> Fake {
        self.put(&format!("block/{path}"), text);
        self
    }

    fn part(self, disk: &str, part: &str) -> Fake {
        self.with(&format!("{disk}/{part}/partition"), "1").with(&format!("{disk}/{part}/dev"), &format!("{part}:0"))
    }

    fn mount(self, device: &str, at: &str) -> Fake {
        self.mount_line(&format!("{device}:0 / {at}"), &format!("ext4 /dev/{device}"))
    }

    fn swap(mut self, path: &str) -> Fake {
        self.swaps.push_str(&format!("{path} partition 1000 0 -2\n"));
        self
    }

    /// What udev knows a device to hold.
    fn udev(self, device: &str, kind: &str) -> Fake {
        let dir = self.root.path().join("run/udev/data");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("b{device}:0")), format!("S:disk/by-id/x\nE:ID_FS_TYPE={kind}\nG:systemd\n"))
            .unwrap();
        self
    }

    /// Another block device on top of this one.
    fn holder(self, below: &str, above: &str) -> Fake {
        self.with(&format!("{below}/holders/{above}"), "")
    }

    fn look(&self) -> Vec<Disk> {
        fs::write(self.root.path().join("proc/self/mountinfo"), &self.mounts).unwrap();
        fs::write(self.root.path().join("proc/swaps"), &self.swaps).unwrap();
        disks(self.root.path()).unwrap()
    }

    /// What stands against writing 4 GB to the first disk.
    fn against(&self, named: u8) -> Vec<String> {
        let disks = self.look();
        disks[0].refusals(4_000_000_000, named).iter().map(ToString::to_string).collect()
    }
}

fn stick() -> Fake {
    Fake::new().disk("sda", USB, 32 * GB).part("sda", "sda1").part("sda", "sda2")
}

fn card() -> Fake {
    Fake::new().disk("mmcblk0", SLOT, 32 * GB).with("mmcblk0/device/type", "SD").part("mmcblk0", "mmcblk0p1")
}

#[test]
fn thirty_situations() {
    let fixed = "it is not a disk that is made to be taken out";
    let large = "more than a board's disk has";
    let situations: Vec<(&str, Fake, u8, Vec<&str>)> = vec![
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
        ("named twice, still mounted", stick().mount("sda1", "/mnt"), 2, vec!["sda1 is mounted at /mnt"]),
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
        ("its boot partition", card().mount("mmcblk0p1", "/boot/firmware"), 2, vec!["own system is on it (mmcblk0p1)"]),
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
        ("too small, and named twice", Fake::new().disk("sda", USB, 2 * GB), 2, vec!["it has 2.0 GB"]),
        ("the machine's SATA disk", Fake::new().disk("sda", SATA, 500 * GB), 0, vec![fixed]),
        ("named once", Fake::new().disk("sda", SATA, 500 * GB), 1, vec![fixed]),
        ("named twice", Fake::new().disk("sda", SATA, 500 * GB), 2, vec![]),
        ("NVMe", Fake::new().disk("nvme0n1", NVME, 500 * GB).part("nvme0n1", "nvme0n1p1"), 0, vec![fixed]),
        (
            "soldered memory",
            Fake::new().disk("mmcblk1", SLOT, 32 * GB).with("mmcblk1/device/type", "MMC"),
            0,
            vec!["it is soldered to this machine"],
        ),
        ("twelve terabytes on USB", Fake::new().disk("sda", USB, 12_000 * GB), 1, vec![large]),
        ("twelve terabytes, named twice", Fake::new().disk("sda", USB, 12_000 * GB), 2, vec![]),
        (
            "a RAID of terabytes",
            Fake::new().disk("sda", SATA, 12_000 * GB).holder("sda", "md0").with("md0/md/level", "raid6"),
            0,
            vec!["a part of md0", fixed, large],
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
    ];
    assert!(situations.len() >= 30);
    for (what, fake, named, expected) in situations {
        let found = fake.against(named);
        assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{what}: `{found}` instead of `{expected}`");
        }
    }
}

#[test]
fn what_is_no_disk_is_not_listed() {
    let fake = ["dm-0", "md127", "sr0", "zram0", "ram0", "nbd0", "mmcblk1boot0", "mmcblk1rpmb"]
        .into_iter()
        .fold(stick(), |fake, name| fake.disk(name, "virtual/block", 8 * GB));
    let fake = fake.disk("loop7", "virtual/block", 0);
    let names: Vec<String> = fake.look().into_iter().map(|disk| disk.name).collect();
    assert_eq!(names, ["sda"]);
}

#[test]
fn the_disk_that_this_machine_runs_from_is_refused_however_often_it_is_named() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let source = root.split(" - ").nth(1).unwrap().split(' ').nth(1).unwrap().to_owned();
    let all = disks(Path::new("/")).unwrap();
    let own = all
        .iter()
        .find(|disk| disk.refusals(0, 2).iter().any(|refusal| refusal.to_string().contains("own system is on it")));
    // In a container the root is no disk of its own.
    let on_a_disk = source.strip_prefix("/dev/").is_some_and(|name| Path::new("/sys/class/block").join(name).exists());
    assert_eq!(own.is_some(), on_a_disk, "{source}: {all:?}");
}
