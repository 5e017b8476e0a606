//! cloud-init's NoCloud on a boot partition (cloudinit.readthedocs.io, "NoCloud", "Module reference"). JSON is YAML.

use std::io::{Read, Seek};

use serde_json::{Value, json};

use crate::boot::BootFiles;
use crate::customise::Identity;
use crate::error::ImageError;

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
        let kept: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("ds=nocloud")).collect();
        let mut tokens = identity.kernel_args.clone();
        tokens.push(format!("ds=nocloud;i={}", identity.instance));
        boot.write(path, &bramble_state::with_tokens(&format!("{}{rest}", kept.join(" ")), &tokens))?;
    }
    Ok(())
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
        "preserve_hostname": false,
        // The one user: the default one of the system, with its groups, under this name.
        "user": {
            "name": identity.user, "lock_passwd": true, "ssh_authorized_keys": identity.keys,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
        },
        "ssh_pwauth": false,
        "disable_root": true,
        "ssh_deletekeys": true,
        "ssh_genkeytypes": ["ed25519"],
        // The line with the private half has another one behind it, so that the rest can do without.
        "ssh_keys": { "ed25519_private": identity.host_key.private, "ed25519_public": identity.host_key.public },
        "runcmd": [["systemctl", "enable", "--now", "ssh"], ["sh", "-c", SCRUB]],
    });
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
        data["bootcmd"] = json!([["sh", "-c", list]]);
    }
    format!("#cloud-config\n{data:#}\n")
}

/// Netplan's form, version 2, of which NetworkManager and networkd both get their own.
fn network_config(identity: &Identity) -> String {
    let matching = match &identity.mac {
        Some(mac) => json!({ "macaddress": mac }),
        None => json!({ "name": "e*" }),
    };
    let mut ethernet = json!({ "match": matching, "optional": false });
    match &identity.address {
        Some(fixed) => {
            ethernet["dhcp4"] = json!(false);
            ethernet["addresses"] = json!([fixed.address]);
            ethernet["routes"] = json!([{ "to": "0.0.0.0/0", "via": fixed.gateway }]);
            ethernet["nameservers"] = json!({ "addresses": fixed.dns });
        }
        None => ethernet["dhcp4"] = Value::Bool(true),
    }
    format!("{:#}\n", json!({ "version": 2, "ethernets": { "board": ethernet } }))
}
