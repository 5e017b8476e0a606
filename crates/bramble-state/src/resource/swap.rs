//! No swap, now and after the next boot.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::edit::{TEXTS, edit, with_block};
use crate::resource::file::File;
use crate::resource::unit::UNITS;

/// Where rpi-swap reads what to do (Raspberry Pi OS Trixie).
pub const RPI_SWAP_FILE: &str = "/etc/rpi/swap.conf.d/90-bramble.conf";
/// What it reads there if there is to be no swap.
pub const RPI_SWAP_TEXT: &str = "[Main]\nMechanism=none\n";
const FSTAB: &str = "/etc/fstab";
/// Services that make swap at each boot: Raspberry Pi OS until Bookworm, zram-tools of Debian and Ubuntu, zram-config of Ubuntu,
/// and others that people install.
const SERVICES: [&str; 7] = [
    "dphys-swapfile.service",
    "zramswap.service",
    "zram-config.service",
    "zram-swap.service",
    "zramd.service",
    "systemd-swap.service",
    "swapspace.service",
];
/// Where Armbian and what came of it read whether memory is packed for swap; their service makes more than that.
const ZRAM_CONFIGS: [&str; 2] = ["/etc/default/armbian-zram-config", "/etc/default/orangepi-zram-config"];
/// Where systemd-zram-generator reads what to make: the first of these that is there (zram-generator.conf(5)).
const ZRAM_GENERATOR: [&str; 2] = ["/etc/systemd/zram-generator.conf", "/usr/lib/systemd/zram-generator.conf"];

pub(crate) struct SwapOff;

impl SwapOff {
    fn rpi_swap_file() -> File {
        File::new(RPI_SWAP_FILE, RPI_SWAP_TEXT)
    }

    fn zram_generator_file() -> File {
        File::new(ZRAM_GENERATOR[0], "# Written by bramble: no swap.\n")
    }

    fn zram_config(text: &str) -> String {
        with_block(text, &["SWAP=false".to_owned()])
    }
}

impl Kind for SwapOff {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&TEXTS, [FSTAB].into_iter().chain(ZRAM_CONFIGS).chain(ZRAM_GENERATOR));
        probe.ask_about(&UNITS, SERVICES);
        SwapOff::rpi_swap_file().ask(probe);
        SwapOff::zram_generator_file().ask(probe);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let seen = planner.seen();
        if seen.texts.contains_key(FSTAB) {
            let change = edit(planner, FSTAB, &[], without_swap);
            planner.push(change);
        }
        if seen.facts.rpi_swap {
            SwapOff::rpi_swap_file().plan(planner);
        }
        for path in ZRAM_CONFIGS.into_iter().filter(|path| seen.texts.contains_key(*path)) {
            let change = edit(planner, path, &[], SwapOff::zram_config);
            planner.push(change);
        }
        if ZRAM_GENERATOR.iter().any(|path| seen.texts.contains_key(*path)) {
            SwapOff::zram_generator_file().plan(planner);
        }
        for service in SERVICES {
            let unit = seen.units.get(service);
            if unit.is_some_and(|unit| unit.load == "loaded" && (unit.enabled == "enabled" || unit.active == "active"))
            {
                let mut script = Commands::new();
                script.call("remember_unit", [&entry_hash("unit", service), service]);
                script.call("systemctl disable --now", [service]);
                planner.push(Change::new(
                    format!("turn {} off", service.trim_end_matches(".service")),
                    Vec::new(),
                    script,
                ));
            }
        }
        if !seen.facts.swaps.is_empty() {
            let mut script = Commands::new();
            script.fixed(include_str!("swap.sh"));
            let details = vec![Detail::Value { from: Some(seen.facts.swaps.join(" ")), to: "none".into() }];
            planner.push(Change::new("turn swap off", details, script));
            if seen.facts.rpi_swap {
                planner.reboot("rpi-swap lets go of its swap at boot");
            }
        }
    }

    fn is_answered(&self, seen: &Observation, _: &Probe) -> bool {
        SERVICES.iter().all(|service| seen.units.contains_key(*service))
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.facts.swaps.clear();
        node.edit(FSTAB, without_swap);
        SwapOff::rpi_swap_file().satisfied(node);
    }
}

/// Comments out the swap lines of an fstab.
pub(crate) fn without_swap(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| {
            let mut fields = line.split_whitespace();
            let first = fields.next().unwrap_or("");
            let kind = fields.nth(1);
            if !first.starts_with('#') && kind == Some("swap") { format!("# bramble: {line}") } else { line.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_swap_lines_of_fstab_are_switched_off() {
        assert_eq!(
            without_swap("/dev/sda1 / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n#/old none swap sw 0 0\n"),
            "/dev/sda1 / ext4 defaults 0 1\n# bramble: /swapfile none swap sw 0 0\n#/old none swap sw 0 0\n"
        );
    }
}
