//! No swap, now and after the next boot.

use bramble_shell::Commands;

use crate::digest::entry_hash;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::Probe;
use crate::resource::edit::{TEXTS, edit};
use crate::resource::file::File;
use crate::resource::unit::UNITS;

/// Where rpi-swap reads what to do (Raspberry Pi OS Trixie).
pub const RPI_SWAP_FILE: &str = "/etc/rpi/swap.conf.d/90-bramble.conf";
/// What it reads there if there is to be no swap.
pub const RPI_SWAP_TEXT: &str = "[Main]\nMechanism=none\n";
const FSTAB: &str = "/etc/fstab";
const DPHYS_SWAPFILE: &str = "dphys-swapfile.service";

pub(crate) struct SwapOff;

impl SwapOff {
    fn rpi_swap_file() -> File {
        File::new(RPI_SWAP_FILE, RPI_SWAP_TEXT)
    }
}

impl Kind for SwapOff {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&TEXTS, [FSTAB]);
        probe.ask_about(&UNITS, [DPHYS_SWAPFILE]);
        SwapOff::rpi_swap_file().ask(probe);
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
        let dphys = seen.units.get(DPHYS_SWAPFILE);
        if dphys.is_some_and(|unit| unit.load == "loaded" && (unit.enabled == "enabled" || unit.active == "active")) {
            let mut script = Commands::new();
            script.call("remember_unit", [&entry_hash("unit", DPHYS_SWAPFILE), DPHYS_SWAPFILE]);
            script.call("systemctl disable --now", [DPHYS_SWAPFILE]);
            planner.push(Change::new("turn dphys-swapfile off", Vec::new(), script));
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
        seen.units.contains_key(DPHYS_SWAPFILE)
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
