//! A serde deserializer over the [`yaml`](crate::yaml) tree that reports every mistake of a document, not the first.
//!
//! serde stops at the first error. [`from_tree`] therefore reads the document again without the value that was wrong,
//! until the rest can be read: cluster files are small, mistakes are few. Unknown keys do not stop a reading at all.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::problem::{Problem, Span};
use crate::yaml::{Key, Tree, Value, is_null};

/// A value and its place in the cluster file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

/// What could be read of a document, what was wrong, and the places of the values that were left out.
pub(crate) struct Reading<T> {
    pub(crate) value: Option<T>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) skipped: Vec<Span>,
}

pub(crate) fn from_tree<T: de::DeserializeOwned>(tree: &Tree) -> Reading<T> {
    let mut context = Context { unknown: RefCell::default(), skipped: HashSet::new() };
    let mut problems = Vec::new();
    let mut skipped = Vec::new();
    let value = loop {
        match T::deserialize(De { tree, context: &context }) {
            Ok(value) => break Some(value),
            Err(error) => {
                let (id, span) = error.at.unwrap_or((tree.id, tree.span));
                // What was wrong and left out is not missing.
                let misspelt = context
                    .unknown
                    .borrow()
                    .iter()
                    .any(|(problem, misspelt)| *misspelt && span.contains(problem.place.span()));
                if !(error.missing && (misspelt || skipped.iter().any(|inner| span.contains(*inner)))) {
                    let mut problem = Problem::error(error.message, span);
                    problem.next = error.help;
                    problems.push(problem);
                }
                skipped.push(span);
                if id == tree.id || !context.skipped.insert(id) {
                    break None;
                }
            }
        }
    };
    for (problem, misspelt) in context.unknown.take() {
        skipped.extend(misspelt.then(|| problem.place.span()));
        problems.push(problem);
    }
    problems.sort_by_key(|problem| problem.place.span());
    problems.dedup();
    Reading { value, problems, skipped }
}

struct Context {
    /// Keys that are not known, and whether another one was meant.
    unknown: RefCell<Vec<(Problem, bool)>>,
    skipped: HashSet<usize>,
}

#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    help: Option<String>,
    at: Option<(usize, Span)>,
    missing: bool,
}

impl Error {
    fn new(message: String, help: Option<String>) -> Self {
        Error { message, help, at: None, missing: false }
    }

    fn at(mut self, tree: &Tree) -> Self {
        self.at.get_or_insert((tree.id, tree.span));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Separates the message of an error from its advice where only one string can travel through serde.
pub(crate) const HELP: char = '\u{1f}';

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let (message, help) = match text.split_once(HELP) {
            Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
            None => (text, None),
        };
        Error::new(message, help)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let possible = possible(expected);
        let own = OTHER_WORDS.iter().find(|(word, own)| *word == variant && possible.contains(own));
        let list = possible.join(", ");
        let help = match (own, nearest(variant, possible.into_iter())) {
            (Some((_, own)), _) => format!("it is called `{own}` here; possible: {list}"),
            (None, Some(near)) => format!("did you mean `{near}`? Possible: {list}"),
            (None, None) => format!("possible: {list}"),
        };
        Error::new(format!("`{variant}` is not known here"), Some(help))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Error::new(format!("unknown key `{field}`"), Some(known_keys(field, expected)))
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Bool(truth) => format!("`{truth}`"),
            de::Unexpected::Unsigned(number) => format!("`{number}`"),
            de::Unexpected::Signed(number) => format!("`{number}`"),
            de::Unexpected::Float(number) => format!("`{number}`"),
            de::Unexpected::Str(text) => format!("`{text}`"),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a map".to_owned(),
            _ => "nothing".to_owned(),
        };
        let expected = in_words(&expected.to_string());
        Error::new(format!("expected {expected}, found {found}"), Some(format!("write {expected} here")))
    }

    fn missing_field(field: &'static str) -> Self {
        let error = Error::new(format!("`{field}` is missing here"), Some(format!("add `{field}: …`")));
        Error { missing: true, ..error }
    }
}

