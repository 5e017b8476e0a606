//! The section `hardware`, and what nodes have besides their boards.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cluster::PoeMib;
use crate::de::Spanned;
use crate::distribution::Setting;
use crate::hardware::Holds;
use crate::names::DeviceName;

/// What stands beside the boards, and what is attached to them. Parts are named by the words of the catalogue (`bramble
/// parts`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HardwareSection {
    /// Files with further parts, or with other figures of known ones.
    #[serde(default)]
    pub(crate) catalogue: Vec<Spanned<String>>,
    /// Switches, routers, chargers, and boards that are no nodes, by their names.
    #[serde(default)]
    pub(crate) devices: BTreeMap<DeviceName, Spanned<DeviceSection>>,
    /// What every node has that does not say otherwise.
    #[serde(default)]
    pub(crate) each: FittingSection,
    /// What is bought besides.
    #[serde(default)]
    pub(crate) others: Vec<Spanned<Short<LineSection>>>,
    /// Rules of `bramble design` whose findings you know and take.
    #[serde(default)]
    pub(crate) accept: Vec<Spanned<String>>,
}

/// Something that stands beside the boards.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceSection {
    /// What it is.
    #[schemars(required)]
    pub(crate) part: Option<Spanned<String>>,
    /// The device that its way out goes through; the network of the house if not given.
    pub(crate) uplink: Option<Spanned<String>>,
    /// What gives it power, if not the mains: a device, or a power supply.
    pub(crate) power: Option<Spanned<String>>,
    /// How the power of what hangs on it is switched.
    pub(crate) control: Option<Spanned<ControlSection>>,
    /// What is attached to it.
    #[serde(default)]
    pub(crate) with: Vec<Spanned<Short<LineSection>>>,
}

/// How power is switched from afar: one of `snmp`, `mikrotik`, `turing-pi`, `shelly`, `tasmota`, `command` and `wake-on-lan`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ControlSection {
    /// A switch that is managed by SNMP: `host`, or `host:port`.
    pub(crate) snmp: Option<Spanned<String>>,
    /// Which tables the switch has; those of RFC 3621 if not given.
    pub(crate) mib: Option<Spanned<PoeMib>>,
    /// A switch or router with RouterOS 7: its address, or the web address of its REST API.
    pub(crate) mikrotik: Option<Spanned<String>>,
    /// A Turing Pi 2: the address of its BMC.
    pub(crate) turing_pi: Option<Spanned<String>>,
    /// A smart plug or relay of Shelly: its address.
    pub(crate) shelly: Option<Spanned<String>>,
    /// A smart plug or relay with Tasmota: its address.
    pub(crate) tasmota: Option<Spanned<String>>,
    /// Anything else: a program of this machine with its arguments, in which `{action}` (`on`, `off`, `status`), `{node}` and
    /// `{outlet}` are filled in. For `status` it prints `on` or `off`, and the watts behind that if it knows them.
    pub(crate) command: Option<Spanned<Vec<String>>>,
    /// The board itself wakes up when its network card is told to.
    pub(crate) wake_on_lan: Option<Spanned<bool>>,
    /// The file with `community = …`, or `user = …` and `password = …`; `.bramble/power/NAME` if not given and there is one.
    pub(crate) credentials: Option<Spanned<String>>,
}

/// What a node has besides its board.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FittingSection {
    /// What gives it power: a device, or a power supply.
    pub(crate) power: Option<Spanned<String>>,
    /// The outlet, port or slot of `power` that it hangs on, as that counts them.
    pub(crate) outlet: Option<Spanned<Setting>>,
    /// How its own power is switched, if not by the device that gives it.
    pub(crate) control: Option<Spanned<ControlSection>>,
    /// Its PoE HAT.
    pub(crate) hat: Option<Spanned<String>>,
    /// The device that it is plugged into.
    pub(crate) switch: Option<Spanned<String>>,
    /// Its disks. What none of them says to hold is on the first.
    pub(crate) disks: Option<Vec<Spanned<Short<DiskSection>>>>,
    /// What else is attached to it: fans, heat sinks, cables.
    pub(crate) with: Option<Vec<Spanned<Short<LineSection>>>>,
}

/// A thing by its word alone, or with more about it.
#[derive(Debug)]
pub(crate) struct Short<T>(pub(crate) T);

/// What can be said by a word alone.
pub(crate) trait ByWord: From<String> {
    /// What is expected where it stands.
    const EXPECTED: &'static str;
}

impl ByWord for LineSection {
    const EXPECTED: &'static str = PART;
}

impl ByWord for DiskSection {
    const EXPECTED: &'static str = PART;
}

const PART: &str = "a part, or a map with `part`";

impl<'de, T: Deserialize<'de> + ByWord> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + ByWord> Visitor<'de> for WordOrMap<T> {
            type Value = Short<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Short<T>, E> {
                Ok(Short(T::from(word.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Short)
            }
        }
        deserializer.deserialize_any(WordOrMap(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Short<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrWord", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<T>()] })
    }
}

impl From<String> for LineSection {
    fn from(part: String) -> LineSection {
        LineSection { part, quantity: None }
    }
}

impl From<String> for DiskSection {
    fn from(part: String) -> DiskSection {
        DiskSection { part, adapter: None, holds: None }
    }
}

/// A part, or so many of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineSection {
    /// What.
    pub(crate) part: String,
    /// How many pieces, or packs; 1 if not given.
    pub(crate) quantity: Option<u32>,
}

/// A disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiskSection {
    /// What it is.
    pub(crate) part: String,
    /// What it is attached by.
    pub(crate) adapter: Option<String>,
    /// What is on it: `boot`, `system`, `state`, `volumes`.
    pub(crate) holds: Option<Vec<Holds>>,
}
