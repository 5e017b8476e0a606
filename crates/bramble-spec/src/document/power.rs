//! The section `power`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ByWord, Short};
use crate::de::Spanned;

/// Where the boards' power comes from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PowerSection {
    /// The UPS, as Network UPS Tools have it: `ups@host`. When its battery is low, all boards go off in order.
    pub(crate) nut: Option<Spanned<Short<NutSection>>>,
}

/// A UPS that a server of Network UPS Tools watches.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NutSection {
    /// `ups@host`, or `ups@host:port`.
    pub(crate) ups: String,
    /// The user of upsd.users that may watch; `monuser` if not given, as NAS systems have it.
    pub(crate) user: Option<Spanned<String>>,
    /// The file with the user's password; without it, `secret` is used, as NAS systems have it.
    pub(crate) password_file: Option<Spanned<String>>,
}

impl From<String> for NutSection {
    fn from(ups: String) -> NutSection {
        NutSection { ups, ..NutSection::default() }
    }
}

impl ByWord for NutSection {
    const EXPECTED: &'static str = "a UPS, or a map with `ups`";
}
