//! Is the cluster well? Named conditions, each with its reason.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use bramble_shell::Script;
use bramble_spec::{Backups, Chip, Cluster, Cni, Distribution, Node, Place, Problem, Role, Severity};
use bramble_state::{Observation, Resource, Unit};

use crate::backup::volumes;
use crate::distribution::kubeadm::routed::PodRoutes;
use crate::distribution::{keepalived, lifecycle};
use crate::inputs::Inputs;
use crate::lifecycle::{Lifecycle, MEMBER, REPORT};

/// The state of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// As it should be, with what was found.
    Good(String),
    /// Nobody could tell, with the reason.
    Unknown(String),
    /// Not as it should be, or worth knowing.
    Problem(Problem),
}

/// One named condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: State,
}

impl Condition {
    pub(crate) fn good(name: &'static str, reason: impl Into<String>) -> Condition {
        Condition { name, state: State::Good(reason.into()) }
    }

    pub(crate) fn problem(name: &'static str, problem: Problem) -> Condition {
        Condition { name, state: State::Problem(problem) }
    }

    /// Makes a condition that is not as it should be.
    pub fn bad(name: &'static str, message: impl Into<String>, place: impl Into<Place>) -> Condition {
        Condition::problem(name, Problem::error(message, place))
    }

    /// Tells whether it is as it should be.
    pub fn is_good(&self) -> bool {
        matches!(self.state, State::Good(_))
    }

    /// Tells whether something is wrong, and not only worth knowing.
    pub fn is_bad(&self) -> bool {
        matches!(&self.state, State::Problem(problem) if problem.severity == Severity::Error)
    }

    /// Says why it is so, with the next step.
    pub fn reason(&self) -> Cow<'_, str> {
        match &self.state {
            State::Good(reason) | State::Unknown(reason) => reason.into(),
            State::Problem(problem) => problem.to_string().into(),
        }
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (state, problem) = match &self.state {
            State::Good(_) => ("good", None),
            State::Unknown(_) => ("unknown", None),
            State::Problem(problem) => (if self.is_bad() { "bad" } else { "note" }, Some(problem)),
        };
        let mut fields = serializer.serialize_struct("Condition", 4)?;
        fields.serialize_field("name", self.name)?;
        fields.serialize_field("state", state)?;
        fields.serialize_field("reason", &self.reason())?;
        fields.serialize_field("problem", &problem)?;
        fields.end()
    }
}

/// A node as the Kubernetes API knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Whether it is Ready, or why not.
    pub ready: Result<(), String>,
    /// The resources that it runs short of (`DiskPressure`, `MemoryPressure`, `PIDPressure`), each with the kubelet's
    /// words.
    pub pressures: Vec<(&'static str, String)>,
    /// Whether it takes pods.
    pub cordoned: bool,
    /// The kubelet's version.
    pub version: String,
}

/// A cluster as its API knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReport {
    /// Its nodes.
    pub nodes: Vec<NodeReport>,
    /// Pods of the system that are not well, as `name: why`.
    pub bad_pods: Vec<String>,
    /// The number of pods of the system.
    pub system_pods: usize,
    /// Whether a cluster DNS runs.
    pub dns: bool,
    /// Workloads of add-ons, by the add-on: how many there are, and which are not ready, as `name: n of m`.
    pub addons: BTreeMap<String, (usize, Vec<String>)>,
    /// Whether its API answers at the address that moves between control planes, if there is one.
    pub address: Option<bool>,
    /// The backups that it makes by itself, if it was asked.
    pub backups: Option<BackupReport>,
}

/// What the cluster says of the backups that it makes by itself. Times are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// The control plane's clock.
    pub now: u64,
    /// When the last one was made that is at one place at least; 0 if there is none.
    pub made: u64,
    /// Its file.
    pub file: String,
    /// Where the last one could not be put, or not be made at all, as `place: why`.
    pub failed: Vec<String>,
}

