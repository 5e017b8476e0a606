//! The block devices of a machine, as its kernel tells of them in /sys and /proc (Documentation/ABI/stable/sysfs-block,
//! proc_pid_mountinfo(5)), before anything is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::contents;
use crate::disks::{Content, DeviceNumber, Disk, Transport, Use, User};

/// The unit of sizes in /sys, whatever sectors a disk has.
const SECTOR: u64 = 512;

/// What is known of a machine's block devices at one moment.
pub struct Machine {
    root: PathBuf,
    block: PathBuf,
    /// Where devices are mounted, by number (`8:1`) and by name.
    mounts: BTreeMap<String, Vec<User>>,
    swaps: Vec<String>,
    /// Whether a file system of a ZFS pool is mounted: the kernel does not say which disks a pool has.
    zfs: bool,
    /// Devices that other block devices read and write as a file, and those.
    below: BTreeMap<String, Vec<String>>,
    /// The devices of each btrfs file system that is mounted.
    btrfs: Vec<Vec<String>>,
    /// What /etc/fstab mounts, which is not mounted now.
    fstab: Vec<(String, String)>,
}

/// What a device number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Device {
    Disk(String),
    /// A partition of a disk.
    Part {
        part: String,
        disk: String,
    },
    /// Something that is no disk.
    Other {
        name: String,
        what: &'static str,
    },
}

