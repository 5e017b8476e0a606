//! What a board's system finds at its first boot: its user, and how it gets its address.

use std::path::Path;

use crate::host::{Error, run, write};
use crate::network;
use crate::rack::{Rack, RackNode};
use crate::root::System;

const USER_DATA: &str = include_str!("boot/user-data.yaml");
const DATASOURCE: &str = include_str!("boot/99_raspberry-pi.cfg");

/// [`Rack::PASSWORD`], as crypt(5) has it.
const PASSWORD: &str =
    "$6$shelf$kt.TOjllX11UDtB7nPVQVSj8X.aU9dD0ALWPQjrZukVPoI9vOzsmcfQ034Im9ulXAlf9vZFbdwwYyL5T7Db5V/";

const ROOT_WITHOUT_PASSWORD: &str = "ALL=(ALL) NOPASSWD: ALL";

/// What a board's udev tells NetworkManager of the links of pods (85-nm-unmanaged.rules), which asks for leases there otherwise and
/// takes them off their bridge when it gets none.
const AS_UDEV: &str = "[keyfile]\nunmanaged-devices=interface-name:veth*\n";
/// Where /sys can be written, they wait for udev, which a container does not have.
const WITHOUT_UDEV: &str = "[Service]\nReadOnlyPaths=/sys\n";

/// Puts it on a board's disk. `key`: the line of the public key that may log in; `instance`: another one for each board.
pub(crate) fn write_to(root: &Path, rack: &Rack, node: &RackNode, key: &str, instance: &str) -> Result<(), Error> {
    match node.system {
        System::Trixie => cloud_init(root, rack, node, key, instance),
        System::Bookworm => plain(root, rack, node, key),
    }
}

/// How a board gets an address: its interface, and address, way out and name server if DHCP does not give them.
fn uplink(rack: &Rack, node: &RackNode) -> (&'static str, Option<(String, String)>) {
    let Some((outside, reach)) = rack.outside.zip(rack.reach(node)) else { return ("eth0", None) };
    ("eth1", Some((format!("{reach}/{}", outside.prefix_len()), network::first(outside).to_string())))
}

/// The data that the Raspberry Pi Imager leaves on the boot partition; cloud-init, netplan and NetworkManager do the rest.
fn cloud_init(root: &Path, rack: &Rack, node: &RackNode, key: &str, instance: &str) -> Result<(), Error> {
    let put = |path: &str, text: &str, mode: u32| write(&root.join(path), text, mode);
    let sudo = if rack.sudo_password { String::new() } else { format!("    sudo: \"{ROOT_WITHOUT_PASSWORD}\"\n") };
    let data = USER_DATA.replace("@PASSWORD@", PASSWORD).replace("@KEY@", key.trim()).replace("@SUDO@\n", &sudo);
    put("boot/firmware/user-data", &data, 0o755)?;
    put("boot/firmware/meta-data", &format!("instance-id: rpi-imager-{instance}\n"), 0o755)?;
    let network = match uplink(rack, node) {
        (interface, None) => format!("    {interface}:\n      dhcp4: true\n      optional: true\n"),
        (interface, Some((address, gateway))) => format!(
            "    {interface}:\n      addresses: [{address}]\n      routes: [{{ to: default, via: {gateway} }}]\n      \
             nameservers: {{ addresses: [{gateway}] }}\n"
        ),
    };
    put("boot/firmware/network-config", &format!("network:\n  version: 2\n  ethernets:\n{network}"), 0o755)?;
    put("etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg", DATASOURCE, 0o644)?;
    put("usr/lib/netplan/00-network-manager-all.yaml", "network: { version: 2, renderer: NetworkManager }\n", 0o600)?;
    put("usr/lib/NetworkManager/conf.d/10-rack.conf", AS_UDEV, 0o644)?;
    put("etc/systemd/system/NetworkManager.service.d/rack.conf", WITHOUT_UDEV, 0o644)
}

/// A user and networkd, as a system without cloud-init has them when its card was made.
fn plain(root: &Path, rack: &Rack, node: &RackNode, key: &str) -> Result<(), Error> {
    let put = |path: &str, text: &str, mode: u32| write(&root.join(path), text, mode);
    let chroot = root.to_string_lossy().into_owned();
    run("chroot", &[&chroot, "useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo,adm", "pi"])?;
    put("home/pi/.ssh/authorized_keys", key, 0o600)?;
    run("chroot", &[&chroot, "chown", "-R", "pi:pi", "/home/pi/.ssh"])?;
    run("chmod", &["700", &root.join("home/pi/.ssh").to_string_lossy()])?;
    if rack.sudo_password {
        run("chroot", &[&chroot, "usermod", "--password", PASSWORD, "pi"])?;
    } else {
        put("etc/sudoers.d/010_pi-nopasswd", &format!("pi {ROOT_WITHOUT_PASSWORD}\n"), 0o440)?;
    }
    let (interface, fixed) = uplink(rack, node);
    let network = match &fixed {
        None => "DHCP=ipv4\n".to_owned(),
        Some((address, gateway)) => format!("Address={address}\nGateway={gateway}\n"),
    };
    // There is no resolved: what DHCP says of name servers reaches nobody.
    let server = fixed.map_or_else(|| network::first(rack.subnet).to_string(), |(_, gateway)| gateway);
    let resolv = root.join("etc/resolv.conf");
    std::fs::remove_file(&resolv).ok();
    write(&resolv, format!("nameserver {server}\n"), 0o644)?;
    let network = format!("[Match]\nName={interface}\n\n[Network]\n{network}");
    put(&format!("etc/systemd/network/10-{interface}.network"), &network, 0o644)?;
    put("etc/systemd/system/systemd-networkd.service.d/rack.conf", WITHOUT_UDEV, 0o644)?;
    run("chroot", &[&chroot, "systemctl", "enable", "systemd-networkd.service"]).map(|_| ())
}
