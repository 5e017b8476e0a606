//! Disks: size, wear, adapters.

use bramble_spec::{
    Cluster, Disk, DiskKind, Distribution, Feed, Holds, Node, Role, Severity, Size, UasQuality, UsbBoot,
};

use crate::memory::need_of;
use crate::rules::{Findings, Rule};

pub(crate) fn check(cluster: &Cluster, findings: &mut Findings<'_>) {
    for node in &cluster.nodes {
        if let Some(state) = node.fitting.holder(Holds::State) {
            size(cluster, node, state, findings);
            wear(cluster, node, state, findings);
        }
        for disk in &node.fitting.disks {
            attachment(node, disk, findings);
        }
        boot(node, findings);
    }
}

fn size(cluster: &Cluster, node: &Node, disk: &Disk, findings: &mut Findings<'_>) {
    let least = need_of(cluster, node).and_then(|need| need.disk);
    let (Some(least), Some(size)) = (least, disk.medium().and_then(|medium| medium.size)) else { return };
    if size < least {
        findings.add(
            Severity::Warning,
            Rule::DiskSize,
            node.name.as_str(),
            format!("images and state are on a {} of {size}; {least} are the least that is useful", disk.part.name()),
            &[("disk", size.to_string()), ("least", least.to_string())],
            "take a larger one; 64 GB or more are better",
        );
    }
}

fn wear(cluster: &Cluster, node: &Node, disk: &Disk, findings: &mut Findings<'_>) {
    let Some(medium) = disk.medium() else { return };
    let name = node.name.as_str();
    if node.role != Role::ControlPlane || cluster.distribution == Distribution::None {
        return;
    }
    let card = medium.kind.is_some_and(DiskKind::is_card);
    let writes = cluster
        .hardware
        .catalogue
        .needs
        .get("etcd")
        .and_then(|need| need.writes)
        .filter(|_| cluster.distribution.keeps_etcd());
    let Some(writes) = writes else {
        if card {
            findings.add(
                Severity::Warning,
                Rule::Wear,
                name,
                format!("the cluster's state is on a {}, and databases wear cards out", disk.part.name()),
                &[],
                "put it on a SSD: `disks: [{ part: …, holds: [state] }]`, or make backups",
            );
        }
        return;
    };
    // A day's writes on a cluster that does nothing; a year's are 365 of them.
    let years = medium.endurance.map(|endurance| tenths(endurance, writes));
    let lasts = years.map_or("not published".to_owned(), |tenths| format!("{}.{} years", tenths / 10, tenths % 10));
    let figures = [
        ("written in a day", writes.to_string()),
        ("endurance", medium.endurance.map_or("not published".to_owned(), |endurance| endurance.to_string())),
        ("lasts", lasts.clone()),
    ];
    let several = cluster.control_planes().nth(1).is_some();
    if card {
        let severity = if several { Severity::Error } else { Severity::Warning };
        findings.add(
            severity,
            Rule::Wear,
            name,
            format!(
                "etcd writes {writes} in a day to a {}; such cards were dead in under six months (k3s-io/k3s#5042)",
                disk.part.name()
            ),
            &figures,
            match several {
                true => "put the state of control planes on SSDs; `accept: [wear]` if you know better",
                false => "put the state on a SSD, or use k3s with SQLite, which writes far less",
            },
        );
    } else if years.is_some_and(|tenths| tenths < 30) {
        findings.add(
            Severity::Warning,
            Rule::Wear,
            name,
            format!("etcd writes {writes} in a day, and the {} lasts {lasts}", disk.part.name()),
            &figures,
            "take a disk with more endurance",
        );
    } else if years.is_some() {
        findings.add(
            Severity::Note,
            Rule::Wear,
            name,
            format!("etcd writes {writes} in a day, and the {} lasts {lasts}", disk.part.name()),
            &figures,
            "nothing needs to be done",
        );
    }
}

/// How long a disk lasts, in tenths of a year.
fn tenths(endurance: Size, writes: Size) -> u64 {
    u64::try_from(u128::from(endurance.0) * 10 / (u128::from(writes.0.max(1)) * 365)).unwrap_or(u64::MAX)
}

fn attachment(node: &Node, disk: &Disk, findings: &mut Findings<'_>) {
    let name = node.name.as_str();
    if let Some(adapter) = disk.adapter()
        && adapter.uas == Some(UasQuality::Quirk)
    {
        let id = adapter.usb_id.as_deref().unwrap_or("VID:PID");
        findings.add(
            Severity::Warning,
            Rule::Disk,
            name,
            format!("the adapter {} hangs with UAS", adapter.label()),
            &[("USB id", id.to_owned())],
            format!(
                "add the kernel argument: `prepare: {{ boot: {{ kernel_args: [\"usb-storage.quirks={id}:u\"] }} }}`"
            ),
        );
    }
    if disk.medium().and_then(|medium| medium.kind) == Some(DiskKind::NvmeSsd)
        && disk.adapter.is_none()
        && node.board.family.as_ref().is_some_and(|family| family.nvme != Some(true))
    {
        findings.add(
            Severity::Error,
            Rule::Disk,
            name,
            format!("a {} has no place for a NVMe drive", node.board.name),
            &[],
            "attach it by a USB adapter (`adapter: …`), or take a SATA SSD",
        );
    }
}

/// Whether the board starts from the disk that it is meant to start from.
fn boot(node: &Node, findings: &mut Findings<'_>) {
    let name = node.name.as_str();
    let Some(disk) = node.fitting.holder(Holds::Boot) else { return };
    let usb = disk.adapter.is_some()
        || disk.medium().is_some_and(|medium| matches!(medium.kind, Some(DiskKind::SataSsd | DiskKind::UsbStick)));
    if !usb {
        return;
    }
    match node.board.figure(|family| family.usb_boot) {
        Some(UsbBoot::No) => findings.add(
            Severity::Error,
            Rule::Disk,
            name,
            format!("a {} cannot boot from USB", node.board.name),
            &[],
            "boot from a card: `disks: [{ part: …, holds: [boot] }, …]`",
        ),
        Some(UsbBoot::Otp) => findings.add(
            Severity::Note,
            Rule::Disk,
            name,
            format!("a {} boots from USB only after a bit was set in it, for good", node.board.name),
            &[],
            "boot it once from a card with `program_usb_boot_mode=1` in config.txt",
        ),
        Some(UsbBoot::Eeprom) => findings.add(
            Severity::Note,
            Rule::Disk,
            name,
            format!("a {} boots from USB if its EEPROM says so", node.board.name),
            &[],
            "`bramble boot-order usb,sd`",
        ),
        _ => {}
    }
    let weak = match &node.fitting.feed {
        Some(feed @ Feed::Supply(_)) => feed.supply().and_then(|supply| supply.output),
        _ => None,
    };
    // Raspberry Pi documentation, "Power supply": USB boot is off on a Raspberry Pi 5 that does not get 5 A.
    if let (Some(output), Some("rpi-5")) = (weak, node.board.family.as_ref().map(|family| family.id.as_str()))
        && output.0 < 25_000
    {
        findings.add(
            Severity::Warning,
            Rule::Disk,
            name,
            "a Raspberry Pi 5 does not boot from USB on a supply of less than 5 A",
            &[("supply", output.to_string())],
            "use the 27 W supply, or `prepare: { boot: { config: { usb_max_current_enable: \"1\" } } }`",
        );
    }
}
