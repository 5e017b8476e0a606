//! Certificates that do not end soon.

use bramble_shell::Commands;

use crate::facts::seconds;
use crate::kind::Kind;
use crate::observation::Observation;
use crate::plan::{Change, Detail};
use crate::planner::Planner;
use crate::probe::{Answer, Names, Probe, Question, first_word};

const CERTIFICATE: &str = "certificate";

/// Asks when certificates end; as with blobs, what was read once is noted with the file's size, times and inode.
pub(crate) static STEPS: Question = Question { name: CERTIFICATE, write, records: &[(CERTIFICATE, read)] };

fn write(patterns: &Names, script: &mut Commands) {
    let patterns: String = patterns.keys().map(|pattern| format!("{pattern} ")).collect();
    // The patterns are for the shell to unfold; they come from the code alone.
    script.append(&Commands::quoted(format!("for f in {patterns}; do\n\n")));
    script.fixed(include_str!("certificates.sh"));
}

fn read(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let (end, path) = first_word(record);
    seconds(end).map(|_| seen.note(CERTIFICATE, path, end))
}

/// Certificates that do not end soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// Shell patterns of their files, PEM; of several in one the first counts.
    pub files: &'static [&'static str],
    /// How many seconds before the first of them ends they are renewed.
    pub before: i64,
    /// Renews them all; nothing is planned if it is empty, because something on the node does it by itself.
    pub renew: Commands,
}

impl Kind for Certificates {
    fn ask(&self, probe: &mut Probe) {
        probe.ask_about(&STEPS, self.files.iter().copied());
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        if let Some((path, left)) = planner.seen().first_certificate()
            && left < self.before
            && !self.renew.is_empty()
        {
            let from = Some(format!("{path} ends in {} days", left.div_euclid(24 * 3600)));
            let details = vec![Detail::Value { from, to: "new ones".into() }];
            planner.push(Change::new("renew the certificates", details, self.renew.clone()));
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut crate::testing::SatisfiedNode) {
        let end = node.facts.time + self.before;
        for pattern in self.files {
            node.record(format!("{CERTIFICATE} {end} {}", pattern.replace('*', "a")));
        }
    }
}

impl Observation {
    /// Returns the certificate that ends first: its file, and how many seconds are left by the node's clock.
    pub fn first_certificate(&self) -> Option<(&str, i64)> {
        let ends = self.all_noted(CERTIFICATE).filter_map(|(path, end)| Some((path, seconds(end)?)));
        let (path, end) = ends.min_by_key(|(_, end)| *end)?;
        Some((path, end - self.facts.time))
    }
}
