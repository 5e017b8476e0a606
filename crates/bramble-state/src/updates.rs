//! What could be newer on a node beside what the cluster file says: packages of its system, and its firmware.

use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::civil;

use crate::paths::{EEPROM, LEDGER, STEPS};
use crate::plan::{Change, Detail, Plan};

const UPDATES: &str = include_str!("updates.sh");
/// apt fetches lists, and may wait for another program that installs packages.
const LOOKING: Duration = Duration::from_secs(20 * 60);

/// What of a node is to be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The packages of its system.
    pub system: bool,
    /// The firmware in its EEPROM.
    pub firmware: bool,
    /// When it boots again.
    pub reboot: RebootWhen,
}

/// When a node boots again after an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebootWhen {
    /// When something that is new is used only after a boot: a kernel, firmware, the C library, systemd.
    Needed,
    /// In any case.
    Always,
    /// By itself not.
    Never,
}

/// What could be newer on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updates {
    /// Packages, each with its version now, if it is there, and then.
    pub packages: Vec<(String, Option<String>, String)>,
    /// Packages that keep their version.
    pub held: Vec<String>,
    /// The bootloader's time of making now and then, in seconds since 1970.
    pub firmware: Option<(i64, i64)>,
    /// The digest of the bootloader's settings.
    pub settings: Option<String>,
    /// Why newer firmware is not written.
    pub kept: Option<String>,
    /// Whether its system wants to boot already.
    pub restart: bool,
}

/// Packages that are used only after a boot, by the beginnings of their names, and what they are.
const AFTER_BOOT: [(&str, &str); 9] = [
    ("linux-image-", "kernel"),
    ("raspberrypi-kernel", "kernel"),
    ("raspi-firmware", "firmware"),
    ("raspberrypi-bootloader", "firmware"),
    ("rpi-eeprom", "firmware"),
    ("libc6", "C library"),
    ("systemd", "systemd"),
    ("dbus-daemon", "D-Bus"),
    ("dbus-broker", "D-Bus"),
];

impl Updates {
    /// Gives the script that looks for what is wanted; it fetches apt's lists.
    pub fn script(wanted: Wanted) -> Script {
        let mut script = Commands::new();
        script.fixed(STEPS).fixed(LEDGER).fixed(EEPROM).fixed(UPDATES);
        if wanted.system {
            script.fixed("list_packages");
        }
        if wanted.firmware {
            script.fixed("list_firmware");
        }
        Script::new("look for updates", &script).silent_for(LOOKING)
    }

    /// Reads what [`Updates::script`] printed.
    pub fn parse(text: &str) -> Updates {
        let mut updates = Updates::default();
        for line in text.lines() {
            match *line.split(' ').collect::<Vec<_>>() {
                ["package", name, from, to] => {
                    let from = (from != "-").then(|| from.to_owned());
                    updates.packages.push((name.to_owned(), from, to.to_owned()));
                }
                ["held", name] => updates.held.push(name.to_owned()),
                ["firmware", from, to] => updates.firmware = from.parse().ok().zip(to.parse().ok()),
                ["settings", digest] => updates.settings = Some(digest.to_owned()),
                ["restart", _] => updates.restart = true,
                ["kept", ..] => updates.kept = line.strip_prefix("kept ").map(str::to_owned),
                _ => {}
            }
        }
        updates
    }

    /// Says what would be done on the node.
    pub fn plan(&self, wanted: Wanted) -> Plan {
        let mut plan = Plan::default();
        let mut change = |title: String, detail: Detail, function: &'static str| {
            let mut script = Commands::new();
            script.fixed(EEPROM).fixed(UPDATES).fixed(function);
            plan.changes.push(Change::new(title, vec![detail], script));
        };
        if !self.packages.is_empty() {
            let line = |(name, from, to): &(String, Option<String>, String)| match from {
                Some(from) => format!("{name} {from} → {to}\n"),
                None => format!("{name} {to} (new)\n"),
            };
            let list: String = self.packages.iter().map(line).collect();
            let count = self.packages.len();
            let title = format!("upgrade {count} package{}", if count == 1 { "" } else { "s" });
            change(title, Detail::Text { from: None, to: list }, "upgrade_packages");
        }
        if let Some((from, to)) = self.firmware {
            let detail = Detail::Value { from: Some(day(from)), to: day(to) };
            change("upgrade the firmware in the EEPROM".into(), detail, "upgrade_firmware");
        }
        plan.reboot = match wanted.reboot {
            RebootWhen::Never => None,
            RebootWhen::Needed => self.needs_boot(),
            RebootWhen::Always => self.needs_boot().or_else(|| Some("asked for".into())),
        };
        plan
    }

    /// Says what is used only after a boot, if anything of that is new.
    fn needs_boot(&self) -> Option<String> {
        let mut kinds: Vec<&str> = Vec::new();
        let names = self.packages.iter().map(|(name, ..)| name.as_str());
        for name in names {
            let kind = AFTER_BOOT.iter().find(|(begin, _)| name.starts_with(begin)).map(|(_, kind)| *kind);
            kinds.extend(kind.filter(|kind| !kinds.contains(kind)));
        }
        if self.firmware.is_some() && !kinds.contains(&"firmware") {
            kinds.push("firmware");
        }
        match kinds.as_slice() {
            [] => self.restart.then(|| "its system asks for it".into()),
            kinds => Some(format!("{} is new", kinds.join(", "))),
        }
    }
}

/// The day of a time since 1970, in UTC.
fn day(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { system: true, firmware: true, reboot: RebootWhen::Needed };

    fn reboot(text: &str, reboot: RebootWhen) -> Option<String> {
        Updates::parse(text).plan(Wanted { reboot, ..WANTED }).reboot
    }

    #[test]
    fn updates_are_read_and_told() {
        let updates = Updates::parse(
            "package libc6 2.41-12 2.41-13\npackage linux-image-6.12.9 - 6.12.9-1\nheld kubelet\nfirmware 1746713597 1778249597\nsettings abc\n",
        );
        assert_eq!(updates.held, ["kubelet"]);
        assert_eq!(updates.settings.as_deref(), Some("abc"));
        let plan = updates.plan(WANTED);
        let titles: Vec<&str> = plan.changes.iter().map(|change| change.title.as_str()).collect();
        assert_eq!(titles, ["upgrade 2 packages", "upgrade the firmware in the EEPROM"]);
        let list = "libc6 2.41-12 → 2.41-13\nlinux-image-6.12.9 6.12.9-1 (new)\n".to_owned();
        assert_eq!(plan.changes[0].details, [Detail::Text { from: None, to: list }]);
        let days = Detail::Value { from: Some("2025-05-08".into()), to: "2026-05-08".into() };
        assert_eq!(plan.changes[1].details, [days]);
        assert_eq!(plan.reboot.as_deref(), Some("C library, kernel, firmware is new"));
    }

    #[test]
    fn a_node_boots_only_for_what_needs_it_or_when_asked() {
        use RebootWhen::{Always, Needed, Never};
        for (text, when, why) in [
            ("", Needed, None),
            ("package vim 1 2", Needed, None),
            ("package vim 1 2", Always, Some("asked for")),
            ("package systemd-timesyncd 1 2", Needed, Some("systemd is new")),
            ("restart yes", Needed, Some("its system asks for it")),
            ("restart yes", Never, None),
        ] {
            assert_eq!(reboot(text, when).as_deref(), why, "{text}");
        }
        assert!(Updates::parse("").plan(WANTED).is_empty());
    }
}
