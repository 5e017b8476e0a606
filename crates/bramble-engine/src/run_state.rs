//! What a run knows: the phases read it, and write down what came of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bramble_fetch::Releases;
use bramble_kube::{ADDONS, AddonPlan, Agenda, Inputs, Lifecycle, Task, lifecycle, smoke_mark};
use bramble_spec::{Cluster, Distribution, Node, NodeName, Role};
use bramble_state::{Observation, Plan, Upload};

use crate::error::{Result, bail};
use crate::event::{Event, Interface};
use crate::session::Session;
use crate::survey::{self, Fleet, Health, Survey};
use crate::transport::Network;

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The cluster is what the cluster file says.
    Up {
        /// Only the nodes are prepared; Kubernetes is left for later.
        prepare_only: bool,
    },
    /// The cluster is what a backup says, and then what the cluster file says.
    Restore(Restored),
    /// Nothing of bramble is left.
    Down {
        /// Whether it goes on without nodes that cannot be reached.
        partial: bool,
    },
}

/// A cluster that is to come back from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The digest of its CA.
    pub ca: String,
    /// Whether its API has another address than it had: nobody would find it there.
    pub moved: bool,
    /// Its state.
    pub state: Upload,
    /// The objects that must be there again, as `uid kind namespace/name`.
    pub objects: Vec<String>,
}

/// What a run needs.
pub struct Setup<N: Network> {
    /// The ways to the nodes.
    pub network: Arc<N>,
    /// What should be.
    pub cluster: Arc<Cluster>,
    /// What the plan needs besides the cluster file.
    pub inputs: Arc<Inputs>,
    /// Where releases come from, if the distribution has any.
    pub releases: Option<Releases>,
    /// A folder for files on their way to nodes, which nobody else can read.
    pub private: PathBuf,
    /// Who hears what happens.
    pub interface: Arc<dyn Interface>,
    /// The phase with which it begins, if not with the first.
    pub from: Option<String>,
}

/// What a run knows: what should be, what was found, and what came of it until now.
pub(crate) struct RunState<N: Network> {
    pub(crate) network: Arc<N>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) releases: Option<Releases>,
    pub(crate) private: PathBuf,
    pub(crate) interface: Arc<dyn Interface>,
    pub(crate) goal: Goal,
    /// Every node that answers, in the order of the cluster file.
    pub(crate) nodes: Vec<NodeContext<N>>,
    /// Those that do not, with the reason.
    pub(crate) lost: Vec<(Node, anyhow::Error)>,
    pub(crate) agenda: Agenda,
    pub(crate) addons: AddonPlan,
    /// What is wrong with the cluster now, by its API; empty if nobody was asked.
    pub(crate) unready: Vec<String>,
    /// Whether the smoke test has passed for these nodes.
    pub(crate) smoked: bool,
    pub(crate) changes: usize,
    pub(crate) failed: Vec<(NodeName, anyhow::Error)>,
    pub(crate) notes: Vec<String>,
    pub(crate) smoke: Option<String>,
}

/// A node of a run, with what was found there and what it has to do.
pub(crate) struct NodeContext<N: Network> {
    pub(crate) session: Session<N>,
    pub(crate) seen: Observation,
    pub(crate) plan: Plan,
    pub(crate) task: Option<Task>,
    /// Whether it has yet to stop its pods, for an upgrade or a boot.
    pub(crate) rolls: bool,
}

impl<N: Network> NodeContext<N> {
    pub(crate) fn name(&self) -> &NodeName {
        &self.session.node.name
    }

    pub(crate) fn is_control_plane(&self) -> bool {
        self.session.node.role == Role::ControlPlane
    }
}

impl<N: Network> RunState<N> {
    pub(crate) fn new(setup: Setup<N>, goal: Goal) -> RunState<N> {
        let Setup { network, cluster, inputs, releases, private, interface, .. } = setup;
        RunState {
            network,
            cluster,
            inputs,
            releases,
            private,
            interface,
            goal,
            nodes: Vec::new(),
            lost: Vec::new(),
            agenda: Agenda::default(),
            addons: AddonPlan::default(),
            unready: Vec::new(),
            smoked: false,
            changes: 0,
            failed: Vec::new(),
            notes: Vec::new(),
            smoke: None,
        }
    }

    /// Looks at all nodes anew.
    pub(crate) async fn look_again(&mut self) -> Result<()> {
        if let Goal::Down { .. } = self.goal {
            let work = async |session: Session<N>| {
                session.say(Event::Looked);
                Ok(Survey { session, seen: Observation::default(), plan: Plan::default(), health: None })
            };
            let fleet = Fleet::visit(&self.network, &self.cluster.nodes, &self.interface, work).await?;
            self.take(fleet);
            return Ok(());
        }
        let asks = matches!(self.goal, Goal::Up { prepare_only: false });
        let fleet = survey::survey(&self.network, &self.cluster, &self.inputs, &self.interface, asks).await?;
        self.take(fleet);
        Ok(())
    }

