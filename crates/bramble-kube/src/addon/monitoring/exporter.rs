//! What boards tell: node exporter, and what it does not know of a board.

use bramble_spec::Node;
use bramble_state::{Cleanup, File, Resource, Unit};

use crate::lifecycle::Lifecycle;
use crate::template::fill;

const DEFAULTS: &str = "/etc/default/prometheus-node-exporter";
/// Lets it try again: an address that DHCP gives is there late.
const PATIENCE: &str = "/etc/systemd/system/prometheus-node-exporter.service.d/bramble.conf";
const SCRIPT: &str = "/etc/bramble/metrics";
const SERVICE: &str = "/etc/systemd/system/bramble-metrics.service";
const TIMER: &str = "/etc/systemd/system/bramble-metrics.timer";
/// The port of node exporter.
pub(super) const PORT: u16 = 9100;

/// Gives what every node has when the cluster is monitored, the gateway too.
pub(in crate::addon) fn node_resources(node: &Node, life: Option<&dyn Lifecycle>) -> Vec<Resource> {
    let certificates = life.map(|life| life.certificates(node).files.join(" ")).unwrap_or_default();
    let script = include_str!("metrics.sh").replacen(
        "export LC_ALL",
        &format!("certificates='{certificates}'\nexport LC_ALL"),
        1,
    );
    // Only within the rack: what it tells is nobody else's business.
    let defaults = format!("# Written by bramble.\nARGS=\"--web.listen-address={}:{PORT}\"\n", node.address);
    vec![
        Resource::File(File::new(DEFAULTS, defaults)),
        Resource::File(File::new(PATIENCE, include_str!("node_exporter.conf"))),
        Resource::Unit(Unit::new("prometheus-node-exporter", vec![DEFAULTS.into(), PATIENCE.into()])),
        Resource::File(File::new(SCRIPT, script)),
        Resource::File(File::new(SERVICE, fill(include_str!("metrics.service"), &[("SCRIPT", SCRIPT)]))),
        Resource::File(File::new(TIMER, include_str!("metrics.timer"))),
        Resource::Unit(Unit::new("bramble-metrics.timer", vec![TIMER.into()])),
    ]
}

/// Gives all that nodes may have of it.
pub(in crate::addon) fn cleanup() -> Cleanup {
    Cleanup {
        what: "node exporter".to_owned(),
        units: vec!["bramble-metrics.timer".to_owned(), "prometheus-node-exporter.service".to_owned()],
        files: [DEFAULTS, PATIENCE, SCRIPT, SERVICE, TIMER].map(str::to_owned).to_vec(),
        ..Cleanup::default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    /// A folder takes the place of /sys, with what a board's kernel shows there.
    #[test]
    fn a_board_tells_of_its_heat_its_power_and_its_disks() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sys/class/thermal/thermal_zone0/temp", "54321\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ("sys/class/power_supply/rpi-poe/current_now", "1250000\n"),
            ("sys/class/power_supply/rpi-poe/current_max", "5000000\n"),
            ("sys/class/power_supply/rpi-poe/health", "Over current\n"),
            ("sys/block/mmcblk0/device/life_time", "0x02 0x03\n"),
            ("sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes", "42\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let here = root.path().display().to_string();
        let script = include_str!("metrics.sh")
            .replace("/sys/", &format!("{here}/sys/"))
            .replace("d=/var/", &format!("d={here}/var/"));
        let done = Command::new("sh").args(["-c", &format!("certificates=''\n{script}")]).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        let told = fs::read_to_string(root.path().join("var/lib/prometheus/node-exporter/bramble.prom")).unwrap();
        let told: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
        for line in [
            "bramble_temperature_celsius 54.3",
            "bramble_throttled{what=\"under-voltage\",when=\"now\"} 1",
            "bramble_throttled{what=\"frequency-capped\",when=\"now\"} 0",
            "bramble_throttled{what=\"throttled\",when=\"since-boot\"} 1",
            "bramble_poe_current_amperes 1.250",
            "bramble_poe_current_limit_amperes 5.000",
            "bramble_poe_overcurrent 1",
            "bramble_disk_life_used_ratio{device=\"mmcblk0\"} 0.3",
            "bramble_filesystem_written_bytes{device=\"mmcblk0p2\"} 42000",
        ] {
            assert!(told.contains(&line), "{line}\nis not in\n{}", told.join("\n"));
        }
    }
}