impl BackupReport {
    fn parse(text: &str) -> Option<BackupReport> {
        let mut lines = text.trim_start().lines();
        let now = lines.next()?.trim().parse().ok()?;
        let Some((made, file)) = lines.next().and_then(|line| line.split_once(' ')) else {
            return Some(BackupReport { now, ..BackupReport::default() });
        };
        Some(BackupReport {
            now,
            made: made.parse().unwrap_or(0),
            file: file.to_owned(),
            failed: lines.filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        })
    }

    fn condition(&self, backups: &Backups) -> Condition {
        let problem = |problem: Problem| {
            Condition::problem(
                "BackupMade",
                problem.next("`journalctl -u bramble-backup` on the control planes tells more"),
            )
        };
        let age = self.now.saturating_sub(self.made);
        let said = if self.failed.is_empty() { String::new() } else { format!("; {}", self.failed.join("; ")) };
        match self.made {
            0 if self.failed.is_empty() => problem(Problem::note("none was made yet", Place::Whole)),
            0 => problem(Problem::error(format!("none could be made{said}"), Place::Whole)),
            _ if age > 2 * u64::from(backups.every) => {
                problem(Problem::error(format!("the last one is {} old{said}", span(age)), Place::Whole))
            }
            _ if !self.failed.is_empty() => problem(Problem::error(
                format!("the last one, {} ago, is not everywhere{said}", span(age)),
                Place::Whole,
            )),
            _ => Condition::good("BackupMade", format!("{}, {} ago", self.file, span(age))),
        }
    }
}

/// Says how long something took or is ago, in the largest unit that fits.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..1800 if !seconds.is_multiple_of(60) => format!("{} min {} s", seconds / 60, seconds % 60),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Asks the API, on a control plane, for what [`parse_nodes`] reads.
pub fn status_script(cluster: &Cluster, life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    for what in ["nodes", "-n kube-system pods", "deployments,daemonsets,statefulsets -A -l bramble/addon"] {
        script.call_with("kubectl_admin get", what.split(' '), "-o json --request-timeout=10s").fixed("echo '@next'");
    }
    if keepalived::wanted(cluster) {
        let address = [cluster.network.api.to_string(), life.api_port().to_string()];
        script.call_with("address_has_api", address, "&& echo answers || echo silent");
    }
    script.fixed("echo '@next'");
    if cluster.backups.as_ref().is_some_and(|backups| backups.state) {
        script.fixed("date +%s").fixed(
            "kubectl_admin -n kube-system get configmap bramble-backups --ignore-not-found --request-timeout=10s -o 'jsonpath={.data.made} {.data.file}{\"\\n\"}{.data.failed}'",
        );
    }
    Script::new("ask the API how the cluster is", &script).silent_for(Duration::from_secs(60)).printing(REPORT)
}

