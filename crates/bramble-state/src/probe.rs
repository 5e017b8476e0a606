//! What is asked of a node, in one go, and the lines that it answers.

use std::collections::BTreeMap;
use std::str::Split;

use bramble_shell::Commands;

use crate::observation::Observation;

/// What a question asks about: names, each with what the question needs to know of it.
pub type Names = BTreeMap<String, String>;

/// Reads one record, what stands behind its tag, into the observation; further lines of it come from the answer.
/// `None` means that it cannot be read.
pub type Reader = fn(&str, &mut Answer<'_>, &mut Observation) -> Option<()>;

/// A question that resources of one or more kinds ask a node together.
#[derive(Debug)]
pub struct Question {
    /// Its name, of which there is one.
    pub name: &'static str,
    /// Writes the commands that ask it.
    pub write: fn(&Names, &mut Commands),
    /// The tags of the records that answer it, and what reads them.
    pub records: &'static [(&'static str, Reader)],
}

/// All that the resources of a node want to know.
#[derive(Debug, Default)]
pub struct Probe {
    asked: BTreeMap<&'static str, (&'static Question, Names)>,
}

impl Probe {
    /// Asks a question that needs no names.
    pub fn ask(&mut self, question: &'static Question) -> &mut Names {
        &mut self.asked.entry(question.name).or_insert_with(|| (question, Names::new())).1
    }

    /// Asks a question about some names; about none, nothing is asked.
    pub fn ask_about<S: Into<String>>(&mut self, question: &'static Question, names: impl IntoIterator<Item = S>) {
        for name in names {
            self.ask(question).insert(name.into(), String::new());
        }
    }

    /// Tells whether a question is asked.
    pub fn asks(&self, question: &Question) -> bool {
        self.asked.contains_key(question.name)
    }

    /// Tells whether a question is asked about a name.
    pub fn asks_about(&self, question: &Question, name: &str) -> bool {
        self.asked.get(question.name).is_some_and(|(_, names)| names.contains_key(name))
    }

    /// Writes the script that asks: first what is in `order`, then what only this probe knows.
    pub(crate) fn script(&self, order: &[&Question]) -> Commands {
        let mut script = Commands::new();
        script.fixed(include_str!("probe.sh"));
        let known = |name: &str| order.iter().any(|question| question.name == name);
        let own = self.asked.values().filter(|(question, _)| !known(question.name));
        for (question, names) in order.iter().filter_map(|question| self.asked.get(question.name)).chain(own) {
            (question.write)(names, &mut script);
        }
        script.fixed("echo end");
        script
    }

    /// Finds what reads a record, among the questions of `order` and those that only this probe knows.
    pub(crate) fn reader(&self, order: &[&Question], tag: &str) -> Option<Reader> {
        let own = self.asked.values().map(|(question, _)| *question);
        let mut records = order.iter().copied().chain(own).flat_map(|question| question.records);
        records.find(|(known, _)| *known == tag).map(|(_, reader)| *reader)
    }
}

/// The lines that a node answered, from first to last.
#[derive(Debug)]
pub struct Answer<'a> {
    lines: Split<'a, char>,
    current: &'a str,
    probe: &'a Probe,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(output: &'a str, probe: &'a Probe) -> Self {
        // A carriage return belongs to the text of a file that has one.
        Answer { lines: output.strip_suffix('\n').unwrap_or(output).split('\n'), current: "", probe }
    }

    /// Returns the line that was read last.
    pub(crate) fn current(&self) -> &'a str {
        self.current
    }

    /// Reads a line of a record that ends with a line of one dot.
    pub fn line_of_record(&mut self) -> Option<&'a str> {
        self.next().filter(|line| *line != ".")
    }

    /// Returns the names that a question was asked about, in their order.
    pub fn asked(&self, question: &Question) -> impl Iterator<Item = &'a str> + use<'a> {
        let names = self.probe.asked.get(question.name).map(|(_, names)| names);
        names.into_iter().flatten().map(|(name, _)| name.as_str())
    }
}

impl<'a> Iterator for Answer<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.current = self.lines.next()?;
        Some(self.current)
    }
}

/// Splits the first word of a record from the rest.
pub fn first_word(record: &str) -> (&str, &str) {
    record.split_once(' ').unwrap_or((record, ""))
}
