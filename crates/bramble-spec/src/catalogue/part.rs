//! Kinds of parts, and the figures that each has. What is not known is left out, never guessed.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::quantity::{BitRate, ByteRate, Celsius, Length, Power, Price, Seconds, Size, Voltage};

/// Where the figures of a part come from: a word of `sources` for all of them, or one for each, and `rest` for the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct From(pub BTreeMap<String, String>);

/// The key of [`From`] for all figures that have no source of their own.
const REST: &str = "rest";
/// The source of figures that somebody gave anew without saying where they come from.
const OWN: &str = "own";

impl From {
    /// The source of a figure.
    pub fn of(&self, figure: &str) -> Option<&str> {
        self.0.get(figure).or_else(|| self.0.get(REST)).map(String::as_str)
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str).filter(|word| *word != OWN)
    }

    /// The sources of a part whose figures `own` are given anew.
    fn over(&self, own: &[&str], base: &From) -> From {
        let mut all = base.0.clone();
        for figure in own {
            all.insert((*figure).to_owned(), self.of(figure).unwrap_or(OWN).to_owned());
        }
        From(all)
    }
}

impl<'de> Deserialize<'de> for From {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<From, D::Error> {
        struct Sources;
        impl<'de> Visitor<'de> for Sources {
            type Value = From;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source, or a source for each figure")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<From, E> {
                Ok(From([(REST.to_owned(), text.to_owned())].into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<From, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(From)
            }
        }
        deserializer.deserialize_any(Sources)
    }
}

impl JsonSchema for From {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "From".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "object", "additionalProperties": { "type": "string" } }] })
    }
}

/// A part of which some figures may be given anew by another file.
pub(crate) trait Overlay: Sized {
    /// This one where it says something, the other one elsewhere.
    fn over(&self, base: &Self) -> Self;
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        // Entries of boards are seen only as boards.
        #[allow(unreachable_pub)]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The word for it.
            pub id: String,
            /// The name on its box.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub name: Option<String>,
            $($(#[$field_doc])*
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,)*
            /// What one costs.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub price: Option<Price>,
            /// Where its figures come from.
            #[serde(default)]
            pub from: From,
        }

        impl $name {
            /// The name on its box, or the word for it.
            #[allow(unreachable_pub)]
            pub fn label(&self) -> &str {
                self.name.as_deref().unwrap_or(&self.id)
            }

            /// The names of the figures that it gives.
            #[allow(unreachable_pub)]
            pub fn figures(&self) -> Vec<&'static str> {
                let mut all = Vec::new();
                $(if self.$field.is_some() {
                    all.push(stringify!($field));
                })*
                if self.price.is_some() {
                    all.push("price");
                }
                all
            }
        }

        impl Overlay for $name {
            fn over(&self, base: &Self) -> Self {
                $name {
                    id: self.id.clone(),
                    name: self.name.clone().or_else(|| base.name.clone()),
                    $($field: self.$field.clone().or_else(|| base.$field.clone()),)*
                    price: self.price.or(base.price),
                    from: self.from.over(&self.figures(), &base.from),
                }
            }
        }
    };
}

/// A processor architecture, by Debian's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit Arm.
    Arm64,
    /// 64-bit x86.
    Amd64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Arm64 => "arm64",
            Arch::Amd64 => "amd64",
        })
    }
}

/// What it takes to boot from USB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsbBoot {
    /// Nothing.
    Yes,
    /// A bit that is set once, for good.
    Otp,
    /// The order in its EEPROM.
    Eeprom,
    /// It cannot.
    No,
}

/// How power comes over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Poe {
    /// IEEE 802.3af.
    Af,
    /// IEEE 802.3at.
    At,
    /// 24 V that is simply there.
    #[serde(rename = "passive-24v")]
    Passive24,
}

impl Poe {
    /// The most that a port gives (IEEE 802.3af and 802.3at, at the switch).
    pub fn at_port(self) -> Option<Power> {
        match self {
            Poe::Af => Some(Power(15_400)),
            Poe::At => Some(Power(30_000)),
            Poe::Passive24 => None,
        }
    }

    /// The most that arrives behind 100 m of cable (the same standards, at the device).
    pub fn at_device(self) -> Option<Power> {
        match self {
            Poe::Af => Some(Power(12_950)),
            Poe::At => Some(Power(25_500)),
            Poe::Passive24 => None,
        }
    }

    /// The least voltage at the device.
    pub fn volts(self) -> Voltage {
        match self {
            Poe::Af => Voltage(37_000),
            Poe::At => Voltage(42_500),
            Poe::Passive24 => Voltage(24_000),
        }
    }
}

impl fmt::Display for Poe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Poe::Af => "802.3af",
            Poe::At => "802.3at",
            Poe::Passive24 => "passive 24 V",
        })
    }
}

/// A plug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connector {
    /// Micro USB.
    MicroUsb,
    /// USB-C.
    UsbC,
}

/// A kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// A SD or microSD card.
    Sd,
    /// A SATA drive without moving parts.
    SataSsd,
    /// A NVMe drive.
    NvmeSsd,
    /// A USB stick.
    UsbStick,
    /// Memory soldered to the board.
    Emmc,
}

