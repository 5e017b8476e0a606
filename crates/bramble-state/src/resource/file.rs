//! A file with exactly this text: `put_file` writes it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_shell::{Commands, shell_word};

use crate::digest::{entry_hash, is_sha256, sha256};
use crate::facts::seconds;
use crate::kind::Kind;
use crate::observation::{FileKind, FileSeen, Observation};
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question, first_word};

/// A file with exactly this text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its absolute path.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Whether its text must not be shown or logged.
    pub secret: bool,
    /// What must accept the text before it takes effect.
    pub check: Option<Check>,
}

/// A program that validates a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `sshd -t`.
    Sshd,
    /// `visudo -c`.
    Sudoers,
}

/// Asks what is at these paths, and how old it is.
pub(crate) static STATS: Question = Question { name: "stats", write: write_stats, records: &[("stat", read_stat)] };

/// Asks for the digests of files; each name comes with what the script sets for it: the digest `e` that it should have,
/// and whether (`w`) another text is shown.
pub(crate) static DIGESTS: Question =
    Question { name: "digests", write: write_digests, records: &[("sha", read_digest), ("content", read_content)] };

/// Asks what is at a path, and for its digest.
pub(crate) fn ask_digest(probe: &mut Probe, path: &str, expected: Option<&str>, show: bool) {
    probe.ask_about(&STATS, [path]);
    let (expected, show) = (expected.unwrap_or("any"), if show { "show" } else { "hide" });
    probe.ask(&DIGESTS).insert(path.to_owned(), format!("e={expected}; w={show}"));
}

fn write_stats(paths: &Names, script: &mut Commands) {
    script.call_with("stat -c 'stat %a %U:%G %Y %s %F|%n' --", paths.keys(), "2>/dev/null || :");
}

fn read_stat(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (fields, path) = record.split_once('|')?;
    let words: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| seconds(word));
    // Names of users and groups that come from a directory service may have spaces.
    let at = (2..words.len()).find(|at| number(*at).is_some() && number(at + 1).is_some())?;
    let kind = match words[at + 2..].join(" ").as_str() {
        "regular file" | "regular empty file" => FileKind::File,
        "directory" => FileKind::Folder,
        "symbolic link" => FileKind::Link,
        "" => return None,
        _ => FileKind::Other,
    };
    let (mode, owner) = (words[0].to_owned(), words[1..at].join(" "));
    seen.files.insert(path.to_owned(), FileSeen { kind, mode, owner, modified: number(at)? });
    Some(())
}

fn write_digests(paths: &Names, script: &mut Commands) {
    script.fixed("expected() {\ncase $1 in");
    let cases = paths.iter().map(|(path, set)| format!("{}) {set} ;;\n", shell_word(path))).collect();
    script.append(&Commands::quoted(cases));
    script.fixed("esac\n}");
    // A pipe or a device of somebody's would be read for ever.
    script.call("set --", paths.keys());
    script.fixed("for p in \"$@\"; do\nshift\n[ ! -f \"$p\" ] || set -- \"$@\" \"$p\"\ndone");
    script.fixed(concat!(
        "if [ \"$#\" -gt 0 ]; then\nsha256sum -- \"$@\" 2>/dev/null | ",
        include_str!("file.sh"),
        "fi"
    ));
}

fn read_digest(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (digest, path) = first_word(record);
    is_sha256(digest).then(|| drop(seen.digests.insert(path.to_owned(), digest.to_owned())))
}

fn read_content(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (path, encoded) = record.rsplit_once(' ')?;
    let bytes = BASE64_STANDARD.decode(encoded).ok()?;
    seen.texts.insert(path.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
    Some(())
}

/// Tells whether a file with these permission bits, in octal, may be read by everybody.
fn is_open(mode: &str) -> bool {
    mode.chars().last().and_then(|digit| digit.to_digit(8)).is_some_and(|others| others & 4 != 0)
}

impl File {
    /// A readable file of root's.
    pub fn new(path: impl Into<String>, content: impl Into<String>) -> File {
        File { path: path.into(), content: content.into(), mode: "644".into(), secret: false, check: None }
    }

    /// Tells whether everybody may read it.
    fn is_open(&self) -> bool {
        !self.secret && is_open(&self.mode)
    }

    /// Finds what must change so that the file is as it should be.
    pub(crate) fn change(&self, planner: &mut Planner<'_>) -> Option<Change> {
        let seen = planner.seen();
        let there = seen.files.get(&self.path);
        let same = seen.digests.get(&self.path).is_some_and(|digest| *digest == sha256(self.content.as_bytes()));
        let regular = there.is_some_and(|there| there.kind == FileKind::File);
        if same && regular && there.is_some_and(|there| there.mode == self.mode && there.owner == "root:root") {
            return None;
        }
        let details = if same && regular {
            let there = there.map(|there| format!("mode {} {}", there.mode, there.owner));
            vec![Detail::Value { from: there, to: format!("mode {} root:root", self.mode) }]
        } else if !self.is_open() || there.is_some_and(|there| !is_open(&there.mode)) {
            vec![Detail::Hidden]
        } else if there.is_some_and(|there| there.kind == FileKind::Link) {
            vec![Detail::Text { from: Some("(a symbolic link)\n".to_owned()), to: self.content.clone() }]
        } else {
            let from = there.map(|_| seen.texts.get(&self.path).cloned().unwrap_or_default());
            vec![Detail::Text { from, to: self.content.clone() }]
        };
        let mut script = Commands::new();
        planner.touch(&self.path, &mut script);
        let check = match self.check {
            None => "none",
            Some(Check::Sshd) => "sshd",
            Some(Check::Sudoers) => "sudoers",
        };
        let content = BASE64_STANDARD.encode(&self.content);
        script.call("put_file", [&entry_hash("file", &self.path), &self.path, &self.mode, check, &content]);
        let verb = if there.is_some() { "change" } else { "write" };
        Some(Change::new(format!("{verb} {}", self.path), details, script))
    }
}

impl Kind for File {
    fn ask(&self, probe: &mut Probe) {
        ask_digest(probe, &self.path, Some(&sha256(self.content.as_bytes())), self.is_open());
    }

    fn announce(&self, planner: &mut Planner<'_>) {
        planner.want(&self.path);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let change = self.change(planner);
        planner.push(change);
    }

    fn is_answered(&self, seen: &Observation, asked: &Probe) -> bool {
        match seen.files.get(&self.path) {
            None => asked.asks_about(&DIGESTS, &self.path),
            Some(there) => {
                self.secret
                    || there.kind != FileKind::File
                    || seen.texts.contains_key(&self.path)
                    || seen.digests.contains_key(&self.path) && !seen.differs(self)
            }
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.file(&self.path, &self.mode, &sha256(self.content.as_bytes()));
    }
}

impl Observation {
    /// Tells whether a file that was looked at has another text than it should.
    pub fn differs(&self, file: &File) -> bool {
        self.digests.get(&file.path).is_some_and(|there| *there != sha256(file.content.as_bytes()))
    }
}
