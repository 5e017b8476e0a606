//! Where the figures of parts come from.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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
    pub(super) fn over(&self, own: &[&str], base: &From) -> From {
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
