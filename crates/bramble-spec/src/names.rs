//! Names, addresses, versions and digests as types of their own.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::de::HELP;

/// Why a text is not what it should be; `help` says what it should look like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{HELP}{help}")]
pub struct Invalid {
    message: String,
    help: &'static str,
}

impl Invalid {
    pub(crate) fn new(message: String, help: &'static str) -> Self {
        Invalid { message, help }
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                let check: fn(String) -> Result<String, Invalid> = $check;
                check(text).map($name)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
pub(crate) use text_type;

/// A DNS label of RFC 1123: Kubernetes node names and Linux hostnames both take it.
fn dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

const LABEL_HELP: &str = "use lower-case letters, digits and `-`, at most 63, with a letter or digit at both ends";

text_type! {
    /// The name of a cluster; also the name of its context in a kubeconfig.
    ClusterName, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    |text| if dns_label(&text) { Ok(text) } else {
        Err(Invalid::new(format!("`{text}` is not a cluster name"), LABEL_HELP))
    }
}

text_type! {
    /// The id that a cluster is given at its birth: 32 random hexadecimal digits.
    ClusterId, "^[0-9a-f]{32}$",
    |text| if text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        Ok(text)
    } else {
        Err(Invalid::new(format!("`{text}` is not the id of a cluster"), "it has 32 hexadecimal digits"))
    }
}

impl ClusterId {
    /// Makes the id of a cluster that is about to be born.
    pub fn of_birth(random: [u8; 16]) -> ClusterId {
        ClusterId(hex(&random))
    }

    /// The first digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

text_type! {
    /// The name of a node: its hostname and its name in Kubernetes (RFC 1123 label).
    NodeName, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    |text| if dns_label(&text) { Ok(text) } else {
        Err(Invalid::new(format!("`{text}` is not a node name"), LABEL_HELP))
    }
}

text_type! {
    /// The name of a switch, a router, a charger, or of a board that is no node.
    DeviceName, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    |text| if dns_label(&text) { Ok(text) } else {
        Err(Invalid::new(format!("`{text}` is not the name of a device"), LABEL_HELP))
    }
}

text_type! {
    /// An Ethernet address in lower case with colons.
    MacAddr, "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$",
    |text| {
        let octets: Vec<&str> = text.split([':', '-']).collect();
        let octet = |o: &&str| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit());
        if octets.len() == 6 && octets.iter().all(octet) {
            Ok(octets.join(":").to_ascii_lowercase())
        } else {
            Err(Invalid::new(format!("`{text}` is not a MAC address"), "write it like \"dc:a6:32:00:00:01\""))
        }
    }
}

text_type! {
    /// A SHA-256 digest in lower-case hexadecimal.
    Sha256Digest, "^[0-9A-Fa-f]{64}$",
    |text| if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Invalid::new(format!("`{text}` is not a SHA-256 digest"), "give its 64 hexadecimal digits, as sha256sum prints them"))
    }
}

text_type! {
    /// The permission bits of a file in octal, such as "0644".
    FileMode, "^0?[0-7]{3,4}$",
    |text| {
        let digits = text.trim_start_matches('0');
        if (3..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b)) && digits.len() <= 4 {
            Ok(format!("{digits:0>3}"))
        } else {
            Err(Invalid::new(format!("`{text}` is not a file mode"), "write it in octal, like \"0644\""))
        }
    }
}

/// Bytes as lower-case hexadecimal digits, two each.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A Kubernetes version: a minor such as `1.36` (the newest patch of it) or a patch such as `1.36.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubeVersion {
    /// The `36` of `1.36.2`; the major version is always 1.
    pub minor: u32,
    /// The `2` of `1.36.2`.
    pub patch: Option<u32>,
}

impl JsonSchema for KubeVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KubeVersion".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^v?1\.[0-9]+(\.[0-9]+)?$",
            "description": "A Kubernetes version: a minor such as 1.36 (the newest patch of it) or a patch such as 1.36.2." })
    }
}

impl TryFrom<String> for KubeVersion {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl FromStr for KubeVersion {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                format!("`{text}` is not a Kubernetes version"),
                "write a minor version like \"1.36\" or a patch version like \"1.36.2\"",
            )
        };
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let number = |part: &str| part.parse::<u32>().map_err(|_| invalid());
        if parts.next() != Some("1") {
            return Err(invalid());
        }
        let minor = number(parts.next().ok_or_else(invalid)?)?;
        let patch = parts.next().map(number).transpose()?;
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(KubeVersion { minor, patch })
    }
}

impl From<KubeVersion> for String {
    fn from(version: KubeVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}