/// What could have been meant by a key.
fn known_keys(key: &str, fields: &[&str]) -> String {
    match nearest(key, fields.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", fields.join(", ")),
    }
}

/// Words that are understood only to say why they are refused.
const REFUSED: &[&str] = &["openshift"];

/// What can be written of these words.
fn possible(words: &'static [&'static str]) -> Vec<&'static str> {
    words.iter().copied().filter(|word| !REFUSED.contains(word)).collect()
}

/// Other distributions' and older words, and ours.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("master", "control-plane"),
    ("server", "control-plane"),
    ("controller", "control-plane"),
    ("controlplane", "control-plane"),
    ("agent", "worker"),
    ("node", "worker"),
    ("minion", "worker"),
    ("router", "gateway"),
];

/// The candidate that a person most likely meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[derive(Clone, Copy)]
struct De<'a> {
    tree: &'a Tree,
    context: &'a Context,
}

static NOTHING: Tree = Tree { id: 0, span: Span { start: 0, end: 0 }, value: Value::Mapping(Vec::new()) };
const SPANNED: &str = "$bramble::Spanned";
const SPANNED_FIELDS: &[&str] = &["start", "end", "value"];

impl<'a> De<'a> {
    fn mismatch(&self, expected: &dyn de::Expected) -> Error {
        let expected = in_words(&expected.to_string());
        let help = match (&self.tree.value, expected.as_str()) {
            (Value::Scalar { text, .. }, "a list") => format!("put it in brackets: `[{text}]`"),
            (Value::Scalar { .. }, "a map") => "write settings in its place: `{ key: value }`".to_owned(),
            (_, other) => format!("write {other} here"),
        };
        Error::new(format!("expected {expected}, found {}", self.tree.kind()), Some(help)).at(self.tree)
    }

    fn is_nothing(&self) -> bool {
        self.tree.kind() == "nothing"
    }

    fn scalar(&self, expected: &dyn de::Expected) -> Result<&'a str, Error> {
        match &self.tree.value {
            Value::Scalar { text, plain } if !(*plain && is_null(text)) => Ok(text),
            _ => Err(self.mismatch(expected)),
        }
    }

    fn number<T: std::str::FromStr>(&self, expected: &dyn de::Expected) -> Result<T, Error> {
        let text = self.scalar(expected)?;
        text.parse().map_err(|_| {
            let expected = in_words(&expected.to_string());
            let is_number = text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
            let help = if is_number { "choose one of these" } else { "write the number alone, without a unit" };
            Error::new(format!("expected {expected}, found `{text}`"), Some(help.to_owned())).at(self.tree)
        })
    }

    fn visit_map<V: Visitor<'a>>(
        self,
        entries: &'a [(Key, Tree)],
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor
            .visit_map(Map { entries: entries.iter(), value: None, fields, context: self.context })
            .map_err(|error| error.at(self.tree))
    }
}

/// What serde calls a type, in words.
fn in_words(expected: &str) -> String {
    let most = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => return "a whole number".to_owned(),
        "f32" | "f64" => return "a number".to_owned(),
        "a string" | "string" => return "text".to_owned(),
        "a boolean" => return "`true` or `false`".to_owned(),
        other => return other.to_owned(),
    };
    format!("a whole number from 0 to {most}")
}

macro_rules! numbers {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.number(&visitor)?;
            visitor.$visit(number)
        }
    )*};
}

/// Yes or no, as the YAML of most other programs has it.
fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