impl Machine {
    /// Looks at a machine. `root`: the folder that has its `sys` and `proc`, `/` on a real machine.
    pub fn new(root: &Path) -> Machine {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mut mounts: BTreeMap<String, Vec<User>> = BTreeMap::new();
        let mut points = BTreeSet::new();
        let mut zfs = false;
        for mount in mount_lines(&read("proc/self/mountinfo")) {
            zfs |= mount.kind == "zfs";
            points.insert(mount.at.clone());
            for key in mount.keys {
                add(mounts.entry(key).or_default(), User::Mount(mount.at.clone()));
            }
        }
        let here = mounts.clone();
        for (process, lines) in other_namespaces(root) {
            for mount in mount_lines(&lines) {
                zfs |= mount.kind == "zfs";
                // Most namespaces are copies of this one.
                for key in mount.keys.into_iter().filter(|key| !here.contains_key(key)) {
                    let elsewhere = User::MountElsewhere { at: mount.at.clone(), process };
                    let all = mounts.entry(key).or_default();
                    if all.is_empty() {
                        all.push(elsewhere);
                    }
                }
            }
        }
        let swaps = read("proc/swaps");
        let swaps = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.strip_prefix("/dev/"));
        let fstab = read("etc/fstab");
        let fstab = fstab.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (what, at) = (words.next()?, plain(words.next()?));
            (!what.starts_with('#') && at.starts_with('/') && !points.contains(&at)).then(|| (plain(what), at))
        });
        let block = root.join("sys/block");
        Machine {
            mounts,
            swaps: swaps.map(plain).collect(),
            zfs,
            below: files_of_devices(&block),
            btrfs: btrfs(&root.join("sys/fs/btrfs")),
            fstab: fstab.collect(),
            root: root.to_owned(),
            block,
        }
    }

    /// Lists the disks, those that are in use and those that cannot be written among them.
    ///
    /// # Errors
    ///
    /// If /sys cannot be read.
    pub fn disks(&self) -> std::io::Result<Vec<Disk>> {
        let mut disks: Vec<Disk> = self.names()?.iter().filter_map(|name| self.alone(name)).collect();
        let known: Vec<(String, String, Vec<Use>)> =
            disks.iter().map(|disk| (disk.name.clone(), disk.wwid.clone(), disk.uses.clone())).collect();
        for disk in &mut disks {
            // Names of the kind `t10` are made of words that readers of one maker share.
            if !["naa.", "eui.", "nvme.", "uuid."].iter().any(|kind| disk.wwid.starts_with(kind)) {
                continue;
            }
            for (name, _, uses) in known.iter().filter(|(name, wwid, _)| *wwid == disk.wwid && *name != disk.name) {
                disk.twins.push(name.clone());
                disk.uses.extend(uses.iter().cloned());
            }
        }
        Ok(disks)
    }

    fn names(&self) -> std::io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.block)?.flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// Tells what has a number.
    pub(crate) fn device(&self, number: &DeviceNumber) -> Option<Device> {
        for name in self.names().ok()? {
            let dir = self.block.join(&name);
            if text(&dir, "dev") == number.to_string() {
                return Some(match self.no_disk(&name) {
                    Some(what) => Device::Other { name, what },
                    None => Device::Disk(name),
                });
            }
            let part = parts(&dir).into_iter().find(|(_, of_part)| of_part == number);
            if let Some((part, _)) = part {
                return Some(Device::Part { part, disk: name });
            }
        }
        None
    }

    /// Says what a device is that is not a disk that an image may be written to.
    fn no_disk(&self, name: &str) -> Option<&'static str> {
        let dir = self.block.join(name);
        let begins = |kind: &str| {
            name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        };
        let kinds = [
            ("dm-", "made of other disks (LVM, encryption, multipath)"),
            ("md", "a RAID, made of other disks"),
            ("ram", "memory"),
            ("zram", "memory"),
            ("sr", "an optical drive"),
            ("fd", "a floppy disk drive"),
            ("nbd", "a disk of another machine (NBD)"),
            ("rbd", "a disk of a Ceph cluster"),
            ("drbd", "shared with another machine (DRBD)"),
            ("zd", "a volume of a ZFS pool"),
            ("bcache", "made of other disks (bcache)"),
            ("mtdblock", "flash memory of this machine, which holds firmware"),
            ("ubiblock", "flash memory of this machine, which holds firmware"),
            ("pmem", "memory"),
        ];
        let known = kinds.iter().find(|(kind, _)| begins(kind)).map(|(_, what)| *what);
        let emmc = name.strip_prefix("mmcblk").and_then(|rest| {
            let area = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
            let areas = [
                ("boot", "a boot partition of an eMMC, which holds firmware"),
                ("rpmb", "the protected area of an eMMC, which holds keys"),
                ("gp", "an area of an eMMC that its maker set aside"),
            ];
            areas.iter().find(|(kind, _)| area.starts_with(kind)).map(|(_, what)| *what)
        });
        // A path to an NVMe disk, which the kernel shows a second time.
        let hidden = (number(&dir, "hidden") == 1).then_some("a path to a disk that has a name of its own");
        let virtual_device = || {
            let made = self.place(name).contains("/devices/virtual/block/") && !begins("loop");
            made.then_some("made by a program or the kernel")
        };
        known.or(emmc).or(hidden).or_else(virtual_device)
    }

    fn place(&self, name: &str) -> String {
        let dir = self.block.join(name);
        fs::canonicalize(&dir).unwrap_or(dir).to_string_lossy().into_owned()
    }

    /// A disk, without what is known of its twins.
    fn alone(&self, name: &str) -> Option<Disk> {
        if self.no_disk(name).is_some() {
            return None;
        }
        let dir = self.block.join(name);
        let place = self.place(name);
        let transport = transport(name, &place, &text(&dir, "device/type"));
        let size = number(&dir, "size") * SECTOR;
        let file = Some(text(&dir, "loop/backing_file")).filter(|file| !file.is_empty());
        if size == 0 && transport == Transport::Loop {
            return None;
        }
        let shows = file.clone().filter(|file| file.starts_with("/dev/") && !file.starts_with("/dev/shm/"));
        let mut uses = Vec::new();
        self.uses(name, &dir, &mut uses);
        let mut contents: Vec<Content> = self.known(name, &dir).into_iter().collect();
        let parts = parts(&dir);
        for (part, _) in &parts {
            self.uses(part, &dir.join(part), &mut uses);
            contents.extend(self.known(part, &dir.join(part)));
        }
        let model = [text(&dir, "device/vendor"), text(&dir, "device/model"), text(&dir, "device/name")];
        let state = text(&dir, "device/state");
        let mut disk = Disk {
            name: name.to_owned(),
            number: DeviceNumber::parse(&text(&dir, "dev")),
            size,
            sector: u32::try_from(number(&dir, "queue/logical_block_size"))
                .ok()
                .filter(|size| *size > 0)
                .unwrap_or(512),
            medium: number(&dir, "diskseq"),
            model: model.iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" "),
            serial: self.inherited(&place, &["serial", "device/cid", "device/serial"]),
            wwid: [text(&dir, "wwid"), text(&dir, "device/wwid")]
                .into_iter()
                .find(|id| !id.is_empty())
                .unwrap_or_default(),
            transport,
            removable: number(&dir, "removable") == 1 || matches!(transport, Transport::Usb | Transport::Sd),
            drive: transport == Transport::Usb && number(&dir, "removable") == 0,
            read_only: number(&dir, "ro") == 1,
            offline: ["offline", "transport-offline", "blocked", "quiesce", "dead"]
                .contains(&state.as_str())
                .then_some(state),
            file,
            shows,
            parts,
            contents,
            unread: None,
            uses,
            listed: Vec::new(),
            twins: Vec::new(),
        };
        self.settle(&mut disk);
        Some(disk)
    }

    /// Looks for the words of a disk, or of what it is plugged into.
    fn inherited(&self, place: &str, names: &[&str]) -> String {
        let devices = fs::canonicalize(self.root.join("sys/devices")).unwrap_or_default();
        // A USB controller has a serial number, too, which is that of none of its disks.
        let controller = |dir: &Path| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix("usb").is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let above = Path::new(place).ancestors();
        let above = above.take_while(|dir| **dir != devices && dir.starts_with(&devices) && !controller(dir));
        let mut found = above.flat_map(|dir| names.iter().map(|name| text(dir, name)));
        found.find(|word| !word.is_empty()).unwrap_or_default()
    }

    /// Draws conclusions from what is on a disk.
    pub(crate) fn settle(&self, disk: &mut Disk) {
        disk.listed.clear();
        for content in &disk.contents {
            if content.kind == "zfs_member" && self.zfs {
                add(&mut disk.uses, Use { part: content.part.clone(), by: User::Device("a ZFS pool".to_owned()) });
            }
            let part = &content.part;
            let mut names = vec![format!("/dev/{part}")];
            for (id, tag, folder) in [(&content.uuid, "UUID", "uuid"), (&content.label, "LABEL", "label")] {
                if !id.is_empty() {
                    names.extend([
                        format!("{tag}={id}"),
                        format!("{tag}=\"{id}\""),
                        format!("/dev/disk/by-{folder}/{id}"),
                    ]);
                }
            }
            for (_, at) in self.fstab.iter().filter(|(what, _)| names.contains(what)) {
                add(&mut disk.listed, (part.clone(), at.clone()));
            }
        }
    }

    /// What udev (blkid) says of a device.
    fn known(&self, name: &str, dir: &Path) -> Option<Content> {
        let known = text(&self.root.join("run/udev/data"), &format!("b{}", text(dir, "dev")));
        let word = |key: &str| {
            known
                .lines()
                .find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
        };
        let multipath = word("DM_MULTIPATH_DEVICE_PATH") == "1";
        let kind = if multipath { "mpath_member" } else { word("ID_FS_TYPE") };
        (!kind.is_empty()).then(|| contents::content(name, kind, word("ID_FS_LABEL"), word("ID_FS_UUID")))
    }

    /// What uses a device, and what uses those on top of it.
    fn uses(&self, part: &str, dir: &Path, uses: &mut Vec<Use>) {
        let mut seen = BTreeSet::new();
        let mut stack = vec![(part.to_owned(), dir.to_owned())];
        while let Some((name, dir)) = stack.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let mut by: Vec<User> = self.mounted(&name, &dir).cloned().collect();
            if let Some(group) = self.btrfs.iter().find(|group| group.contains(&name)) {
                for other in group {
                    by.extend(self.mounted(other, &self.block.join(other)).cloned());
                }
                if by.is_empty() {
                    by.push(User::Device("a btrfs file system that is mounted".to_owned()));
                }
            }
            if self.swaps.iter().any(|swap| keys(&name, &dir).contains(swap)) {
                by.push(User::Swap);
            }
            let holders = fs::read_dir(dir.join("holders")).into_iter().flatten().flatten();
            let holders = holders.map(|holder| holder.file_name().to_string_lossy().into_owned());
            for above in holders.chain(self.below.get(&name).into_iter().flatten().cloned()) {
                let dir = self.block.join(&above);
                by.push(User::Device(what_is_above(&above, &dir)));
                stack.push((above, dir));
            }
            for by in by {
                add(uses, Use { part: part.to_owned(), by });
            }
        }
    }

    fn mounted(&self, name: &str, dir: &Path) -> impl Iterator<Item = &User> {
        keys(name, dir).into_iter().filter_map(|key| self.mounts.get(&key)).flatten()
    }

    /// Lists the programs, other than this one, that have a disk or one of its partitions open for writing, as far as
    /// they can be seen.
    pub(crate) fn writers(&self, disk: &Disk) -> Vec<Use> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};

        let mut numbers = vec![(disk.name.as_str(), &disk.number)];
        numbers.extend(disk.parts.iter().map(|(name, number)| (name.as_str(), number)));
        let mut found = Vec::new();
        for (process, dir) in processes(&self.root).filter(|(process, _)| *process != std::process::id()) {
            for open in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
                // What is closed meanwhile is not open.
                let Ok(file) = fs::metadata(open.path()) else { continue };
                let number = DeviceNumber::of(file.rdev());
                let part = numbers.iter().find(|(_, known)| file.file_type().is_block_device() && **known == number);
                let Some((part, _)) = part else { continue };
                let info = text(&dir.join("fdinfo"), &open.file_name().to_string_lossy());
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
                // open(2): O_WRONLY is 1, O_RDWR is 2.
                if flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
                {
                    let by = User::Process { process, name: text(&dir, "comm") };
                    add(&mut found, Use { part: (*part).to_owned(), by });
                }
            }
        }
        found
    }
}

