//! Wake-on-LAN.

use std::net::Ipv4Addr;

use bramble_spec::MacAddr;
use tokio::net::UdpSocket;

use crate::Outlet;
use crate::error::{PowerError, Result};

/// The packet of Wake-on-LAN: six bytes of ones, and the address sixteen times (AMD, "Magic Packet Technology", 1995).
fn magic_packet(mac: &MacAddr) -> Vec<u8> {
    let address: Vec<u8> = mac.to_string().split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    [vec![0xff; 6], address.repeat(16)].concat()
}

/// Sends the packet that wakes the board with this address, which nobody answers.
///
/// # Errors
/// There is no way to the network.
pub async fn wake(mac: &MacAddr, broadcast: Ipv4Addr) -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.set_broadcast(true)?;
    socket.send_to(&magic_packet(mac), (broadcast, 9)).await.map(|_| ())
}

/// Wakes a board.
pub(crate) async fn set(outlet: &Outlet, on: bool) -> Result<()> {
    if !on {
        return Err(PowerError::OnlyWakes { node: outlet.node.to_string() });
    }
    let Some((mac, broadcast)) = &outlet.card else {
        let said = format!("{} has no `mac`, by which it would be woken: add it to the node", outlet.node);
        return Err(PowerError::Refused { device: outlet.device(), said });
    };
    let silent = |error: std::io::Error| PowerError::Silent { device: outlet.device(), said: error.to_string() };
    wake(mac, *broadcast).await.map_err(silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_that_wakes_a_board_has_its_address_sixteen_times() {
        let packet = magic_packet(&"dc:a6:32:01:02:0a".parse().unwrap());
        assert_eq!(packet.len(), 102);
        assert!(packet[..6].iter().all(|byte| *byte == 0xff));
        assert!(packet[6..].chunks(6).all(|chunk| chunk == [0xdc, 0xa6, 0x32, 1, 2, 10]));
    }
}
