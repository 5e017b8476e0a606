//! What could be newer on a node.

use super::*;

const EEPROM: &str = include_str!("../../src/eeprom.sh");

const UPDATES: &str = include_str!("../../src/updates.sh");

fn updates(body: &str) -> Case {
    let case = Case::new(format!("{STEPS}{LEDGER}{EEPROM}{UPDATES}"), body)
        .may_fail("flock -n 9", "then it waits")
        .file("/proc/sys/kernel/random/boot_id", "a-boot\n");
    ["ledger", "done", "pending"]
        .into_iter()
        .fold(case, |case, name| case.file(&format!("/var/lib/bramble/{name}/"), ""))
}

/// As apt of Debian 13 simulates an upgrade.
const SIMULATED: &str = "Reading package lists...\n\
                         Inst libc6 [2.41-12] (2.41-13 Debian:13.3/stable [arm64]) []\n\
                         Inst linux-image-6.12.9 (6.12.9-1 Debian:13.3/stable [arm64])\n\
                         Conf libc6 (2.41-13 Debian:13.3/stable [arm64])";

#[test]
fn newer_packages_are_told_with_those_that_are_held() {
    let look = || updates("list_packages").says("apt-get -s*upgrade", SIMULATED).says("apt-mark showhold", "kubelet");
    let run = check(look());
    assert_eq!(run.stdout, "package libc6 2.41-12 2.41-13\npackage linux-image-6.12.9 - 6.12.9-1\nheld kubelet\n");
    assert!(run.called("apt-get -q update"));
    let why = look().on("apt-get -q update", "echo 'E: The repository has no Release file' >&2; false");
    why.refuses("E: The repository has no Release file");
    assert!(look().file("/run/reboot-required", "").run(None).stdout.ends_with("restart yes\n"));
}

#[test]
fn newer_firmware_is_told_with_the_settings_that_it_has_now() {
    // rpi-eeprom-update ends with 1 if there is a newer one.
    let told = |said: &str, code: i32| {
        let answer = format!("printf '{said}'; exit {code}");
        updates("list_firmware")
            .on("rpi-eeprom-update", &answer)
            .says("rpi-eeprom-config", "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf41")
            .says("rpi-eeprom-update -b", "/var/eeprom")
    };
    let both = "BOOTLOADER: update available\\n   CURRENT: Thu  8 May 14:13:17 UTC 2025 (1746713597)\\n    \
                LATEST: Fri  8 May 14:13:17 UTC 2026 (1778249597)\\n  VL805: up to date\\n   CURRENT: 000138c0\\n";
    let run = told(both, 1).run(None);
    assert!(run.code == 0 && run.stdout.starts_with("firmware 1746713597 1778249597\nsettings "), "{}", run.stdout);
    let same = told("   CURRENT: a (1746713597)\\n    LATEST: a (1746713597)\\n", 0);
    let run = check(same.may_fail("rpi-eeprom-update", "1 is no failure of it"));
    assert!(run.stdout.starts_with("settings "), "{}", run.stdout);
    told("cannot read the EEPROM\\n", 2).refuses("cannot read the EEPROM");
    assert_eq!(told("This board has no EEPROM\\n", 0).run(None).stdout, "");
    // What waits for the next boot has the newest firmware already, and an upgrade would take it away.
    let waits = told(both, 1).file("/run/bramble/boot-order", "0xf14\n").run(None);
    assert!(waits.stdout.starts_with("restart yes\nsettings "), "{}", waits.stdout);
    for (settings, why) in [
        ("[all]\nFREEZE_VERSION=1\nBOOT_ORDER=0xf1", "FREEZE_VERSION is set"),
        ("[all]\nBOOT_ORDER=0xf14", "an upgrade drops settings of so few lines"),
        ("ioctl_set_msg failed:-1", "its settings cannot be read"),
    ] {
        let kept = told(both, 1).before_all("rpi-eeprom-config", &format!("printf '%s\\n' '{settings}'")).run(None);
        assert!(kept.stdout.starts_with(&format!("kept {why}\nsettings ")), "{}", kept.stdout);
    }
    let none = updates("list_firmware").without("rpi-eeprom-update").run(None);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
}

#[test]
fn upgrades_are_made() {
    assert!(check(updates("upgrade_packages")).called("apt-get -q -y*--with-new-pkgs upgrade"));
    assert!(check(updates("upgrade_firmware")).called("rpi-eeprom-update -a"));
    let failed = updates("upgrade_firmware").on("rpi-eeprom-update -a", "echo 'No space left on device'; false");
    assert!(failed.refuses("No space left on device").called("rpi-eeprom-update -r"), "half of it does not stay");
    let newer = "Inst rpi-eeprom [28.1-1] (28.2-1 Raspberry Pi:stable [arm64])";
    let waits = updates("list_packages").says("apt-get -s*upgrade", newer).file("/run/bramble/boot-order", "0xf14\n");
    waits.refuses("boot it first");
}
