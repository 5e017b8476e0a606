//! The disks of this machine, and what stands against writing to one. It is decided by what the kernel tells in /sys and
//! /proc (Documentation/ABI/stable/sysfs-block, proc_pid_mountinfo(5)), before anything is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger than any disk that a board boots from: a terabyte, as it is sold.
pub const LIMIT: u64 = 1_000_000_000_000;
const SECTOR: u64 = 512;

/// Larger than a card or a stick: what is as large and fixed to its plug may be somebody's backup (256 GB as sold).
const STICK: u64 = 300_000_000_000;

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// USB: sticks, card readers, adapters.
    Usb,
    /// A card in a slot of its own.
    Sd,
    /// Flash memory that is soldered to the machine.
    Emmc,
    /// NVMe.
    Nvme,
    /// SATA.
    Sata,
    /// A file that is shown as a disk.
    Loop,
    /// Something else.
    Other,
}

/// What a disk, or a part of it, is used for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The disk or partition, such as `sda1`.
    pub part: String,
    /// What uses it.
    pub by: User,
}

/// What uses a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// A file system that is mounted here.
    Mount(String),
    /// Swap.
    Swap,
    /// Another block device on top of it: LVM, RAID, encryption.
    Device(String),
}

/// A disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name for it, such as `sda`.
    pub name: String,
    /// Its size in bytes; 0 for a reader without a card.
    pub size: u64,
    /// Another number for each medium that was put in; 0 on kernels before 5.15.
    pub medium: u64,
    /// What its maker calls it.
    pub model: String,
    /// How it is connected.
    pub transport: Transport,
    /// Whether it, or its medium, is made to be taken out.
    pub removable: bool,
    /// Whether it is a USB disk whose medium stays in it: an SSD or a hard disk.
    pub drive: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// What is on it, by udev, such as `sda1 (ntfs Photos)`.
    pub contents: Vec<String>,
    /// What uses it now, itself and its partitions.
    pub uses: Vec<Use>,
    /// Parts that belong to something that is not in use now, such as `sda2` and `LVM`.
    pub holds: Vec<(String, &'static str)>,
}

/// What stands against writing to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no medium in it.
    Empty,
    /// The running system is on it.
    System(String),
    /// It is in use.
    Used(Use),
    /// It cannot be written.
    ReadOnly,
    /// The image does not fit.
    TooSmall {
        /// Its size in bytes.
        size: u64,
        /// That of the image.
        needed: u64,
    },
    /// A part of it belongs to something that is not in use now, and it was not named twice.
    Holds(String, &'static str),
    /// It is not made to be taken out, and was not named twice.
    Fixed(Transport),
    /// It is a USB disk, larger than sticks are, and was not named.
    Drive(u64),
    /// It is larger than disks of boards are, and was not named twice.
    TooLarge(u64),
    /// It is a file, and was not named.
    Unnamed,
}

impl Refusal {
    /// Whether naming the disk twice is an answer to this.
    pub fn can_be_meant(&self) -> bool {
        matches!(self, Refusal::Holds(..) | Refusal::Fixed(_) | Refusal::TooLarge(_) | Refusal::Unnamed)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Empty => f.write_str("there is no medium in it"),
            Refusal::System(part) => write!(f, "this machine's own system is on it ({part})"),
            Refusal::Used(Use { part, by: User::Mount(at) }) => {
                write!(f, "{part} is mounted at {at}: unmount it first")
            }
            Refusal::Used(Use { part, by: User::Swap }) => {
                write!(f, "{part} is swap in use: `swapoff /dev/{part}` first")
            }
            Refusal::Used(Use { part, by: User::Device(device) }) => write!(f, "{part} is a part of {device}"),
            Refusal::Holds(part, what) => write!(f, "{part} is a part of {what}, which is not in use now"),
            Refusal::ReadOnly => f.write_str("it cannot be written: a card has a switch on its side"),
            Refusal::TooSmall { size, needed } => {
                write!(f, "it has {:.1} GB, and the image {:.1} GB", *size as f64 / 1e9, *needed as f64 / 1e9)
            }
            Refusal::Fixed(Transport::Emmc) => f.write_str("it is soldered to this machine"),
            Refusal::Fixed(_) => f.write_str("it is not a disk that is made to be taken out"),
            Refusal::TooLarge(size) => write!(f, "it has {:.1} TB, more than a board's disk has", *size as f64 / 1e12),
            Refusal::Drive(size) => {
                write!(f, "it is a USB disk of {:.0} GB: name it with --disk if it is meant", *size as f64 / 1e9)
            }
            Refusal::Unnamed => f.write_str("it is a file that is shown as a disk"),
        }
    }
}

