//! What is true of a node, whatever is asked of it.

use std::collections::{BTreeMap, BTreeSet};

/// What a node is, whatever is asked of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last turn of a run that changed the node: the run, a dot, the number of the turn, a blank, and who began the run.
    /// Empty if none did.
    pub run: String,
    /// The running hostname.
    pub hostname: String,
    /// Another one after each boot.
    pub boot_id: String,
    /// The release of the running kernel.
    pub kernel: String,
    /// The running kernel's arguments.
    pub cmdline: String,
    /// The board's name as its firmware tells it; empty on boards without one.
    pub model: String,
    /// The systemd machine id.
    pub machine_id: String,
    /// Memory in KiB as the kernel sees it.
    pub memory: u64,
    /// Bytes that are free on the disk of its root, if that is known.
    pub disk_free: Option<u64>,
    /// The version of the cgroup hierarchy, 1 or 2.
    pub cgroup: u8,
    /// cgroup controllers that can be used.
    pub controllers: BTreeSet<String>,
    /// The public half of its own SSH host key, in OpenSSH's form; empty if it has none of that type.
    pub host_key: String,
    /// What keeps changes of its root from lasting, if something does.
    pub root: Root,
    /// Swap in use.
    pub swaps: Vec<String>,
    /// `ID` of os-release.
    pub os: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// dpkg's architecture: that of the userland, which is what counts for programs.
    pub arch: String,
    /// Seconds since 1970 by the node's clock.
    pub time: i64,
    /// Seconds by which the node's clock was ahead of this machine's at the moment of its answer; unknown until whoever
    /// asked fills it in.
    pub ahead: Option<i64>,
    /// IPv4 addresses, each with its interface.
    pub addresses: Vec<(String, String)>,
    /// Ethernet addresses by interface.
    pub macs: BTreeMap<String, String>,
    /// The ids of what is on its USB and PCI buses, `vendor:product`.
    pub devices: BTreeSet<String>,
    /// The files of accelerators' drivers.
    pub accelerators: BTreeSet<String>,
    /// Whether systemd-resolved runs.
    pub resolved: bool,
    /// Who manages its interfaces.
    pub network: NetworkManager,
    /// Whether Debian asks for a reboot.
    pub reboot_required: bool,
    /// Whether rpi-swap manages swap (Raspberry Pi OS Trixie).
    pub rpi_swap: bool,
    /// Whether bramble has changed something here.
    pub ledger: bool,
    /// Whether its hardware has a watchdog that the kernel knows.
    pub watchdog: bool,
    /// Whether the node is a container, as in the virtual rack.
    pub container: bool,
    /// The cmdline.txt that this board's firmware reads.
    pub cmdline_file: Option<String>,
    /// The config.txt that this board's firmware reads.
    pub config_file: Option<String>,
}

/// Whether what is written to a node's root lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Root {
    /// It does.
    #[default]
    Lasting,
    /// It goes to memory, until the next boot.
    Overlay,
    /// Nothing can be written.
    ReadOnly,
}

/// Who manages a node's interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkManager {
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
    /// Another one, or nobody.
    #[default]
    Other,
}

impl Facts {
    /// Reads what stands behind `fact` in a node's answer.
    pub(crate) fn read(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let text = || value.trim_end_matches('\0').trim().to_owned();
        match key {
            "run" => self.run = text(),
            "hostname" => self.hostname = text(),
            "boot-id" => self.boot_id = text(),
            "kernel" => self.kernel = text(),
            "cmdline" => self.cmdline = text(),
            "model" => self.model = text(),
            "machine-id" => self.machine_id = text(),
            "host-key" => self.host_key = value.split(' ').take(2).collect::<Vec<_>>().join(" "),
            "root" => {
                self.root = match value {
                    "overlay" => Root::Overlay,
                    "read-only" => Root::ReadOnly,
                    _ => return None,
                }
            }
            "memory" => self.memory = value.parse().ok()?,
            "cgroup" => self.cgroup = value.parse().ok()?,
            "controllers" => self.controllers = value.split_whitespace().map(str::to_owned).collect(),
            "swap" => self.swaps.push(text()),
            "os" => {
                let mut words = value.split(' ');
                self.os = words.next()?.to_owned();
                self.os_version = words.next()?.to_owned();
            }
            "arch" => self.arch = text(),
            "disk-free" => {
                let (blocks, size) = value.split_once(' ')?;
                self.disk_free = Some(blocks.parse::<u64>().ok()?.saturating_mul(size.parse().ok()?));
            }
            "time" => self.time = seconds(value)?,
            "address" => {
                let (address, interface) = value.split_once(' ')?;
                self.addresses.push((address.to_owned(), interface.to_owned()));
            }
            "mac" => {
                let (interface, mac) = value.split_once(' ')?;
                self.macs.insert(interface.to_owned(), mac.to_owned());
            }
            "device" => drop(self.devices.insert(text())),
            "accelerator" => drop(self.accelerators.insert(text())),
            "resolved" => self.resolved = true,
            "network" => {
                self.network = match value {
                    "NetworkManager" => NetworkManager::NetworkManager,
                    "networkd" => NetworkManager::Networkd,
                    _ => NetworkManager::Other,
                }
            }
            "reboot-required" => self.reboot_required = true,
            "rpi-swap" => self.rpi_swap = true,
            "container" => self.container = true,
            "watchdog" => self.watchdog = true,
            "cmdline-file" => self.cmdline_file = Some(text()),
            "config-file" => self.config_file = Some(text()),
            _ => return None,
        }
        Some(())
    }

    /// Tells whether the board is a Raspberry Pi, by what its firmware says.
    pub fn is_raspberry_pi(&self) -> bool {
        self.model.starts_with("Raspberry Pi")
    }
}

/// Reads seconds since 1970. No calendar goes further than 2^53, so what is reckoned with them cannot overflow.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    text.parse().ok().filter(|seconds: &i64| seconds.unsigned_abs() <= 1 << 53)
}
