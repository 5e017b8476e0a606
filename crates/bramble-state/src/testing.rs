//! The answer of a node on which everything is as wanted, for tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::Facts;

/// A node on which all that was asked for is as wanted, while kinds of resources add to it.
#[derive(Debug, Default)]
pub struct SatisfiedNode {
    /// What the node is. The hostname, the kernel's arguments, its cgroup controllers and swap can be changed.
    pub facts: Facts,
    /// Units, all of which are enabled and run.
    pub units: BTreeSet<String>,
    texts: BTreeMap<String, String>,
    packages: BTreeMap<String, SatisfiedPackage>,
    records: Vec<String>,
}

/// An installed package.
#[derive(Debug)]
pub(crate) struct SatisfiedPackage {
    pub(crate) version: String,
    pub(crate) held: bool,
}

impl SatisfiedNode {
    pub(crate) fn new(facts: Facts) -> Self {
        SatisfiedNode { facts, ..SatisfiedNode::default() }
    }

    /// Adds a line of the answer.
    pub fn record(&mut self, line: impl Into<String>) {
        self.records.push(line.into());
    }

    pub(crate) fn file(&mut self, path: &str, mode: &str, digest: &str) {
        self.record(format!("stat {mode} root:root 1 1 regular file|{path}"));
        self.record(format!("sha {digest} {path}"));
    }

    pub(crate) fn edit(&mut self, path: &str, edited: impl FnOnce(&str) -> String) {
        let text = self.texts.entry(path.to_owned()).or_default();
        *text = edited(text);
    }

    pub(crate) fn package(&mut self, name: &str) -> &mut SatisfiedPackage {
        let package = || SatisfiedPackage { version: "1".to_owned(), held: false };
        self.packages.entry(name.to_owned()).or_insert_with(package)
    }

    /// Writes the answer; `facts` are lines that come first, `asked` the units in the order of the question.
    pub(crate) fn answer<'a>(&self, facts: &str, asked: impl Iterator<Item = &'a str>) -> String {
        let own = &self.facts;
        let mut lines = vec!["bramble 1".to_owned()];
        let kept = |line: &&str| !own.swaps.is_empty() || !line.starts_with("fact swap ");
        lines.extend(facts.lines().filter(kept).map(str::to_owned));
        let controllers: Vec<&str> = own.controllers.iter().map(String::as_str).collect();
        lines.push(format!("fact hostname {}", own.hostname));
        lines.push(format!("fact cmdline {}", own.cmdline));
        lines.push(format!("fact controllers {}", controllers.join(" ")));
        for (path, text) in &self.texts {
            lines.push(format!("text {path}"));
            lines.extend(text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
                Some(whole) => format!("={whole}"),
                None => format!("~{line}"),
            }));
            lines.push(".".to_owned());
        }
        for (name, SatisfiedPackage { version, held }) in &self.packages {
            lines.push(format!("package {name} {}i |{version}", if *held { 'h' } else { 'i' }));
        }
        lines.extend(self.records.iter().cloned());
        let units: Vec<&str> = asked.map(|unit| if self.units.contains(unit) { RUNS } else { MISSING }).collect();
        if !units.is_empty() {
            lines.extend(["units".to_owned(), units.join("\n\n"), ".".to_owned()]);
        }
        lines.push("end\n".to_owned());
        lines.join("\n")
    }
}

const RUNS: &str = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no";
const MISSING: &str = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\nNeedDaemonReload=no";
