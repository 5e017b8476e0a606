//! The disks of this machine, and what stands against writing to one.

use std::fmt;
use std::path::{Path, PathBuf};

/// Larger than any disk that a board boots from: a terabyte, as it is sold.
pub const LIMIT: u64 = 1_000_000_000_000;

/// Larger than a card or a stick: what is as large and fixed to its plug may be somebody's backup (256 GB as sold).
const STICK: u64 = 300_000_000_000;

/// The sectors in which the tables of boards' images count.
const SECTOR: u32 = 512;

/// The number under which the kernel knows a device, `major:minor`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber(String);

impl DeviceNumber {
    /// Takes it as the kernel writes it in /sys, such as `8:0`.
    pub(crate) fn parse(text: &str) -> DeviceNumber {
        DeviceNumber(text.to_owned())
    }

    /// Takes the number of a node (stat(2), `st_rdev`).
    pub(crate) fn of(device: u64) -> DeviceNumber {
        DeviceNumber(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    /// iSCSI, Fibre Channel, NVMe over a network: the disk is in another machine.
    Network,
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
    /// A file system that is mounted where only some processes see it.
    MountElsewhere {
        /// Its mount point there.
        at: String,
        /// One of the processes.
        process: u32,
    },
    /// Swap.
    Swap,
    /// Another block device on top of it: LVM, RAID, encryption.
    Device(String),
    /// A program that has it open for writing.
    Process {
        /// Its number.
        process: u32,
        /// Its name.
        name: String,
    },
}

/// A signature on a disk or partition: a file system, a partition table, a member of something larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The disk or partition, such as `sda1`.
    pub part: String,
    /// Its kind, as libblkid calls it.
    pub kind: String,
    /// Its label, if it has one.
    pub label: String,
    /// Its UUID, if it has one.
    pub uuid: String,
    /// What it is a part of, such as a RAID.
    pub part_of: Option<&'static str>,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.label.is_empty() { "" } else { " " };
        write!(f, "{} ({}{space}{})", self.part, self.kind, self.label)
    }
}

/// A disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name for it, such as `sda`.
    pub name: String,
    /// The number of its node.
    pub number: DeviceNumber,
    /// Its size in bytes; 0 for a reader without a card.
    pub size: u64,
    /// The size of its sectors in bytes.
    pub sector: u32,
    /// Another number for each medium that was put in (`diskseq`); 0 on kernels before 5.15.
    pub medium: u64,
    /// What its maker calls it.
    pub model: String,
    /// Its serial number, or that of its card or plug; empty if it has none.
    pub serial: String,
    /// A name that is its own in all the world; empty if it has none.
    pub wwid: String,
    /// How it is connected.
    pub transport: Transport,
    /// Whether it, or its medium, is made to be taken out.
    pub removable: bool,
    /// Whether it is a USB disk whose medium stays in it: an SSD or a hard disk.
    pub drive: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// The state that the kernel gives a disk that does not answer, such as `offline`.
    pub offline: Option<String>,
    /// The file that is shown as this disk.
    pub file: Option<String>,
    /// The disk that `file` is, if it is one.
    pub shows: Option<String>,
    /// Its partitions, by name and number.
    pub parts: Vec<(String, DeviceNumber)>,
    /// What is on it and on its partitions.
    pub contents: Vec<Content>,
    /// Why its contents are not known.
    pub unread: Option<String>,
    /// What uses it now, itself and its partitions.
    pub uses: Vec<Use>,
    /// Parts that /etc/fstab mounts, which are not mounted now, and where.
    pub listed: Vec<(String, String)>,
    /// Other names of the same disk, which is connected more than once.
    pub twins: Vec<String>,
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
    /// It does not answer.
    Offline(String),
    /// Its sectors have another size than those in which images count.
    Sectors(u32),
    /// It is another disk under the name of a file.
    Shows(String),
    /// The image does not fit.
    TooSmall {
        /// Its size in bytes.
        size: u64,
        /// That of the image.
        needed: u64,
    },
    /// A part of it belongs to something that is not in use now, and it was not named twice.
    Holds(String, &'static str),
    /// This machine mounts a part of it when it starts, and it was not named twice.
    Listed(String, String),
    /// It is connected more than once, and was not named twice.
    Twin(String),
    /// Nobody can tell what is on it, and it was not named twice.
    Unread(String),
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
        matches!(
            self,
            Refusal::Holds(..)
                | Refusal::Listed(..)
                | Refusal::Twin(_)
                | Refusal::Unread(_)
                | Refusal::Fixed(_)
                | Refusal::TooLarge(_)
                | Refusal::Unnamed
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Empty => f.write_str("there is no medium in it"),
            Refusal::System(part) => write!(f, "this machine's own system is on it ({part})"),
            Refusal::Used(used) => write!(f, "{used}"),
            Refusal::Holds(part, what) => write!(f, "{part} is a part of {what}, which is not in use now"),
            Refusal::Listed(part, at) => write!(f, "/etc/fstab mounts {part} at {at}"),
            Refusal::Twin(name) => write!(f, "it is the same disk as {name}, connected a second time"),
            Refusal::Unread(why) => write!(f, "its contents cannot be read: {why}"),
            Refusal::ReadOnly => f.write_str("it cannot be written: a card has a switch on its side"),
            Refusal::Offline(state) => {
                write!(f, "it does not answer (its state is {state}): unplug it and plug it in again")
            }
            Refusal::Sectors(size) => {
                write!(
                    f,
                    "it has sectors of {size} bytes, and the image's partition table counts in 512: use another disk"
                )
            }
            Refusal::Shows(disk) => write!(f, "it only shows {disk}: name that disk itself"),
            Refusal::TooSmall { size, needed } => {
                write!(f, "it has {:.1} GB, and the image {:.1} GB", *size as f64 / 1e9, *needed as f64 / 1e9)
            }
            Refusal::Fixed(Transport::Emmc) => f.write_str("it is soldered to this machine"),
            Refusal::Fixed(Transport::Network) => f.write_str("it is in another machine, and reached over a network"),
            Refusal::Fixed(_) => f.write_str("it is not removable"),
            Refusal::TooLarge(size) => write!(f, "it has {:.1} TB, more than a board's disk has", *size as f64 / 1e12),
            Refusal::Drive(size) => {
                write!(f, "it is a USB disk of {:.0} GB: name it with --disk if it is meant", *size as f64 / 1e9)
            }
            Refusal::Unnamed => f.write_str("it is a file that is shown as a disk"),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = &self.part;
        match &self.by {
            User::Mount(at) => write!(f, "{part} is mounted at {at}: unmount it first"),
            User::MountElsewhere { at, process } => write!(
                f,
                "{part} is mounted at {at} in the mount namespace of process {process}: end it, or `nsenter -m -t {process} umount {at}`"
            ),
            User::Swap => write!(f, "{part} is swap in use: `swapoff /dev/{part}` first"),
            User::Device(device) => write!(f, "{part} is a part of {device}"),
            User::Process { process, name } => {
                write!(f, "{name} (process {process}) has {part} open for writing: end it first")
            }
        }
    }
}

