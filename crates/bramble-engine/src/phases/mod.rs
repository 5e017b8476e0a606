//! The phases of a run. Which there are, and in which order, is said here once, for `plan`, `up`, `restore` and `down`.

pub(crate) mod addons;
mod claim;
mod drain;
mod gateway;
mod members;
mod nodes;
mod prepare;
mod readiness;
mod records;
mod remove;
pub(crate) mod rolling;
mod settle;
mod smoke;
mod stop;
mod storage;
mod undo;
mod verify;

use std::time::Duration;

use crate::phase::Phase;
use crate::transport::Network;

/// How long the programs of a distribution may take to start again.
pub(crate) const RESTART: Duration = Duration::from_secs(15 * 60);

/// From what is to what the cluster file says.
pub(crate) fn up<N: Network>() -> Vec<Phase<N>> {
    vec![
        claim::phase(),
        gateway::phase(),
        prepare::phase(),
        remove::phase(),
        nodes::phase(),
        settle::phase(),
        rolling::phase(),
        members::phase(),
        storage::phase(),
        readiness::phase(),
        records::phase(),
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
