//! Why is a node, or the cluster, not well? What nodes tell of themselves, and the causes that follow from it.

mod causes;

use std::collections::BTreeMap;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, Node, NodeName, Role};
use bramble_state::{Observation, STEPS};
use serde::Serialize;

pub use self::causes::causes;
use crate::distribution::distribution;
use crate::distribution::facts::DistributionFacts;
use crate::lifecycle::Lifecycle;
use crate::status::ClusterReport;

pub(crate) const WHY: &str = include_str!("why.sh");
/// The most bytes that a node says of itself.
const PAGE: u64 = 1024 * 1024;

/// What a node tells of itself: lines, by the word before them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told(BTreeMap<String, Vec<String>>);

impl Told {
    /// Reads what [`why_script`] printed.
    pub fn parse(text: &str) -> Told {
        let mut told = Told::default();
        for line in text.lines() {
            if let Some((word, rest)) = line.split_once([' ', '\t']) {
                told.0.entry(word.to_owned()).or_default().push(rest.to_owned());
            }
        }
        told
    }

    fn all(&self, word: &str) -> impl Iterator<Item = &str> {
        self.0.get(word).into_iter().flatten().map(String::as_str)
    }

    fn first(&self, word: &str) -> Option<&str> {
        self.all(word).next()
    }

    /// Gives the number behind a second word, as in `memory MemTotal 4096`.
    fn number(&self, word: &str, name: &str) -> Option<f64> {
        let line = self.all(word).find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '=']))?;
        line.trim().parse().ok()
    }
}

/// Reads a line of a sensor, in thousandths of a degree, beside the hottest before it: degrees Celsius.
pub(crate) fn warmer(before: Option<f64>, line: &str) -> Option<f64> {
    let degrees = line.trim().parse::<f64>().ok().map(|millis| millis / 1000.0);
    [before, degrees].into_iter().flatten().reduce(f64::max)
}

/// Reads the bits of the firmware's `get_throttled` (raspberrypi.com, "vcgencmd").
pub(crate) fn throttled(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// Leaves of these bits, those that say what is now, the ones that tell of heat: capped frequency, throttled, soft limit.
/// Under-voltage caps and throttles, too, and no heat sink helps against it.
pub(crate) fn slowed_by_heat(bits: u32) -> u32 {
    if bits & 0x1 == 0 { bits & 0xe } else { bits & 0x8 }
}

/// What is known of one node.
pub struct NodeCase<'a> {
    /// The node.
    pub node: &'a Node,
    /// What was seen and told there; or why it could not be reached.
    pub answer: Result<(&'a Observation, &'a Told), &'a str>,
}

/// What is known of a cluster.
pub struct Case<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its nodes that were asked.
    pub nodes: Vec<NodeCase<'a>>,
    /// What its API says; or why it does not answer. Nothing if there is no Kubernetes, or nobody was asked.
    pub report: Option<Result<&'a ClusterReport, &'a str>>,
    /// What the pods say that cannot run.
    pub pods: &'a Told,
}

/// A cause, with what tells of it and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The nodes that it is about; none if it is about the whole cluster.
    pub node: Option<NodeName>,
    /// What it is, in a word that machines can compare, such as `under-voltage`.
    pub kind: &'static str,
    /// What it is, for a person.
    pub what: String,
    /// Where that is seen.
    pub evidence: Vec<String>,
    /// What to do.
    pub next: String,
    /// Whether something is broken by it now; else it is worth knowing.
    pub broken: bool,
}

/// Gives the script that tells all that [`causes`] looks at, for any node.
pub fn why_script(cluster: &Cluster, node: &Node) -> Script {
    let mut script = Commands::new();
    let of = |facts: &dyn DistributionFacts| [facts.pod_units(), &["containerd.service"]].concat();
    let units = distribution(cluster).filter(|_| node.role != Role::Gateway).map_or_else(Vec::new, of);
    script.set("units", &units.join(" "));
    script.fixed(STEPS).fixed(WHY).fixed("tell_node");
    Script::new("tell how it is", &script).silent_for(Duration::from_secs(60)).printing(PAGE)
}

/// Gives the script that tells which pods cannot run, and why, for a control plane.
pub fn pods_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.set("units", "").fixed(WHY).fixed("tell_pods");
    Script::new("ask which pods cannot run", &script).silent_for(Duration::from_secs(60)).printing(PAGE)
}
