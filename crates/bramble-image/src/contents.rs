//! What is on a disk, by its signatures: wipefs(8) of util-linux knows them all, at the beginning and at the end of a disk,
//! several at once, and those of damaged superblocks, too. blkid(8) names only one of them, and udev what blkid named.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::disks::{Content, DeviceNumber, Disk};
use crate::machine::Machine;

/// What udev and libblkid call parts of something larger, which the disk alone may be worth nothing without.
const MEMBERS: [(&str, &str); 22] = [
    ("LVM2_member", "LVM"),
    ("LVM1_member", "LVM"),
    ("linux_raid_member", "a RAID"),
    ("mpath_member", "a multipath disk"),
    ("zfs_member", "a ZFS pool"),
    ("bcache", "bcache"),
    ("bcachefs", "bcachefs"),
    ("ceph_bluestore", "Ceph"),
    ("drbd", "DRBD"),
    ("drbdmanage_control_volume", "DRBD"),
    ("VMFS_volume_member", "a VMware volume"),
    ("vdo", "VDO"),
    ("stratis", "a Stratis pool"),
    ("DM_snapshot_cow", "a snapshot"),
    ("DM_integrity", "an integrity volume"),
    ("DM_verity_hash", "a verity volume"),
    ("crypto_LUKS", "an encrypted volume"),
    ("cs_fvault2", "an encrypted volume"),
    ("BitLocker", "an encrypted volume"),
    ("swap", "swap"),
    ("swsuspend", "a machine that hibernates"),
    ("ldm", "Windows' dynamic disks"),
];

pub(crate) fn content(part: &str, kind: &str, label: &str, uuid: &str) -> Content {
    let member = MEMBERS.iter().find(|(member, _)| *member == kind).map(|(_, what)| *what);
    // Intel's, DDF's and those of a dozen cards.
    let part_of = member.or(kind.ends_with("_raid_member").then_some("a RAID"));
    Content { part: part.to_owned(), kind: kind.to_owned(), label: label.to_owned(), uuid: uuid.to_owned(), part_of }
}

impl Machine {
    /// Reads what is on a disk and its partitions. `node`: its device node. Who may not read it knows what udev told.
    pub fn look_inside(&self, disk: &mut Disk, node: &Path) {
        match open(node, &disk.number) {
            Ok(file) => self.look_inside_of(disk, &file),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => disk.unread = Some(format!("{}: {error}", node.display())),
        }
    }

    /// Reads what is on a disk that is open, and on its partitions.
    pub(crate) fn look_inside_of(&self, disk: &mut Disk, file: &File) {
        let mut contents = Vec::new();
        let mut look = |part: &str, file: io::Result<File>| {
            contents.extend(signatures(part, &file?)?);
            Ok::<(), io::Error>(())
        };
        let mut looked = look(&disk.name, file.try_clone()).map_err(|error| error.to_string());
        for (part, number) in &disk.parts {
            let node = Path::new("/dev").join(part.replace('!', "/"));
            let of_part = look(part, open(&node, number)).map_err(|error| format!("{}: {error}", node.display()));
            looked = looked.and(of_part);
        }
        disk.unread = looked.err();
        if disk.unread.is_none() {
            // udev knows of multipath, which is no signature.
            let multipath = disk.contents.drain(..).filter(|content| content.kind == "mpath_member");
            contents.extend(multipath);
            disk.contents = contents;
        }
        self.settle(disk);
    }
}

/// Opens a node for reading, if it is that of this device.
fn open(node: &Path, number: &DeviceNumber) -> io::Result<File> {
    let file = fs::OpenOptions::new().read(true).open(node)?;
    let about = file.metadata()?;
    if about.file_type().is_block_device() && DeviceNumber::of(about.rdev()) == *number {
        Ok(file)
    } else {
        Err(io::Error::other(format!("it is not the node of device {number}")))
    }
}

/// Lists the signatures on a device that is open.
fn signatures(part: &str, file: &File) -> io::Result<Vec<Content>> {
    let mut wipefs = Command::new("wipefs");
    // The descriptor, and not a name, which may be another device's by now.
    wipefs.args(["--no-act", "--json", "/proc/self/fd/0"]).env("LC_ALL", "C").stdin(Stdio::from(file.try_clone()?));
    let output = wipefs.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("there is no wipefs here: install util-linux"),
        _ => error,
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(said.trim().to_owned()));
    }
    #[derive(serde::Deserialize, Default)]
    struct Said {
        signatures: Vec<Signature>,
    }
    #[derive(serde::Deserialize)]
    struct Signature {
        r#type: Option<String>,
        uuid: Option<String>,
        label: Option<String>,
    }
    // Of an empty disk it says nothing.
    let text = output.stdout.trim_ascii();
    let said: Said = if text.is_empty() { Said::default() } else { serde_json::from_slice(text)? };
    let mut found = Vec::new();
    for Signature { r#type, uuid, label } in said.signatures {
        let text = Option::unwrap_or_default;
        let mut content = content(part, &text(r#type), &text(label), &text(uuid));
        if content.kind == "btrfs" && of_several(file)? {
            content.part_of = Some("a btrfs file system of several disks");
        }
        // A table has several places, and so has a superblock.
        if !found.contains(&content) {
            found.push(content);
        }
    }
    Ok(found)
}

/// Whether a btrfs file system has more devices than this (fs/btrfs: `num_devices` of its superblock, at 64 KiB).
fn of_several(file: &File) -> io::Result<bool> {
    let mut block = [0; 4096];
    let mut read = 0;
    // Direct I/O reads whole blocks, into memory at any place only where the disk can; wipefs read it just now.
    let reopened = fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))?;
    while read < block.len() {
        match reopened.read_at(&mut block[read..], (64 << 10) + read as u64)? {
            0 => return Ok(false),
            count => read += count,
        }
    }
    let number: [u8; 8] = block[0x88..0x90].try_into().unwrap_or_default();
    Ok(u64::from_le_bytes(number) > 1)
}