impl Disk {
    /// What stands against writing `needed` bytes to it, if the user named it so often.
    pub fn refusals(&self, needed: u64, named: u8) -> Vec<Refusal> {
        if self.size == 0 {
            return vec![Refusal::Empty];
        }
        let system = |by: &User| matches!(by, User::Mount(at) if ["/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home"].contains(&at.as_str()));
        let mut found: Vec<Refusal> = self
            .uses
            .iter()
            .map(|used| if system(&used.by) { Refusal::System(used.part.clone()) } else { Refusal::Used(used.clone()) })
            .collect();
        if self.read_only {
            found.push(Refusal::ReadOnly);
        }
        if self.size < needed {
            found.push(Refusal::TooSmall { size: self.size, needed });
        }
        if named < 2 {
            found.extend(self.holds.iter().map(|(part, what)| Refusal::Holds(part.clone(), what)));
        }
        if self.transport == Transport::Loop {
            // Whoever names one made it for that.
            found.extend((named == 0).then_some(Refusal::Unnamed));
        } else if !self.removable && named < 2 {
            found.push(Refusal::Fixed(self.transport));
        }
        if self.drive && self.size > STICK && named == 0 {
            found.push(Refusal::Drive(self.size));
        }
        if self.size > LIMIT && named < 2 {
            found.push(Refusal::TooLarge(self.size));
        }
        found
    }
}

/// The disks that the kernel tells of. `root`: the folder that has its `sys` and `proc`, `/` on a real machine.
pub fn disks(root: &Path) -> std::io::Result<Vec<Disk>> {
    let block = root.join("sys/block");
    let mut names: Vec<String> =
        fs::read_dir(&block)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let machine = Machine::new(root);
    Ok(names.iter().filter_map(|name| machine.disk(name)).collect())
}

/// What udev (blkid) calls parts of something larger, which the disk alone may be worth nothing without.
const MEMBERS: [(&str, &str); 9] = [
    ("LVM2_member", "LVM"),
    ("linux_raid_member", "a RAID"),
    ("isw_raid_member", "a RAID"),
    ("ddf_raid_member", "a RAID"),
    ("zfs_member", "a ZFS pool"),
    ("bcache", "bcache"),
    ("ceph_bluestore", "Ceph"),
    ("crypto_LUKS", "an encrypted volume"),
    ("swap", "swap"),
];

struct Machine {
    /// What udev knows of each device, by its number.
    udev: PathBuf,
    block: PathBuf,
    /// Where devices are mounted, by number (`8:1`) and by name.
    mounts: BTreeMap<String, Vec<String>>,
    swaps: Vec<String>,
}

