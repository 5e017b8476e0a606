//! Who is in the cluster, who should be, and what lies between.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, Node, NodeName, Problem, Role};
use bramble_state::{Observation, STEPS};

use crate::identity::owner;
use crate::lifecycle::{JoinFacts, Lifecycle, MEMBER, MEMBERS, VERSION, WAITING, membership};

/// A node's task.
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
    /// Whether a node of the cluster file has its address now: then the cluster only forgets it.
    pub replaced: bool,
}

/// The difference between the members that there are and those that there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agenda {
    /// For each node that was looked at; empty without Kubernetes.
    pub tasks: BTreeMap<NodeName, Task>,
    /// The members as the control planes wrote them down.
    pub members: Vec<(NodeName, Ipv4Addr)>,
    /// Members to be removed.
    pub leavers: Vec<Leaver>,
    /// Nodes that are members of a cluster which is not the one that runs: one that was here before.
    pub orphans: Vec<NodeName>,
    /// Gives the digest of the CA of the cluster that runs.
    pub ca: Option<String>,
    /// What stands against it.
    pub problems: Vec<Problem>,
}

impl Agenda {
    /// Tells whether there is a cluster already.
    pub fn runs(&self) -> bool {
        self.ca.is_some()
    }

    /// Tells whether the control planes wrote this name down.
    pub fn lists(&self, name: &NodeName) -> bool {
        self.members.iter().any(|(known, _)| known == name)
    }

    /// Tells whether a node joins.
    pub fn joins(&self) -> bool {
        self.tasks.values().any(|task| *task == Task::Join)
    }

    /// Tells whether a node is part of the cluster that runs.
    pub fn is_member(&self, name: &NodeName) -> bool {
        matches!(self.tasks.get(name), Some(Task::Nothing | Task::Upgrade { .. }))
    }
}

/// Says what is to be done so that a cluster comes back from a backup that knows this CA: the first control plane takes
/// the state, the others begin anew, and workers that trust the same CA stay as they are unless `all` must join again.
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

/// Gives the digest of the CA of the cluster that a control plane is part of.
pub fn ca(seen: &Observation) -> Option<&str> {
    let mark = seen.done(MEMBER)?;
    match mark.split_once(' ') {
        Some((_, ca)) => Some(ca),
        // While its maker was being made it was not known yet.
        None => seen.done(JoinFacts::CA),
    }
}

/// Lists the members of the cluster as a control plane wrote them down, each with its address.
pub fn members(seen: &Observation) -> impl Iterator<Item = (NodeName, Ipv4Addr)> {
    let listed = seen.done(MEMBERS).unwrap_or_default().split_whitespace();
    listed.filter_map(|member| {
        let (name, address) = member.split_once('=')?;
        Some((name.parse().ok()?, address.parse().ok()?))
    })
}

/// Compares what the nodes' marks say with the cluster file. `known`: the digest of the cluster's CA by the lock file.
pub fn agenda(cluster: &Cluster, life: &dyn Lifecycle, seen: &[(&Node, &Observation)], known: Option<&str>) -> Agenda {
    let mut agenda = Agenda::default();
    // Whatever the cluster file makes of it now: a node that is a control plane holds a cluster.
    let planes: Vec<_> = seen.iter().filter(|(_, seen)| seen.done(MEMBER).is_some_and(is_plane)).collect();
    let by_ca = |wanted: &str| planes.iter().find(|(_, seen)| ca(seen) == Some(wanted));
    let member_plane = known.and_then(by_ca).or_else(|| planes.iter().find(|(_, seen)| ca(seen).is_some()));
    agenda.ca = member_plane.and_then(|(_, seen)| ca(seen)).map(str::to_owned);
    if let (Some((first, _)), Some(runs)) = (member_plane, agenda.ca.as_deref()) {
        for (node, _) in planes.iter().filter(|(_, seen)| ca(seen).is_some_and(|ca| ca != runs)) {
            let message = format!("it is the control plane of another cluster than {}", first.name);
            let next = "if that cluster is not needed any more, take one of the two out of the cluster file, and run \
                        `bramble down` for it";
            agenda.problems.push(Problem::error(message, &node.name).next(next));
        }
    }
    let maker = cluster.control_planes().next().map(|node| &node.name);
    let version = life.version();
    agenda.members = member_plane.into_iter().flat_map(|(_, seen)| members(seen)).collect();
    for (node, seen) in seen.iter().filter(|(node, _)| node.role != Role::Gateway) {
        let mark = seen.done(MEMBER);
        let member = mark.is_some() && agenda.ca.is_some() && ca(seen) == agenda.ca.as_deref();
        let task = if member {
            agenda.problems.extend(changed_role(node, mark.unwrap_or_default()));
            agenda.problems.extend(renamed(node, seen, &agenda.members));
            match seen.done(VERSION) {
                Some(runs) if runs == version => Task::Nothing,
                runs => {
                    let from = runs.unwrap_or("an unknown version").to_owned();
                    agenda.problems.extend(refusal(&node.name, &from, &version));
                    Task::Upgrade { from }
                }
            }
        } else {
            if mark.is_some() {
                agenda.orphans.push(node.name.clone());
            }
            if agenda.ca.is_none() && maker == Some(&node.name) { Task::Init } else { Task::Join }
        };
        agenda.tasks.insert(node.name.clone(), task);
    }
    for (name, address) in agenda.members.clone() {
        match cluster.members().find(|node| node.name == name) {
            None => {
                let there = cluster.nodes.iter().find(|node| node.address == address);
                // One that only has another name in the cluster file does not leave.
                if !there.is_some_and(|node| agenda.is_member(&node.name)) {
                    agenda.leavers.push(Leaver { name, address, replaced: there.is_some() });
                }
            }
            Some(node) if node.address != address && agenda.is_member(&name) => {
                let message = format!(
                    "it joined the cluster at {address}, and the cluster file says {}: a member cannot move",
                    node.address
                );
                let next = "take it out of the cluster file, run `bramble up`, and put it in again";
                agenda.problems.push(Problem::error(message, &name).next(next));
            }
            Some(_) => {}
        }
    }
    agenda
}

