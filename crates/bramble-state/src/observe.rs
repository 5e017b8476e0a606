//! Looking at a node: the script that asks, and the observation that its answer makes.

use std::time::Duration;

use bramble_shell::Script;

use crate::observation::{Observation, ObservationError};
use crate::probe::{Answer, Probe, first_word};
use crate::resource::{QUESTIONS, Resource};

/// How long a look may be silent: a board under load with a slow card may take some seconds for a program of 100 MB.
const LOOK: Duration = Duration::from_secs(60);

fn probe(resources: &[Resource]) -> Probe {
    let mut probe = Probe::default();
    for resource in resources {
        resource.with_kind(|kind| kind.ask(&mut probe));
    }
    probe
}

/// Writes the script whose output [`Observation::parse`] reads. It changes nothing on the node but bramble's own notes of
/// what was verified.
pub fn observe_script(resources: &[Resource]) -> Script {
    Script::new("look at the node", &probe(resources).script(QUESTIONS)).silent_for(LOOK)
}

impl Observation {
    /// Reads the output of [`observe_script`] for the same resources.
    ///
    /// # Errors
    ///
    /// Fails if another run has the node, if the output does not go to its end, or at the first line that cannot be read.
    pub fn parse(output: &str, resources: &[Resource]) -> Result<Observation, ObservationError> {
        match output.lines().next_back() {
            Some("end") => {}
            Some("busy") => return Err(ObservationError::Busy),
            _ => return Err(ObservationError::CutOff { lines: output.lines().count() }),
        }
        let probe = probe(resources);
        let mut seen = Observation::default();
        let mut answer = Answer::new(output, &probe);
        while let Some(line) = answer.next() {
            let (tag, rest) = first_word(line);
            let read = match probe.reader(QUESTIONS, tag) {
                Some(reader) => reader(rest, &mut answer, &mut seen),
                None => seen.read_common(tag, rest),
            };
            read.ok_or_else(|| ObservationError::Line(answer.current().to_owned()))?;
        }
        Ok(seen)
    }

    /// Reads a record that every probe brings.
    fn read_common(&mut self, tag: &str, rest: &str) -> Option<()> {
        let (name, value) = first_word(rest);
        match tag {
            "waiting" | "bramble" | "end" => {}
            "fact" => self.facts.read(rest)?,
            "kept" => {
                self.facts.ledger = true;
                self.kept.insert(name.to_owned(), value.to_owned());
            }
            "done" => drop(self.done.insert(name.to_owned(), value.to_owned())),
            "pending" => drop(self.pending.insert(name.to_owned(), value.to_owned())),
            _ => return None,
        }
        Some(())
    }

    /// Tells whether this look, which asked about `asked`, is enough to show what `resources` change: every text that
    /// differs was read, and every place of a file or a blob was looked at.
    pub fn suffices(&self, resources: &[Resource], asked: &[Resource]) -> bool {
        let asked = probe(asked);
        resources.iter().all(|resource| resource.with_kind(|kind| kind.is_answered(self, &asked)))
    }
}

/// Writes the answer of a node on which all these resources are as wanted, as the probe would print it, from `bramble 1`
/// to `end`. `facts` are lines of it, such as `fact os debian 13 trixie`.
///
/// # Panics
///
/// Panics if `facts` cannot be read.
#[cfg(any(test, feature = "testing"))]
pub fn satisfied(resources: &[Resource], facts: &str) -> String {
    let lines: Vec<&str> = facts.lines().chain(["end"]).collect();
    let seen = match Observation::parse(&lines.join("\n"), &[]) {
        Ok(seen) => seen,
        Err(error) => panic!("{error}"),
    };
    let mut node = crate::testing::SatisfiedNode::new(seen.facts);
    for resource in resources {
        resource.with_kind(|kind| kind.satisfied(&mut node));
    }
    let probe = probe(resources);
    node.answer(facts, Answer::new("", &probe).asked(&crate::resource::UNITS))
}
