//! Which system an image has, told by the files of its boot partition.

use std::io::{Read, Seek};

use bramble_spec::Arch;
use bramble_state::effective_boot_config;

use crate::boot::BootFiles;
use crate::error::ImageError;
use crate::preseed;

/// By what a system is told who it is at its first boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// cloud-init's NoCloud: Raspberry Pi OS since Trixie, Ubuntu, Debian.
    CloudInit {
        /// The command line of the kernel, as a path on the boot partition: Ubuntu has it below `current/` since 25.10.
        cmdline: Option<&'static str>,
    },
    /// A script that is run once: Raspberry Pi OS Bullseye and Bookworm.
    Firstrun,
    /// DietPi's own file.
    DietPi,
    /// Raspberry Pi's own file, which the Imager writes since July 2026.
    Preseed,
}

impl System {
    /// The system of a boot partition.
    pub fn of<R: Read + Seek>(boot: &BootFiles<'_, R>) -> Result<System, ImageError> {
        let cmdline = ["current/cmdline.txt", "cmdline.txt"].into_iter().find(|path| boot.has(path));
        if boot.has("dietpi.txt") {
            Ok(System::DietPi)
        } else if boot.has(preseed::FILE) {
            Ok(System::Preseed)
        } else if boot.has("user-data") || boot.has("meta-data") {
            Ok(System::CloudInit { cmdline })
        } else if boot.has("config.txt") && cmdline == Some("cmdline.txt") && is_raspberry_pi_os(boot)? {
            Ok(System::Firstrun)
        } else {
            Err(ImageError::UnknownSystem { label: boot.label() })
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            System::CloudInit { .. } => "cloud-init",
            System::Firstrun => "firstrun.sh",
            System::DietPi => "DietPi",
            System::Preseed => "rpi-preseed",
        }
    }
}

/// Whether it says so itself (pi-gen, export-image/04-set-partuuid and stage1/00-boot-files), or starts its first boot as
/// that does (raspberrypi-sys-mods, raspi-config): other systems have the firmware's files too, and know no firstrun.sh.
fn is_raspberry_pi_os<R: Read + Seek>(boot: &BootFiles<'_, R>) -> Result<bool, ImageError> {
    let says = |file: &str, marks: &[&str]| -> Result<bool, ImageError> {
        let text = boot.read(file)?.unwrap_or_default();
        Ok(marks.iter().any(|mark| text.contains(mark)))
    };
    Ok(says("issue.txt", &["Raspberry Pi reference"])?
        || says("cmdline.txt", &["init=/usr/lib/raspberrypi-sys-mods/", "init=/usr/lib/raspi-config/"])?)
}

/// What boots from a boot partition, told by names that firmware looks for: that of a Raspberry Pi, and UEFI's (UEFI 2.10,
/// 3.5.1.1).
const MARKS: [(&str, &str, Arch); 6] = [
    ("start4.elf", "Raspberry Pi", Arch::Arm64),
    ("kernel8.img", "Raspberry Pi", Arch::Arm64),
    ("kernel_2712.img", "Raspberry Pi", Arch::Arm64),
    ("kernel7.img", "Raspberry Pi", Arch::Arm64),
    ("EFI/BOOT/BOOTAA64.EFI", "arm64", Arch::Arm64),
    ("EFI/BOOT/BOOTX64.EFI", "amd64", Arch::Amd64),
];

/// Refuses a board that cannot boot from this boot partition. One without any known mark is for all.
pub(crate) fn check_architecture<R: Read + Seek>(boot: &BootFiles<'_, R>, board: Arch) -> Result<(), ImageError> {
    let found: Vec<_> = MARKS.iter().filter(|(path, ..)| boot.has(path)).collect();
    match found.first() {
        Some((_, image, _)) if found.iter().all(|(.., arch)| *arch != board) => {
            Err(ImageError::OtherArchitecture { image, board })
        }
        _ => {
            // Kernels of 32 bits alone, or 64 bits that are switched off (raspberrypi.com/documentation, config.txt).
            let small = ["kernel.img", "kernel7.img", "kernel7l.img"].iter().any(|path| boot.has(path));
            let large = ["kernel8.img", "kernel_2712.img"].iter().any(|path| boot.has(path));
            let config = if large { boot.read("config.txt")?.unwrap_or_default() } else { String::new() };
            let off = effective_boot_config(&config).get("arm_64bit").and_then(|values| values.last()) == Some(&"0");
            if board == Arch::Arm64 && ((small && !large) || off) {
                return Err(ImageError::OtherArchitecture { image: "32-bit systems", board });
            }
            Ok(())
        }
    }
}
