//! cloud-init's NoCloud on a boot partition (cloudinit.readthedocs.io, "NoCloud", "Module reference"). JSON is YAML.

use std::io::{Read, Seek};

use bramble_shell::shell_word;
use serde_json::json;

use crate::boot::BootFiles;
use crate::error::ImageError;
use crate::first_boot::swap_off;
use crate::identity::{Identity, Sides, Wifi};

pub(crate) fn write<R: Read + Seek>(
    boot: &BootFiles<'_, R>,
    cmdline: Option<&str>,
    identity: &Identity,
) -> Result<(), ImageError> {
    boot.write("user-data", &user_data(identity))?;
    boot.write("meta-data", &format!("{:#}\n", json!({ "instance-id": identity.instance })))?;
    boot.write("network-config", &network_config(identity))?;
    if let Some(path) = cmdline {
        // What the image or an earlier writing says of the data source would come first.
        let text = boot.read(path)?.unwrap_or_default();
        let (line, rest) = text.split_at(text.find('\n').unwrap_or(text.len()));
        let kept = without_source(line);
        let mut tokens = identity.kernel_args.clone();
        if let Some(wifi) = &identity.wifi {
            tokens.push(format!("cfg80211.ieee80211_regdom={}", wifi.country));
        }
        tokens.push(format!("ds=nocloud;i={}", identity.instance));
        boot.write(path, &bramble_state::with_tokens(&format!("{kept}{rest}"), &tokens))?;
    }
    Ok(())
}

/// The line without the words that name a data source; every other byte stays.
fn without_source(line: &str) -> String {
    let mut kept = String::new();
    for piece in line.split_inclusive(|letter: char| letter.is_ascii_whitespace()) {
        if !piece.starts_with("ds=nocloud") {
            kept.push_str(piece);
        } else if !piece.ends_with([' ', '\t']) {
            // The line ends with it.
            kept.truncate(kept.trim_end_matches([' ', '\t']).len());
            kept.push_str(&piece[piece.trim_ascii_end().len()..]);
        }
    }
    kept
}

/// Blanks the private host key where it lies on the boot partition, byte by byte: a file that is deleted stays readable on
/// FAT. The pattern does not find itself.
const SCRUB: &str = "for f in /boot/firmware/user-data /boot/user-data; do \
    if [ -e \"$f\" ]; then \
    awk '/ed25519_p[r]ivate/ { gsub(/./, \" \") } { print }' \"$f\" >/run/user-data && dd if=/run/user-data of=\"$f\" conv=notrunc,fsync 2>/dev/null; \
    fi; done; rm -f /run/user-data";

fn user_data(identity: &Identity) -> String {
    let mut data = json!({
        "hostname": identity.name,
        // The one user: the default one of the system, with its groups, under this name.
        "user": {
            "name": identity.user, "lock_passwd": true, "shell": "/bin/bash", "ssh_authorized_keys": identity.keys,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
        },
        "ssh_pwauth": false,
        "disable_root": true,
        "ssh_deletekeys": true,
        "ssh_genkeytypes": ["ed25519"],
        // The line with the private half has another one behind it, so that the rest can do without.
        "ssh_keys": { "ed25519_private": identity.host_key.private, "ed25519_public": identity.host_key.public },
        "bootcmd": [["cloud-init-per", "once", "bramble-name", "sh", "-c", own_name(identity)]],
        "runcmd": [["sh", "-c", shell(&identity.user)], ["systemctl", "enable", "--now", "ssh"], ["sh", "-c", SCRUB]],
    });
    if identity.swap_off
        && let Some(commands) = data["runcmd"].as_array_mut()
    {
        commands.push(json!(["sh", "-c", swap_off()]));
    }
    let mut add = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            data[key] = json!(value);
        }
    };
    add("timezone", &identity.timezone);
    add("locale", &identity.locale);
    if let Some(locale) = &identity.locale {
        // Debian's locale-gen makes those of this list, and cloud-init does not add to it.
        let list = format!(
            "[ ! -e /etc/locale.gen ] || sed -i 's/^# *\\({locale}\\( .*\\)\\{{0,1\\}}\\)$/\\1/' /etc/locale.gen"
        );
        if let Some(commands) = data["bootcmd"].as_array_mut() {
            commands.push(json!(["sh", "-c", list]));
        }
    }
    format!("#cloud-config\n{data:#}\n")
}

/// Lets the board's name resolve from the first boot on: sudo waits for that.
fn own_name(identity: &Identity) -> String {
    let name = &identity.name;
    format!("sed -i '/^127\\.0\\.1\\.1[[:space:]]/d' /etc/hosts; printf '127.0.1.1\\t%s\\n' {name} >>/etc/hosts")
}

/// Gives a user that the image has already a shell: cloud-init leaves that one, which may be nologin, as it is.
fn shell(user: &str) -> String {
    let user = shell_word(user);
    format!("case $(getent passwd {user} | cut -d: -f7) in */nologin | */false) usermod -s /bin/bash {user} ;; esac")
}

/// What an interface is called here: cloud-init's own writer for NetworkManager takes it for its name, whatever it is to match.
const LINK: &str = "eth0";

/// Netplan's form, version 2, of which NetworkManager and networkd both get their own.
fn network_config(identity: &Identity) -> String {
    let matching = match (&identity.mac, &identity.sides) {
        (_, Some(sides)) => json!({ "name": sides.outside }),
        (Some(mac), None) => json!({ "macaddress": mac }),
        (None, None) => json!({ "name": "e*" }),
    };
    let mut addresses = match &identity.address {
        Some(fixed) => json!({
            "dhcp4": false, "addresses": [fixed.address], "routes": [{ "to": "0.0.0.0/0", "via": fixed.gateway }],
            "nameservers": { "addresses": fixed.dns },
        }),
        None => json!({ "dhcp4": true }),
    };
    let mut network = json!({ "version": 2 });
    if let Some(Wifi { country, join: Some((ssid, key)) }) = &identity.wifi {
        addresses["regulatory-domain"] = json!(country);
        addresses["access-points"] = json!({ ssid: { "password": key } });
        network["wifis"] = json!({ "wlan0": addresses });
        // A cable is welcome.
        addresses = json!({ "dhcp4": true });
    }
    addresses["match"] = matching;
    addresses["optional"] = json!(network.get("wifis").is_some());
    network["ethernets"] = match &identity.sides {
        None => json!({ LINK: addresses }),
        Some(Sides { outside, inside, address }) => {
            let link = json!({
                "match": { "name": inside }, "dhcp4": false, "addresses": [address], "optional": true,
            });
            if outside.starts_with("wl") {
                json!({ inside: link })
            } else {
                json!({ outside: addresses, inside: link })
            }
        }
    };
    format!("{network:#}\n")
}
