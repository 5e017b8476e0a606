//! A run: from what the nodes are to what they should be.

use bramble_kube::{Destruction, Identity};
use bramble_spec::{NodeName, Problem};

use crate::error::{Result, bail};
use crate::node_plan::{NodePlan, Plans};
use crate::phase::Phase;
use crate::phases;
use crate::run_state::{Goal, NodeContext, RunState, Setup};
use crate::survey;
use crate::transport::Network;

/// A run that has looked at the nodes.
pub struct Run<N: Network> {
    state: RunState<N>,
    phases: Vec<Phase<N>>,
}

/// What a run would do next.
pub struct Planned {
    /// What would change, by node.
    pub nodes: Vec<NodePlan>,
    /// What stands against it.
    pub obstacles: Vec<Problem>,
    /// The phase that must come first: everything is looked at anew after it.
    pub first: Option<&'static str>,
    /// Whether there is nothing to do at all, for people and for bramble's own books.
    pub is_done: bool,
}

impl Planned {
    /// Counts all that would change.
    pub fn count(&self) -> usize {
        self.nodes.iter().map(NodePlan::count).sum()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many nodes took part.
    pub nodes: usize,
    /// How many changes were made.
    pub changes: usize,
    /// What the smoke test said, if there was one.
    pub smoke: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// The nodes that could not be reached, each with the reason, a line for each reason.
    pub lost: Vec<NodeName>,
    /// The same, as lines.
    pub losses: String,
}

impl<N: Network> Run<N> {
    /// Looks at all nodes.
    ///
    /// # Errors
    /// There is no phase of the name with which it is to begin, or a host key cannot be kept.
    pub async fn look(setup: Setup<N>, goal: Goal) -> Result<Run<N>> {
        let mut phases = match &goal {
            Goal::Up { .. } => phases::up(),
            Goal::Restore(_) => phases::restore(),
            Goal::Down { .. } => phases::down(),
        };
        if let Some(from) = &setup.from {
            let names: Vec<&str> = phases.iter().map(|phase| phase.name).collect();
            let Some(at) = names.iter().position(|name| name == from) else {
                bail!("there is no phase `{from}`; there are: {}", names.join(", "));
            };
            phases.drain(..at);
        }
        let mut state = RunState::new(setup, goal)?;
        state.look_again().await?;
        Ok(Run { state, phases })
    }

    /// Gives the nodes that cannot be reached, and as lines with the reasons.
    pub fn losses(&self) -> (Vec<NodeName>, String) {
        self.state.losses()
    }

    /// Names everybody of whom something is told while it is applied.
    pub fn names(&self) -> Vec<String> {
        let nodes = self.state.cluster.nodes.iter().map(|node| node.name.to_string());
        nodes.chain(self.state.agenda.leavers.iter().map(|leaver| leaver.name.to_string())).collect()
    }

    /// Lists what it would destroy, for which it needs a confirmation.
    pub fn destroys(&self) -> Vec<Destruction> {
        self.state.destroys()
    }

    /// Gives the identity of the cluster, for the lock file.
    pub fn identity(&self) -> Identity {
        self.state.identity()
    }

    /// Says what it would do next.
    ///
    /// # Errors
    /// Nodes are missing without which it cannot go on.
    pub fn plan(&self) -> Result<Planned> {
        // Whose the nodes are comes before everything else, whatever the phase with which it begins.
        let whose = [self.state.foreign.as_slice(), self.state.agenda.problems.as_slice()].concat();
        if !whose.is_empty() {
            return Ok(Planned { nodes: Vec::new(), obstacles: whose, first: None, is_done: false });
        }
        for phase in &self.phases {
            if (phase.comes_first)(&self.state) {
                let mut plans = Plans::default();
                (phase.plan)(&self.state, &mut plans);
                let obstacles = (phase.obstacles)(&self.state);
                return Ok(Planned { nodes: plans.0, obstacles, first: Some(phase.name), is_done: false });
            }
        }
        self.state.refuse_incomplete()?;
        let plain = |context: &NodeContext<N>| NodePlan {
            name: context.name().clone(),
            plan: context.plan.clone(),
            steps: Vec::new(),
        };
        let mut plans = Plans(self.state.nodes.iter().map(plain).collect());
        let mut obstacles = Vec::new();
        for phase in &self.phases {
            (phase.plan)(&self.state, &mut plans);
            obstacles.extend((phase.obstacles)(&self.state));
        }
        let nodes = plans.0;
        let quiet = self.state.nodes.iter().all(|context| context.plan.is_empty());
        let count: usize = nodes.iter().map(NodePlan::count).sum();
        let sound = !self.state.asks_all() || (self.state.smoked && self.state.unready.is_empty());
        let is_done =
            matches!(self.state.goal, Goal::Up { .. }) && count == 0 && quiet && sound && obstacles.is_empty();
        Ok(Planned { nodes, obstacles, first: None, is_done })
    }

    /// Does what [`Run::plan`] says. Gives nothing if it must be planned again, since everything was looked at anew.
    ///
    /// # Errors
    /// A phase failed, or nodes did: then with a line for each.
    pub async fn apply(&mut self) -> Result<Option<Summary>> {
        if let Some(at) = self.phases.iter().position(|phase| (phase.comes_first)(&self.state)) {
            let apply = self.phases[at].apply;
            apply(&mut self.state).await?;
            self.phases.drain(..=at);
            return Ok(None);
        }
        for phase in self.phases.clone() {
            if !self.state.failed.is_empty() && !phase.always {
                continue;
            }
            (phase.apply)(&mut self.state).await?;
        }
        if !self.state.failed.is_empty() {
            let problem = |(name, error): &(NodeName, _)| Problem::error(format!("{error:#}"), name);
            let list = bramble_spec::lines(&self.state.failed.iter().map(problem).collect::<Vec<_>>());
            let command = if matches!(self.state.goal, Goal::Down { .. }) { "down" } else { "up" };
            let good = self.state.nodes.len().saturating_sub(self.state.failed.len());
            bail!(
                "{} of {} nodes failed ({good} are done); run `bramble {command}` again once this is fixed:{list}",
                self.state.failed.len(),
                self.state.nodes.len(),
            );
        }
        let (lost, losses) = self.state.losses();
        Ok(Some(Summary {
            nodes: self.state.nodes.len(),
            changes: self.state.changes,
            smoke: self.state.smoke.clone(),
            notes: std::mem::take(&mut self.state.notes),
            lost,
            losses,
        }))
    }

    /// Counts the changes that were made until now.
    pub fn changes(&self) -> usize {
        self.state.changes
    }

    /// Counts the nodes that answer.
    pub fn answering(&self) -> usize {
        self.state.nodes.len()
    }

    /// Refuses to go on without all nodes.
    ///
    /// # Errors
    /// One cannot be reached.
    pub fn refuse_losses(&self) -> Result<()> {
        survey::complete(&self.state.lost)
    }
}
