//! A part of a run.

use std::pin::Pin;

use bramble_spec::Problem;

use crate::error::Result;
use crate::node_plan::Plans;
use crate::run_state::RunState;
use crate::transport::Network;

/// Applies a phase.
pub(crate) type Apply<N> = for<'a> fn(&'a mut RunState<N>) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A part of a run.
pub struct Phase<N: Network> {
    /// What people call it.
    pub name: &'static str,
    /// What it would do: it adds to the plans of nodes.
    pub(crate) plan: fn(&RunState<N>, &mut Plans),
    /// What stands against it.
    pub(crate) obstacles: fn(&RunState<N>) -> Vec<Problem>,
    /// Does it.
    pub(crate) apply: Apply<N>,
    /// Whether it must come before anything else is known: then everything is looked at anew after it.
    pub(crate) comes_first: fn(&RunState<N>) -> bool,
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
