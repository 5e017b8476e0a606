//! Volumes that are folders of nodes, saved with restic by the nodes that have them.

use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Backups, Cluster, Node, Problem, Role};
use bramble_state::{Answer, File, Kind as ResourceKind, Names, Observation, Planner, Probe, Question, Resource};

use super::automatic::{look, timed};
use super::places::{Kind, Way, secret, ways};
use crate::inputs::BackupKeys;
use crate::lifecycle::{Lifecycle, REPORT};
use crate::status::{Condition, span};

const SCRIPT: &str = "/etc/bramble/backup/volumes";
const PASSWORD: &str = "/etc/bramble/backup/volumes.password";

/// Where the script works, and keeps what it and restic remember.
pub(super) const HOME: &str = "/var/lib/bramble/backups-volumes";

/// Gives the backups of volumes that this node may have to make: any node may get the volume of a claim.
pub(crate) fn saves<'c>(cluster: &'c Cluster, node: &Node) -> Option<&'c Backups> {
    cluster.backups.as_ref().filter(|backups| !backups.volumes.is_empty() && node.role != Role::Gateway)
}

/// The words that a place has in `volumes.sh`: its name, host, repository, region and credentials.
fn words(cluster: &Cluster, Way { label, kind }: Way<'_>) -> [String; 5] {
    let name = format!("{}-volumes", cluster.name);
    match kind {
        Kind::Sftp { host, folder } => {
            let url = format!("sftp:{host}:{folder}/{name}");
            [label, host, url, String::new(), String::new()]
        }
        Kind::S3 { bucket, endpoint, region, credentials } => {
            let amazon = format!("https://s3.{region}.amazonaws.com");
            let url = format!("s3:{}/{bucket}/{name}", endpoint.unwrap_or(&amazon));
            [label, String::new(), url, region.to_owned(), credentials]
        }
    }
}

fn library(cluster: &Cluster, node: &Node, life: &dyn Lifecycle) -> Commands {
    let mut script = life.kubectl();
    script.set("cluster", cluster.name.as_str()).set("node", node.name.as_str());
    script.fixed(include_str!("places.sh")).fixed(include_str!("volumes.sh"));
    script
}

pub(super) fn timer(
    cluster: &Cluster,
    node: &Node,
    backups: &Backups,
    life: &dyn Lifecycle,
    keys: &BackupKeys,
) -> Vec<Resource> {
    let shared = match cluster.storage.holder() {
        None => "none",
        Some(holder) if *holder == node.name => "yes",
        Some(_) => "no",
    };
    let first = cluster.control_planes().next().is_some_and(|plane| plane.name == node.name);
    let mut script = library(cluster, node, life);
    for (name, value) in [
        ("every", backups.every.to_string()),
        ("keep", backups.keep.to_string()),
        ("claims", backups.volumes.join(" ")),
        ("first", if first { "yes" } else { "no" }.to_owned()),
        ("shared", shared.to_owned()),
    ] {
        script.set(name, &value);
    }
    script.fixed("begin_volumes").fixed("[ \"$due\" = yes ] || exit 0");
    for way in ways(backups) {
        script.call("to_repository", words(cluster, way));
    }
    script.fixed("end_volumes");
    let script = Script::new("save volumes", &script);
    let text = format!("# Written by bramble: saves volumes of this node, if it is time.\n{}", script.text());
    let mut all = vec![secret(PASSWORD, &keys.volumes)];
    all.extend(timed("bramble-volumes", HOME, File::new(SCRIPT, text), include_str!("volumes.service"), look(backups)));
    all
}

/// Gives the script that tells, on a node, what is saved at each place: lines of `saved`, the place and restic's list of
/// snapshots (JSON), or of `unread`, the place and why; tabs between them.
pub fn saved_volumes_script(cluster: &Cluster, node: &Node, backups: &Backups, life: &dyn Lifecycle) -> Script {
    let mut script = library(cluster, node, life);
    for way in ways(backups) {
        script.call("saved_in", words(cluster, way));
    }
    Script::new("list the volumes that are saved", &script).silent_for(LONG).printing(REPORT)
}

/// Gives the script that tells, on a control plane, where the volume of a claim is: a line of `volume`, the folder and the nodes,
/// and for each pod that has it one of `pod` and its name; tabs between them.
pub fn find_volume_script(cluster: &Cluster, node: &Node, life: &dyn Lifecycle, claim: (&str, &str)) -> Script {
    let mut script = library(cluster, node, life);
    script.call("find_volume", [claim.0, claim.1]);
    Script::new("ask where the volume is", &script).printing(REPORT)
}

/// Gives the script that puts what was saved at the place `at` of the list back into a folder of a node.
pub fn restore_volume_script(
    cluster: &Cluster,
    node: &Node,
    backups: &Backups,
    life: &dyn Lifecycle,
    (folder, snapshot, at): (&str, &str, usize),
) -> Script {
    let mut script = library(cluster, node, life);
    if let Some(way) = ways(backups).into_iter().nth(at) {
        let [_, host, url, region, credentials] = words(cluster, way);
        script.call("restore_volume", [folder, snapshot, &host, &url, &region, &credentials]);
    }
    Script::new("put the volume back", &script).silent_for(Duration::from_secs(24 * 3600))
}

/// Repositories on slow lines take their time.
const LONG: Duration = Duration::from_secs(15 * 60);

const TAG: &str = "volumes-saved";
const FAILED: &str = "volumes-failed";

/// Asks what the node wrote down: how many seconds ago it saved all its volumes, how many they are, and what failed.
static QUESTION: Question = Question { name: TAG, write, records: &[(TAG, read), (FAILED, read_failed)] };

fn write(_: &Names, script: &mut Commands) {
    script.fixed(include_str!("volumes_seen.sh"));
}

fn read(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let mut words = record.split(' ');
    let (age, at, count) = (words.next()?, words.next()?, words.next()?);
    seen.note(TAG, "age", if at == "0" { "never" } else { age });
    seen.note(TAG, "count", count);
    Some(())
}

fn read_failed(record: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    let said = seen.noted(TAG, "failed").map(|before| format!("{before}; ")).unwrap_or_default();
    seen.note(TAG, "failed", &format!("{said}{record}"));
    Some(())
}

/// The volumes that a node has saved. It is only asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedVolumes;

impl ResourceKind for SavedVolumes {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&QUESTION);
    }

    fn plan(&self, _: &mut Planner<'_>) {}

    fn is_answered(&self, _: &Observation, asked: &Probe) -> bool {
        asked.asks(&QUESTION)
    }
}

/// Gives the condition of a member's volumes, unless it has none.
pub(crate) fn condition(node: &Node, backups: &Backups, seen: &Observation) -> Option<Condition> {
    let told = |key: &str| seen.noted(TAG, key);
    let problem = |problem: Problem| {
        Some(Condition::problem(
            "VolumesSaved",
            problem.next("`journalctl -u bramble-volumes` on the board tells more"),
        ))
    };
    let Some(age) = told("age") else {
        return problem(Problem::note("it has not looked for its volumes yet", &node.name));
    };
    let age: Option<u64> = age.parse().ok();
    let ago = age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", span(age)));
    if let Some(failed) = told("failed") {
        return problem(Problem::error(format!("{failed} (the last time that all went well: {ago})"), &node.name));
    }
    if age.is_none_or(|age| age > 2 * u64::from(backups.every)) {
        return problem(Problem::error(format!("they were saved {ago}"), &node.name));
    }
    let count = told("count").filter(|count| *count != "0")?;
    Some(Condition::good("VolumesSaved", format!("{count}, {ago}")))
}
