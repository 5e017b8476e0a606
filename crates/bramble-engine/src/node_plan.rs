//! What would change on a node.

use bramble_spec::NodeName;
use bramble_state::{Change, Plan};

/// A node and what would change on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// The node.
    pub name: NodeName,
    /// What would change on the node itself.
    pub plan: Plan,
    /// What would happen to it as a part of the cluster, in words.
    pub steps: Vec<String>,
}

impl NodePlan {
    /// Lists the changes that are of interest to a person.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.plan.changes.iter().filter(|change| !change.quiet)
    }

    /// Counts all that would happen.
    pub fn count(&self) -> usize {
        self.changes().count() + self.steps.len() + usize::from(self.plan.reboot.is_some())
    }
}

/// The plans of all nodes, while phases add to them.
#[derive(Debug, Default)]
pub(crate) struct Plans(pub(crate) Vec<NodePlan>);

impl Plans {
    /// Adds a step to the plan of a node.
    pub(crate) fn add_step(&mut self, name: &NodeName, step: String) {
        if let Some(plan) = self.0.iter_mut().find(|plan| plan.name == *name) {
            plan.steps.push(step);
        }
    }
}
