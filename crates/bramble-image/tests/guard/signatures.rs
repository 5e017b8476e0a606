//! What is on a disk, at its beginning and at its end, on real loop devices.

use bramble_image::{Machine, Refusal};
use std::path::Path;

use crate::loops::{Loop, MIB, tool};

const SIZE: usize = 64 * MIB;

/// Bytes at a place; behind zero it is counted from the end.
type Put = (isize, &'static [u8]);

/// A situation: its name in docs/disks.md, what is on the disk, what libblkid calls it, what it is a part of.
pub(crate) const SITUATIONS: [(&str, &[Put], &str, &str); 18] = [
    (
        "md RAID, superblock 0.90 at the end",
        &[(-65536, &[0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90, 0, 0, 0])],
        "linux_raid_member",
        "a RAID",
    ),
    (
        "md RAID, superblock 1.0 at the end",
        &[(-8192, MD1), (-8192 + 144, &[0xf0, 0xff, 1])],
        "linux_raid_member",
        "a RAID",
    ),
    ("md RAID, superblock 1.1 at the beginning", &[(0, MD1)], "linux_raid_member", "a RAID"),
    ("md RAID, superblock 1.2", &[(4096, MD1), (4096 + 144, &[8])], "linux_raid_member", "a RAID"),
    ("Intel's RAID (IMSM), at the end", &[(-1024, b"Intel Raid ISM Cfg Sig. 1.0.00")], "isw_raid_member", "a RAID"),
    (
        "a RAID controller's (DDF), at the end",
        &[
            (-512, DDF),
            (-512 + 32, b"01.00.00"),
            (-512 + 96, &[0, 0, 0, 0, 0, 1, 0xff, 0xfe]),
            (-1024, DDF),
            (-1024 + 32, b"01.00.00"),
        ],
        "ddf_raid_member",
        "a RAID",
    ),
    ("Nvidia's RAID, at the end", &[(-1024, b"NVIDIA  ")], "nvidia_raid_member", "a RAID"),
    (
        "a physical volume of LVM",
        &[(512, b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001"), (544, UUID)],
        "LVM2_member",
        "LVM",
    ),
    (
        "a damaged physical volume of LVM",
        &[(1024, b"LABELONE\x02\0\0\0\0\0\0\0\xff\0\0\0\x20\0\0\0LVM2 001"), (1056, UUID)],
        "LVM2_member",
        "LVM",
    ),
    ("LUKS", &[(0, b"LUKS\xba\xbe\0\x01")], "crypto_LUKS", "an encrypted volume"),
    ("BitLocker", &[(0, b"\xeb\x52\x90-FVE-FS-")], "BitLocker", "an encrypted volume"),
    (
        "a disk of a ZFS pool, labels at the end only",
        &[(-131_072, ZFS), (-130_048, ZFS), (-128_000, ZFS), (-126_976, ZFS), (-125_952, ZFS), (-124_928, ZFS)],
        "zfs_member",
        "a ZFS pool",
    ),
    ("bcache", &[(4096 + 8, &[8]), (4096 + 24, BCACHE)], "bcache", "bcache"),
    ("Ceph's BlueStore", &[(0, b"bluestore block device\n")], "ceph_bluestore", "Ceph"),
    ("DRBD, at the end", &[(-4096 + 60, &[0x83, 0x74, 0x02, 0x6b])], "drbd", "DRBD"),
    ("VMware's", &[(1 << 20, &[0x0d, 0xd0, 0x01, 0xc0])], "VMFS_volume_member", "a VMware volume"),
    ("a machine that hibernates", &[(4086, b"S1SUSPEND")], "swsuspend", "a machine that hibernates"),
    (
        "btrfs of several disks",
        &[
            (65_536 + 0x30, &[0, 0, 1]),
            (65_536 + 0x40, b"_BHRfS_M"),
            (65_536 + 0x88, &[3]),
            (65_536 + 0x90, &[0, 0x10]),
        ],
        "btrfs",
        "a btrfs file system of several disks",
    ),
];

const MD1: &[u8] = b"\xfc\x4e\x2b\xa9\x01\0\0\0\0\0\0\0\0\0\0\0uuuuuuuuuuuuuuuuhost:0";
const DDF: &[u8] = b"\xde\x11\xde\x11\0\0\0\0Linux-MDuuuuuuuuuuuuuuuu";
const UUID: &[u8] = b"abcdefabcdefabcdefabcdefabcdefab";
const ZFS: &[u8] = b"\x0c\xb1\xba\0\0\0\0\0\x88\x13";
const BCACHE: &[u8] = &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];

fn with(puts: &[Put]) -> Loop {
    let mut disk = vec![0; SIZE];
    for (at, bytes) in puts {
        let at = if *at < 0 { SIZE - at.unsigned_abs() } else { at.unsigned_abs() };
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    }
    Loop::new(&disk)
}

fn look(on: &Loop) -> bramble_image::Disk {
    let machine = Machine::new(Path::new("/"));
    let (node, mut disk) = machine.named(&on.node).unwrap();
    machine.look_inside(&mut disk, &node);
    disk
}

#[test]
fn each_signature_is_found_and_its_disk_is_only_written_if_named_twice() {
    for (what, puts, kind, part_of) in SITUATIONS {
        let disk = look(&with(puts));
        let kinds: Vec<&str> = disk.contents.iter().map(|content| content.kind.as_str()).collect();
        assert!(kinds.contains(&kind), "{what}: {kinds:?} {:?}", disk.unread);
        assert_eq!(disk.refusals(1, 1), [Refusal::Holds(disk.name.clone(), part_of)], "{what}");
        assert_eq!(disk.refusals(1, 2), [], "{what}");
    }
}

#[test]
fn a_disk_with_nothing_on_it_is_not_refused() {
    assert_eq!(look(&with(&[])).refusals(1, 1), []);
}

#[test]
fn a_btrfs_file_system_of_one_disk_is_a_file_system_like_another() {
    let (_, puts, ..) = SITUATIONS[17];
    let one: Vec<Put> =
        puts.iter().map(|(at, bytes)| (*at, if *at == 65_536 + 0x88 { &[1][..] } else { *bytes })).collect();
    assert_eq!(look(&with(&one)).refusals(1, 1), []);
}

#[test]
fn what_is_on_a_partition_at_the_end_of_the_disk_is_found() {
    let on = with(&[]);
    let node = on.node.to_str().unwrap();
    let table = format!(
        "printf 'label: dos\\nstart=2048, size=65536, type=83\\nstart=67584, type=8e\\n' | sfdisk -q --no-reread --no-tell-kernel {node}"
    );
    tool("sh", &["-c", &table]);
    // Not every kernel looks for the partitions of loop devices.
    tool("partx", &["--update", node]);
    let part = format!("{node}p2");
    tool("mkswap", &["--quiet", "--label", "a, b", &part]);
    let disk = look(&on);
    tool("partx", &["--delete", node]);
    let holds = disk.refusals(1, 1);
    assert_eq!(holds, [Refusal::Holds(format!("{}p2", disk.name), "swap")], "{disk:?}");
    let label = disk.contents.iter().find(|content| content.kind == "swap").map(|content| content.label.as_str());
    assert_eq!(label, Some("a, b"));
}
