//! What people name as a disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bramble_image::Machine;

use crate::fake::{Fake, GB, SLOT, USB};
use crate::loops::{Loop, MIB, tool};

/// The names of the situations in docs/disks.md, and what becomes of the disk.
pub(crate) const SITUATIONS: [(&str, &str); 11] = [
    ("a plain file with the name of a disk", "refused"),
    ("a folder", "refused"),
    ("a character device", "refused"),
    ("a link that ends at a file", "refused"),
    ("a link that ends at nothing", "refused"),
    ("a link that ends at a disk", "written"),
    ("a node of a disk with another name", "written"),
    ("a node with nothing behind it", "refused"),
    ("a partition in place of the disk", "refused"),
    ("a boot partition of an eMMC", "refused"),
    ("LVM, RAID, NBD, zram, an optical drive named as a disk", "refused"),
];

fn refused(path: &Path, why: &str) {
    let error = Machine::new(Path::new("/")).named(path).unwrap_err().to_string();
    assert!(error.contains(why) && error.contains(path.to_str().unwrap()), "`{error}` instead of `{why}`");
}

#[test]
fn a_plain_file_with_the_name_of_a_disk_is_a_file() {
    let one = Loop::new(&[0; MIB]);
    let file = one.file(one.node.file_name().unwrap().to_str().unwrap());
    fs::write(&file, "x").unwrap();
    refused(&file, "is a file, and no disk");
}

#[test]
fn a_folder_is_no_disk() {
    refused(Path::new("/dev"), "is a folder");
}

#[test]
fn a_character_device_is_no_disk() {
    refused(Path::new("/dev/null"), "is a character device");
}

#[test]
fn a_link_that_ends_at_a_file_is_refused_by_both_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("image"), "x").unwrap();
    symlink("image", dir.path().join("b")).unwrap();
    symlink("b", dir.path().join("sda")).unwrap();
    refused(&dir.path().join("sda"), "image) is a file");
}

#[test]
fn a_link_that_ends_at_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    symlink("/dev/gone", dir.path().join("sda")).unwrap();
    refused(&dir.path().join("sda"), "there is no ");
}

#[test]
fn links_are_followed_to_the_disk() {
    let one = Loop::new(&[0; MIB]);
    symlink(&one.node, one.file("a")).unwrap();
    symlink("a", one.file("usb-Stick-0:0")).unwrap();
    let (node, disk) = Machine::new(Path::new("/")).named(&one.file("usb-Stick-0:0")).unwrap();
    assert_eq!((node, format!("/dev/{}", disk.name).into()), (one.node.clone(), one.node.clone()));
}

fn node(path: &Path, number: &str) {
    let (major, minor) = number.split_once(':').unwrap();
    tool("mknod", &[path.to_str().unwrap(), "b", major, minor]);
}

#[test]
fn the_number_of_a_node_says_which_disk_it_is_and_not_its_name() {
    let one = Loop::new(&[0; MIB]);
    let (_, disk) = Machine::new(Path::new("/")).named(&one.node).unwrap();
    node(&one.file("sda"), &disk.number.to_string());
    assert_eq!(Machine::new(Path::new("/")).named(&one.file("sda")).unwrap().1, disk);
}

#[test]
fn a_node_with_nothing_behind_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    node(&dir.path().join("sdz"), "240:77");
    refused(&dir.path().join("sdz"), "has nothing behind it: the kernel knows no disk 240:77");
}

/// What a node of this number is, on a machine that is made up.
fn said_of(fake: Fake, number: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    node(&dir.path().join("node"), number);
    Machine::new(fake.root()).named(&dir.path().join("node")).unwrap_err().to_string()
}

#[test]
fn a_partition_is_refused_and_its_disk_named() {
    let fake = Fake::new().disk("sda", USB, 8 * GB).part("sda", "sda1").with("sda/sda1/dev", "8:1");
    let said = said_of(fake, "8:1");
    assert!(said.contains("is a partition of /dev/sda"), "{said}");
}

#[test]
fn areas_of_an_emmc_are_never_written() {
    for (name, what) in [
        ("mmcblk0boot0", "boot partition"),
        ("mmcblk0boot1", "boot partition"),
        ("mmcblk0rpmb", "protected"),
        ("mmcblk0gp1", "set aside"),
    ] {
        let fake = Fake::new().disk("mmcblk0", SLOT, 8 * GB).disk(name, SLOT, GB).with(&format!("{name}/dev"), "179:8");
        let said = said_of(fake, "179:8");
        assert!(said.contains(what) && said.contains(name), "{said}");
    }
}

#[test]
fn what_is_made_of_other_disks_or_is_none_is_never_written() {
    for (name, what) in [
        ("dm-3", "LVM"),
        ("md127", "RAID"),
        ("nbd0", "NBD"),
        ("zram0", "memory"),
        ("sr0", "optical"),
        ("zd0", "ZFS"),
        ("nullb0", "made by"),
    ] {
        let fake = Fake::new().disk(name, "virtual/block", 8 * GB).with(&format!("{name}/dev"), "251:3");
        let said = said_of(fake, "251:3");
        assert!(said.contains(what) && said.ends_with("it is never written"), "{said}");
    }
}
