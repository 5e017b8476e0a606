//! The board's disks.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use bramble_image::{Disk, Machine, Transport};
use bramble_installer::BoardDisk;

use crate::Failure;
use crate::system::{ROOT, load_drivers};

/// As if a disk had been named twice: which one is written was asked where a person is, and what this small system cannot read
/// of it was asked there, too.
pub(crate) const CONFIRMED: u8 = 2;

/// How long disks may take until they are there.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long none may come before that is all of them: a USB disk takes some seconds.
const QUIET: Duration = Duration::from_secs(4);

/// The disks, when no more come, each with what stands against writing so many bytes to it.
pub(crate) fn settled(needed: u64) -> Result<Vec<(Disk, Vec<String>)>, Failure> {
    let began = Instant::now();
    let mut changed = began;
    let mut known: Vec<(String, u64)> = Vec::new();
    loop {
        load_drivers();
        let mut disks = Machine::new(ROOT.as_ref()).disks().map_err(|error| Failure::Io("list the disks", error))?;
        disks.retain(|disk| disk.size > 0 && disk.transport != Transport::Loop && !disk.name.starts_with("ram"));
        let now: Vec<(String, u64)> = disks.iter().map(|disk| (disk.name.clone(), disk.size)).collect();
        if now != known {
            (known, changed) = (now, Instant::now());
        }
        let enough = !known.is_empty() && changed.elapsed() >= QUIET;
        if enough || began.elapsed() > PATIENCE {
            let with = |disk: Disk| {
                let refusals = disk.refusals(needed, CONFIRMED).iter().map(ToString::to_string).collect();
                (disk, refusals)
            };
            return Ok(disks.into_iter().map(with).collect());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What the server is told of a disk.
pub(crate) fn told((disk, refusals): &(Disk, Vec<String>)) -> BoardDisk {
    let kind = match disk.transport {
        Transport::Usb => "usb",
        Transport::Sd => "sd",
        Transport::Emmc => "emmc",
        Transport::Nvme => "nvme",
        Transport::Sata => "sata",
        Transport::Network | Transport::Loop | Transport::Other => "other",
    };
    BoardDisk {
        name: disk.name.clone(),
        size: disk.size,
        model: disk.model.clone(),
        kind: kind.to_owned(),
        empty: is_empty(disk),
        refusals: refusals.clone(),
    }
}

fn is_empty(disk: &Disk) -> bool {
    let mut start = Vec::new();
    let read = File::open(disk.node()).and_then(|file| file.take(1 << 20).read_to_end(&mut start));
    read.is_ok() && start.iter().all(|byte| *byte == 0)
}
