//! Raspberry Pi's own first boot, `rpi-preseed`, which takes the place of cloud-init (rpi-preseed(5), schema/rpi-preseed.schema).

use std::io::{Read, Seek};

use crate::boot::BootFiles;
use crate::error::ImageError;
use crate::first_boot::add_kernel_args;
use crate::firstrun;
use crate::identity::Identity;

pub(crate) const FILE: &str = "rpi-preseed.toml";
/// What the file has no word for: the host key, an address in a Wi-Fi, the two sides of a gateway. It is run before the network
/// starts.
const SCRIPT: &str = "bramble-first-boot.sh";

pub(crate) fn write<R: Read + Seek>(boot: &BootFiles<'_, R>, identity: &Identity) -> Result<(), ImageError> {
    boot.write(FILE, &settings(identity))?;
    // Making a locale takes longer than a command before the network may.
    let rest = Identity { timezone: None, locale: None, ..identity.clone() };
    boot.write(SCRIPT, &firstrun::script(&rest, SCRIPT))?;
    add_kernel_args(boot, "cmdline.txt", identity.kernel_args.iter().cloned())
}

fn settings(identity: &Identity) -> String {
    let keys: Vec<String> = identity.keys.iter().map(|key| quoted(key)).collect();
    let mut text = format!(
        "# Written by bramble: who this board is.\nconfig_version = \"1.0\"\n\n[system]\nhostname = {}\n\n[user]\nname = {}\n\
         passwordless_sudo = true\n\n[ssh]\nenabled = true\npassword_authentication = false\nauthorized_keys = [{}]\n",
        quoted(identity.name.as_str()),
        quoted(&identity.user),
        keys.join(", ")
    );
    if identity.timezone.is_some() || identity.locale.is_some() {
        text.push_str("\n[locale]\n");
    }
    if let Some(timezone) = &identity.timezone {
        text.push_str(&format!("timezone = {}\n", quoted(timezone)));
    }
    if let Some(locale) = &identity.locale {
        text.push_str(&format!("locales = [{}]\nlang = {}\n", quoted(locale), quoted(locale)));
    }
    text.push_str(&format!("\n[runcmd]\nearly = [\"sh /boot/firmware/{SCRIPT}\"]\nearly_cmd_timeout = 25\n"));
    text
}

/// A basic string of TOML. Its reader knows two escapes; nothing here has other control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
