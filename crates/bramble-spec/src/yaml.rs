//! YAML text to a tree that remembers where every value stands.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use crate::problem::{Problem, Span};

/// A value of a YAML document with its place in the text. `id` is unique within one [`parse`].
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) id: usize,
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// The text, and whether it was written without quotes (only then `true` and `1` are not strings).
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Tree>),
    Mapping(Vec<(Key, Tree)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Tree {
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { text, plain: true } if is_null(text) => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a map",
        }
    }
}

pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Nesting deeper than this is refused: no cluster file needs it, and it bounds the stack.
const MAX_DEPTH: usize = 64;
/// Aliases may expand to this many values in all, against documents that grow exponentially.
const MAX_NODES: usize = 200_000;

/// Reads every document of `text`. A syntax error ends the reading: what was whole before it is returned too.
pub(crate) fn parse(text: &str) -> (Vec<Tree>, Vec<Problem>) {
    let odd = odd_blanks(text);
    if !odd.is_empty() {
        return (Vec::new(), odd);
    }
    // The parser counts characters; spans are bytes.
    let offsets: Option<Vec<usize>> =
        (!text.is_ascii()).then(|| text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect());
    let byte = |index: usize| match &offsets {
        Some(offsets) => offsets.get(index).copied().unwrap_or(text.len()),
        None => index.min(text.len()),
    };
    let mut reader = Reader { ids: 0, anchors: HashMap::new(), problems: Vec::new() };
    let mut documents = Vec::new();
    let mut stack: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, at) = match event {
            Ok(event) => event,
            Err(error) => {
                let start = byte(error.marker().index());
                let end = text[start..].char_indices().nth(1).map_or(text.len(), |(i, _)| start + i);
                let (message, next) = syntax(error.info());
                reader.problems.push(Problem::error(message, Span { start, end }).next(next));
                break;
            }
        };
        let span = Span { start: byte(at.start.index()), end: byte(at.end.index()) };
        let done = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = reader.tag(tag.as_deref(), span);
                let plain = style == ScalarStyle::Plain && !is_text;
                let value = Value::Scalar { text: text.into_owned(), plain };
                Some((reader.tree(span, value), anchor))
            }
            Event::SequenceStart(anchor, tag) => {
                reader.tag(tag.as_deref(), span);
                stack.push(Open { span, anchor, items: Vec::new(), mapping: false });
                None
            }
            Event::MappingStart(anchor, tag) => {
                reader.tag(tag.as_deref(), span);
                stack.push(Open { span, anchor, items: Vec::new(), mapping: true });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => stack.pop().map(|open| {
                let end = open.items.last().map_or(span.end, |last| last.span.end);
                // A flow collection ends with its bracket, a block one with its last value.
                let end = if text[..span.end].ends_with([']', '}']) { span.end } else { end };
                let span = Span { start: open.span.start, end };
                let value = if open.mapping { reader.mapping(open.items) } else { Value::Sequence(open.items) };
                (reader.tree(span, value), open.anchor)
            }),
            Event::Alias(anchor) => match reader.anchors.get(&anchor).cloned() {
                Some(target) => Some((reader.copy(&target), 0)),
                None => {
                    reader.problems.push(Problem::error("this alias has no anchor before it", span).next(NO_ANCHOR));
                    Some((reader.tree(span, Value::Scalar { text: String::new(), plain: true }), 0))
                }
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                None
            }
        };
        if stack.len() > MAX_DEPTH || reader.ids > MAX_NODES {
            reader.problems.push(
                Problem::error("this file is nested too deeply, or its aliases grow too far", span)
                    .next("write it with fewer levels and aliases"),
            );
            break;
        }
        if let Some((tree, anchor)) = done {
            if anchor > 0 {
                reader.anchors.insert(anchor, tree.clone());
            }
            match stack.last_mut() {
                Some(open) => open.items.push(tree),
                None => documents.push(tree),
            }
        }
    }
    documents.retain(|tree| tree.kind() != "nothing");
    (documents, reader.problems)
}

/// Finds characters that look like blanks, and are none to YAML, where blanks separate: text copied from a web page or a chat
/// has them.
fn odd_blanks(text: &str) -> Vec<Problem> {
    if text.is_ascii() {
        return Vec::new();
    }
    let is_odd = |c: char| {
        c == '\u{200b}'
            || c == '\u{2060}'
            || (c.is_whitespace() && !c.is_ascii() && !"\u{85}\u{2028}\u{2029}".contains(c))
    };
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let (mut before, mut leading) = (None, true);
        for (at, c) in line.char_indices() {
            if is_odd(c) && (leading || matches!(before, Some(':' | '-'))) {
                let start = line_start + at;
                let what = format!("U+{:04X} looks like a blank, and is none in YAML", u32::from(c));
                let span = Span { start, end: start + c.len_utf8() };
                found.push(
                    Problem::error(what, span)
                        .next("write a blank in its place; it came with text copied from elsewhere"),
                );
                break;
            }
            leading &= c == ' ' || c == '\t';
            before = Some(c);
        }
        line_start += line.len();
    }
    found
}

