//! Who is in the cluster, who should be, and what lies between.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bramble_spec::{Cluster, Node, NodeName, Role};
use bramble_state::{Commands, ENDS, Observation};

use crate::lifecycle::{JoinFacts, Lifecycle, MEMBER, MEMBERS, VERSION, membership};

/// What a node still has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Nothing: it is a member and runs the right version.
    Nothing,
    /// Make the cluster.
    Init,
    /// Join it.
    Join,
    /// Go to another version.
    Upgrade {
        /// The version that it runs.
        from: String,
    },
}

/// A member that is not in the cluster file any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What lies between the members that there are and those that there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agenda {
    /// For each node that was looked at; empty without Kubernetes.
    pub tasks: BTreeMap<NodeName, Task>,
    /// The members as the control planes wrote them down.
    pub members: Vec<(NodeName, Ipv4Addr)>,
    /// Members to be removed.
    pub leavers: Vec<Leaver>,
    /// The digest of the CA of the cluster that runs.
    pub ca: Option<String>,
    /// What stands against it, each with its next step.
    pub problems: Vec<(NodeName, String)>,
}

impl Agenda {
    /// Whether there is a cluster already.
    pub fn runs(&self) -> bool {
        self.ca.is_some()
    }

    /// Whether the control planes wrote this name down.
    pub fn lists(&self, name: &NodeName) -> bool {
        self.members.iter().any(|(known, _)| known == name)
    }

    /// Whether a node joins.
    pub fn joins(&self) -> bool {
        self.tasks.values().any(|task| *task == Task::Join)
    }

    /// Whether a node is part of the cluster that runs.
    pub fn is_member(&self, name: &NodeName) -> bool {
        matches!(self.tasks.get(name), Some(Task::Nothing | Task::Upgrade { .. }))
    }
}

/// What is to be done so that a cluster comes back from a backup that knows this CA: the first control plane takes the
/// state, the others begin anew, and workers that trust the same CA stay as they are unless `all` must join again.
pub fn restoration(cluster: &Cluster, seen: &[(&Node, &Observation)], known: &str, all: bool) -> Agenda {
    let first = cluster.control_planes().next().map(|node| &node.name);
    let task = |node: &Node, seen: &Observation| match node.role {
        Role::ControlPlane if first == Some(&node.name) => Task::Init,
        Role::Worker if !all && seen.done(MEMBER) == Some(membership(node, known).as_str()) => Task::Nothing,
        _ => Task::Join,
    };
    let members = seen.iter().filter(|(node, _)| node.role != Role::Gateway);
    let tasks = members.map(|(node, seen)| (node.name.clone(), task(node, seen)));
    Agenda { tasks: tasks.collect(), ..Agenda::default() }
}

/// The digest of the CA of the cluster that a control plane is part of.
pub fn ca(seen: &Observation) -> Option<&str> {
    let mark = seen.done(MEMBER)?;
    match mark.split_once(' ') {
        Some((_, ca)) => Some(ca),
        // While its maker was being made it was not known yet.
        None => seen.done(JoinFacts::CA),
    }
}

/// Compares what the nodes' marks say with the cluster file.
pub fn agenda(cluster: &Cluster, life: &dyn Lifecycle, seen: &[(&Node, &Observation)]) -> Agenda {
    let mut agenda = Agenda::default();
    let planes = || seen.iter().filter(|(node, _)| node.role == Role::ControlPlane);
    let member_plane = planes().find(|(_, seen)| seen.done(MEMBER).is_some_and(is_plane) && ca(seen).is_some());
    agenda.ca = member_plane.and_then(|(_, seen)| ca(seen)).map(str::to_owned);
    let maker = planes().next().map(|(node, _)| &node.name);
    let version = life.version();
    for (node, seen) in seen.iter().filter(|(node, _)| node.role != Role::Gateway) {
        let mark = seen.done(MEMBER);
        let member = agenda.ca.as_deref().is_some_and(|known| {
            mark == Some(membership(node, known).as_str())
                || (node.role == Role::ControlPlane && mark.is_some_and(is_plane) && ca(seen) == Some(known))
        });
        let task = if member {
            match seen.done(VERSION) {
                Some(runs) if runs == version => Task::Nothing,
                runs => {
                    let from = runs.unwrap_or("an unknown version").to_owned();
                    agenda.problems.extend(refusal(&from, &version).map(|why| (node.name.clone(), why)));
                    Task::Upgrade { from }
                }
            }
        } else if agenda.ca.is_none() && maker == Some(&node.name) {
            Task::Init
        } else {
            Task::Join
        };
        agenda.tasks.insert(node.name.clone(), task);
    }
    let members = member_plane.and_then(|(_, seen)| seen.done(MEMBERS)).unwrap_or_default();
    for (name, address) in members.split_whitespace().filter_map(|member| member.split_once('=')) {
        let (Ok(name), Ok(address)) = (name.parse::<NodeName>(), address.parse::<Ipv4Addr>()) else { continue };
        agenda.members.push((name.clone(), address));
        match cluster.members().find(|node| node.name == name) {
            None => agenda.leavers.push(Leaver { name, address }),
            Some(node) if node.address != address && agenda.is_member(&name) => agenda.problems.push((
                name,
                format!(
                    "it joined the cluster at {address}, and the cluster file says {}: a member cannot move; take it \
                     out of the cluster file, run `bramble up`, and put it in again",
                    node.address
                ),
            )),
            Some(_) => {}
        }
    }
    agenda
}

