//! Memory, and what is left of it for workloads.

use bramble_spec::{Cluster, Node, Role, Severity, TaintEffect};
use serde::Serialize;

use crate::rules::{Findings, Rule};

/// What a node has for workloads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Capacity {
    /// Whether pods without special wishes run there.
    pub workloads: bool,
    /// Memory that the system sees, in MiB.
    pub memory: Option<u32>,
    /// Memory that system and Kubernetes take, in MiB.
    pub taken: u32,
    /// Memory that is left, in MiB; 0 where workloads do not go.
    pub free: u32,
    /// Cores, where workloads go.
    pub cores: u32,
}

/// What is asked of a node by what it runs.
pub(crate) fn need_of<'a>(cluster: &'a Cluster, node: &Node) -> Option<&'a bramble_spec::Need> {
    cluster.hardware.catalogue.needs.get(&cluster.distribution.need(node.role)?)
}

/// Of the memory as sold, the firmware and the kernel keep some: a 4 GB Raspberry Pi 4 shows 3856 MiB of 4096 (`free -m`
/// of the document behind the `k3s-worker` figures).
fn seen(sold: u32) -> u32 {
    (u64::from(sold) * 3856 / 4096) as u32
}

/// Tells if pods without tolerations run on a node: some distributions keep control planes free unless taints are given.
fn takes_workloads(cluster: &Cluster, node: &Node) -> bool {
    let kept = match &node.taints {
        Some(taints) => taints.iter().any(|taint| taint.effect != TaintEffect::PreferNoSchedule),
        None => node.role == Role::ControlPlane && cluster.distribution.taints_control_planes(),
    };
    node.role != Role::Gateway && !kept
}

pub(crate) fn capacity(cluster: &Cluster, findings: &mut Findings<'_>) -> Vec<Capacity> {
    let each: u32 = cluster.addons.iter().map(|addon| addon.needs().each).sum();
    let mut all: Vec<Capacity> = cluster
        .nodes
        .iter()
        .map(|node| {
            let each = if node.role == Role::Gateway { 0 } else { each };
            let need = need_of(cluster, node);
            let idle = need.and_then(|need| need.idle).unwrap_or(0) + each;
            let busy = (need.and_then(|need| need.busy).unwrap_or(0) + each).max(idle);
            let workloads = takes_workloads(cluster, node);
            let Some(memory) = node.board.memory.map(seen) else {
                return Capacity { workloads, taken: busy, ..Capacity::default() };
            };
            let mut figures = vec![
                ("seen by the system", format!("{memory} MiB")),
                ("with nothing to do", format!("{idle} MiB")),
                ("while it works", format!("{busy} MiB")),
            ];
            if each > 0 {
                figures.push(("of that, add-ons", format!("{each} MiB")));
            }
            // What is asked for is of memory as sold.
            if node.board.memory.is_some_and(|sold| sold < idle) {
                findings.add(
                    Severity::Error,
                    Rule::Memory,
                    node.name.as_str(),
                    format!("a {} as {} needs {idle} MiB, and the system sees {memory}", node.board.name, node.role),
                    &figures,
                    "take a board with more memory, or a smaller distribution",
                );
            } else if memory < busy {
                findings.add(
                    Severity::Warning,
                    Rule::Memory,
                    node.name.as_str(),
                    format!(
                        "as {} it takes {busy} MiB while the cluster works, and the system sees {memory}",
                        node.role
                    ),
                    &figures,
                    "take a board with more memory, or run little besides",
                );
            } else if workloads && memory - busy < 256 {
                findings.add(
                    Severity::Warning,
                    Rule::Memory,
                    node.name.as_str(),
                    format!("{} MiB are left for workloads", memory - busy),
                    &figures,
                    "take a board with more memory",
                );
            }
            Capacity {
                workloads,
                memory: Some(memory),
                taken: busy,
                free: if workloads { memory.saturating_sub(busy) } else { 0 },
                cores: if workloads { node.board.cores.unwrap_or(0) } else { 0 },
            }
        })
        .collect();
    place_addons(cluster, &mut all, findings);
    all
}

/// Gives what an add-on needs once to the node that has most left, the largest first.
fn place_addons(cluster: &Cluster, all: &mut [Capacity], findings: &mut Findings<'_>) {
    let mut wanted: Vec<(&str, u32)> = cluster
        .addons
        .iter()
        .map(|addon| (addon.name.as_str(), addon.needs().one))
        .filter(|(_, one)| *one > 0)
        .collect();
    wanted.sort_by_key(|(_, one)| std::cmp::Reverse(*one));
    for (name, one) in wanted {
        // Of a board whose memory nobody knows nothing can be said.
        let known = all.iter_mut().filter(|capacity| capacity.memory.is_some());
        let Some(most) = known.max_by_key(|capacity| capacity.free) else { return };
        if most.free < one {
            findings.add(
                Severity::Warning,
                Rule::Memory,
                &format!("addons.{name}"),
                format!("it needs {one} MiB on one node, and no node has more than {} MiB left", most.free),
                &[("needed", format!("{one} MiB")), ("left", format!("{} MiB", most.free))],
                "take a board with more memory, or leave the add-on out",
            );
        }
        most.taken += one;
        most.free = most.free.saturating_sub(one);
    }
}
