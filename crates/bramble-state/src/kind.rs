//! What every kind of resource can do.

use std::any::Any;
use std::fmt::Debug;

use crate::observation::Observation;
use crate::planner::Planner;
use crate::probe::Probe;

/// One kind of thing that a node can be asked to have.
pub trait Kind {
    /// Asks the node for all that [`plan`](Kind::plan) needs to know.
    fn ask(&self, probe: &mut Probe);

    /// Tells the planner what other resources must know, before any of them plans.
    fn announce(&self, _planner: &mut Planner<'_>) {}

    /// Plans what must change so that the node has it. It depends on nothing but its arguments.
    fn plan(&self, planner: &mut Planner<'_>);

    /// Tells whether an observation, of a node that was asked `asked`, is enough to show what this changes.
    fn is_answered(&self, _seen: &Observation, _asked: &Probe) -> bool {
        true
    }

    /// Adds the answers of a node that has it as wanted.
    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, _node: &mut crate::testing::SatisfiedNode) {}
}

/// A kind of resource that another crate brings.
pub trait ExternalKind: Kind + Any + Debug + Send + Sync {
    /// Tells whether both are the same resource.
    fn equals(&self, other: &dyn ExternalKind) -> bool;
}

impl<K: Kind + Any + Debug + PartialEq + Send + Sync> ExternalKind for K {
    fn equals(&self, other: &dyn ExternalKind) -> bool {
        (other as &dyn Any).downcast_ref::<K>() == Some(self)
    }
}

impl PartialEq for dyn ExternalKind {
    fn eq(&self, other: &dyn ExternalKind) -> bool {
        self.equals(other)
    }
}

impl Eq for dyn ExternalKind {}
