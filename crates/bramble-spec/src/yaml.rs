//! YAML text to a tree that remembers where every value stands.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::diagnostic::{Diagnostic, Span};

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
pub(crate) fn parse(text: &str) -> (Vec<Tree>, Vec<Diagnostic>) {
    // The parser counts characters; spans are bytes.
    let offsets: Option<Vec<usize>> =
        (!text.is_ascii()).then(|| text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect());
    let byte = |index: usize| match &offsets {
        Some(offsets) => offsets.get(index).copied().unwrap_or(text.len()),
        None => index.min(text.len()),
    };
    let mut reader = Reader { ids: 0, anchors: HashMap::new(), diagnostics: Vec::new() };
    let mut documents = Vec::new();
    let mut stack: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, at) = match event {
            Ok(event) => event,
            Err(error) => {
                let start = byte(error.marker().index());
                let end = text[start..].char_indices().nth(1).map_or(text.len(), |(i, _)| start + i);
                reader.diagnostics.push(
                    Diagnostic::error(format!("this is not valid YAML: {}", error.info()), Span { start, end })
                        .help("check the indentation and the quotes around this place"),
                );
                break;
            }
        };
        let span = Span { start: byte(at.start.index()), end: byte(at.end.index()) };
        let done = match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                Some((reader.tree(span, value), anchor))
            }
            Event::SequenceStart(anchor, _) => {
                stack.push(Open { span, anchor, items: Vec::new(), mapping: false });
                None
            }
            Event::MappingStart(anchor, _) => {
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
                    reader.diagnostics.push(Diagnostic::error("this alias has no anchor before it", span));
                    Some((reader.tree(span, Value::Scalar { text: String::new(), plain: true }), 0))
                }
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                None
            }
        };
        if stack.len() > MAX_DEPTH || reader.ids > MAX_NODES {
            reader
                .diagnostics
                .push(Diagnostic::error("this file is nested too deeply, or its aliases grow too far", span));
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
    (documents, reader.diagnostics)
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
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
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
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Value::Scalar { text, .. } = key.value else {
                self.diagnostics.push(Diagnostic::error("a key must be a single word", key.span));
                continue;
            };
            if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == text) {
                self.diagnostics.push(
                    Diagnostic::error(format!("`{text}` is given twice"), key.span)
                        .note(first.span, "first given here")
                        .help("keep one of the two"),
                );
                continue;
            }
            entries.push((Key { text, span: key.span }, value));
        }
        Value::Mapping(entries)
    }
}
