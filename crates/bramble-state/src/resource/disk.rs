//! A disk with a file system of ours: `format_disk` makes it.

use bramble_shell::Commands;

use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question, first_word};

const DISK: &str = "disk";
const IDENTITY: &str = "disk-is";

/// The shell function `disk_identity`: which disk a device is, in one line. It is said where a plan shows a disk, and
/// compared before the disk is written.
pub const DISK_IDENTITY: &str = include_str!("disk_identity.sh");

/// Asks what is on disks: `missing`, `blank`, or what it holds and the label of that (blkid(8): 2 means that it knows of
/// nothing there, and what it is not sure of is no blank disk).
pub(crate) static CONTENTS: Question =
    Question { name: DISK, write, records: &[(DISK, read), (IDENTITY, read_identity)] };

fn write(devices: &Names, script: &mut Commands) {
    script.fixed(DISK_IDENTITY);
    for device in devices.keys() {
        script.set("f", device).fixed("\n").fixed(include_str!("disk.sh"));
    }
}

fn read(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (device, holds) = first_word(record);
    seen.note(DISK, device, holds.trim());
    Some(())
}

fn read_identity(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (device, identity) = first_word(record);
    seen.note(IDENTITY, device, identity);
    Some(())
}

/// A disk with a file system of ours (ext4), which is known by its label. It is formatted if it is blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The whole disk or a partition.
    pub device: String,
    /// At most 16 characters.
    pub label: String,
    /// Whether what is on it may be lost.
    pub wipe: bool,
}

impl Kind for Disk {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&CONTENTS, [&self.device]);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let Disk { device, label, wipe } = self;
        let holds = planner.seen().noted(DISK, device).unwrap_or("missing");
        if holds == format!("ext4 {label}") {
            return;
        }
        if holds == "missing" {
            planner.problem(format!("it has no disk {device}"), "`lsblk` there shows those that it has");
            return;
        }
        if holds != "blank" && !wipe {
            planner.problem(
                format!("{device} holds {holds}, and is only formatted if you name it"),
                format!("`bramble up --format NODE:{device}` (all that is on it is lost), or correct the cluster file"),
            );
            return;
        }
        let identity = planner.seen().noted(IDENTITY, device).unwrap_or_default();
        if identity.is_empty() {
            planner.problem(
                format!("its kernel does not say which disk {device} is"),
                format!("`ls -l {device} /sys/dev/block` there shows what is behind it"),
            );
            return;
        }
        let mut script = Commands::new();
        script.fixed(DISK_IDENTITY);
        script.call("format_disk", [device.as_str(), label, if *wipe { "wipe" } else { "blank" }, identity]);
        let details = vec![
            Detail::Value { from: Some(holds.to_owned()), to: format!("ext4 {label}") },
            Detail::Value { from: None, to: identity.to_owned() },
        ];
        planner.push(Change::new(format!("format {device}"), details, script));
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.record(format!("{DISK} {} ext4 {}", self.device, self.label));
    }
}
