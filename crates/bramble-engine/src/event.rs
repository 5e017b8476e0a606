//! What the engine tells while it works.

use std::time::Duration;

use bramble_fetch::Watcher;
use bramble_remote::UnknownKey;

/// Something that happened at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is being connected to.
    Connecting,
    /// It is being looked at.
    Looking,
    /// It was looked at.
    Looked,
    /// A command of the user's runs on it.
    Running,
    /// It does not answer.
    Lost,
    /// A file is sent to it.
    Upload(String),
    /// So much of a file is there, in words.
    Uploaded(String),
    /// A change begins.
    Change {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// What it is.
        title: String,
    },
    /// A script begins.
    Script(String),
    /// A script has ended.
    ScriptEnded {
        /// What it does.
        name: String,
        /// How long it took.
        took: Duration,
        /// How it ended, in words.
        how: String,
    },
    /// The node printed a line; control characters are written out.
    Line(String),
    /// A change is being undone.
    Undo(String),
    /// It boots, and why.
    Rebooting(String),
    /// It waits for something.
    Waiting(String),
    /// All is done that was to be done.
    Done(String),
    /// It failed.
    Failed(String),
}

impl Event {
    /// Says in a few words what goes on.
    pub fn describe(&self) -> String {
        match self {
            Event::Connecting => "connecting".to_owned(),
            Event::Looking => "looking".to_owned(),
            Event::Looked => "looked at".to_owned(),
            Event::Running => "running".to_owned(),
            Event::Lost => "no answer".to_owned(),
            Event::Upload(what) | Event::Uploaded(what) => format!("uploading {what}"),
            Event::Change { number, total, title } => format!("[{number}/{total}] {title}"),
            Event::Script(name) => format!("begins to {name}"),
            Event::ScriptEnded { name, took, how } => format!("{name}: {how} after {:.1} s", took.as_secs_f32()),
            Event::Line(line) => line.clone(),
            Event::Undo(what) | Event::Done(what) => what.clone(),
            Event::Rebooting(why) => format!("rebooting: {why}"),
            Event::Waiting(what) => format!("waiting for {what}"),
            Event::Failed(why) => format!("failed: {why}"),
        }
    }
}

/// Hears what happens, and answers for the person who watches.
pub trait Interface: Watcher + Send + Sync {
    /// Takes what happened at a node.
    fn event(&self, node: &str, event: Event);

    /// Says whether these host keys, which nobody vouched for, are those of the hosts.
    fn trusts(&self, keys: &[UnknownKey]) -> bool;
}
