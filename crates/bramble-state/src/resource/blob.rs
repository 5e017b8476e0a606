//! Bytes by digest: `install_blob` puts what was uploaded in its place, `fetch_blob` what the node fetched.

use std::path::PathBuf;

use bramble_shell::Commands;
use bramble_spec::Sha256Digest;

use crate::digest::{entry_hash, is_sha256, short};
use crate::kind::Kind;
use crate::observation::{FileKind, Observation};
use crate::paths::BLOBS;
use crate::plan::{Change, Detail, Upload};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question, first_word};
use crate::resource::file::STATS;

const BLOB: &str = "blob";

/// Asks for digests of files that may be large. Hashing a program of 100 MB at each look would cost seconds on a board: a
/// file whose size, times and inode are those of the moment when it was last verified is the verified one.
pub(crate) static VERIFIED: Question = Question { name: BLOB, write, records: &[(BLOB, read)] };

fn write(paths: &Names, script: &mut Commands) {
    for path in paths.keys() {
        script.set("f", path).set("h", &short(path)).fixed(include_str!("blob.sh"));
    }
}

fn read(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (digest, path) = first_word(record);
    is_sha256(digest).then(|| seen.note(BLOB, path, digest))
}

/// Bytes by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Where they go.
    pub path: String,
    /// Their digest.
    pub sha256: Sha256Digest,
    /// Permission bits in octal.
    pub mode: String,
    /// Where they come from.
    pub source: BlobSource,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobSource {
    /// A file here, sent to the node.
    Upload(PathBuf),
    /// A URL that the node fetches.
    Url(String),
}

/// Tells whether permission bits in octal let others read.
fn readable_by_all(mode: &str) -> bool {
    mode.chars().last().and_then(|digit| digit.to_digit(8)).is_some_and(|bits| bits & 4 != 0)
}

impl Kind for Blob {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&VERIFIED, [&self.path]);
        probe.ask_about(&STATS, [&self.path]);
    }

    fn announce(&self, planner: &mut Planner<'_>) {
        planner.want(&self.path);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let there = planner.seen().files.get(&self.path);
        let digest = planner.seen().noted(BLOB, &self.path);
        let same = digest == Some(self.sha256.as_str());
        if same && there.is_some_and(|there| there.mode == self.mode && there.kind == FileKind::File) {
            return;
        }
        let mut script = Commands::new();
        planner.touch(&self.path, &mut script);
        let place = [
            entry_hash("file", &self.path),
            self.path.clone(),
            self.mode.clone(),
            self.sha256.to_string(),
            short(&self.path),
        ];
        let (verb, uploads) = match &self.source {
            BlobSource::Upload(from) => {
                script.call("install_blob", place.iter().chain([&format!("{BLOBS}/{}", self.sha256)]));
                let upload = Upload {
                    name: self.path.clone(),
                    from: from.clone(),
                    sha256: self.sha256.clone(),
                    secret: !readable_by_all(&self.mode),
                };
                ("install", vec![upload])
            }
            BlobSource::Url(url) => {
                script.call("fetch_blob", place.iter().chain([url]));
                ("fetch", Vec::new())
            }
        };
        let short = |digest: &str| format!("sha256 {digest:.12}");
        let details = vec![Detail::Value { from: digest.map(short), to: short(self.sha256.as_str()) }];
        planner.push(Change { uploads, ..Change::new(format!("{verb} {}", self.path), details, script) });
    }

    fn is_answered(&self, _: &Observation, asked: &Probe) -> bool {
        asked.asks_about(&VERIFIED, &self.path)
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        node.record(format!("stat {} root:root 1 1 regular file|{}", self.mode, self.path));
        node.record(format!("{BLOB} {} {}", self.sha256, self.path));
    }
}
