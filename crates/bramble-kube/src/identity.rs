//! Whose a node is: the identity of its cluster, which is written on the node and in `bramble.lock`.

use bramble_shell::Commands;
use bramble_spec::{Cluster, ClusterId, Node, Problem};
use bramble_state::{Observation, Step};
use serde::{Deserialize, Serialize};

use crate::lifecycle::MEMBER;
use crate::membership;

/// The mark that says whose a node is: the id of its cluster, the cluster's name, and the node's own.
pub const OWNER: &str = "cluster";

/// Tells one cluster from every other, also from one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The id that it was given at its birth.
    pub id: ClusterId,
    /// The digest of its CA, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// What the mark [`OWNER`] of a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The id of its cluster.
    pub id: ClusterId,
    /// The name of its cluster.
    pub cluster: &'a str,
    /// Its name there.
    pub node: &'a str,
}

/// Reads whose a node is; nothing if it is nobody's, or if its mark cannot be read.
pub fn owner(seen: &Observation) -> Option<Owner<'_>> {
    let mut words = seen.done(OWNER)?.split(' ');
    match (words.next()?.parse(), words.next(), words.next(), words.next()) {
        (Ok(id), Some(cluster), Some(node), None) => Some(Owner { id, cluster, node }),
        _ => None,
    }
}

/// Gives the step that writes down whose a node is.
pub fn owner_step(cluster: &Cluster, node: &Node, id: &ClusterId) -> Step {
    Step {
        id: OWNER,
        title: format!("write down that it belongs to the cluster {}", cluster.name),
        version: format!("{id} {} {}", cluster.name, node.name),
        apply: Commands::new(),
        undo: None,
    }
}

/// Finds the cluster that these nodes say they belong to, if all that belong to one belong to the same, and it has the name
/// of this one.
pub fn adoptable(cluster: &Cluster, seen: &[(&Node, &Observation)]) -> Option<ClusterId> {
    let mut owners = seen.iter().filter_map(|(_, seen)| owner(seen));
    let first = owners.next()?;
    let same = |owner: &Owner<'_>| owner.id == first.id && owner.cluster == cluster.name.as_str();
    (same(&first) && owners.all(|owner| same(&owner))).then_some(first.id)
}

/// Finds the nodes that belong to another cluster than the one with this id. `known`: what the lock file says of this
/// cluster, if anything.
pub fn foreign(
    cluster: &Cluster,
    id: &ClusterId,
    known: Option<&Identity>,
    seen: &[(&Node, &Observation)],
) -> Vec<Problem> {
    let name = &cluster.name;
    let free = format!(
        "if that cluster is not needed any more, run `bramble down` in its folder first; else take the node out of the \
         cluster file of {name}"
    );
    let mut problems = Vec::new();
    for (node, seen) in seen {
        let (message, next) = match (owner(seen), seen.done(OWNER)) {
            (Some(owner), _) if owner.id == *id => continue,
            (Some(owner), _) if owner.cluster == name.as_str() && known.is_none() => (
                format!("it belongs to the cluster {name} (id {}), which bramble.lock does not know", owner.id.short()),
                "copy bramble.lock from the folder in which that cluster was made, or pass --adopt to manage it from this \
                 folder"
                    .to_owned(),
            ),
            (Some(owner), _) if owner.cluster == name.as_str() => (
                format!(
                    "it belongs to another cluster with the name {name} (id {}, bramble.lock has {})",
                    owner.id.short(),
                    id.short()
                ),
                free.clone(),
            ),
            (Some(owner), _) => (
                format!("it belongs to the cluster {} (id {}), not to {name}", owner.cluster, owner.id.short()),
                free.clone(),
            ),
            (None, Some(_)) => (
                format!("it does not say whose it is: {}/{OWNER} is damaged", bramble_state::DONE),
                format!("remove that file if the node belongs to {name}"),
            ),
            (None, None) => {
                let member = seen.done(MEMBER).and_then(|_| membership::ca(seen));
                match (member, known.and_then(|known| known.ca.as_deref())) {
                    (Some(of), Some(ours)) if of != ours => {
                        (format!("it is a member of another cluster, whose CA has the digest {of}"), free.clone())
                    }
                    _ => continue,
                }
            }
        };
        problems.push(Problem::error(message, &node.name).next(next));
    }
    problems
}