/// Says why a member may not get another role: what it is would have to be destroyed for that.
fn changed_role(node: &Node, mark: &str) -> Option<Problem> {
    let (was, is) = (is_plane(mark), node.role == Role::ControlPlane);
    let was_role = if was { Role::ControlPlane } else { Role::Worker };
    (was != is).then(|| {
        let message = format!("it is a {was_role} of the cluster, and the cluster file says {}", node.role);
        let next = "a member keeps its role: take it out of the cluster file, run `bramble up`, and put it in again";
        Problem::error(message, &node.name).next(next)
    })
}

/// Says why a member may not get another name: Kubernetes knows it by that.
fn renamed(node: &Node, seen: &Observation, members: &[(NodeName, Ipv4Addr)]) -> Option<Problem> {
    let written = owner(seen).map(|owner| owner.node);
    let listed = members.iter().find(|(_, address)| *address == node.address).map(|(name, _)| name.as_str());
    let old = written.or(listed).filter(|old| *old != node.name.as_str())?;
    let message = format!("it is the member {old} of the cluster: a member cannot be renamed");
    let next = format!("call it {old}, or take it out of the cluster file, run `bramble up`, and put it in again");
    Some(Problem::error(message, &node.name).next(next))
}

fn is_plane(mark: &str) -> bool {
    mark.split(' ').next() == Some("control-plane")
}

/// Says why a node may not go from one version to another: Kubernetes goes up, one minor at a time
/// (kubernetes.io, "Version Skew Policy").
fn refusal(name: &NodeName, from: &str, to: &str) -> Option<Problem> {
    let numbers = |version: &str| -> Option<Vec<u32>> {
        let plain = version.split(['+', '-']).next()?;
        plain.split('.').map(|part| part.parse().ok()).collect()
    };
    let (old, new) = (numbers(from)?, numbers(to)?);
    let message = format!("it runs Kubernetes {from}, and the cluster file wants {to}");
    if new < old {
        return Some(Problem::error(message + ": a cluster cannot go back", name).next("restore a backup instead"));
    }
    let (old, new) = (old.get(1)?, new.get(1)?);
    (*new > old + 1)
        .then(|| Problem::error(message, name).next(format!("go to 1.{} first, no minor can be skipped", old + 1)))
}

/// Gives the script that writes down who the members are, for each control plane.
pub fn members_script<'a>(members: impl IntoIterator<Item = (&'a NodeName, Ipv4Addr)>) -> Script {
    let list: Vec<String> = members.into_iter().map(|(name, address)| format!("{name}={address}")).collect();
    let mut script = Commands::new();
    script.fixed(STEPS).call("step_ends", [MEMBERS, &list.join(" ")]);
    Script::new("write down who the members are", &script)
}

/// The fact of [`forget_script`] that names a node of which no record is left.
pub const FORGOTTEN: &str = "forgotten";

/// Gives the script after which no record of these nodes stays, for a control plane. It names each when that is so, as
/// the fact [`FORGOTTEN`].
pub fn forget_script<'a>(life: &dyn Lifecycle, nodes: impl IntoIterator<Item = (&'a NodeName, Ipv4Addr)>) -> Script {
    let mut script = life.kubectl();
    script.fixed("api_answers 120");
    for (name, address) in nodes {
        script.call("forget_node", [name.as_str(), &address.to_string()]);
        script.call("echo", [format!("@fact {FORGOTTEN} {name}")]);
    }
    Script::new("remove the records of nodes", &script).silent_for(WAITING)
}

/// The fact that [`answers_script`] tells: `yes` or `no`.
pub const ANSWERS: &str = "answers";

/// Gives the script that tells whether a control plane's API answers now, as the fact [`ANSWERS`].
pub fn answers_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed(
        "if kubectl_admin get --raw /readyz --request-timeout=5s >/dev/null 2>&1; then a=yes; else a=no; fi\necho \"@fact answers $a\"",
    );
    Script::new("ask whether its API answers", &script).silent_for(Duration::from_secs(30))
}

/// Gives the script for the control planes that join again while the cluster comes back from a backup: what they hold
/// is not true any more, and nobody shall hear it from them.
pub fn stop_script(life: &dyn Lifecycle) -> Script {
    let mut script = life.kubectl();
    script.fixed("if was_member; then m=yes; else m=no; fi\n[ \"$m\" = no ] || stop_kubernetes");
    Script::new("stop its control plane", &script).silent_for(WAITING)
}
