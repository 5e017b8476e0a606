//! The script that Raspberry Pi OS Bullseye and Bookworm run once (rpi-imager, src/imagewriter.cpp).

use std::io::{Read, Seek};

use bramble_shell::shell_word;

use crate::boot::BootFiles;
use crate::error::ImageError;
use crate::first_boot::{add_kernel_args, swap_off};
use crate::identity::{Identity, Static};

const SCRIPT: &str = "firstrun.sh";
/// systemd runs it instead of everything else, and boots again (systemd-run-generator(8)). It lies in one of two places, of
/// which only Bookworm has the first; a command that is not there is none. Written as rpi-imager does it, Bookworm's initrd
/// would move the script away, and leave a copy of the host key behind (raspberrypi-sys-mods, imager_fixup).
const RUN: [&str; 4] = [
    "systemd.run=-/boot/firmware/firstrun.sh",
    "systemd.run=-/boot/firstrun.sh",
    "systemd.run_success_action=reboot",
    "systemd.unit=kernel-command-line.target",
];

pub(crate) fn write<R: Read + Seek>(boot: &BootFiles<'_, R>, identity: &Identity) -> Result<(), ImageError> {
    boot.write(SCRIPT, &script(identity, SCRIPT))?;
    let run = RUN.map(str::to_owned);
    add_kernel_args(boot, "cmdline.txt", identity.kernel_args.iter().cloned().chain(run))
}

/// Writes the script, which lies on the boot partition under this name.
pub(crate) fn script(identity: &Identity, file: &str) -> String {
    let mut text = "#!/bin/sh\n# Written by bramble: who this board is. Run once, at its first boot.\n".to_owned();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={}\n", shell_word(value)));
    set("script", file);
    set("name", identity.name.as_str());
    set("user", &identity.user);
    set("keys", &identity.keys.join("\n"));
    set("private", &identity.host_key.private);
    set("public", &identity.host_key.public);
    set("timezone", identity.timezone.as_deref().unwrap_or_default());
    set("locale", identity.locale.as_deref().unwrap_or_default());
    let fixed = identity.address.as_ref();
    set("address", &fixed.map(|fixed| fixed.address.to_string()).unwrap_or_default());
    set("gateway", &fixed.map(|fixed| fixed.gateway.to_string()).unwrap_or_default());
    let dns = |fixed: &Static| fixed.dns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    set("dns", &fixed.map(dns).unwrap_or_default());
    let sides = identity.sides.as_ref();
    set("inside", sides.map_or("", |sides| &sides.inside));
    set("inside_address", &sides.map(|sides| sides.address.to_string()).unwrap_or_default());
    let wifi = identity.wifi.as_ref();
    let join = wifi.and_then(|wifi| wifi.join.as_ref());
    set("country", wifi.map_or("", |wifi| &wifi.country));
    set("ssid", join.map_or("", |(ssid, _)| ssid));
    set("psk", join.map_or("", |(_, key)| key));
    text.push_str(include_str!("firstrun.sh"));
    if identity.swap_off {
        text.push_str(&swap_off());
        text.push('\n');
    }
    text.push_str(include_str!("firstrun_end.sh"));
    text
}