/// Reads the output of [`status_script`].
pub fn parse_nodes(output: &str) -> Option<ClusterReport> {
    let (nodes, rest) = output.split_once("@next")?;
    let (pods, rest) = rest.split_once("@next")?;
    let (workloads, rest) = rest.split_once("@next")?;
    let (address, backups) = rest.split_once("@next")?;
    let nodes: Value = serde_json::from_str(nodes).ok()?;
    let pods: Value = serde_json::from_str(pods).ok()?;
    let workloads: Value = serde_json::from_str(workloads).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let nodes = nodes["items"].as_array()?.iter().map(|node| {
        let named = |name: &str| {
            node["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == name)
        };
        let pressures = ["DiskPressure", "MemoryPressure", "PIDPressure"].into_iter().filter_map(|name| {
            named(name)
                .filter(|condition| condition["status"] == "True")
                .map(|condition| (name, text(&condition["message"])))
        });
        let ready = named("Ready");
        NodeReport {
            name: text(&node["metadata"]["name"]),
            pressures: pressures.collect(),
            ready: match ready {
                Some(c) if c["status"] == "True" => Ok(()),
                Some(c) => Err(format!("{}: {}", text(&c["reason"]), text(&c["message"]))),
                None => Err("it never reported".into()),
            },
            cordoned: node["spec"]["unschedulable"].as_bool().unwrap_or(false),
            version: text(&node["status"]["nodeInfo"]["kubeletVersion"]),
        }
    });
    let mut addons: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for workload in workloads["items"].as_array().into_iter().flatten() {
        let status = &workload["status"];
        let number = |value: &Value| value.as_u64();
        // Those of a DaemonSet are counted under names of their own.
        let wanted = number(&status["desiredNumberScheduled"]).or(number(&workload["spec"]["replicas"])).unwrap_or(1);
        let ready = number(&status["numberReady"]).or(number(&status["readyReplicas"])).unwrap_or(0);
        let entry = addons.entry(text(&workload["metadata"]["labels"]["bramble/addon"])).or_default();
        entry.0 += 1;
        if ready < wanted {
            entry.1.push(format!("{}: {ready} of {wanted} ready", text(&workload["metadata"]["name"])));
        }
    }
    let pods = pods["items"].as_array()?;
    let bad_pods = pods.iter().filter_map(|pod| {
        let ready = pod["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        let phase = text(&pod["status"]["phase"]);
        let waiting = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let why = waiting
            .map(|c| text(&c["state"]["waiting"]["reason"]))
            .find(|why| !why.is_empty())
            .unwrap_or_else(|| phase.clone());
        (!ready && phase != "Succeeded" && phase != "Failed")
            .then(|| format!("{}: {why}", text(&pod["metadata"]["name"])))
    });
    let dns = pods.iter().any(|pod| pod["metadata"]["labels"]["k8s-app"] == "kube-dns");
    Some(ClusterReport {
        nodes: nodes.collect(),
        bad_pods: bad_pods.collect(),
        system_pods: pods.len(),
        dns,
        addons,
        address: match address.trim() {
            "answers" => Some(true),
            "silent" => Some(false),
            _ => None,
        },
        backups: BackupReport::parse(backups),
    })
}

/// Lists what a look at a node asks about so that [`node_conditions`] can tell all.
pub fn watched(cluster: &Cluster, node: &Node) -> Vec<Resource> {
    let inputs = Inputs::default();
    let life = lifecycle(cluster, &inputs);
    let life = life.filter(|_| node.role != Role::Gateway);
    let certificates = life.map(|life| Resource::Certificates(life.certificates(node)));
    let units = services(cluster, node).into_iter().map(|(_, unit, _)| Resource::Unit(Unit::new(unit, Vec::new())));
    let routes = pod_routes(cluster, node).map(Resource::other);
    let volumes = volumes::saves(cluster, node).map(|_| Resource::other(volumes::SavedVolumes));
    certificates.into_iter().chain(units).chain(routes).chain(volumes).collect()
}

/// The routes between pods that bramble itself keeps on a node, if it does.
fn pod_routes(cluster: &Cluster, node: &Node) -> Option<PodRoutes> {
    let routed = matches!(cluster.distribution, Distribution::Kubeadm(_)) && cluster.network.cni == Cni::Routed;
    (routed && node.pods.is_some()).then(|| PodRoutes::new(cluster, node))
}

/// Lists what runs on a node beside Kubernetes: the condition that it is, its unit, and what is wrong without it.
fn services(cluster: &Cluster, node: &Node) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut all = Vec::new();
    if node.uplink.is_some() {
        all.push(("Firewall", "bramble-gateway-firewall", "the rack has no way out, and no protection"));
        all.push(("AddressesAndNames", "bramble-gateway-dnsmasq", "nodes get no addresses, and find no names"));
    }
    if cluster.storage.nfs.is_some() {
        all.push(("NfsFolder", "bramble-mount-nfs", "it is not mounted"));
    }
    if cluster.storage.glusterfs.is_some() {
        all.push(("GlusterFolder", "bramble-mount-glusterfs", "it is not mounted"));
    }
    all
}

/// Gives the conditions of a node that was looked at.
pub fn node_conditions(
    cluster: &Cluster,
    node: &Node,
    seen: &Observation,
    report: Option<&NodeReport>,
) -> Vec<Condition> {
    let bad = |name, message: &str| Condition::bad(name, message, &node.name);
    let note = |name, message: &str| Condition::problem(name, Problem::note(message, &node.name));
    let needs_up =
        |name, message: &str| Condition::problem(name, Problem::error(message, &node.name).next("run `bramble up`"));
    let mut found = vec![Condition::good("Reachable", seen.facts.model.clone())];
    let facts = &seen.facts;
    if facts.reboot_required {
        found.push(note("Rebooted", "Debian asks for a reboot"));
    }
    for (name, unit, without) in services(cluster, node) {
        found.push(match seen.runs(unit) {
            true => Condition::good(name, format!("{unit} runs")),
            false => {
                let next = format!("run `bramble up`, or look at `systemctl status {unit}`");
                Condition::problem(name, Problem::error(without, &node.name).next(next))
            }
        });
    }
    if cluster.distribution == Distribution::None || node.role == Role::Gateway {
        return found;
    }
    found.extend(accelerators(node, seen));
    if facts.controllers.contains("memory") {
        found.push(Condition::good("MemoryCgroup", "on"));
    } else {
        found.push(needs_up("MemoryCgroup", "off"));
    }
    if facts.swaps.is_empty() {
        found.push(Condition::good("SwapOff", "no swap in use"));
    } else {
        found.push(bad("SwapOff", &format!("in use: {}", facts.swaps.join(" "))));
    }
    if let Some((path, left)) = seen.first_certificate() {
        let days = left.div_euclid(24 * 3600);
        found.push(match days {
            ..0 => needs_up("Certificates", &format!("{path} has ended")),
            0..15 => needs_up("Certificates", &format!("{path} ends in {days} days")),
            _ => Condition::good("Certificates", format!("the first ends in {days} days")),
        });
    }
    if let Some(routes) = pod_routes(cluster, node).filter(|_| seen.done(MEMBER).is_some()) {
        found.push(match routes.missing(seen) {
            None => Condition::good("PodRoutes", "to all nodes"),
            Some(nodes) => needs_up("PodRoutes", &format!("there is no way to the pods of {nodes}")),
        });
    }
    if let Some(backups) = volumes::saves(cluster, node).filter(|_| seen.done(MEMBER).is_some()) {
        found.extend(volumes::condition(node, backups, seen));
    }
    match (seen.done(MEMBER), report) {
        (None, _) => found.push(needs_up("Joined", "not part of the cluster yet")),
        (Some(_), None) => {
            found.push(Condition { name: "Joined", state: State::Unknown("the API does not tell".into()) })
        }
        (Some(_), Some(report)) => {
            found.push(Condition::good("Joined", report.version.clone()));
            match &report.ready {
                Ok(()) => found.push(Condition::good("Ready", "the kubelet reports it")),
                Err(why) => found.push(bad("Ready", why)),
            }
            for (name, message) in &report.pressures {
                found.push(bad(name, message));
            }
            if report.cordoned {
                found.push(note("Schedulable", "cordoned"));
            }
        }
    }
    found
}

/// Says of each kind of accelerator that the cluster file gives a node whether it is there, with its driver.
fn accelerators(node: &Node, seen: &Observation) -> Vec<Condition> {
    let one = |chip: Chip| {
        let facts = &seen.facts;
        let driver = |pattern: &&str| {
            let start = pattern.trim_end_matches('*');
            facts.accelerators.iter().any(|path| path.starts_with(start))
        };
        let problem = |message: String, next: String| {
            Condition::problem("Accelerator", Problem::error(message, &node.name).next(next))
        };
        if !chip.ids().iter().any(|id| facts.devices.contains(*id)) {
            let next = match chip {
                Chip::CoralUsb => "look at its cable, and at `dmesg` there",
                _ => "look at its cable; a Raspberry Pi 5 without a HAT's EEPROM wants `dtparam=pciex1` in config.txt",
            };
            return problem(format!("{chip}: the board does not see it"), next.to_owned());
        }
        match chip.driver() {
            Some(package) if !chip.devices().iter().any(driver) => {
                problem(format!("{chip}: it has no driver"), format!("install {package}, and reboot the board"))
            }
            _ => Condition::good("Accelerator", chip.to_string()),
        }
    };
    node.fitting.accelerators().into_keys().map(one).collect()
}

/// Gives the conditions of the cluster as a whole; `Err` says why its API could not be asked.
pub fn cluster_conditions(cluster: &Cluster, report: Result<&ClusterReport, &str>) -> Vec<Condition> {
    let inputs = Inputs::default();
    let Some(life) = lifecycle(cluster, &inputs) else { return Vec::new() };
    let report = match report {
        Err(why) => return vec![Condition::bad("ApiAnswers", why, Place::Whole)],
        Ok(report) => report,
    };
    let bad = |name, message: String| Condition::bad(name, message, Place::Whole);
    let address = format!("https://{}:{}", cluster.network.api, life.api_port());
    let mut found = vec![match report.address {
        Some(false) => {
            let message = format!("not at {address}, which moves between the control planes: none of them holds it");
            let next = "look at keepalived on the control planes, and whether another machine has the address";
            Condition::problem("ApiAnswers", Problem::error(message, Place::Whole).next(next))
        }
        _ => Condition::good("ApiAnswers", address),
    }];
    let ready = report.nodes.iter().filter(|node| node.ready.is_ok()).count();
    let members = cluster.members().count();
    let count = format!("{ready} of {members}");
    found.push(match ready == members {
        true => Condition::good("NodesReady", count),
        false => bad("NodesReady", count),
    });
    if report.bad_pods.is_empty() {
        found.push(Condition::good("SystemPodsReady", format!("{} pods", report.system_pods)));
    } else {
        found.push(bad("SystemPodsReady", report.bad_pods.join(", ")));
    }
    let strangers: Vec<&str> = report
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .filter(|name| !cluster.nodes.iter().any(|node| node.name.as_str() == *name))
        .collect();
    if !strangers.is_empty() {
        let list = strangers.join(", ");
        let problem = Problem::note(format!("not in the cluster file: {list}"), Place::Whole);
        found.push(Condition::problem("OnlyKnownNodes", problem));
    }
    if !report.dns {
        let message = "none: the bundle has no CoreDNS image, and services are reached by address";
        let next = "add an image of yours with `archives: [coredns.tar]` and `addons: { dns: { image: … } }`";
        found.push(Condition::problem("ClusterDns", Problem::note(message, Place::Whole).next(next)));
    }
    for (name, (count, unready)) in &report.addons {
        found.push(match unready.is_empty() {
            true => Condition::good("AddonReady", format!("{name}: {count} of {count} workloads ready")),
            false => bad("AddonReady", format!("{name}: {}", unready.join(", "))),
        });
    }
    if let (Some(wanted), Some(told)) = (&cluster.backups, &report.backups)
        && wanted.state
    {
        found.push(told.condition(wanted));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_read_a_state_its_reason_and_the_problem() {
        let json = |condition: Condition| serde_json::to_value(condition).unwrap();
        let good =
            serde_json::json!({ "name": "SwapOff", "state": "good", "reason": "no swap in use", "problem": null });
        assert_eq!(json(Condition::good("SwapOff", "no swap in use")), good);
        let node: bramble_spec::NodeName = "kube1".parse().unwrap();
        let bad = json(Condition::problem("MemoryCgroup", Problem::error("off", &node).next("run `bramble up`")));
        assert_eq!((&bad["state"], &bad["reason"]), (&"bad".into(), &"off: run `bramble up`".into()));
        assert_eq!((&bad["problem"]["node"], &bad["problem"]["message"]), (&"kube1".into(), &"off".into()));
        let note = Condition::problem("Schedulable", Problem::note("cordoned", &node));
        assert!(!note.is_bad() && !note.is_good() && json(note)["state"] == "note");
        let unknown = Condition { name: "Joined", state: State::Unknown("the API does not tell".into()) };
        assert_eq!(json(unknown)["state"], "unknown");
    }
}
