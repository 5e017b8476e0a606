//! What a board is told at its first boot.

use std::io::{Read, Seek};

use crate::boot::{BootFiles, edit_boot};
use crate::error::ImageError;
use crate::identity::Identity;
use crate::overlay::Change;
use crate::partitions::boot_partition;
use crate::system::{System, check_architecture};
use crate::{cloud_init, dietpi, firstrun, preseed};

/// Writes onto a boot partition what makes the board this one.
fn customise<R: Read + Seek>(boot: &BootFiles<'_, R>, system: System, identity: &Identity) -> Result<(), ImageError> {
    if !identity.boot_config.is_empty()
        && let Some(text) = boot.read("config.txt")?
    {
        boot.write("config.txt", &bramble_state::with_boot_config(&text, &identity.boot_config))?;
    }
    match system {
        System::CloudInit { cmdline } => cloud_init::write(boot, cmdline, identity),
        System::Firstrun => firstrun::write(boot, identity),
        System::DietPi => dietpi::write(boot, identity),
        System::Preseed => preseed::write(boot, identity),
    }
}

/// What makes an image that of this board: its system, and the bytes that are to be others.
pub fn board<R: Read + Seek>(disk: &mut R, identity: &Identity) -> Result<(System, Vec<Change>), ImageError> {
    let partition = boot_partition(disk)?;
    edit_boot(disk, partition, |boot| {
        let system = System::of(boot)?;
        check_architecture(boot, identity.arch)?;
        customise(boot, system, identity)?;
        Ok(system)
    })
}