impl<'de> Deserializer<'de> for De<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.tree.value {
            Value::Scalar { text, plain: true } if is_null(text) => visitor.visit_unit(),
            Value::Scalar { text, plain: true } => match (truth(text), text.parse::<i64>()) {
                (Some(truth), _) => visitor.visit_bool(truth),
                (None, Ok(number)) if number.to_string() == *text => visitor.visit_i64(number),
                _ => visitor.visit_borrowed_str(text),
            },
            Value::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.scalar(&visitor)?;
        match truth(text) {
            Some(truth) => visitor.visit_bool(truth),
            None => {
                let help = Some("write `true` or `false`".to_owned());
                Err(Error::new(format!("expected `true` or `false`, found `{text}`"), help).at(self.tree))
            }
        }
    }

    numbers! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_f32 visit_f32 deserialize_f64 visit_f64
    }

    /// Any single value can be a string: `version: 1.30` means "1.30", not the number 1.3.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.scalar(&visitor)?;
        visitor.visit_borrowed_str(text).map_err(|error: Error| error.at(self.tree))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.tree.value {
            Value::Scalar { text, plain: true } if is_null(text) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == ONE_OR_MANY {
            let items = match &self.tree.value {
                Value::Sequence(items) => items.iter(),
                _ if self.is_nothing() => [].iter(),
                _ => std::slice::from_ref(self.tree).iter(),
            };
            return visitor.visit_seq(Seq { items, context: self.context }).map_err(|error| error.at(self.tree));
        }
        visitor.visit_newtype_struct(self).map_err(|error: Error| error.at(self.tree))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.tree.value {
            Value::Sequence(items) => visitor
                .visit_seq(Seq { items: items.iter(), context: self.context })
                .map_err(|error| error.at(self.tree)),
            // What has all of its items commented out.
            _ if self.is_nothing() => {
                visitor.visit_seq(Seq { items: [].iter(), context: self.context }).map_err(|error| error.at(self.tree))
            }
            _ => Err(self.mismatch(&"a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.tree.value {
            Value::Mapping(entries) => self.visit_map(entries, None, visitor),
            _ if self.is_nothing() => self.visit_map(&[], None, visitor),
            _ => Err(self.mismatch(&"a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == SPANNED {
            return visitor.visit_map(SpannedMap { de: self, next: 0 });
        }
        match &self.tree.value {
            Value::Mapping(entries) => self.visit_map(entries, Some(fields), visitor),
            // `kubeadm:` with nothing behind it means all defaults.
            Value::Scalar { text, plain: true } if is_null(text) => self.visit_map(&[], Some(fields), visitor),
            _ => Err(self.mismatch(&"a map")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match &self.tree.value {
            Value::Scalar { text, .. } => visitor.visit_enum(Variant { name: text, content: None, de: self }),
            Value::Mapping(entries) => match entries.as_slice() {
                [(key, tree)] => {
                    // The key itself is what is wrong when the variant is unknown: underline that.
                    if !variants.contains(&key.text.as_str()) {
                        let mut error = <Error as de::Error>::unknown_variant(&key.text, variants);
                        error.at = Some((self.tree.id, key.span));
                        return Err(error);
                    }
                    visitor.visit_enum(Variant { name: &key.text, content: Some(tree), de: self })
                }
                several => {
                    let found = if several.is_empty() { "nothing" } else { "several" };
                    let help = format!("keep one of: {}", possible(variants).join(", "));
                    Err(Error::new(format!("expected one choice here, found {found}"), Some(help)))
                }
            },
            Value::Sequence(_) => Err(self.mismatch(&format!("one of {}", possible(variants).join(", ")).as_str())),
        };
        result.map_err(|error| error.at(self.tree))
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any }
}

struct Map<'a> {
    entries: std::slice::Iter<'a, (Key, Tree)>,
    value: Option<&'a Tree>,
    fields: Option<&'static [&'static str]>,
    context: &'a Context,
}

impl<'a> MapAccess<'a> for Map<'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for (key, tree) in self.entries.by_ref() {
            if self.context.skipped.contains(&tree.id) {
                continue;
            }
            // A place for what others refer to.
            if self.fields.is_some() && key.text.starts_with("x-") {
                continue;
            }
            if let Some(fields) = self.fields
                && !fields.contains(&key.text.as_str())
            {
                let problem =
                    Problem::error(format!("unknown key `{}`", key.text), key.span).next(known_keys(&key.text, fields));
                let misspelt = nearest(&key.text, fields.iter().copied()).is_some();
                let mut unknown = self.context.unknown.borrow_mut();
                if unknown.iter().all(|(known, _)| *known != problem) {
                    unknown.push((problem, misspelt));
                }
                continue;
            }
            self.value = Some(tree);
            let de: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
            return seed.deserialize(de).map(Some).map_err(|mut error| {
                error.at.get_or_insert((tree.id, key.span));
                error
            });
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let tree = self.value.take().ok_or_else(|| <Error as de::Error>::custom("a value without its key"))?;
        seed.deserialize(De { tree, context: self.context }).map_err(|error| error.at(tree))
    }
}

struct Seq<'a> {
    items: std::slice::Iter<'a, Tree>,
    context: &'a Context,
}