impl DiskKind {
    /// Whether the flash wears as that of cards does.
    pub fn is_card(self) -> bool {
        matches!(self, DiskKind::Sd | DiskKind::UsbStick | DiskKind::Emmc)
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskKind::Sd => "SD card",
            DiskKind::SataSsd => "SATA SSD",
            DiskKind::NvmeSsd => "NVMe SSD",
            DiskKind::UsbStick => "USB stick",
            DiskKind::Emmc => "eMMC",
        })
    }
}

/// Whether a USB adapter can do UAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UasQuality {
    /// It can.
    Good,
    /// It hangs, unless the kernel is told to do without.
    Quirk,
}

part! {
    /// What boards of one kind have in common.
    Family {
        /// Power with nothing to do, nothing attached.
        idle: Power,
        /// Power with all cores busy, nothing attached.
        load: Power,
        /// What its supply has to be able to give, for the board and all that hangs on its USB ports.
        worst: Power,
        /// The speed of its Ethernet link; none without Ethernet.
        ethernet: BitRate,
        /// What was measured over it.
        throughput: BitRate,
        /// The generation of its fastest USB port: 2 or 3.
        usb: u8,
        /// Whether it has the four pins that PoE HATs use.
        poe: bool,
        /// Whether a NVMe drive can be attached.
        nvme: bool,
        /// What it takes to boot from USB.
        usb_boot: UsbBoot,
        /// The temperature at which the processor is slowed down.
        throttle: Celsius,
        /// The temperature at which it is slowed down a little.
        soft_limit: Celsius,
        /// How long it runs at full load, without any cooling, until it is slowed down.
        bare: Seconds,
        /// The same with a heat sink.
        heatsink: Seconds,
    }
}

part! {
    /// A board as the catalogue's files have it.
    BoardEntry {
        /// The family whose figures it has.
        family: String,
        /// What its processor runs.
        arch: Arch,
        /// Processor cores.
        cores: u32,
        /// Memory in MiB as sold.
        memory: u32,
    }
}

impl BoardEntry {
    pub(crate) fn board(&self, family: Option<Family>) -> Option<Board> {
        Some(Board {
            id: self.id.clone(),
            name: self.label().to_owned(),
            arch: self.arch?,
            cores: self.cores,
            memory: self.memory,
            price: self.price,
            from: self.from.clone(),
            family,
        })
    }
}

/// A board that can be bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Board {
    /// The word for it in a cluster file.
    pub id: String,
    /// The name on its box.
    pub name: String,
    /// What its processor runs.
    pub arch: Arch,
    /// Processor cores, where known.
    pub cores: Option<u32>,
    /// Memory in MiB as sold, where known.
    pub memory: Option<u32>,
    /// What it costs.
    pub price: Option<Price>,
    /// Where its own figures come from.
    pub from: From,
    /// What it has in common with its kind.
    pub family: Option<Family>,
}

impl Board {
    /// The name on its box.
    pub fn label(&self) -> &str {
        &self.name
    }

    /// The names of the figures that it gives itself, without those of its family.
    pub fn figures(&self) -> Vec<&'static str> {
        let given =
            [("cores", self.cores.is_some()), ("memory", self.memory.is_some()), ("price", self.price.is_some())];
        given.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect()
    }

    /// A figure of its family.
    pub fn figure<T>(&self, figure: impl FnOnce(&Family) -> Option<T>) -> Option<T> {
        self.family.as_ref().and_then(figure)
    }
}

impl Overlay for Board {
    /// Boards are made of entries that were put together already.
    fn over(&self, _: &Self) -> Self {
        self.clone()
    }
}

part! {
    /// What sits on a board and takes power out of its Ethernet cable.
    Hat {
        /// What it asks of the switch.
        standard: Poe,
        /// The least voltage that it works with.
        input_min: Voltage,
        /// The highest voltage that it works with.
        input_max: Voltage,
        /// The power that it gives the board.
        output: Power,
        /// The families that it fits.
        fits: Vec<String>,
        /// Whether a fan is on it.
        fan: bool,
        /// How much of the power arrives at the board, in percent.
        efficiency: u8,
    }
}

part! {
    /// A power supply for one board.
    Supply {
        /// The power that it gives.
        output: Power,
        /// Its voltage.
        volts: Voltage,
        /// Its plug.
        connector: Connector,
    }
}

part! {
    /// A power supply with several ports.
    Charger {
        /// How many ports it has.
        ports: u32,
        /// The power that one port gives.
        port: Power,
        /// The power that all give together.
        output: Power,
    }
}

part! {
    /// A switch or a router.
    NetworkDevice {
        /// How many Ethernet ports it has.
        ports: u32,
        /// The speed of a port.
        speed: BitRate,
        /// What it moves in all, both directions counted.
        capacity: BitRate,
        /// How many ports give power.
        poe_ports: u32,
        /// What they give together.
        poe_budget: Power,
        /// How.
        poe: Poe,
        /// What one of them gives, if that is less than the standard allows.
        poe_port: Power,
        /// What it uses itself.
        own: Power,
        /// `mains`, or `usb` if it takes its power from a charger.
        power: String,
        /// How it can be told something: `none`, `web`, `snmp`, `routeros`, `edgeos`.
        control: String,
    }
}

