//! What dnsmasq has leased.

use std::net::Ipv4Addr;

use bramble_spec::MacAddr;

/// An address that a DHCP server has given to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The machine's Ethernet address.
    pub mac: MacAddr,
    /// The name that the machine gave itself, if it is one that can be shown.
    pub name: Option<String>,
}

/// Reads dnsmasq's leases (dnsmasq(8)): `EXPIRY MAC ADDRESS NAME ID` in each line, with `*` for no name. Lines of other kinds,
/// such as those of IPv6, are passed over.
pub fn leases(text: &str) -> Vec<Lease> {
    let lease = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        let [_, mac, address, name] = words[..] else { return None };
        // Whoever asks for an address names itself, and may name itself anything.
        let plain = name != "*" && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
        Some(Lease { address: address.parse().ok()?, mac: mac.parse().ok()?, name: plain.then(|| name.to_owned()) })
    };
    text.lines().filter_map(lease).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_steer_a_terminal_is_left_out() {
        let found = leases("1795312345 dc:a6:32:00:00:01 10.0.0.71 kube\u{1b}[2J *\n");
        assert_eq!((found.len(), found[0].name.as_deref()), (1, None));
    }
}
