//! Machines as their kernels would show them: files of /sys, /proc, udev and /etc.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bramble_image::{Disk, Machine};

/// A machine as its kernel shows it.
pub(crate) struct Fake {
    root: tempfile::TempDir,
    mounts: String,
    swaps: String,
    /// The disk that is asked about; the first one if none is named.
    first: Option<String>,
}

pub(crate) const USB: &str = "pci0000:00/usb1/1-1/host6/target6:0:0/6:0:0:0/block";
pub(crate) const SLOT: &str = "platform/mmc0/mmc_host/mmc0/mmc0:aaaa/block";
pub(crate) const SATA: &str = "pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block";
pub(crate) const NVME: &str = "pci0000:00/0000:01:00.0/nvme/nvme0";
pub(crate) const GB: u64 = 1_000_000_000 / 512;

impl Fake {
    pub(crate) fn new() -> Fake {
        let fake = Fake {
            root: tempfile::tempdir().unwrap(),
            mounts: String::new(),
            swaps: "Filename Type Size Used Priority\n".into(),
            first: None,
        };
        fs::create_dir_all(fake.root.path().join("sys/block")).unwrap();
        fs::create_dir_all(fake.root.path().join("proc/self")).unwrap();
        // What every machine has.
        fake.mount_line("0:21 / /proc", "proc proc").mount_line("0:40 / /home", "nfs 10.0.0.2:/sda1")
    }

    pub(crate) fn mount_line(mut self, left: &str, right: &str) -> Fake {
        self.mounts.push_str(&format!("22 27 {left} rw,relatime shared:1 - {right} rw\n"));
        self
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join("sys").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// A disk of so many sectors at this place.
    pub(crate) fn disk(self, name: &str, place: &str, sectors: u64) -> Fake {
        let dir = format!("devices/{place}/{name}");
        self.put(&format!("{dir}/size"), &sectors.to_string());
        self.put(&format!("{dir}/removable"), "0");
        self.put(&format!("{dir}/ro"), "0");
        self.put(&format!("{dir}/dev"), &format!("{name}:0"));
        symlink(format!("../{dir}"), self.root.path().join("sys/block").join(name)).unwrap();
        self
    }

    pub(crate) fn with(self, path: &str, text: &str) -> Fake {
        self.put(&format!("block/{path}"), text);
        self
    }

    pub(crate) fn part(self, disk: &str, part: &str) -> Fake {
        self.with(&format!("{disk}/{part}/partition"), "1").with(&format!("{disk}/{part}/dev"), &format!("{part}:0"))
    }

    pub(crate) fn mount(self, device: &str, at: &str) -> Fake {
        self.mount_line(&format!("{device}:0 / {at}"), &format!("ext4 /dev/{device}"))
    }

    pub(crate) fn swap(mut self, path: &str) -> Fake {
        self.swaps.push_str(&format!("{path} partition 1000 0 -2\n"));
        self
    }

    /// What udev knows a device to hold.
    pub(crate) fn udev(self, device: &str, kind: &str) -> Fake {
        let dir = self.root.path().join("run/udev/data");
        fs::create_dir_all(&dir).unwrap();
        let kind = if kind.contains('=') { kind.replace(' ', "\nE:") } else { format!("ID_FS_TYPE={kind}") };
        fs::write(dir.join(format!("b{device}:0")), format!("S:disk/by-id/x\nE:{kind}\nG:systemd\n")).unwrap();
        self
    }

    /// A file of this machine.
    pub(crate) fn file(self, path: &str, text: &str) -> Fake {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Another block device on top of this one.
    pub(crate) fn holder(self, below: &str, above: &str) -> Fake {
        self.with(&format!("{below}/holders/{above}"), "")
    }

    pub(crate) fn look(&self) -> Vec<Disk> {
        fs::write(self.root.path().join("proc/self/mountinfo"), &self.mounts).unwrap();
        fs::write(self.root.path().join("proc/swaps"), &self.swaps).unwrap();
        Machine::new(self.root.path()).disks().unwrap()
    }

    pub(crate) fn first(mut self, name: &str) -> Fake {
        self.first = Some(name.to_owned());
        self
    }

    /// The disk that is asked about.
    pub(crate) fn asked(&self) -> Disk {
        let disks = self.look().into_iter();
        let mut asked = disks.filter(|disk| self.first.as_ref().is_none_or(|name| disk.name == *name));
        asked.next().unwrap()
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// What stands against writing 4 GB to the first disk.
    pub(crate) fn against(&self, named: u8) -> Vec<String> {
        self.asked().refusals(4_000_000_000, named).iter().map(ToString::to_string).collect()
    }
}