impl NetworkDevice {
    /// What it moves in all: as published, or both directions of every port.
    pub fn switching(&self) -> Option<BitRate> {
        self.capacity.or_else(|| Some(BitRate(self.speed?.0 * 2 * u64::from(self.ports?))))
    }

    /// What one of its ports gives.
    pub fn at_port(&self) -> Option<Power> {
        self.poe_port.or_else(|| self.poe?.at_port())
    }
}

part! {
    /// A card, a stick or a drive.
    Medium {
        /// What it is.
        kind: DiskKind,
        /// Its size.
        size: Size,
        /// How fast it is read.
        read: ByteRate,
        /// How fast it is written.
        write: ByteRate,
        /// What can be written to it before it is worn out, as published.
        endurance: Size,
        /// Power while it is busy.
        load: Power,
    }
}

part! {
    /// What is between a drive and a USB port.
    Adapter {
        /// Its vendor and product id.
        usb_id: String,
        /// The chip in it.
        chip: String,
        /// Whether it can do UAS.
        uas: UasQuality,
    }
}

part! {
    /// A fan.
    Fan {
        /// Its size in millimetres.
        size: u32,
        /// Its power.
        load: Power,
        /// Its voltage.
        volts: Voltage,
        /// The families that it is made for; any if not given.
        fits: Vec<String>,
    }
}

part! {
    /// Heat sinks.
    Heatsink {
        /// The families that it is made for.
        fits: Vec<String>,
        /// How many boards one pack is for.
        boards: u32,
    }
}

part! {
    /// A case.
    Case {
        /// How many boards it holds.
        boards: u32,
        /// How many fans are in it.
        fans: u32,
    }
}

part! {
    /// A cable.
    Cable {
        /// `ethernet`, `usb-c` or `micro-usb`.
        kind: String,
        /// How long it is.
        length: Length,
        /// How many are in a pack.
        pack: u32,
    }
}

part! {
    /// Something else that is bought.
    Other {
        /// Its power, if it has any.
        load: Power,
    }
}

part! {
    /// What software asks of a node.
    Need {
        /// Memory that is used with nothing to do, system included, in MiB.
        idle: u32,
        /// Memory that is used while the cluster works, in MiB.
        busy: u32,
        /// The smallest disk that does.
        disk: Size,
        /// What is written to the disk that holds the state, in a day.
        writes: Size,
    }
}

macro_rules! parts {
    ($($kind:ident: $type:ty = $word:literal),*) => {
        /// Anything that can be bought.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Part {
            $(#[doc = concat!("A ", $word, ".")]
            $kind($type),)*
        }

        /// A kind of part.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum PartKind {
            $(#[doc = concat!("A ", $word, ".")]
            #[serde(rename = $word)]
            $kind,)*
        }

        impl fmt::Display for PartKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(PartKind::$kind => $word),* })
            }
        }

        impl Part {
            /// The word for it.
            pub fn id(&self) -> &str {
                match self { $(Part::$kind(part) => &part.id),* }
            }

            /// What it is.
            pub fn kind(&self) -> PartKind {
                match self { $(Part::$kind(_) => PartKind::$kind),* }
            }

            /// What one, or one pack, costs.
            pub fn price(&self) -> Option<Price> {
                match self { $(Part::$kind(part) => part.price),* }
            }

            /// Where its figures come from.
            pub fn from(&self) -> &From {
                match self { $(Part::$kind(part) => &part.from),* }
            }

            /// The name on its box.
            pub fn name(&self) -> &str {
                match self { $(Part::$kind(part) => part.label()),* }
            }

            /// The names of the figures that it gives.
            pub fn figures(&self) -> Vec<&'static str> {
                match self { $(Part::$kind(part) => part.figures()),* }
            }

            /// This part, where it says something, over another of the same kind.
            pub(crate) fn over(&self, base: &Part) -> Option<Part> {
                match (self, base) {
                    $((Part::$kind(part), Part::$kind(base)) => Some(Part::$kind(part.over(base))),)*
                    _ => None,
                }
            }
        }
    };
}

parts! {
    Board: Board = "board",
    Hat: Hat = "HAT",
    Supply: Supply = "power supply",
    Charger: Charger = "charger",
    Switch: NetworkDevice = "switch",
    Router: NetworkDevice = "router",
    Disk: Medium = "disk",
    Adapter: Adapter = "adapter",
    Fan: Fan = "fan",
    Heatsink: Heatsink = "heat sink",
    Case: Case = "case",
    Cable: Cable = "cable",
    Other: Other = "other part"
}

impl Part {
    /// The power that it takes from whatever it is attached to.
    pub fn load(&self) -> Option<Power> {
        match self {
            Part::Disk(part) => part.load,
            Part::Fan(part) => part.load,
            Part::Other(part) => part.load,
            _ => None,
        }
    }
}
