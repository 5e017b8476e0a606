//! Problems: what the cluster file, the hardware plan, the checks before a run and `status` find.

use std::fmt;

use serde::Serialize;

use crate::name_ranges::{group, name_ranges, short_name_ranges};
use crate::names::NodeName;

/// A range of bytes in the text of the cluster file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
}

impl Span {
    pub(crate) fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// How bad a problem is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is done before it is solved.
    Error,
    /// It works, but not always, not long, or not well.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In all that was looked at: a cluster, or a node whose name is not known there.
    Whole,
    /// In the text of the cluster file.
    Text {
        /// The text that is wrong.
        span: Span,
        /// Other places that belong to it, each with a few words.
        others: Vec<(Span, String)>,
    },
    /// On a node.
    Node(NodeName),
    /// At nodes, devices or sections of the cluster file, by their names in its order.
    #[serde(rename = "about")]
    Named(Vec<String>),
}

impl Place {
    /// Tells whether it has neither a text nor a name.
    pub fn is_whole(&self) -> bool {
        *self == Place::Whole
    }

    /// Gives the text of the cluster file that is wrong; its beginning, if it is no text.
    pub fn span(&self) -> Span {
        match self {
            Place::Text { span, .. } => *span,
            _ => Span::default(),
        }
    }

    /// Lists the nodes, devices or sections.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Place::Whole | Place::Text { .. } => Vec::new(),
            Place::Node(name) => vec![name.as_str()],
            Place::Named(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short_name_ranges(self.names()))
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Place::Text { span, others: Vec::new() }
    }
}

impl From<&NodeName> for Place {
    fn from(name: &NodeName) -> Self {
        Place::Node(name.clone())
    }
}

/// Something that is not as it should be. Its text is what is wrong, the rule, and the next step; not the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    #[serde(flatten, skip_serializing_if = "Place::is_whole")]
    pub place: Place,
    /// The word for the rule that is not kept, where rules have one.
    pub rule: Option<&'static str>,
    /// Whether the cluster file accepts it (`hardware.accept`); it is no error then.
    pub accepted: bool,
    /// What is wrong, naming the object.
    pub message: String,
    /// The figures that it follows from, each with what it is.
    pub figures: Vec<(String, String)>,
    /// What to do about it.
    #[serde(rename = "fix")]
    pub next: Option<String>,
}

impl Problem {
    /// Makes an error that breaks no rule with a name.
    pub fn error(message: impl Into<String>, place: impl Into<Place>) -> Self {
        Problem {
            severity: Severity::Error,
            place: place.into(),
            rule: None,
            accepted: false,
            message: message.into(),
            figures: Vec::new(),
            next: None,
        }
    }

    /// Makes a warning.
    pub fn warning(message: impl Into<String>, place: impl Into<Place>) -> Self {
        Problem { severity: Severity::Warning, ..Self::error(message, place) }
    }

    /// Makes a note.
    pub fn note(message: impl Into<String>, place: impl Into<Place>) -> Self {
        Problem { severity: Severity::Note, ..Self::error(message, place) }
    }

    /// Says what to do about it.
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }

    /// Says where it is.
    pub fn on(mut self, place: impl Into<Place>) -> Self {
        self.place = place.into();
        self
    }

    /// Names another text of the cluster file that belongs to it.
    pub(crate) fn with(mut self, span: Span, words: impl Into<String>) -> Self {
        if let Place::Text { others, .. } = &mut self.place {
            others.push((span, words.into()));
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(rule) = self.rule {
            write!(f, " ({rule})")?;
        }
        let Some(next) = &self.next else { return Ok(()) };
        // A sentence has one colon.
        let joint = if self.rule.is_some() || self.message.contains(": ") { ';' } else { ':' };
        write!(f, "{joint} {next}")
    }
}

/// Writes problems as indented lines with their places, one for all places of which the same is to be said.
pub fn lines(problems: &[Problem]) -> String {
    let mut items = Vec::new();
    for problem in problems {
        match problem.place.names() {
            names if names.is_empty() => items.push(("", problem.to_string())),
            names => items.extend(names.into_iter().map(|name| (name, problem.to_string()))),
        }
    }
    let line = |(names, text): (Vec<&str>, String)| match name_ranges(names) {
        names if names.is_empty() => format!("\n  {text}"),
        names => format!("\n  {names}: {text}"),
    };
    group(items).into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Place {
        Place::Node(name.parse().unwrap())
    }

    #[test]
    fn a_text_has_the_rule_and_the_next_step_behind_one_colon() {
        let plain = Problem::error("its clock is wrong", node("kube1"));
        assert_eq!(plain.to_string(), "its clock is wrong");
        assert_eq!(plain.clone().next("set it").to_string(), "its clock is wrong: set it");
        let long = Problem { message: "another board: it has b".into(), ..plain.clone() };
        assert_eq!(long.next("check the cabling").to_string(), "another board: it has b; check the cabling");
        let ruled = Problem { rule: Some("budget"), ..plain };
        assert_eq!(ruled.next("take a larger one").to_string(), "its clock is wrong (budget); take a larger one");
    }

    #[test]
    fn lines_are_one_for_the_same_text_and_have_the_names_of_all() {
        let wrong = |place| Problem::error("its clock is wrong", place).next("set it");
        let problems = [
            wrong(node("kube1")),
            Problem::error("it has no disk", node("kube1")),
            wrong(Place::Named(vec!["kube2".into(), "kube3".into()])),
            Problem::error("the API does not answer", Place::Whole),
        ];
        assert_eq!(
            lines(&problems),
            "\n  kube1, kube2, kube3: its clock is wrong: set it\n  kube1: it has no disk\n  the API does not answer"
        );
    }

    #[test]
    fn machines_read_the_place_by_its_kind() {
        let json = |place: Place| serde_json::to_value(Problem::note("x", place).next("y")).unwrap();
        let rest = |mut value: serde_json::Value, key: &str| value.as_object_mut().unwrap().remove(key).unwrap();
        let whole = serde_json::json!({
            "severity": "note", "rule": null, "accepted": false, "message": "x", "figures": [], "fix": "y",
        });
        assert_eq!(json(Place::Whole), whole);
        assert_eq!(rest(json(node("kube1")), "node"), "kube1");
        assert_eq!(rest(json(Place::Named(vec!["nas".into()])), "about"), serde_json::json!(["nas"]));
        let text = json(Span { start: 1, end: 3 }.into());
        assert_eq!(text["text"]["span"], serde_json::json!({ "start": 1, "end": 3 }));
    }
}
