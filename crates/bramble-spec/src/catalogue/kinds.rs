//! What parts are told apart by: architectures, plugs, standards.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Power, Voltage};

/// A processor architecture, by Debian's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit Arm.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl Arch {
    /// That of the machine that this program runs on.
    pub const HERE: Arch = if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::Amd64 };
    /// All of them.
    pub const ALL: [Arch; 2] = [Arch::Arm64, Arch::Amd64];
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Arm64 => "arm64",
            Arch::Amd64 => "amd64",
        })
    }
}

/// What it takes to boot from USB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsbBoot {
    /// Nothing.
    Yes,
    /// A bit that is set once, for good.
    Otp,
    /// The order in its EEPROM.
    Eeprom,
    /// It cannot.
    No,
}

/// How power comes over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Poe {
    /// IEEE 802.3af.
    Af,
    /// IEEE 802.3at.
    At,
    /// 24 V that is simply there.
    #[serde(rename = "passive-24v")]
    Passive24,
}

impl Poe {
    /// The most that a port gives (IEEE 802.3af and 802.3at, at the switch).
    pub fn at_port(self) -> Option<Power> {
        match self {
            Poe::Af => Some(Power(15_400)),
            Poe::At => Some(Power(30_000)),
            Poe::Passive24 => None,
        }
    }

    /// The most that arrives behind 100 m of cable (the same standards, at the device).
    pub fn at_device(self) -> Option<Power> {
        match self {
            Poe::Af => Some(Power(12_950)),
            Poe::At => Some(Power(25_500)),
            Poe::Passive24 => None,
        }
    }

    /// The least voltage at the device.
    pub fn volts(self) -> Voltage {
        match self {
            Poe::Af => Voltage(37_000),
            Poe::At => Voltage(42_500),
            Poe::Passive24 => Voltage(24_000),
        }
    }
}

impl fmt::Display for Poe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Poe::Af => "802.3af",
            Poe::At => "802.3at",
            Poe::Passive24 => "passive 24 V",
        })
    }
}

/// A plug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connector {
    /// Micro USB.
    MicroUsb,
    /// USB-C.
    UsbC,
}

/// A kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// A SD or microSD card.
    Sd,
    /// A SATA drive without moving parts.
    SataSsd,
    /// A NVMe drive.
    NvmeSsd,
    /// A USB stick.
    UsbStick,
    /// Memory soldered to the board.
    Emmc,
}

impl DiskKind {
    /// Whether the flash wears as that of cards does.
    pub fn is_card(self) -> bool {
        matches!(self, DiskKind::Sd | DiskKind::UsbStick | DiskKind::Emmc)
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskKind::Sd => "SD card",
            DiskKind::SataSsd => "SATA SSD",
            DiskKind::NvmeSsd => "NVMe SSD",
            DiskKind::UsbStick => "USB stick",
            DiskKind::Emmc => "eMMC",
        })
    }
}

/// Whether a USB adapter can do UAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UasQuality {
    /// It can.
    Good,
    /// It hangs, unless the kernel is told to do without.
    Quirk,
}

/// The chip of an accelerator for neural networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Chip {
    /// Google's Edge TPU behind USB.
    CoralUsb,
    /// Google's Edge TPU behind PCI Express.
    CoralPcie,
    /// Hailo-8 and Hailo-8L, which nobody can tell apart by their ids.
    #[serde(rename = "hailo-8")]
    Hailo8,
    /// Hailo-10H.
    #[serde(rename = "hailo-10h")]
    Hailo10h,
}

impl Chip {
    /// The ids on USB or PCI (vendor:product, four hexadecimal digits each) that a chip shows, as lsusb and lspci write them.
    /// A Coral on USB shows the first one until a program has used it, then the second (coral.ai/docs/accelerator/get-started).
    pub fn ids(self) -> &'static [&'static str] {
        match self {
            Chip::CoralUsb => &["1a6e:089a", "18d1:9302"],
            Chip::CoralPcie => &["1ac1:089a"],
            Chip::Hailo8 => &["1e60:2864"],
            Chip::Hailo10h => &["1e60:45c4"],
        }
    }

    /// The files that its driver makes; none for a chip that programs reach over USB.
    /// Those of Hailo-10H are called h1x since HailoRT 5.3.
    pub fn devices(self) -> &'static [&'static str] {
        match self {
            Chip::CoralUsb => &[],
            Chip::CoralPcie => &["/dev/apex_*"],
            Chip::Hailo8 => &["/dev/hailo*"],
            Chip::Hailo10h => &["/dev/h1x-*", "/dev/hailo*"],
        }
    }

    /// The package that brings its driver, and where that is had.
    pub fn driver(self) -> Option<&'static str> {
        match self {
            Chip::CoralUsb => None,
            Chip::CoralPcie => Some("gasket-dkms (for Linux 6.12 and later with a patch, google/gasket-driver#36)"),
            Chip::Hailo8 => Some("hailo-all of Raspberry Pi OS"),
            Chip::Hailo10h => Some("hailo-h10-all of Raspberry Pi OS"),
        }
    }

    /// The label of nodes that have it, and the resource that pods ask for.
    pub fn resource(self) -> String {
        format!("bramble/{self}")
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Chip::CoralUsb => "coral-usb",
            Chip::CoralPcie => "coral-pcie",
            Chip::Hailo8 => "hailo-8",
            Chip::Hailo10h => "hailo-10h",
        })
    }
}