fn transport(name: &str, place: &str, kind: &str) -> Transport {
    if place.contains("/usb") {
        Transport::Usb
    } else if place.contains("/mmc") {
        if kind == "SD" { Transport::Sd } else { Transport::Emmc }
    } else if ["/session", "/rport-", "/nvme-fabrics/"].iter().any(|part| place.contains(part)) {
        Transport::Network
    } else if name.starts_with("nvme") {
        Transport::Nvme
    } else if place.contains("/ata") {
        Transport::Sata
    } else if name.starts_with("loop") {
        Transport::Loop
    } else {
        Transport::Other
    }
}

/// The names under which mounts and swap may have a device.
fn keys(name: &str, dir: &Path) -> Vec<String> {
    let mut keys = vec![text(dir, "dev"), name.replace('!', "/")];
    let mapped = text(dir, "dm/name");
    keys.extend((!mapped.is_empty()).then(|| format!("mapper/{mapped}")));
    keys
}

/// The partitions of a disk, by name and number.
fn parts(disk: &Path) -> Vec<(String, DeviceNumber)> {
    let mut parts: Vec<(String, DeviceNumber)> = fs::read_dir(disk)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|part| part.path().join("partition").exists())
        .map(|part| (part.file_name().to_string_lossy().into_owned(), DeviceNumber::parse(&text(&part.path(), "dev"))))
        .collect();
    parts.sort();
    parts
}

