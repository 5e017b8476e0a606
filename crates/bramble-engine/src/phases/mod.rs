//! The phases of a run. Which there are, and in which order, is said here once, for `plan`, `up`, `restore` and `down`.

pub(crate) mod addons;
mod drain;
mod gateway;
mod members;
mod nodes;
mod prepare;
mod readiness;
mod remove;
mod rolling;
mod settle;
mod smoke;
mod stop;
mod storage;
mod undo;
mod verify;

use std::pin::Pin;
use std::time::Duration;

use bramble_spec::NodeName;

use crate::error::Result;
use crate::node_plan::Plans;
use crate::run::Run;
use crate::transport::Network;

/// How long the programs of a distribution may take to start again.
pub(crate) const RESTART: Duration = Duration::from_secs(15 * 60);

/// Applies a phase.
pub(crate) type Apply<N> = for<'a> fn(&'a mut Run<N>) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A part of a run.
pub struct Phase<N: Network> {
    /// What people call it.
    pub name: &'static str,
    /// What it would do: it adds to the plans of nodes.
    pub(crate) plan: fn(&Run<N>, &mut Plans),
    /// What stands against it, by node, each with the next step.
    pub(crate) obstacles: fn(&Run<N>) -> Vec<(NodeName, String)>,
    /// Does it.
    pub(crate) apply: Apply<N>,
    /// Whether it must come before anything else is known: then everything is looked at anew after it.
    pub(crate) comes_first: fn(&Run<N>) -> bool,
    /// Whether it is applied also when nodes have failed before.
    pub(crate) always: bool,
}

impl<N: Network> Phase<N> {
    /// A phase that plans nothing of its own.
    pub(crate) fn new(name: &'static str, apply: Apply<N>) -> Phase<N> {
        Phase { name, plan: |_, _| {}, obstacles: |_| Vec::new(), apply, comes_first: |_| false, always: false }
    }
}

impl<N: Network> Clone for Phase<N> {
    fn clone(&self) -> Self {
        Phase { ..*self }
    }
}

/// From what is to what the cluster file says.
pub(crate) fn up<N: Network>() -> Vec<Phase<N>> {
    vec![
        gateway::phase(),
        prepare::phase(),
        remove::phase(),
        nodes::phase(),
        settle::phase(),
        rolling::phase(),
        members::phase(),
        storage::phase(),
        readiness::phase(),
        smoke::phase(),
        addons::phase(),
    ]
}

/// From a backup to a cluster.
pub(crate) fn restore<N: Network>() -> Vec<Phase<N>> {
    let mut phases = up();
    let begin = phases.iter().position(|phase| phase.name == "nodes").unwrap_or_default();
    phases.insert(begin, stop::phase());
    phases.push(verify::phase());
    phases
}

/// From a cluster to nothing.
pub(crate) fn down<N: Network>() -> Vec<Phase<N>> {
    vec![drain::phase(), undo::phase(), undo::gateway_phase()]
}
