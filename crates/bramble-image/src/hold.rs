//! From what a person named and confirmed to an open disk that nobody else writes.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::disks::{DeviceNumber, Disk, Refusal, Use};
use crate::machine::{Device, Machine};

/// Why what a person named is not a disk.
#[derive(Debug, thiserror::Error)]
pub enum NotADisk {
    /// There is nothing of this name.
    #[error("there is no {}", path.display())]
    Missing {
        /// What was named.
        path: PathBuf,
        /// Why it cannot be found.
        source: io::Error,
    },
    /// It is no block device.
    #[error("{path} is {what}, and no disk")]
    NoDevice {
        /// What was named, and where it leads.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// It is a partition.
    #[error("{path} is a partition of /dev/{disk}: an image is written to a whole disk, so name that")]
    Part {
        /// What was named, and where it leads.
        path: String,
        /// The disk that it is on.
        disk: String,
    },
    /// It is a block device, but no disk.
    #[error("{path} ({name}) is {what}: it is never written")]
    Other {
        /// What was named, and where it leads.
        path: String,
        /// The kernel's name of it.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// The kernel has no device behind the node.
    #[error("{path} has nothing behind it: the kernel knows no disk {number}")]
    Stale {
        /// What was named, and where it leads.
        path: String,
        /// Its device number.
        number: DeviceNumber,
    },
    /// It went away.
    #[error("{path} went away")]
    Gone {
        /// What was named, and where it leads.
        path: String,
        /// Why it cannot be read.
        #[source]
        source: io::Error,
    },
}

/// Why a disk is not written.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// It is in use.
    #[error("{} is in use by another program: close it, or take the disk out and put it in again", node.display())]
    Busy {
        /// Its node.
        node: PathBuf,
    },
    /// Somebody has locked it.
    #[error("{} is locked by another program, such as udev or a formatter: wait until that has ended, and try again", node.display())]
    Locked {
        /// Its node.
        node: PathBuf,
    },
    /// Not everybody may write it.
    #[error("{} may only be written by root: run this with sudo", node.display())]
    NotAllowed {
        /// Its node.
        node: PathBuf,
    },
    /// It cannot be opened.
    #[error("cannot open {}", node.display())]
    Open {
        /// Its node.
        node: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is another disk than the one that was shown.
    #[error("{} is not the disk that was shown: {how}. Run this again, and look at what it shows", node.display())]
    Changed {
        /// Its node.
        node: PathBuf,
        /// In what it differs.
        how: String,
    },
    /// Something stands against writing it that was not there before.
    #[error("{}: {why}", node.display())]
    Refused {
        /// Its node.
        node: PathBuf,
        /// What stands against it.
        why: String,
    },
}

impl Machine {
    /// Finds the disk that a path stands for, once and for all: links are followed to the node of a device, and the disk
    /// is the one with the number of that node, whatever it is called. Returns the node, too.
    ///
    /// # Errors
    ///
    /// If the path does not lead to the node of a whole disk.
    pub fn named(&self, path: &Path) -> Result<(PathBuf, Disk), NotADisk> {
        let missing = |source| NotADisk::Missing { path: path.to_owned(), source };
        let node = fs::canonicalize(path).map_err(missing)?;
        let about = fs::metadata(&node).map_err(missing)?;
        let shown = if node == path {
            format!("{}", path.display())
        } else {
            format!("{} ({})", path.display(), node.display())
        };
        let kind = about.file_type();
        if !kind.is_block_device() {
            let what = if kind.is_dir() {
                "a folder"
            } else if kind.is_char_device() {
                "a character device"
            } else if kind.is_file() {
                "a file"
            } else {
                "neither a file nor a device"
            };
            return Err(NotADisk::NoDevice { path: shown, what });
        }
        let number = DeviceNumber::of(about.rdev());
        match self.device(&number) {
            Some(Device::Disk(name)) => {
                let all = self.disks().map_err(|source| NotADisk::Gone { path: shown.clone(), source })?;
                let disk = all.into_iter().find(|disk| disk.name == name);
                let disk = disk.ok_or(NotADisk::Stale { path: shown, number })?;
                Ok((node, disk))
            }
            Some(Device::Part { disk, .. }) => Err(NotADisk::Part { path: shown, disk }),
            Some(Device::Other { name, what }) => Err(NotADisk::Other { path: shown, name, what }),
            None => Err(NotADisk::Stale { path: shown, number }),
        }
    }
}

/// How long a lock is waited for: udev takes it for the moment in which it looks at a disk.
const PATIENCE: Duration = Duration::from_secs(5);

impl Disk {
    /// Opens it for nobody else, and compares what is open with what was shown: the number of the device, that of its
    /// medium, size, model, serial number, WWID, contents. What stands against writing it is asked once more.
    ///
    /// While the file is open the kernel lets nobody mount it or use it exclusively (open(2), `O_EXCL`), and udev does not
    /// look at it (systemd.io/BLOCK_DEVICE_LOCKING); nor does its number go to another device.
    ///
    /// # Errors
    ///
    /// If it cannot be had alone, is not the disk that was shown, or may not be written.
    pub fn hold(&self, root: &Path, node: &Path, needed: u64, named: u8) -> Result<File, HoldError> {
        let mut file = open(node)?;
        let changed = |how: String| HoldError::Changed { node: node.to_owned(), how };
        let failed = |source| HoldError::Open { node: node.to_owned(), source };
        let about = file.metadata().map_err(failed)?;
        let number = DeviceNumber::of(about.rdev());
        if !about.file_type().is_block_device() || number != self.number {
            return Err(changed(format!("its device number was {}, and is {number}", self.number)));
        }
        lock(&file, node)?;
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        if size != self.size {
            return Err(changed(format!("its size in bytes was {}, and is {size}", self.size)));
        }
        let machine = Machine::new(root);
        let all = machine.disks().map_err(failed)?;
        let now = all.into_iter().find(|disk| disk.name == self.name);
        let mut now = now.ok_or_else(|| changed("it is gone".to_owned()))?;
        machine.look_inside_of(&mut now, &file);
        if let Some(how) = now.differs_from(self) {
            return Err(changed(how));
        }
        let mut why: Vec<String> = now.refusals(needed, named).iter().map(Refusal::to_string).collect();
        why.extend(machine.writers(&now).iter().map(Use::to_string));
        if why.is_empty() { Ok(file) } else { Err(HoldError::Refused { node: node.to_owned(), why: why.join("; ") }) }
    }
}

fn open(node: &Path) -> Result<File, HoldError> {
    let with =
        |flags: OFlags| fs::OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(node);
    let opened = with(OFlags::EXCL | OFlags::DIRECT).or_else(|error| {
        // Not everything that is shown as a disk can do without the cache.
        if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) { with(OFlags::EXCL) } else { Err(error) }
    });
    let node = node.to_owned();
    opened.map_err(|source| match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => HoldError::Busy { node },
        Some(Errno::ACCESS | Errno::PERM) => HoldError::NotAllowed { node },
        _ => HoldError::Open { node, source },
    })
}

/// Locks a disk until it is closed.
fn lock(file: &File, node: &Path) -> Result<(), HoldError> {
    let started = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            Err(Errno::WOULDBLOCK) => return Err(HoldError::Locked { node: node.to_owned() }),
            Err(error) => return Err(HoldError::Open { node: node.to_owned(), source: error.into() }),
        }
    }
}