/// A device on top of another, as people know it.
fn what_is_above(name: &str, dir: &Path) -> String {
    let label = text(dir, "dm/name");
    let uuid = text(dir, "dm/uuid");
    let kind = [("mpath-", "multipath"), ("CRYPT-", "encryption")].iter().find(|(begin, _)| uuid.starts_with(begin));
    let words: Vec<&str> =
        [label.as_str(), kind.map_or("", |(_, kind)| kind)].into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { name.to_owned() } else { format!("{name} ({})", words.join(", ")) }
}

/// Devices that loop devices and zram use as if they were files, for which the kernel notes no holder.
fn files_of_devices(block: &Path) -> BTreeMap<String, Vec<String>> {
    let mut below: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(block).into_iter().flatten().flatten() {
        for file in ["loop/backing_file", "backing_dev"] {
            if let Some(device) = text(&entry.path(), file).strip_prefix("/dev/") {
                below
                    .entry(device.replace('/', "!"))
                    .or_default()
                    .push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    below.values_mut().for_each(|above| above.sort());
    below
}

fn btrfs(dir: &Path) -> Vec<Vec<String>> {
    let systems = fs::read_dir(dir).into_iter().flatten().flatten();
    let devices = systems.map(|system| fs::read_dir(system.path().join("devices")).into_iter().flatten().flatten());
    devices.map(|all| all.map(|device| device.file_name().to_string_lossy().into_owned()).collect()).collect()
}

struct Mounted {
    at: String,
    kind: String,
    keys: Vec<String>,
}

fn mount_lines(text: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let (number, at) = (left.split(' ').nth(2)?, plain(left.split(' ').nth(4)?));
        let (kind, source) = (right.split(' ').next()?, plain(right.split(' ').nth(1)?));
        // Some file systems, such as btrfs, have numbers of their own, but name their devices.
        let devices = source.split(':').filter_map(|device| device.strip_prefix("/dev/"));
        let keys = std::iter::once(number).chain(devices).map(str::to_owned).collect();
        Some(Mounted { at, kind: kind.to_owned(), keys })
    };
    text.lines().filter_map(line).collect()
}

/// The mounts of every other mount namespace that can be seen, each with one of its processes.
fn other_namespaces(root: &Path) -> Vec<(u32, String)> {
    let namespace = |dir: &Path| fs::read_link(dir.join("ns/mnt")).ok();
    let mut seen: BTreeSet<PathBuf> = namespace(&root.join("proc/self")).into_iter().collect();
    let mut found = Vec::new();
    for (process, dir) in processes(root) {
        if namespace(&dir).is_none_or(|namespace| seen.insert(namespace)) {
            // A process may end at any time, and others' are not for everybody.
            found.extend(fs::read_to_string(dir.join("mountinfo")).ok().map(|lines| (process, lines)));
        }
    }
    found
}

fn processes(root: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    let mut all: Vec<(u32, PathBuf)> = fs::read_dir(root.join("proc"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    all.sort();
    all.into_iter()
}

fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

fn text(dir: &Path, name: &str) -> String {
    // Names of makers may be anything, and /sys has files that cannot be read.
    let bytes = fs::read(dir.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
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
