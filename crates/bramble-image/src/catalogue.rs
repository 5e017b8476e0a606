//! Lists of images, as Raspberry Pi Imager reads them (rpi-imager, doc/json-schema/os-list-schema.json).

use bramble_spec::{Arch, Sha256Digest};
use serde_json::Value;

/// An image that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it is called, such as `Raspberry Pi OS Lite (64-bit)`.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The day on which it was published, `YYYY-MM-DD`.
    pub released: String,
    /// How many bytes are fetched, if it is told.
    pub packed_size: Option<u64>,
    /// The digest of what is fetched, if it is told.
    pub packed: Option<Sha256Digest>,
    /// How many bytes it has, unpacked.
    pub size: u64,
    /// The digest of it, unpacked.
    pub unpacked: Sha256Digest,
    /// Tags of the boards that it is for, such as `pi4-64bit`; none if it does not say.
    pub devices: Vec<String>,
    /// How it is told at its first boot who it is: `systemd`, `cloudinit`, `cloudinit-rpi`; others, or none, if it is not.
    pub first_boot: String,
    /// The architecture, if it is told: `armv8`, `armhf`, `armel`.
    pub architecture: Option<String>,
}

/// What a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Images, in their order.
    pub offers: Vec<Offer>,
    /// Addresses of lists that belong to it.
    pub more: Vec<String>,
}

/// Lists within lists, deeper than any menu.
const DEPTH: u32 = 8;

/// Reads a list. Entries that are no images with a digest, such as `Erase`, are left out.
pub fn catalogue(text: &str) -> Result<Catalogue, serde_json::Error> {
    let whole: Value = serde_json::from_str(text)?;
    let mut found = Catalogue::default();
    take(whole.get("os_list").unwrap_or(&whole), &mut found, DEPTH);
    Ok(found)
}

fn take(list: &Value, into: &mut Catalogue, depth: u32) {
    for entry in list.as_array().into_iter().flatten() {
        if let Some(below) = entry.get("subitems") {
            if depth > 0 {
                take(below, into, depth - 1);
            }
        } else if let Some(url) = entry.get("subitems_url").and_then(Value::as_str) {
            if is_web(url) {
                into.more.push(url.to_owned());
            }
        } else if let Some(offer) = offer(entry) {
            into.offers.push(offer);
        }
    }
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn offer(entry: &Value) -> Option<Offer> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let digest = |key: &str| text(key).and_then(|digest| digest.parse().ok());
    let number = |key: &str| entry.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
    let devices = entry.get("devices").and_then(Value::as_array);
    Some(Offer {
        name: text("name")?,
        url: text("url").filter(|url| is_web(url))?,
        released: text("release_date").unwrap_or_default(),
        packed_size: number("image_download_size"),
        packed: digest("image_download_sha256"),
        size: number("extract_size")?,
        unpacked: digest("extract_sha256")?,
        devices: devices.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        first_boot: text("init_format").unwrap_or_default(),
        architecture: text("architecture"),
    })
}

impl Offer {
    /// Whether it can be told at its first boot who it is.
    pub fn can_be_told(&self) -> bool {
        ["systemd", "cloudinit", "cloudinit-rpi", "rpi-preseed"].contains(&self.first_boot.as_str())
            || self.name.to_lowercase().contains("dietpi")
    }

    /// Whether it is for a board, by the board's name in a cluster file. One that does not say what it is for is for all
    /// boards with its architecture.
    pub fn is_for(&self, board: &str, arch: Arch) -> bool {
        match generation(board) {
            Some(generation) if !self.devices.is_empty() => self.devices.iter().any(|tag| {
                // What is for the same boards with 32 bits is another system.
                tag.strip_prefix(generation)
                    .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()) && rest != "-32bit")
            }),
            // Only boards of Raspberry Pi have tags.
            None if !self.devices.is_empty() => false,
            _ => arch == Arch::Arm64,
        }
    }
}

/// The tag of a board's generation, in front of `-64bit` and `-32bit`.
fn generation(board: &str) -> Option<&'static str> {
    let of = [
        ("rpi-5", "pi5"),
        ("rpi-cm5", "pi5"),
        ("rpi-4", "pi4"),
        ("rpi-cm4", "pi4"),
        ("rpi-3", "pi3"),
        ("rpi-zero-2", "pi3"),
    ];
    of.iter().find(|(start, _)| board.starts_with(start)).map(|(_, tag)| *tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "6939d39cbbfbe85c68dae55f1b2375f17e21fe047b8dc1f84aa7d3c002047afb";

    #[test]
    fn images_are_found_at_every_depth_and_what_is_none_is_left_out() {
        let image = |name: &str, more: &str| {
            format!(
                r#"{{"name":"{name}","url":"https://example.org/{name}.img.xz","extract_size":9,"extract_sha256":"{DIGEST}"{more}}}"#
            )
        };
        let text = format!(
            r#"{{"imager":{{"latest_version":"2.0"}},"os_list":[
                {},
                {{"name":"other","subitems":[{{"name":"deeper","subitems":[{}]}},{{"name":"far","subitems_url":"https://example.org/far.json"}}]}},
                {{"name":"Erase","url":"internal://format","extract_size":0}},
                {{"name":"no digest","url":"https://example.org/x.img.xz","extract_size":9}},
                {{"name":"no place","url":"file:///etc/passwd","extract_size":9,"extract_sha256":"{DIGEST}"}}
            ]}}"#,
            image("a", r#","init_format":"systemd","devices":["pi4-64bit","pi3-64bit"]"#),
            image("b", r#","init_format":"none","image_download_sha256":"","architecture":"armv8""#),
        );
        let found = catalogue(&text).unwrap();
        assert_eq!(found.offers.iter().map(|offer| offer.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found.more, ["https://example.org/far.json"]);
        let [a, b] = &found.offers[..] else { panic!() };
        assert!(a.can_be_told() && !b.can_be_told());
        assert!(b.packed.is_none());
        for (board, fits) in [
            ("rpi-4b-4gb", true),
            ("rpi-cm4-2gb", true),
            ("rpi-zero-2w", true),
            ("rpi-5-8gb", false),
            ("rock-pi-4c", false),
        ] {
            assert_eq!(a.is_for(board, Arch::Arm64), fits, "{board}");
        }
        assert!(b.is_for("rock-pi-4c", Arch::Arm64) && !b.is_for("rock-pi-x-2gb", Arch::Amd64));
        // A list of another program, and one that is no list.
        assert_eq!(catalogue(&format!("[{}]", image("c", ""))).unwrap().offers.len(), 1);
        assert_eq!(catalogue("{}").unwrap(), Catalogue::default());
        assert!(catalogue("<html>").is_err());
    }

    #[test]
    fn lists_within_lists_end() {
        let text = format!("{}{}", r#"[{"subitems":"#.repeat(60), "[]".to_owned() + &"}]".repeat(60));
        assert_eq!(catalogue(&text).unwrap(), Catalogue::default());
    }
}
