//! What a run leaves behind: what was planned, every script with its time and its end, and what the nodes printed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use bramble_fetch::Watcher;
use bramble_remote::UnknownKey;

use crate::error::Result;
use crate::event::{Event, Interface};

/// How many runs are kept.
const KEPT: usize = 10;
/// How many lines of a node are kept in a run: the first ones say how it began, and the last ones are in the error.
const LINES: usize = 5000;

/// The log of a run. It hears what happens, writes it down, and passes it on.
pub struct RunLog {
    path: PathBuf,
    began: Instant,
    inner: Mutex<Inner>,
    next: Mutex<Arc<dyn Interface>>,
}

struct Inner {
    file: fs::File,
    lines: BTreeMap<String, usize>,
}

impl RunLog {
    /// Begins the log of a run in a folder, `name` being what was called and when, and removes the oldest ones.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(folder: &Path, name: &str, next: Arc<dyn Interface>) -> Result<RunLog> {
        let begin = || -> anyhow::Result<RunLog> {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
            let mut old: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
            old.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
            old.sort();
            for path in old.iter().take((old.len() + 1).saturating_sub(KEPT)) {
                fs::remove_file(path)?;
            }
            let path = folder.join(format!("{name}.log"));
            let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            let inner = Mutex::new(Inner { file, lines: BTreeMap::new() });
            Ok(RunLog { path, began: Instant::now(), inner, next: Mutex::new(next) })
        };
        Ok(begin().with_context(|| format!("the log of this run cannot be begun in {}", folder.display()))?)
    }

    /// Gives the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Passes on to another one from now on.
    pub fn pass_on(&self, next: Arc<dyn Interface>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Writes a text of several lines under a heading.
    pub fn text(&self, heading: &str, text: &str) {
        self.write(&format!("== {heading}\n{}\n", text.trim_end()));
    }

    fn write(&self, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // A run goes on although nobody can read of it later; the disk that is full is met elsewhere, too.
        inner.file.write_all(text.as_bytes()).ok();
    }

    fn note_of(&self, node: &str, text: &str) {
        let seconds = self.began.elapsed().as_secs_f32();
        self.write(&format!("{seconds:9.3} {node} {text}\n"));
    }

    fn next(&self) -> Arc<dyn Interface> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self, node: &str) -> usize {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inner.lines.entry(node.to_owned()).or_default();
        *count += 1;
        *count
    }
}

impl Watcher for RunLog {
    fn note(&self, text: &str) {
        self.note_of("-", text);
        self.next().note(text);
    }

    fn transfer(&self, what: &str, done: u64, total: Option<u64>) {
        self.next().transfer(what, done, total);
    }
}

impl Interface for RunLog {
    fn event(&self, node: &str, event: Event) {
        match &event {
            Event::Uploaded(_) => {}
            Event::Line(line) => match self.counts(node) {
                count if count < LINES => self.note_of(node, &format!("| {line}")),
                LINES => self.note_of(node, "| … more lines are not kept"),
                _ => {}
            },
            other => self.note_of(node, &other.describe()),
        }
        self.next().event(node, event);
    }

    fn trusts(&self, keys: &[UnknownKey]) -> bool {
        let trusts = self.next().trusts(keys);
        for key in keys {
            self.note_of(&key.host, &format!("host key {} trusted: {trusts}", key.fingerprint));
        }
        trusts
    }
}
