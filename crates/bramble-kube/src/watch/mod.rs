//! How boards and the cluster are at a moment, for those who watch.

use std::collections::BTreeMap;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_state::STEPS;

use crate::lifecycle::Lifecycle;
use crate::why::{WHY, throttled, warmer};

const WATCH: &str = include_str!("watch.sh");
/// The most bytes that a board and the API say in one exchange.
const PAGE: u64 = 16 * 1024 * 1024;

/// Gives the script that tells how a board is; with `life`, also how the cluster is, for a control plane.
pub fn sample_script(life: Option<&dyn Lifecycle>) -> Script {
    let mut script = life.map_or_else(
        || {
            let mut script = Commands::new();
            script.fixed(STEPS);
            script
        },
        Lifecycle::kubectl,
    );
    script.set("units", "").fixed(WHY).fixed(WATCH).fixed("sample");
    if life.is_some() {
        script.fixed("echo api").fixed("sample_api");
    }
    Script::new("tell how it is now", &script).silent_for(Duration::from_secs(20)).printing(PAGE)
}

/// Gives the script that tells the last warnings of a board's journal.
pub fn journal_script() -> Script {
    let mut script = Commands::new();
    script.fixed("journalctl -q --no-pager -n 200 -p warning -o short-iso");
    Script::new("read the journal", &script)
}

/// How a board is at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The processors' time since the boot, all of it and what of it was idle, in the kernel's ticks.
    pub ticks: (u64, u64),
    /// The load of the last minute.
    pub load: f64,
    /// Memory, all of it and what of it can be had, in KiB.
    pub memory: (u64, u64),
    /// How much of the root is used, in percent.
    pub disk: Option<u8>,
    /// The hottest sensor, in degrees Celsius.
    pub temperature: Option<f64>,
    /// The bits of the firmware's `get_throttled`; nothing if the board has none.
    pub throttled: Option<u32>,
    /// Seconds since the boot.
    pub uptime: f64,
    /// Who runs bramble and changes the board now.
    pub works: Option<String>,
    /// Of a member of etcd: whether it knows a leader, and whether it is that.
    pub etcd: Option<(bool, bool)>,
    /// Of a member of etcd: how many seconds writing to its log took, all of it, and how many times that was.
    pub fsync: (f64, f64),
    /// What the API says, if it was asked.
    pub cluster: Option<ClusterSample>,
}

/// A node as the API has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSample {
    /// Its conditions that are true, such as `Ready` and `DiskPressure`.
    pub conditions: Vec<String>,
    /// Whether it takes no pods.
    pub cordoned: bool,
    /// How many pods are on it that have not ended.
    pub pods: usize,
    /// Those of them that are not ready, as `namespace/name`.
    pub unready: Vec<String>,
}

/// How the cluster is at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterSample {
    /// Its nodes by name.
    pub nodes: BTreeMap<String, NodeSample>,
    /// Pods that are on no node, as `namespace/name`.
    pub waiting: Vec<String>,
    /// What happened, the last at the end.
    pub events: Vec<ClusterEvent>,
}

/// What the API says that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    /// When, as the API writes it (RFC 3339).
    pub at: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// To what, as `Pod default/web`.
    pub object: String,
    /// What, in a word.
    pub reason: String,
    /// What, in a sentence.
    pub message: String,
}

impl Sample {
    /// Reads what [`sample_script`] printed. What a board does not tell is left out.
    pub fn parse(text: &str) -> Sample {
        let mut sample = Sample::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let words: Vec<&str> = rest.split_whitespace().collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok());
            let whole = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match word {
                "cpu" => sample.ticks = (whole(0), whole(1)),
                "load" => sample.load = number(0).unwrap_or(0.0),
                "memory" if words.first() == Some(&"MemTotal") => sample.memory.0 = whole(1),
                "memory" => sample.memory.1 = whole(1),
                "uptime" => sample.uptime = number(0).unwrap_or(0.0),
                // The title of df has no percent there.
                "disk" => {
                    sample.disk = words.get(4).and_then(|used| used.strip_suffix('%')?.parse().ok()).or(sample.disk)
                }
                "temperature" => sample.temperature = warmer(sample.temperature, rest),
                "throttled" => sample.throttled = throttled(rest),
                "works" => sample.works = Some(rest.to_owned()),
                "etcd" => sample.etcd_says(&words),
                "api" => sample.cluster = Some(ClusterSample::default()),
                _ => {
                    if let Some(cluster) = &mut sample.cluster {
                        cluster.take(word, rest);
                    }
                }
            }
        }
        sample
    }

    fn etcd_says(&mut self, words: &[&str]) {
        let (Some(name), Some(value)) = (words.first(), words.get(1).and_then(|value| value.parse::<f64>().ok()))
        else {
            return;
        };
        let (has, is) = self.etcd.unwrap_or_default();
        match *name {
            "etcd_server_has_leader" => self.etcd = Some((value > 0.0, is)),
            "etcd_server_is_leader" => self.etcd = Some((has, value > 0.0)),
            "etcd_disk_wal_fsync_duration_seconds_sum" => self.fsync.0 = value,
            "etcd_disk_wal_fsync_duration_seconds_count" => self.fsync.1 = value,
            _ => {}
        }
    }
}

