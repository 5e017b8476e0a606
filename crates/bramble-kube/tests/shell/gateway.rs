//! Who is logged in before a firewall stands: `gateway/way_in.sh`.

use super::*;

/// A gateway that somebody is logged in to at this address of it.
fn logged_in(at: &str) -> Case {
    let from = format!(
        "printf '%s\\n' '0 0 {at}:22 192.168.9.9:50000 users:((\"sshd\",pid=7,fd=4))' '0 0 10.9.9.9:80 10.9.9.8:1 x'"
    );
    let addresses = [
        "1: lo inet 127.0.0.1/8",
        "2: eth0 inet 10.0.0.1/24",
        "3: wlan0 inet 192.168.9.2/24",
        "4: usb0 inet6 fd00::1/64",
    ];
    let addresses: String = addresses.iter().map(|line| format!(" '{line}'")).collect();
    Case::new(include_str!("../../src/gateway/way_in.sh"), "way_in wlan0 eth0 80 443")
        .on("ss*", &from)
        .on("ip -o addr show", &format!("printf '%s\\n'{addresses}"))
}

#[test]
fn a_firewall_shuts_nobody_out_who_is_logged_in() {
    check(logged_in("10.0.0.1"));
    check(logged_in("[::ffff:10.0.0.1]"));
    check(logged_in("127.0.0.1"));
    logged_in("192.168.9.2").refuses("somebody is logged in from outside (wlan0, 192.168.9.2)");
    logged_in("[fd00::1%usb0]").refuses("somebody is logged in at usb0 (fd00::1)");
}

#[test]
fn a_port_that_stays_open_is_a_way_in() {
    let open = Case::new(include_str!("../../src/gateway/way_in.sh"), "way_in wlan0 eth0 22")
        .says("ss*", "0 0 192.168.9.2:22 192.168.9.9:50000 users:((\"sshd\",pid=7,fd=4))")
        .says("ip -o addr show", "3: wlan0 inet 192.168.9.2/24");
    check(open);
}