impl Machine {
    fn new(root: &Path) -> Machine {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mut mounts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in read("proc/self/mountinfo").lines() {
            let (Some((left, right)), at) = (line.split_once(" - "), line.split(' ').nth(4).unwrap_or_default()) else {
                continue;
            };
            // Some file systems, such as btrfs, have numbers of their own, but name their device.
            let device = right.split(' ').nth(1).and_then(|source| source.strip_prefix("/dev/"));
            let number = left.split(' ').nth(2);
            for key in number.into_iter().chain(device) {
                let all = mounts.entry(key.to_owned()).or_default();
                let at = plain(at);
                if !all.contains(&at) {
                    all.push(at);
                }
            }
        }
        let swaps = read("proc/swaps");
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.strip_prefix("/dev/"));
        Machine {
            udev: root.join("run/udev/data"),
            block: root.join("sys/block"),
            mounts,
            swaps: swaps.map(str::to_owned).collect(),
        }
    }

    fn disk(&self, name: &str) -> Option<Disk> {
        let dir = self.block.join(name);
        let place = fs::canonicalize(&dir).unwrap_or_else(|_| dir.clone());
        let place = place.to_string_lossy();
        let kind = text(&dir, "device/type");
        let transport = if place.contains("/usb") {
            Transport::Usb
        } else if place.contains("/mmc") {
            if kind == "SD" { Transport::Sd } else { Transport::Emmc }
        } else if name.starts_with("nvme") {
            Transport::Nvme
        } else if place.contains("/ata") {
            Transport::Sata
        } else if name.starts_with("loop") {
            Transport::Loop
        } else {
            Transport::Other
        };
        // On top of others, in memory, optical, or a part of an eMMC that is no disk.
        let none =
            ["dm-", "md", "ram", "zram", "sr", "fd", "nbd", "drbd", "zd"].iter().any(|kind| name.starts_with(kind));
        if none || name.contains("boot") || name.contains("rpmb") {
            return None;
        }
        let size = number(&dir, "size") * SECTOR;
        if size == 0 && transport == Transport::Loop {
            return None;
        }
        let (mut uses, mut holds, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        self.uses(name, &dir, &mut uses);
        contents.extend(self.content(name, &dir));
        holds.extend(self.member(&dir).map(|what| (name.to_owned(), what)));
        let mut parts: Vec<_> = fs::read_dir(&dir).into_iter().flatten().flatten().collect();
        parts.sort_by_key(fs::DirEntry::file_name);
        for part in parts {
            if part.path().join("partition").exists() {
                let name = part.file_name().to_string_lossy().into_owned();
                self.uses(&name, &part.path(), &mut uses);
                contents.extend(self.content(&name, &part.path()));
                holds.extend(self.member(&part.path()).map(|what| (name, what)));
            }
        }
        holds.retain(|(part, _)| !uses.iter().any(|used| used.part == *part));
        let model = [text(&dir, "device/vendor"), text(&dir, "device/model"), text(&dir, "device/name")];
        Some(Disk {
            name: name.to_owned(),
            size,
            medium: number(&dir, "diskseq"),
            model: model.iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" "),
            transport,
            removable: number(&dir, "removable") == 1 || matches!(transport, Transport::Usb | Transport::Sd),
            drive: transport == Transport::Usb && number(&dir, "removable") == 0,
            read_only: number(&dir, "ro") == 1,
            contents,
            uses,
            holds,
        })
    }

    /// What udev (blkid) says of a device.
    fn known(&self, dir: &Path, key: &str) -> Option<String> {
        let known = text(&self.udev, &format!("b{}", text(dir, "dev")));
        let found = known.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))?;
        Some(found.to_owned())
    }

    /// The file system on a device, with its label.
    fn content(&self, name: &str, dir: &Path) -> Option<String> {
        let words = [self.known(dir, "ID_FS_TYPE")?, self.known(dir, "ID_FS_LABEL").unwrap_or_default()];
        Some(format!("{name} ({})", words.join(" ").trim_end()))
    }

    /// What a device is a part of, by what it holds.
    fn member(&self, dir: &Path) -> Option<&'static str> {
        let kind = self.known(dir, "ID_FS_TYPE")?;
        MEMBERS.iter().find(|(member, _)| *member == kind).map(|(_, what)| *what)
    }

    /// What uses a device, and what uses those on top of it.
    fn uses(&self, part: &str, dir: &Path, uses: &mut Vec<Use>) {
        let mut add = |by: User| {
            let used = Use { part: part.to_owned(), by };
            if !uses.contains(&used) {
                uses.push(used);
            }
        };
        let mut stack = vec![(part.to_owned(), dir.to_owned())];
        while let Some((name, dir)) = stack.pop() {
            let mounts = [text(&dir, "dev"), name.clone()].into_iter().filter_map(|key| self.mounts.get(&key));
            mounts.flatten().for_each(|at| add(User::Mount(at.clone())));
            let mapped = format!("mapper/{}", text(&dir, "dm/name"));
            if self.swaps.iter().any(|swap| *swap == name || *swap == mapped) {
                add(User::Swap);
            }
            for holder in fs::read_dir(dir.join("holders")).into_iter().flatten().flatten() {
                let name = holder.file_name().to_string_lossy().into_owned();
                let dir = self.block.join(&name);
                let label = text(&dir, "dm/name");
                add(User::Device(if label.is_empty() { name.clone() } else { format!("{name} ({label})") }));
                stack.push((name, dir));
            }
        }
    }
}

fn text(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_owned()
}

fn number(dir: &Path, name: &str) -> u64 {
    text(dir, name).parse().unwrap_or(0)
}

/// A path without the octal escapes that mountinfo has for blanks.
fn plain(path: &str) -> String {
    let mut plain = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain + rest
}