struct Open {
    span: Span,
    anchor: usize,
    items: Vec<Tree>,
    mapping: bool,
}

struct Reader {
    ids: usize,
    anchors: HashMap<usize, Tree>,
    problems: Vec<Problem>,
}

const NO_ANCHOR: &str = "write `&name` before the value that `*name` stands for, above it";

/// What is wrong where the parser stops, in our words, and what to do.
fn syntax(info: &str) -> (&'static str, &'static str) {
    const KINDS: [(&[&str], &str, &str); 12] = [
        (
            &["mapping values are not allowed", "illegal placement of ':'"],
            "a `:` stands where no key can end",
            "put a value that has `: ` in it in quotes, and check the indentation of this line and the one above",
        ),
        (
            &["did not find expected '-' indicator"],
            "this line is no item of the list that it is indented like",
            "begin it with `- `, or indent it like the key above the list",
        ),
        (
            &["simple key expect", "did not find expected key"],
            "here a key with a `:` behind it is expected",
            "write `key: value`, indented like its neighbours; a line of `<<<<<<<` or `>>>>>>>` is left from a merge",
        ),
        (
            &[
                "found unexpected end of stream",
                "invalid indentation in quoted scalar",
                "found unexpected document indicator",
            ],
            "a quote is opened and not closed",
            "close it, or put the whole value between the other kind of quotes",
        ),
        (&["unknown anchor"], "this alias has no anchor before it", NO_ANCHOR),
        (&["tabs ", "a tab", "tab cannot"], "a tab stands where blanks are to be", "indent with blanks"),
        (
            &["flow mapping", "flow sequence", "misplaced bracket", "flow construct"],
            "a bracket is not closed, or a comma is missing",
            "close every `[` and `{`, and put `, ` between what is inside",
        ),
        (
            &["unprintable", "byte order mark"],
            "a character stands here that no text has",
            "was the file put together of others, or damaged? Write the line again",
        ),
        (
            &["escape", "hexadecimal"],
            "this `\\` begins nothing that is known",
            "between double quotes a backslash is written twice; between single quotes it is one",
        ),
        (&["trailing content"], "something stands behind the closing quote", "put all of the value between the quotes"),
        (
            &["block sequence entries"],
            "an item of a list cannot begin here",
            "write it on a line of its own, below the key of the list",
        ),
        (
            &["unexpected character", "cannot start with", "must be followed"],
            "a value cannot begin like this",
            "put it in quotes",
        ),
    ];
    let kind = KINDS.iter().find(|(signs, ..)| signs.iter().any(|sign| info.contains(sign)));
    kind.map_or(
        ("this is not valid YAML", "check the indentation and the quotes around this place"),
        |(_, message, next)| (message, next),
    )
}

impl Reader {
    /// Refuses what only other programs understand. Tells whether a value is said to be text (`!!str`, `!`).
    fn tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let name = format!("{}{}", tag.handle, tag.suffix);
        // The seven of the core schema (YAML 1.2, 10.3.2), and the one that says text.
        let core = name.strip_prefix("tag:yaml.org,2002:");
        if core.is_none_or(|kind| !["str", "int", "float", "bool", "null", "seq", "map"].contains(&kind)) && name != "!"
        {
            let problem = Problem::error(format!("`{name}` is not understood here"), span);
            self.problems.push(problem.next("write the value itself"));
        }
        core.is_none_or(|kind| kind == "str")
    }

    fn tree(&mut self, span: Span, value: Value) -> Tree {
        self.ids += 1;
        Tree { id: self.ids, span, value }
    }

    fn copy(&mut self, tree: &Tree) -> Tree {
        if self.ids > MAX_NODES {
            return tree.clone();
        }
        let value = match &tree.value {
            Value::Scalar { .. } => tree.value.clone(),
            Value::Sequence(items) => Value::Sequence(items.iter().map(|item| self.copy(item)).collect()),
            Value::Mapping(entries) => {
                Value::Mapping(entries.iter().map(|(key, item)| (key.clone(), self.copy(item))).collect())
            }
        };
        self.tree(tree.span, value)
    }

    fn mapping(&mut self, items: Vec<Tree>) -> Value {
        let mut entries: Vec<(Key, Tree)> = Vec::new();
        let mut merged: Vec<Tree> = Vec::new();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Value::Scalar { text, plain } = key.value else {
                let problem = Problem::error("a key must be a single word", key.span);
                self.problems.push(problem.next("a value that is to be filled in (`{{ … }}`) must be in quotes"));
                continue;
            };
            if plain && text == "<<" {
                match value.value {
                    Value::Sequence(all) => merged.extend(all),
                    _ => merged.push(value),
                }
                continue;
            }
            if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == text) {
                self.problems.push(
                    Problem::error(format!("`{text}` is given twice"), key.span)
                        .with(first.span, "first given here")
                        .next("keep one of the two; several values of one key are a list: `[a, b]`"),
                );
                continue;
            }
            entries.push((Key { text, span: key.span }, value));
        }
        // What is written here comes first, then the first of those that are merged (yaml.org/type/merge).
        for tree in merged {
            let Value::Mapping(more) = tree.value else {
                let problem = Problem::error("`<<` takes the keys of a map, and this is none", tree.span);
                self.problems.push(problem.next("name the anchor of a map: `<<: *base`"));
                continue;
            };
            for (key, value) in more {
                if !entries.iter().any(|(known, _)| known.text == key.text) {
                    entries.push((key, value));
                }
            }
        }
        Value::Mapping(entries)
    }
}

