//! What a board is told at its first boot.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::net::Ipv4Addr;

use bramble_spec::{Arch, MacAddr, NodeName};
use ipnet::Ipv4Net;

use crate::boot::{BootFiles, edit_boot};
use crate::error::ImageError;
use crate::overlay::Change;
use crate::partitions::boot_partition;
use crate::system::{System, check_architecture};
use crate::{cloud_init, dietpi, firstrun};

/// A host key in OpenSSH's forms.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// The private half, with its newlines.
    pub private: String,
    /// The public half, one line.
    pub public: String,
}

/// An address that does not come from DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Static {
    /// It, with the length of its network's prefix.
    pub address: Ipv4Net,
    /// The way out of the network.
    pub gateway: Ipv4Addr,
    /// Who resolves names.
    pub dns: Vec<Ipv4Addr>,
}

/// Who a board is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: NodeName,
    /// The user that may log in.
    pub user: String,
    /// By these public keys, one line each; never by a password.
    pub keys: Vec<String>,
    /// By what it proves that it is itself.
    pub host_key: HostKey,
    /// Another one for each writing: what was said before is not said again.
    pub instance: String,
    /// Its address; without one it asks DHCP.
    pub address: Option<Static>,
    /// What its processor is.
    pub arch: Arch,
    /// Its Ethernet address, if it is known.
    pub mac: Option<MacAddr>,
    /// Its time zone, such as Europe/Berlin.
    pub timezone: Option<String>,
    /// Its locale, such as en_GB.UTF-8.
    pub locale: Option<String>,
    /// Arguments for the kernel.
    pub kernel_args: Vec<String>,
    /// Settings of config.txt.
    pub boot_config: BTreeMap<String, String>,
}

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

/// Adds arguments to the kernel's command line.
pub(crate) fn add_kernel_args<R: Read + Seek>(
    boot: &BootFiles<'_, R>,
    path: &str,
    more: impl IntoIterator<Item = String>,
) -> Result<(), ImageError> {
    let text = boot.read(path)?.unwrap_or_default();
    let tokens: Vec<String> = more.into_iter().collect();
    boot.write(path, &bramble_state::with_tokens(&text, &tokens))
}