impl ClusterSample {
    fn take(&mut self, word: &str, rest: &str) {
        match word {
            "node" => {
                // A node that takes pods says nothing of it.
                let mut words = rest.split(' ');
                let (name, cordoned) = (words.next().unwrap_or_default(), words.next() == Some("true"));
                let conditions = words.next().unwrap_or_default().split(',').filter(|word| !word.is_empty());
                let node = self.nodes.entry(name.to_owned()).or_default();
                node.conditions = conditions.map(str::to_owned).collect();
                node.cordoned = cordoned;
            }
            "pod" => {
                let mut words = rest.split(' ');
                let (node, phase) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let name = words.next().unwrap_or_default();
                if matches!(phase, "Succeeded" | "Failed") {
                    return;
                }
                if node.is_empty() {
                    self.waiting.push(name.to_owned());
                    return;
                }
                let ready = phase == "Running" && words.all(|ready| ready == "true");
                let node = self.nodes.entry(node.to_owned()).or_default();
                node.pods += 1;
                if !ready {
                    node.unready.push(name.to_owned());
                }
            }
            "event" => {
                let words: Vec<&str> = rest.splitn(6, ' ').collect();
                if let [at, kind, object, name, reason, message] = words[..] {
                    self.events.push(ClusterEvent {
                        at: at.to_owned(),
                        warning: kind == "Warning",
                        object: format!("{object} {}", name.trim_start_matches('/')),
                        reason: reason.to_owned(),
                        message: message.to_owned(),
                    });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_the_board_and_the_api_tell() {
        let sample = Sample::parse(
            "cpu 1000 700\nload 0.50 0.40 0.30 1/100 4242\nmemory MemTotal 4000000\nmemory MemAvailable 1000000\nuptime 93600.5 1\n\
             disk Filesystem 1024-blocks Used Available Capacity Mounted on\ndisk /dev/mmcblk0p2 100 42 58 42% /\n\
             temperature 51000\ntemperature 62500\nthrottled 0x50005\nworks alice at desk\n\
             etcd etcd_server_has_leader 1\netcd etcd_server_is_leader 0\napi\n\
             node kube1  Ready,\nnode kube2 true Ready,DiskPressure,\npod kube1 Running default/web true true\n\
             pod kube1 Running default/sick true false\npod kube2 Succeeded default/job false\npod  Pending default/late \n\
             event 2026-11-30T18:00:00Z Warning Pod default/sick BackOff Back-off restarting failed container\n",
        );
        assert_eq!((sample.ticks, sample.load, sample.memory), ((1000, 700), 0.5, (4_000_000, 1_000_000)));
        assert_eq!((sample.disk, sample.temperature, sample.throttled), (Some(42), Some(62.5), Some(0x50005)));
        assert_eq!((sample.works.as_deref(), sample.etcd), (Some("alice at desk"), Some((true, false))));
        let cluster = sample.cluster.unwrap();
        assert_eq!(
            (cluster.nodes["kube1"].pods, &cluster.nodes["kube1"].unready[..]),
            (2, &["default/sick".to_owned()][..])
        );
        assert_eq!(cluster.nodes["kube2"].conditions, ["Ready", "DiskPressure"]);
        assert!(
            cluster.nodes["kube2"].cordoned && !cluster.nodes["kube1"].cordoned && cluster.nodes["kube2"].pods == 0
        );
        assert_eq!(cluster.waiting, ["default/late"]);
        assert_eq!(
            (cluster.events[0].object.as_str(), cluster.events[0].reason.as_str()),
            ("Pod default/sick", "BackOff")
        );
        assert_eq!(Sample::parse(""), Sample::default());
    }
}