/// Puts a value (YAML) in the place of another. `path` has keys with dots between them; things of a list go by their
/// `name`, and `*` means all of them. Keys of maps that are not there are added.
pub(crate) fn set(documents: &mut [Tree], path: &str, value: &str) -> Result<(), String> {
    let (mut parsed, mistakes) = parse(value);
    let value = match (parsed.pop(), mistakes.is_empty() && parsed.is_empty()) {
        (Some(value), true) => value,
        (None, true) => {
            Tree { id: 0, span: Span::default(), value: Value::Scalar { text: String::new(), plain: true } }
        }
        _ => {
            let why = mistakes.first().map_or("it holds several documents", |mistake| mistake.message.as_str());
            return Err(format!("the value is not YAML: {why}"));
        }
    };
    let keys: Vec<&str> = path.split('.').collect();
    if documents.is_empty() {
        return Err("there is no cluster".to_owned());
    }
    // What is new gets ids that nothing else has, and stands where nothing is written.
    let mut next = documents.iter().map(largest).max().unwrap_or(0);
    // Of several clusters it concerns those that have such a place.
    let results: Vec<_> = documents.iter_mut().map(|document| put(document, &keys, &value, &mut next)).collect();
    if results.iter().any(Result::is_ok) { Ok(()) } else { results.into_iter().collect() }
}

fn largest(tree: &Tree) -> usize {
    let inner = match &tree.value {
        Value::Scalar { .. } => 0,
        Value::Sequence(items) => items.iter().map(largest).max().unwrap_or(0),
        Value::Mapping(entries) => entries.iter().map(|(_, item)| largest(item)).max().unwrap_or(0),
    };
    inner.max(tree.id)
}

/// A copy with new ids, all of it at one place.
fn placed(tree: &Tree, span: Span, next: &mut usize) -> Tree {
    *next += 1;
    let id = *next;
    let value = match &tree.value {
        Value::Scalar { .. } => tree.value.clone(),
        Value::Sequence(items) => Value::Sequence(items.iter().map(|item| placed(item, span, next)).collect()),
        Value::Mapping(entries) => Value::Mapping(
            entries
                .iter()
                .map(|(key, item)| (Key { text: key.text.clone(), span }, placed(item, span, next)))
                .collect(),
        ),
    };
    Tree { id, span, value }
}

fn put(tree: &mut Tree, keys: &[&str], value: &Tree, next: &mut usize) -> Result<(), String> {
    let Some((key, rest)) = keys.split_first() else {
        *tree = placed(value, tree.span, next);
        return Ok(());
    };
    if tree.kind() == "nothing" {
        tree.value = Value::Mapping(Vec::new());
    }
    let span = Span { start: tree.span.start, end: tree.span.start };
    match &mut tree.value {
        Value::Mapping(entries) => match entries.iter_mut().find(|(known, _)| known.text == *key) {
            Some((_, inner)) => put(inner, rest, value, next),
            None => {
                *next += 1;
                let mut inner = Tree { id: *next, span, value: Value::Mapping(Vec::new()) };
                put(&mut inner, rest, value, next)?;
                entries.push((Key { text: (*key).to_owned(), span }, inner));
                Ok(())
            }
        },
        Value::Sequence(items) => {
            let mut found = false;
            for item in items.iter_mut().filter(|item| *key == "*" || name(item) == Some(key)) {
                found = true;
                put(item, rest, value, next)?;
            }
            if found { Ok(()) } else { Err(format!("nothing in that list is called `{key}`")) }
        }
        Value::Scalar { text, .. } => Err(format!("`{text}` has nothing called `{key}` in it")),
    }
}

/// The `name` of a thing of a list.
fn name(tree: &Tree) -> Option<&str> {
    let Value::Mapping(entries) = &tree.value else { return None };
    entries.iter().find(|(key, _)| key.text == "name").and_then(|(_, value)| match &value.value {
        Value::Scalar { text, .. } => Some(text.as_str()),
        _ => None,
    })
}
