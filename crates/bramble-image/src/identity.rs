//! Who a board is: what it is told at its first boot, whatever its system.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bramble_spec::{Arch, MacAddr, NodeName, hex};
use ipnet::Ipv4Net;

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
        // IEEE 802.11, J.4.1.
        let printable = password.bytes().all(|byte| (32..=126).contains(&byte));
        match password.len() {
            64 if hexadecimal => Some(password.to_ascii_lowercase()),
            8..=63 if printable => {
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
    pub boot_config: BTreeMap<String, Vec<String>>,
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
        assert_eq!(Wifi::key("IEEE", "Schlüssel"), None);
        assert_eq!(Wifi::key("IEEE", "secret\t123"), None);
    }
}
