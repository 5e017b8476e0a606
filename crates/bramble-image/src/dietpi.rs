//! DietPi's own first boot (dietpi.com/docs/usage, "How to do an automatic base installation").

use std::io::{Read, Seek};

use bramble_shell::shell_word;

use crate::boot::BootFiles;
use crate::error::ImageError;
use crate::first_boot::add_kernel_args;
use crate::identity::Identity;

/// The users that DietPi has; it makes no others.
const USERS: [&str; 2] = ["dietpi", "root"];

pub(crate) fn write<R: Read + Seek>(boot: &BootFiles<'_, R>, identity: &Identity) -> Result<(), ImageError> {
    if !USERS.contains(&identity.user.as_str()) {
        return Err(ImageError::CannotSay {
            system: "DietPi",
            what: format!("to have the user `{}`; say `access: {{ user: dietpi }}`", identity.user),
        });
    }
    if identity.sides.is_some() {
        return Err(ImageError::CannotSay {
            system: "DietPi",
            what: "to be on two networks at its first boot; write the gateway with Raspberry Pi OS".to_owned(),
        });
    }
    let mut text = boot.read("dietpi.txt")?.unwrap_or_default();
    let mut set = |key: &str, value: &str| text = with_setting(&text, key, value);
    set("AUTO_SETUP_AUTOMATED", "1");
    set("AUTO_SETUP_NET_HOSTNAME", identity.name.as_str());
    // OpenSSH: Dropbear has host keys of another form.
    set("AUTO_SETUP_SSH_SERVER_INDEX", "-2");
    set("SOFTWARE_DISABLE_SSH_PASSWORD_LOGINS", "1");
    if identity.swap_off {
        set("AUTO_SETUP_SWAPFILE_SIZE", "0");
    }
    // It gives both users one password, and the one that everybody knows if none is told (dietpi-firstboot.bash). This one
    // nobody knows, and at the end there is none.
    set("AUTO_SETUP_GLOBAL_PASSWORD", &identity.password);
    for (setting, value) in [("AUTO_SETUP_TIMEZONE", &identity.timezone), ("AUTO_SETUP_LOCALE", &identity.locale)] {
        if let Some(value) = value {
            set(setting, value);
        }
    }
    if let Some(fixed) = &identity.address {
        let dns: Vec<String> = fixed.dns.iter().map(ToString::to_string).collect();
        set("AUTO_SETUP_NET_USESTATIC", "1");
        set("AUTO_SETUP_NET_STATIC_IP", &fixed.address.addr().to_string());
        set("AUTO_SETUP_NET_STATIC_MASK", &fixed.address.netmask().to_string());
        set("AUTO_SETUP_NET_STATIC_GATEWAY", &fixed.gateway.to_string());
        set("AUTO_SETUP_NET_STATIC_DNS", &dns.join(" "));
    }
    if let Some(wifi) = &identity.wifi {
        set("AUTO_SETUP_NET_WIFI_COUNTRY_CODE", &wifi.country);
        if let Some((ssid, key)) = &wifi.join {
            set("AUTO_SETUP_NET_WIFI_ENABLED", "1");
            let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
            let lines = [("aWIFI_SSID", ssid.as_str()), ("aWIFI_KEY", key), ("aWIFI_KEYMGR", "WPA-PSK")];
            let mut wifi = boot.read("dietpi-wifi.txt")?.unwrap_or_default();
            for (name, value) in lines {
                wifi = with_setting(&wifi, &format!("{name}[0]"), &quoted(value));
            }
            boot.write("dietpi-wifi.txt", &wifi)?;
        }
    }
    for key in &identity.keys {
        text = with_line(&text, &format!("AUTO_SETUP_SSH_PUBKEY={}", plain_key(key)?));
    }
    boot.write("dietpi.txt", &text)?;
    boot.write("Automation_Custom_PreScript.sh", &script(identity))?;
    // Run when all else is done. A `*` is no password, and still lets keys in where a locked user may not (sshd(8)).
    boot.write(
        "Automation_Custom_Script.sh",
        "#!/bin/sh\n# Written by bramble: nobody logs in by a password.\nusermod -p '*' root\nusermod -p '*' dietpi\n",
    )?;
    add_kernel_args(boot, "cmdline.txt", identity.kernel_args.iter().cloned())
}

/// A key without what DietPi's shell could take for its own: a comment of signs, or options, which it cannot have.
fn plain_key(key: &str) -> Result<String, ImageError> {
    let mut words = key.split_whitespace();
    let (kind, encoded) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|known| kind.starts_with(known)) {
        let (first, last) = (kind, key.split_whitespace().last().unwrap_or_default());
        let what =
            format!("to take a public key with options before it (`{first} … {last}`); name a file with the key alone");
        return Err(ImageError::CannotSay { system: "DietPi", what });
    }
    let harmless = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@._+=-".contains(&byte));
    let comment: Vec<&str> = words.filter(harmless).collect();
    Ok([&[kind, encoded], &*comment].concat().join(" "))
}

/// Run before the network is up: the host key, and then this script is blanked, since a file that is deleted stays
/// readable on FAT.
fn script(identity: &Identity) -> String {
    format!(
        "#!/bin/sh\n# Written by bramble: the host key of this board.\nmkdir -p /etc/ssh\n\
         # Dropbear would answer under another key until OpenSSH is there.\nsystemctl mask dropbear.service dropbear.socket\n\
         (umask 077; printf '%s' {} >/etc/ssh/ssh_host_ed25519_key)\necho {} >/etc/ssh/ssh_host_ed25519_key.pub\n\
         for f in /boot/firmware/Automation_Custom_PreScript.sh /boot/Automation_Custom_PreScript.sh; do\n    \
         [ ! -e \"$f\" ] || dd if=/dev/zero of=\"$f\" bs=1 count=\"$(wc -c <\"$f\")\" conv=notrunc,fsync 2>/dev/null\ndone\nexit 0\n",
        shell_word(&identity.host_key.private),
        shell_word(&identity.host_key.public)
    )
}

/// Sets the first line of a setting, also one that is commented out; further ones stay.
fn with_setting(text: &str, key: &str, value: &str) -> String {
    let wanted = format!("{key}={value}");
    let mut all = String::new();
    let is = |line: &str| line.trim_start_matches('#').split_once('=').is_some_and(|(known, _)| known == key);
    let mut done = false;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\r', '\n']);
        if !done && is(line) {
            done = true;
            all.push_str(&wanted);
            all.push_str(&whole[line.len()..]);
        } else {
            all.push_str(whole);
        }
    }
    if done { all } else { with_line(&all, &wanted) }
}

/// Adds a line, if it is not there, that ends as the others do.
fn with_line(text: &str, line: &str) -> String {
    if text.lines().any(|known| known == line) {
        return text.to_owned();
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    format!("{text}{gap}{line}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_byte_of_a_file_stays() {
        assert_eq!(with_setting("a=1\r\n#b=2\r\nc=3", "b", "x"), "a=1\r\nb=x\r\nc=3");
        assert_eq!(with_setting("a=1\r\nc=3", "b", "x"), "a=1\r\nc=3\r\nb=x\r\n");
        assert_eq!(with_setting("", "b", "x"), "b=x\n");
        assert_eq!(with_line("a\n\n", "b"), "a\n\nb\n");
        assert_eq!(with_line("a\r\nb\r\n", "b"), "a\r\nb\r\n");
    }
}