impl<'a> SeqAccess<'a> for Seq<'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        for tree in self.items.by_ref() {
            if !self.context.skipped.contains(&tree.id) {
                return seed.deserialize(De { tree, context: self.context }).map(Some).map_err(|error| error.at(tree));
            }
        }
        Ok(None)
    }
}

struct Variant<'a> {
    name: &'a str,
    content: Option<&'a Tree>,
    de: De<'a>,
}

impl<'a> EnumAccess<'a> for Variant<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let de: StrDeserializer<'_, Error> = self.name.into_deserializer();
        let value = seed.deserialize(de).map_err(|error| error.at(self.de.tree))?;
        Ok((value, self))
    }
}

impl<'a> VariantAccess<'a> for Variant<'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(tree) if tree.kind() == "nothing" => Ok(()),
            Some(tree) => {
                let help = Some(format!("write `{}` alone", self.name));
                Err(Error::new(format!("`{}` takes no settings", self.name), help).at(tree))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Error> {
        match self.content {
            Some(tree) => seed.deserialize(De { tree, context: self.de.context }).map_err(|error| error.at(tree)),
            // `distribution: kubeadm` is `distribution: { kubeadm: {} }`.
            None => seed.deserialize(De { tree: &NOTHING, context: self.de.context }).map_err(|mut error| {
                error.at = None;
                error.at(self.de.tree)
            }),
        }
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::invalid_type(de::Unexpected::TupleVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'a>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.content {
            Some(tree) => De { tree, context: self.de.context }.deserialize_struct("", fields, visitor),
            None => Err(de::Error::invalid_type(de::Unexpected::UnitVariant, &visitor)),
        }
    }
}

struct SpannedMap<'a> {
    de: De<'a>,
    next: usize,
}

impl<'a> MapAccess<'a> for SpannedMap<'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = SPANNED_FIELDS.get(self.next) else { return Ok(None) };
        self.next += 1;
        let de: StrDeserializer<'_, Error> = (*field).into_deserializer();
        seed.deserialize(de).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let span = self.de.tree.span;
        match self.next {
            1 => seed.deserialize(span.start.into_deserializer()),
            2 => seed.deserialize(span.end.into_deserializer()),
            _ => seed.deserialize(self.de),
        }
    }
}

impl<'de, T: de::Deserialize<'de>> de::Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpannedVisitor<T>(PhantomData<T>);
        impl<'de, T: de::Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
            type Value = Spanned<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spanned<T>, A::Error> {
                let mut span = Span::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "start" => span.start = map.next_value()?,
                        "end" => span.end = map.next_value()?,
                        _ => return Ok(Spanned { span, value: map.next_value()? }),
                    }
                }
                Err(de::Error::missing_field("value"))
            }
        }
        deserializer.deserialize_struct(SPANNED, SPANNED_FIELDS, SpannedVisitor(PhantomData))
    }
}

/// A list that may be written as its only value.
#[derive(Debug, Clone, Default)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

const ONE_OR_MANY: &str = "$bramble::OneOrMany";

impl<'de, T: de::Deserialize<'de>> de::Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: de::Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = list.next_element()? {
                    all.push(item);
                }
                Ok(OneOrMany(all))
            }
        }
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, ListVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
