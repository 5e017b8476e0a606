//! Boards that boot from the network and write their own disks.
//!
//! dnsmasq answers their firmware: beside the DHCP server that a network has, or as that itself. What they boot is the kernel of
//! the cluster file's image with one program of bramble's, which asks here for its job and its image.

mod archive;
mod dnsmasq;
mod prepared;
mod server;
mod tree;
mod unified;

use std::net::{Ipv4Addr, SocketAddrV4};

use bramble_image::{Identity, ImageError};
use bramble_spec::{Arch, MacAddr, NodeName};

pub use dnsmasq::{Addresses, Dnsmasq, Heard};
pub use prepared::Prepared;
pub use server::{Event, Server, choose};
pub use tree::{Parts, Tree};

/// What a board's firmware is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A Raspberry Pi's: it takes files as they are on a boot partition.
    RaspberryPi,
    /// UEFI: it takes one program.
    Uefi,
}

/// A board that may boot from the network.
#[derive(Clone)]
pub struct Board {
    /// The node that it is.
    pub node: NodeName,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// Its processor.
    pub arch: Arch,
    /// Its firmware.
    pub firmware: Firmware,
    /// Who it is from its first boot on.
    pub identity: Identity,
}

/// The address at which a board asks, `token` being its own.
fn from(server: SocketAddrV4, token: &str) -> String {
    format!("http://{server}/{token}")
}

/// Why boards cannot boot from the network.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// The image does not do.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// This machine does not do.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no kernel that a board could boot.
    #[error(
        "the image's boot partition has no {0}, which {1} would boot from the network: such boards can be flashed alone"
    )]
    NoKernel(&'static str, NodeName),
    /// The program that joins a kernel and its command line is not one.
    #[error("systemd's stub for UEFI cannot take a kernel: is the package systemd-boot-efi of this machine whole?")]
    Stub,
    /// A program of this machine is missing.
    #[error("there is no {what} on this machine: install {package}")]
    Missing {
        /// What was looked for.
        what: String,
        /// The package of Debian and its kin that has it.
        package: &'static str,
    },
    /// dnsmasq ended.
    #[error("dnsmasq ended: {0}")]
    Dnsmasq(String),
}