/// Where a running system has what it cannot do without.
const SYSTEM: [&str; 8] = ["/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/usr", "/var", "/home"];

impl Disk {
    /// The node that the kernel makes for it (devtmpfs).
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(self.name.replace('!', "/"))
    }

    /// Lists what stands against writing `needed` bytes to it, if the user named it so often.
    pub fn refusals(&self, needed: u64, named: u8) -> Vec<Refusal> {
        if self.size == 0 {
            return vec![Refusal::Empty];
        }
        let system = |by: &User| matches!(by, User::Mount(at) if SYSTEM.contains(&at.as_str()));
        let mut found: Vec<Refusal> = self
            .uses
            .iter()
            .map(|used| if system(&used.by) { Refusal::System(used.part.clone()) } else { Refusal::Used(used.clone()) })
            .collect();
        found.extend(self.shows.clone().map(Refusal::Shows));
        found.extend(self.offline.clone().map(Refusal::Offline));
        if self.read_only {
            found.push(Refusal::ReadOnly);
        }
        if self.size < needed {
            found.push(Refusal::TooSmall { size: self.size, needed });
        }
        if self.sector != SECTOR {
            found.push(Refusal::Sectors(self.sector));
        }
        if named < 2 {
            found.extend(self.twins.iter().cloned().map(Refusal::Twin));
            found.extend(self.unread.clone().map(Refusal::Unread));
            // What is in use was said already.
            let idle = |part: &String| !self.uses.iter().any(|used| used.part == *part);
            let parts = self.contents.iter().filter(|content| idle(&content.part));
            for content in parts {
                let holds = content.part_of.map(|what| Refusal::Holds(content.part.clone(), what));
                found.extend(holds.filter(|refusal| !found.contains(refusal)));
            }
            let listed = self.listed.iter().filter(|(part, _)| idle(part));
            found.extend(listed.map(|(part, at)| Refusal::Listed(part.clone(), at.clone())));
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

    /// Tells in what it is another disk than the one that was shown, if it is.
    pub fn differs_from(&self, shown: &Disk) -> Option<String> {
        let changed = |what: &str, was: &str, is: &str| {
            let text = |value: &str| if value.is_empty() { "none".to_owned() } else { value.to_owned() };
            (was != is).then(|| format!("its {what} was {}, and is {}", text(was), text(is)))
        };
        let file = |disk: &Disk| disk.file.clone().unwrap_or_default();
        let list = |disk: &Disk| disk.contents.iter().map(Content::to_string).collect::<Vec<_>>().join(", ");
        changed("device number", &shown.number.to_string(), &self.number.to_string())
            .or_else(|| changed("medium's number", &shown.medium.to_string(), &self.medium.to_string()))
            .or_else(|| changed("size in bytes", &shown.size.to_string(), &self.size.to_string()))
            .or_else(|| changed("sector size", &shown.sector.to_string(), &self.sector.to_string()))
            .or_else(|| changed("model", &shown.model, &self.model))
            .or_else(|| changed("serial number", &shown.serial, &self.serial))
            .or_else(|| changed("WWID", &shown.wwid, &self.wwid))
            .or_else(|| changed("file", &file(shown), &file(self)))
            .or_else(|| changed("content", &list(shown), &list(self)))
            .or_else(|| (shown.contents != self.contents).then(|| "what is on it has other UUIDs".to_owned()))
    }
}