/// Something that a run destroys, for which it needs a confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destruction {
    /// The name that a person confirms it with: that of a node, an add-on, or the cluster.
    pub name: String,
    /// What is destroyed, as a whole sentence without its full stop.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn cluster() -> Cluster {
        let text = "cluster: home\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution: { k3s: { version: stable } }\nnodes:\n\
                    \x20 - { name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51 }\n\
                    \x20 - { name: kube2, role: worker, board: rpi-4b-8gb, address: 10.0.0.52 }\n";
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), text);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        loaded.clusters.into_iter().next().unwrap()
    }

    fn seen(marks: &str) -> Observation {
        let facts = "fact model x\nfact boot-id b\nfact os debian 13 trixie\nfact arch arm64\nfact cgroup 2\nfact memory 1\n\
                     fact time 1\n";
        Observation::parse(&format!("bramble 1\n{facts}{marks}end\n"), &[]).unwrap()
    }

    fn id(digit: char) -> ClusterId {
        digit.to_string().repeat(32).parse().unwrap()
    }

    /// What is said of the first node, whose marks are these.
    fn said(known: Option<Identity>, marks: &str) -> Option<String> {
        let (cluster, seen) = (cluster(), seen(marks));
        let problems = foreign(&cluster, &id('a'), known.as_ref(), &[(&cluster.nodes[0], &seen)]);
        problems.first().map(ToString::to_string)
    }

    fn ours(ca: Option<&str>) -> Option<Identity> {
        Some(Identity { id: id('a'), ca: ca.map(str::to_owned) })
    }

    #[test]
    fn a_node_of_nobody_and_one_of_ours_are_taken() {
        assert_eq!(said(None, ""), None);
        assert_eq!(said(ours(Some("sha256:1")), ""), None);
        assert_eq!(said(ours(None), &format!("done cluster {} home kube1\n", id('a'))), None);
        // It was made before clusters had ids.
        assert_eq!(said(None, "done kubernetes worker sha256:1\n"), None);
        assert_eq!(said(ours(Some("sha256:1")), "done kubernetes worker sha256:1\n"), None);
    }

    #[test]
    fn a_node_of_another_cluster_is_refused_with_the_name_of_its_cluster() {
        let other = format!("done cluster {} school kube1\n", id('b'));
        assert!(said(None, &other).unwrap().contains("belongs to the cluster school (id bbbbbbbb), not to home"));
        assert!(said(ours(None), &other).unwrap().contains("school"));
        let twin = format!("done cluster {} home kube1\n", id('b'));
        assert!(said(None, &twin).unwrap().contains("--adopt"));
        assert!(said(ours(None), &twin).unwrap().contains("another cluster with the name home (id bbbbbbbb"));
        let ca = "done kubernetes worker sha256:2\n";
        assert!(said(ours(Some("sha256:1")), ca).unwrap().contains("sha256:2"));
        assert!(said(None, "done cluster nonsense\n").unwrap().contains("damaged"));
    }

    #[test]
    fn a_cluster_is_adopted_if_all_of_its_nodes_say_the_same() {
        let cluster = cluster();
        let adopt = |first: &str, second: &str| {
            let (first, second) = (seen(first), seen(second));
            adoptable(&cluster, &[(&cluster.nodes[0], &first), (&cluster.nodes[1], &second)])
        };
        let mark = |digit, name: &str| format!("done cluster {} {name} kube1\n", id(digit));
        assert_eq!(adopt(&mark('b', "home"), &mark('b', "home")), Some(id('b')));
        assert_eq!(adopt(&mark('b', "home"), ""), Some(id('b')));
        assert_eq!(adopt(&mark('b', "home"), &mark('c', "home")), None);
        assert_eq!(adopt(&mark('b', "school"), &mark('b', "school")), None);
        assert_eq!(adopt("", ""), None);
    }
}
