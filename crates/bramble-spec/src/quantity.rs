//! Quantities with their units, as whole numbers of the smallest unit that is written: no sum ever rounds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::de::HELP;

/// A number such as `15.3`, times a power of ten, if the result is whole and fits.
fn exactly(number: &str, scale: u64) -> Option<u64> {
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !digits(rest)) {
        return None;
    }
    let places = 10u64.checked_pow(u32::try_from(rest.len()).ok()?)?;
    let parts = if rest.is_empty() { 0 } else { rest.parse::<u64>().ok()?.checked_mul(scale)? };
    if parts % places != 0 {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(parts / places)
}

/// A count of thousandths, or of any other part, as a person writes it: `12.5`, `60`.
fn written(f: &mut fmt::Formatter<'_>, value: u64, scale: u64) -> fmt::Result {
    write!(f, "{}", value / scale)?;
    let rest = value % scale;
    if rest > 0 {
        let places = scale.ilog10() as usize;
        let text = format!("{rest:0places$}");
        write!(f, ".{}", text.trim_end_matches('0'))?;
    }
    Ok(())
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $example:literal, [$(($unit:literal, $scale:literal)),+]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u64);

        impl $name {
            /// The units, from the largest to the smallest, each with how many of the smallest parts it is.
            const UNITS: &'static [(&'static str, u64)] = &[$(($unit, $scale)),+];

            /// This many of them.
            pub fn times(self, count: u64) -> $name {
                $name(self.0.saturating_mul(count))
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
                let number = &text[..text.len() - unit.len()];
                Self::UNITS
                    .iter()
                    .find(|(name, _)| *name == unit.trim())
                    .and_then(|(_, scale)| exactly(number, *scale))
                    .map($name)
                    .ok_or_else(|| {
                        let units: Vec<&str> = Self::UNITS.iter().map(|(name, _)| *name).collect();
                        format!("`{text}` has no unit that fits here, or too many digits{HELP}write it like {}; units: {}", $example, units.join(", "))
                    })
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let units = Self::UNITS;
                let (unit, scale) = units
                    .iter()
                    .find(|(_, scale)| self.0 >= *scale)
                    .or(units.first())
                    .copied()
                    .unwrap_or(("", 1));
                written(f, self.0, scale)?;
                write!(f, " {unit}")
            }
        }

        impl Add for $name {
            type Output = $name;
            fn add(self, other: $name) -> $name {
                $name(self.0.saturating_add(other.0))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = $name>>(all: I) -> $name {
                all.fold($name(0), Add::add)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let units: Vec<&str> = Self::UNITS.iter().map(|(name, _)| *name).collect();
                json_schema!({ "type": "string", "pattern": format!("^[0-9]+(\\.[0-9]+)? ?({})$", units.join("|")) })
            }
        }
    };
}

quantity! {
    /// Electrical power in milliwatts.
    Power, "15.3 W", [("W", 1000), ("mW", 1)]
}

quantity! {
    /// Voltage in millivolts.
    Voltage, "48 V", [("V", 1000), ("mV", 1)]
}

quantity! {
    /// The rate of a link in bits per second.
    BitRate, "1 Gbps", [("Gbps", 1_000_000_000), ("Mbps", 1_000_000)]
}

quantity! {
    /// The rate of a disk in bytes per second.
    ByteRate, "30 MB/s", [("MB/s", 1_000_000), ("KB/s", 1_000)]
}

quantity! {
    /// The size of a disk, or what is written to it, in bytes; units are decimal, as on the box.
    Size, "64 GB", [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)]
}

quantity! {
    /// A length of time in seconds.
    Seconds, "60 s", [("s", 1)]
}

quantity! {
    /// A temperature in degrees Celsius.
    Celsius, "80 °C", [("°C", 1)]
}

quantity! {
    /// A length in millimetres.
    Length, "0.3 m", [("m", 1000), ("mm", 1)]
}

/// A currency that prices are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Currency {
    /// `$`
    Dollar,
    /// `€`
    Euro,
    /// `£`
    Pound,
}

impl Currency {
    const ALL: [Currency; 3] = [Currency::Dollar, Currency::Euro, Currency::Pound];

    /// The sign in front of an amount.
    pub fn sign(self) -> char {
        match self {
            Currency::Dollar => '$',
            Currency::Euro => '€',
            Currency::Pound => '£',
        }
    }
}

/// A price in hundredths of its currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Price {
    /// The currency.
    pub currency: Currency,
    /// Hundredths of it.
    pub cents: u64,
}

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Price, String> {
        Currency::ALL
            .into_iter()
            .find_map(|currency| {
                let number = text.strip_prefix(currency.sign())?;
                Some(Price { currency, cents: exactly(number, 100)? })
            })
            .ok_or_else(|| format!("`{text}` is not a price{HELP}write it like $12.50, €12.50 or £12.50"))
    }
}

impl TryFrom<String> for Price {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Price> for String {
    fn from(price: Price) -> String {
        price.to_string()
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}.{:02}", self.currency.sign(), self.cents / 100, self.cents % 100))
    }
}

impl JsonSchema for Price {
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[$€£][0-9]+(\.[0-9]{1,2})?$" })
    }
}

/// Amounts of money, summed for each currency on its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(into = "String")]
pub struct Money(pub BTreeMap<Currency, u64>);

impl Money {
    /// Adds so many of something at a price.
    pub fn add(&mut self, price: Price, count: u64) {
        let sum = self.0.entry(price.currency).or_default();
        *sum = sum.saturating_add(price.cents.saturating_mul(count));
    }
}

impl From<Money> for String {
    fn from(money: Money) -> String {
        money.to_string()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("$0.00");
        }
        let sums: Vec<String> =
            self.0.iter().map(|(currency, cents)| Price { currency: *currency, cents: *cents }.to_string()).collect();
        f.pad(&sums.join(" + "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written_exactly() {
        for (text, milliwatts, back) in [
            ("15.3 W", 15_300, "15.3 W"),
            ("60W", 60_000, "60 W"),
            ("12.95 W", 12_950, "12.95 W"),
            ("0.6 W", 600, "600 mW"),
        ] {
            let power: Power = text.parse().expect(text);
            assert_eq!((power.0, power.to_string().as_str()), (milliwatts, back));
        }
        assert_eq!("1000 Mbps".parse::<BitRate>(), Ok(BitRate(1_000_000_000)));
        assert_eq!(BitRate(14_000_000_000).to_string(), "14 Gbps");
        assert_eq!("80 °C".parse::<Celsius>(), Ok(Celsius(80)));
        for bad in ["15", "15 V", ".5 W", "5. W", "1.23456 W", "-3 W", "99999999999999999999 W", "1e3 W", ""] {
            assert!(bad.parse::<Power>().is_err(), "{bad}");
        }
    }

    #[test]
    fn prices_are_cents() {
        assert_eq!("$23.99".parse::<Price>().map(|price| price.cents), Ok(2399));
        assert_eq!("€5".parse::<Price>().map(|price| price.to_string()), Ok("€5.00".into()));
        assert!("$1.999".parse::<Price>().is_err());
        assert!("12.50".parse::<Price>().is_err());
        let mut money = Money::default();
        for (price, count) in [("$55", 4), ("€2.50", 2), ("$0.01", 1)] {
            money.add(price.parse().expect(price), count);
        }
        assert_eq!(money.to_string(), "$220.01 + €5.00");
    }
}