fn is_plane(mark: &str) -> bool {
    mark.split(' ').next() == Some("control-plane")
}

/// Why a node may not go from one version to another: Kubernetes goes up, one minor at a time
/// (kubernetes.io, "Version Skew Policy").
fn refusal(from: &str, to: &str) -> Option<String> {
    let numbers = |version: &str| -> Option<Vec<u32>> {
        let plain = version.split(['+', '-']).next()?;
        plain.split('.').map(|part| part.parse().ok()).collect()
    };
    let (old, new) = (numbers(from)?, numbers(to)?);
    if new < old {
        return Some(format!(
            "it runs Kubernetes {from}, and the cluster file wants {to}: a cluster cannot go back; restore a backup instead"
        ));
    }
    let (old, new) = (old.get(1)?, new.get(1)?);
    (*new > old + 1).then(|| {
        format!(
            "it runs Kubernetes {from}, and the cluster file wants {to}: go to 1.{} first, no minor can be skipped",
            old + 1
        )
    })
}

/// Run on each control plane: writes down who the members are.
pub fn members_script<'a>(members: impl IntoIterator<Item = (&'a NodeName, Ipv4Addr)>) -> String {
    let list: Vec<String> = members.into_iter().map(|(name, address)| format!("{name}={address}")).collect();
    let mut script = Commands::new();
    script.fixed("set -e").fixed(ENDS).call("step_ends", [MEMBERS, &list.join(" ")]);
    script.as_str().to_owned()
}

/// Run on a control plane: prints the state of the cluster as a tar archive, gzip.
pub fn backup_script(life: &dyn Lifecycle) -> String {
    let mut script = Commands::new();
    script.fixed("set -e\numask 077").append(&life.kubectl());
    script.fixed(
        "d=/var/lib/bramble/backup\nrm -rf \"$d\"\nmkdir -p \"$d\"\ntrap 'rm -rf \"$d\"' EXIT\nsnapshot_state \"$d\"\ntar -C \"$d\" -czf - .",
    );
    script.as_str().to_owned()
}

/// Run on a control plane: prints the objects that tell whether a cluster is the same, as `uid kind namespace/name`.
pub fn objects_script(life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.fixed(
        "kubectl_admin get namespaces,services,deployments,daemonsets,statefulsets,persistentvolumes,persistentvolumeclaims \
         -A -o 'jsonpath={range .items[*]}{.metadata.uid} {.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}'",
    );
    script.as_str().to_owned()
}

/// Run on a control plane: no record of these nodes stays.
pub fn forget_script<'a>(life: &dyn Lifecycle, nodes: impl IntoIterator<Item = (&'a NodeName, Ipv4Addr)>) -> String {
    let mut script = Commands::new();
    script.fixed("set -e").append(&life.kubectl()).fixed("api_answers 120");
    for (name, address) in nodes {
        script.call("forget_node", [name.as_str(), &address.to_string()]);
    }
    script.as_str().to_owned()
}

/// Run on a control plane: whether its API answers now.
pub fn answers_script(life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.fixed("kubectl_admin get --raw /readyz --request-timeout=5s >/dev/null");
    script.as_str().to_owned()
}

/// Run on the control planes that join again while the cluster comes back from a backup: what they hold is not true any
/// more, and nobody shall hear it from them.
pub fn stop_script(life: &dyn Lifecycle) -> String {
    let mut script = life.kubectl();
    script.fixed("! was_member || stop_kubernetes");
    script.as_str().to_owned()
}

/// Run on a control plane: the pods of a node go elsewhere, within so many seconds, or it is given back.
pub fn take_off_script(life: &dyn Lifecycle, name: &NodeName, seconds: u32) -> String {
    let mut script = life.kubectl();
    script.fixed("api_answers 120 || exit 1");
    script.call_with("take_off", [name.as_str(), &seconds.to_string()], "|| exit 1");
    script.as_str().to_owned()
}

/// Run on a control plane: waits until the node reports again and is Ready with this version, and gives it back.
pub fn give_back_script(life: &dyn Lifecycle, name: &NodeName, version: &str) -> String {
    let mut script = life.kubectl();
    script.set("name", name.as_str()).set("version", version);
    script.fixed(
        r#"api_answers 120 || exit 1
look() { kubectl_admin get node "$name" -o 'jsonpath={.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null || :; }
lease() { kubectl_admin -n kube-node-lease get lease "$name" -o 'jsonpath={.spec.renewTime}' 2>/dev/null || :; }
# A node that was away is called Ready until it is missed: what counts is a sign of life from now.
before=$(lease)
n=0
until [ "$(lease)" != "$before" ] && [ "$(look)" = "v$version True" ]; do
    [ "$n" -lt 300 ] || { echo "$name does not come back as a node that is Ready with v$version; it says: $(look)" >&2; exit 1; }
    sleep 1; n=$((n + 1))
done
give_back "$name""#,
    );
    script.as_str().to_owned()
}

/// Run on a control plane that was changed: waits until its own API answers.
pub fn updated_script(life: &dyn Lifecycle, address: Ipv4Addr) -> String {
    let mut script = life.kubectl();
    let server = format!("--server=https://{address}:{}", life.api_port());
    script.call_with("api_answers", ["120", &server], "|| exit 1");
    script.as_str().to_owned()
}
