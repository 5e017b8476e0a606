//! What a board is told at its first boot.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::net::Ipv4Addr;

use bramble_spec::{Arch, MacAddr, NodeName, hex};
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

/// The two sides of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// The interface towards the outside.
    pub outside: String,
    /// The interface towards the rack.
    pub inside: String,
    /// Its address there, with the length of the network's prefix.
    pub address: Ipv4Net,
}

/// What a board is told of Wi-Fi.
#[derive(Clone, PartialEq, Eq)]
pub struct Wifi {
    /// The country whose rules for radio hold, two letters.
    pub country: String,
    /// The network that it joins: its name, and its key in 64 hexadecimal digits.
    pub join: Option<(String, String)>,
}

impl Wifi {
    /// The key of a network: what stands for a passphrase (IEEE 802.11, J.4), or the 64 digits that were given. `None` if
    /// it cannot be either.
    pub fn key(ssid: &str, password: &str) -> Option<String> {
        let hexadecimal = password.bytes().all(|byte| byte.is_ascii_hexdigit());
        match password.len() {
            64 if hexadecimal => Some(password.to_ascii_lowercase()),
            8..=63 => {
                let mut key = [0; 32];
                pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password.as_bytes(), ssid.as_bytes(), 4096, &mut key);
                Some(hex(&key))
            }
            _ => None,
        }
    }
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
    /// A password that nobody knows, for systems that cannot do without one.
    pub password: String,
    /// Its address; without one it asks DHCP.
    pub address: Option<Static>,
    /// Its two sides, if it is a gateway: it asks DHCP outside.
    pub sides: Option<Sides>,
    /// What its processor is.
    pub arch: Arch,
    /// Its Wi-Fi; the address is there then.
    pub wifi: Option<Wifi>,
    /// Whether it does without swap.
    pub swap_off: bool,
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

/// Done at the first boot by a board that does without swap: dphys-swapfile until Bookworm, rpi-swap since Trixie.
pub(crate) fn swap_off() -> String {
    let (file, text) = (bramble_state::RPI_SWAP_FILE, bramble_state::RPI_SWAP_TEXT.replace('\n', "\\n"));
    format!(
        "systemctl disable --now dphys-swapfile 2>/dev/null; \
         [ ! -e /usr/lib/systemd/system-generators/rpi-swap-generator ] || \
         {{ mkdir -p \"$(dirname {file})\" && printf '{text}' >{file}; }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_becomes_the_key_that_wpa_makes_of_it() {
        // IEEE 802.11-2020, J.4.2.
        let key = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";
        assert_eq!(Wifi::key("IEEE", "password").as_deref(), Some(key));
        assert_eq!(Wifi::key("IEEE", &key.to_uppercase()).as_deref(), Some(key));
        assert_eq!(Wifi::key("IEEE", "seven77"), None);
        assert_eq!(Wifi::key("IEEE", &"x".repeat(64)), None);
    }
}