    /// Takes in what was found.
    fn take(&mut self, fleet: Fleet<Survey<N>>) {
        let (cluster, inputs) = (self.cluster.clone(), self.inputs.clone());
        let seen: Vec<_> = fleet.nodes.iter().map(|survey| (&survey.session.node, &survey.seen)).collect();
        self.agenda = match (&self.goal, lifecycle(&cluster, &inputs)) {
            (Goal::Up { prepare_only: false }, Some(life)) => bramble_kube::agenda(&cluster, &*life, &seen),
            // How the cluster stood until now does not matter.
            (Goal::Restore(restored), Some(_)) => {
                bramble_kube::restoration(&cluster, &seen, &restored.ca, restored.moved)
            }
            _ => Agenda::default(),
        };
        let health: Vec<&Health> = fleet.nodes.iter().filter_map(|survey| survey.health.as_ref()).collect();
        let speaks = health.iter().find(|health| health.answers);
        self.unready = match (speaks, self.agenda.runs()) {
            (_, false) => Vec::new(),
            (Some(health), true) => health.unready.clone(),
            (None, true) => vec!["no API answers".to_owned()],
        };
        let mark = smoke_mark(&cluster);
        let mut planes = fleet.nodes.iter().filter(|survey| survey.session.node.role == Role::ControlPlane);
        self.smoked = planes.any(|survey| survey.seen.done("smoke") == Some(mark.as_str()));
        let agenda = &self.agenda;
        let context = |Survey { session, seen, plan, .. }: Survey<N>| {
            let task = agenda.tasks.get(&session.node.name).cloned();
            NodeContext { session, seen, plan, task, rolls: false }
        };
        self.nodes = fleet.nodes.into_iter().map(context).collect();
        self.lost = fleet.lost;
        self.addons = if self.asks_all() { self.compare_addons() } else { AddonPlan::default() };
    }

    /// What lies between the add-ons that there are and those of the cluster file.
    fn compare_addons(&self) -> AddonPlan {
        let planes = self.nodes.iter().filter(|context| context.is_control_plane());
        let mut marks = planes.filter(|context| self.agenda.is_member(context.name())).map(|c| c.seen.done(ADDONS));
        // A backup may be older than what was applied since.
        let mark = marks.find_map(|mark| mark).filter(|_| self.agenda.runs() && !self.restores());
        AddonPlan::new(mark, &self.inputs.addons)
    }

    /// Whether what all nodes take part in can be asked: there is Kubernetes, and all are there.
    pub(crate) fn asks_all(&self) -> bool {
        self.has_kubernetes() && self.lost.is_empty()
    }

    /// Whether this run is about Kubernetes.
    pub(crate) fn has_kubernetes(&self) -> bool {
        let only_prepares = matches!(self.goal, Goal::Up { prepare_only: true });
        self.cluster.distribution != Distribution::None && !only_prepares
    }

    pub(crate) fn restores(&self) -> bool {
        matches!(self.goal, Goal::Restore(_))
    }

    /// Gives the nodes that cannot be reached, as lines with the reasons.
    pub(crate) fn losses(&self) -> (Vec<NodeName>, String) {
        (self.lost.iter().map(|(node, _)| node.name.clone()).collect(), survey::losses(&self.lost))
    }

    /// Finds the control plane that speaks for the cluster: of the members one whose API answers.
    pub(crate) async fn speaker(&self, life: &dyn Lifecycle) -> Result<&Session<N>> {
        let member = |context: &&NodeContext<N>| !self.agenda.runs() || self.agenda.is_member(context.name());
        let planes: Vec<_> = self.nodes.iter().filter(member).map(|context| &context.session).collect();
        survey::speaker(life, planes).await
    }

    /// Finds a control plane whose API answers, whether it was a member when the run began or not.
    pub(crate) async fn any_speaker(&self, life: &dyn Lifecycle) -> Result<&Session<N>> {
        survey::speaker(life, self.nodes.iter().map(|context| &context.session)).await
    }

    /// Refuses to go on without nodes that it cannot do without.
    pub(crate) fn refuse_incomplete(&self) -> Result<()> {
        match &self.goal {
            Goal::Down { partial: true } => {}
            Goal::Down { partial: false } | Goal::Restore(_) => survey::complete(&self.lost)?,
            Goal::Up { .. } => {
                // The others go on without a worker that is away.
                let plane_lost = self.lost.iter().any(|(node, _)| node.role == Role::ControlPlane);
                if plane_lost || self.nodes.is_empty() {
                    survey::complete(&self.lost)?;
                }
            }
        }
        if self.nodes.is_empty() {
            bail!("no node can be reached:{}", survey::losses(&self.lost));
        }
        Ok(())
    }

    /// Takes in how the work on a node ended.
    pub(crate) fn took(&mut self, at: usize, result: anyhow::Result<usize>) {
        let Some(context) = self.nodes.get(at) else { return };
        match result {
            Ok(changes) => {
                self.changes += changes;
                let text =
                    if changes == 0 { "nothing to change".to_owned() } else { format!("{changes} changes made") };
                context.session.say(Event::Done(text));
            }
            Err(error) => {
                context.session.say(Event::Failed(format!("{error:#}")));
                self.failed.push((context.name().clone(), error));
            }
        }
    }

    /// Whether a node is there and has not failed.
    pub(crate) fn is_good(&self, name: &NodeName) -> bool {
        self.nodes.iter().any(|context| context.name() == name) && !self.failed.iter().any(|(failed, _)| failed == name)
    }

    /// Fetches what the plans send to nodes of a release and is not here yet.
    pub(crate) fn bring_releases(&self) -> Result<()> {
        let (Some(releases), Some(release)) = (&self.releases, &self.inputs.release) else { return Ok(()) };
        let changes = self.nodes.iter().flat_map(|context| &context.plan.changes);
        let wanted: BTreeSet<_> = changes.flat_map(|change| &change.uploads).map(|upload| &upload.from).collect();
        for path in wanted {
            releases.bring(release, path, &*self.interface)?;
        }
        Ok(())
    }
}
