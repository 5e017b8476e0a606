//! What a script that changes a node says while it runs.

/// A line of an apply or undo script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// It waits for this, or if nothing is said for another bramble that works on the node.
    Waiting(&'a str),
    /// It waited too long.
    Busy,
    /// Another run, which is named, has changed the node since this one looked at it.
    Stale(&'a str),
    /// A change began.
    Start(usize),
    /// A change is done.
    Done(usize),
    /// A change failed with an exit code.
    Failed(usize, u32),
    /// Something that later stages need to know.
    Fact(&'a str, &'a str),
    /// The name of what is being undone.
    Title(&'a str),
    /// Something that may fail without harm has failed: its exit code, what it was, and what it said.
    Tried(&'a str),
    /// Anything else that a program printed.
    Line(&'a str),
}

/// Reads a line.
pub fn parse_record(line: &str) -> Record<'_> {
    let parse = || {
        let mut words = line.strip_prefix('@')?.splitn(3, ' ');
        let record = match (words.next()?, words.next(), words.next()) {
            ("waiting", _, _) => Record::Waiting(line["@waiting".len()..].trim_start()),
            ("busy", None, None) => Record::Busy,
            ("stale", _, _) => Record::Stale(line["@stale".len()..].trim_start()),
            ("start", Some(n), None) => Record::Start(n.parse().ok()?),
            ("ok", Some(n), None) => Record::Done(n.parse().ok()?),
            ("fail", Some(n), Some(code)) => Record::Failed(n.parse().ok()?, code.parse().ok()?),
            ("fact", Some(name), Some(value)) => Record::Fact(name, value),
            ("tried", Some(_), Some(_)) => Record::Tried(&line["@tried ".len()..]),
            ("title", Some(_), _) => Record::Title(&line["@title ".len()..]),
            _ => return None,
        };
        Some(record)
    };
    parse().unwrap_or(Record::Line(line))
}
