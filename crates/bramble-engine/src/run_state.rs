//! What a run knows: the phases read it, and write down what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bramble_fetch::Releases;
use bramble_kube::{
    ADDONS, AddonPlan, Agenda, Destruction, Identity, Inputs, Leaver, Lifecycle, Record, Task, lifecycle, smoke_mark,
};
use bramble_spec::{Cluster, ClusterId, Distribution, Node, NodeName, Problem, Role, hex, name_ranges};
use bramble_state::{Observation, Plan, Turn, Upload};

use crate::error::{Result, bail};
use crate::event::{Event, Interface};
use crate::project::random;
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
    /// The identity of the cluster by the lock file; nothing if it is not known there.
    pub identity: Option<Identity>,
    /// Whether a cluster that the lock file does not know is managed from here from now on.
    pub adopt: bool,
    /// Who runs this, as `user@host`, for others who work on the same nodes.
    pub who: String,
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
    /// The name of this run, of which there is one.
    name: String,
    /// Who began it.
    who: String,
    /// What the lock file says of the cluster.
    known: Option<Identity>,
    /// Whether nodes that the lock file does not know are taken over.
    adopt: bool,
    /// The id of the cluster: of the lock file, or a new one.
    pub(crate) id: ClusterId,
    /// The digest of the CA of a cluster that this run has made.
    pub(crate) made: Option<String>,
    /// What says that nodes belong to another cluster.
    pub(crate) foreign: Vec<Problem>,
    /// Every node that answers, in the order of the cluster file.
    pub(crate) nodes: Vec<NodeContext<N>>,
    /// Those that do not, with the reason.
    pub(crate) lost: Vec<(Node, anyhow::Error)>,
    pub(crate) agenda: Agenda,
    pub(crate) addons: AddonPlan,
    /// What is wrong with the cluster now, by its API; empty if nobody was asked.
    pub(crate) unready: Vec<String>,
    /// The records that the cluster's API has of nodes; empty if nobody was asked.
    pub(crate) records: BTreeMap<NodeName, Record>,
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
    pub(crate) fn new(setup: Setup<N>, goal: Goal) -> Result<RunState<N>> {
        let Setup { network, cluster, inputs, releases, private, interface, identity, adopt, who, .. } = setup;
        let id = match &identity {
            Some(identity) => identity.id.clone(),
            None => ClusterId::of_birth(random()?),
        };
        let mut state = RunState {
            network,
            cluster,
            inputs,
            releases,
            private,
            interface,
            goal,
            name: hex(&random::<8>()?),
            who,
            known: identity,
            adopt,
            id: id.clone(),
            made: None,
            foreign: Vec::new(),
            nodes: Vec::new(),
            lost: Vec::new(),
            agenda: Agenda::default(),
            addons: AddonPlan::default(),
            unready: Vec::new(),
            records: BTreeMap::new(),
            smoked: false,
            changes: 0,
            failed: Vec::new(),
            notes: Vec::new(),
            smoke: None,
        };
        state.go_by(id);
        Ok(state)
    }

    /// Takes this for the id of the cluster.
    fn go_by(&mut self, id: ClusterId) {
        Arc::make_mut(&mut self.inputs).id = Some(id.clone());
        self.id = id;
    }

    /// Gives the identity of the cluster, as far as it is known now.
    pub(crate) fn identity(&self) -> Identity {
        let known = self.known.as_ref().and_then(|known| known.ca.clone());
        let restored = match &self.goal {
            Goal::Restore(restored) => self.made.is_some().then(|| restored.ca.clone()),
            _ => None,
        };
        Identity { id: self.id.clone(), ca: restored.or(self.made.clone()).or(self.agenda.ca.clone()).or(known) }
    }

    /// Lists what it would destroy.
    pub(crate) fn destroys(&self) -> Vec<Destruction> {
        let name = &self.cluster.name;
        let (agenda, mut all) = (&self.agenda, Vec::new());
        let of_node = |name: &NodeName, what: String| Destruction { name: name.to_string(), what };
        for Leaver { name: node, address, replaced } in &agenda.leavers {
            all.push(of_node(
                node,
                match replaced {
                    true => format!("the cluster {name} forgets its member {node}, in whose place another node is now"),
                    false => format!(
                        "{node} ({address}) leaves the cluster {name}: it is drained, what its pods keep on its disk is \
                         lost, and what bramble did there is undone"
                    ),
                },
            ));
        }
        let inits = agenda.tasks.iter().find(|(_, task)| **task == Task::Init).filter(|_| !self.restores());
        let had_ca = self.known.as_ref().is_some_and(|known| known.ca.is_some());
        match inits {
            Some((maker, _)) if !agenda.orphans.is_empty() || (had_ca && !self.lost.is_empty()) => {
                let mut what = format!(
                    "the cluster {name} is made anew on {maker}: its control plane is gone, and with it all that its API \
                     knew (`bramble restore` brings that back from a backup)"
                );
                if !agenda.orphans.is_empty() {
                    let orphans = name_ranges(agenda.orphans.iter().map(|name| name.as_str()));
                    what.push_str(&format!("; what is left of it on {orphans} is deleted"));
                }
                all.push(Destruction { name: name.to_string(), what });
            }
            Some(_) => {}
            None => all.extend(agenda.orphans.iter().map(|node| {
                of_node(node, format!("what is left on {node} of the cluster that it belonged to before is deleted"))
            })),
        }
        for addon in &self.addons.remove {
            let what = format!("the add-on {addon} is removed with all that it holds");
            all.push(Destruction { name: addon.clone(), what });
        }
        match &self.goal {
            Goal::Down { .. } => {
                let nodes = name_ranges(self.nodes.iter().map(|context| context.name().as_str()));
                let what = format!("the cluster {name} and all that runs on it is removed from {nodes}");
                all.push(Destruction { name: name.to_string(), what });
            }
            Goal::Restore(_) => {
                let what =
                    format!("the cluster {name} is put back to the backup: what its control planes hold now is lost");
                all.push(Destruction { name: name.to_string(), what });
            }
            Goal::Up { .. } => {}
        }
        all
    }

    /// Looks at all nodes anew.
    pub(crate) async fn look_again(&mut self) -> Result<()> {
        if let Goal::Down { .. } = self.goal {
            return self.look_before_the_end().await;
        }
        let asks = matches!(self.goal, Goal::Up { prepare_only: false });
        let fleet = survey::survey(&self.network, &self.cluster, &self.inputs, &self.interface, asks).await?;
        self.take(fleet);
        Ok(())
    }

    /// Looks who is there before everything goes: also members that the cluster file does not list any more.
    async fn look_before_the_end(&mut self) -> Result<()> {
        let work = async |session: Session<N>| {
            let seen = session.observe(&[]).await?;
            session.say(Event::Looked);
            Ok(Survey { session, seen, plan: Plan::default(), health: None })
        };
        let mut fleet = Fleet::visit(&self.network, &self.cluster.nodes, &self.interface, work).await?;
        let planes = fleet.nodes.iter().filter(|survey| bramble_kube::ca(&survey.seen).is_some());
        let members: BTreeMap<_, _> = planes.flat_map(|survey| bramble_kube::members(&survey.seen)).collect();
        let listed = |name: &NodeName, address| {
            self.cluster.nodes.iter().any(|node| node.name == *name || node.address == address)
        };
        let strays = members.into_iter().filter(|(name, address)| !listed(name, *address));
        let like = self.cluster.nodes.first();
        let stray = |(name, address)| Some(Node { name, address, role: Role::Worker, uplink: None, ..like?.clone() });
        let strays: Vec<Node> = strays.filter_map(stray).collect();
        if !strays.is_empty() {
            let more = Fleet::visit(&self.network, &strays, &self.interface, work).await?;
            fleet.nodes.extend(more.nodes);
            fleet.lost.extend(more.lost);
        }
        self.take(fleet);
        Ok(())
    }

    /// Takes in what was found.
    fn take(&mut self, fleet: Fleet<Survey<N>>) {
        let (cluster, inputs) = (self.cluster.clone(), self.inputs.clone());
        let seen: Vec<_> = fleet.nodes.iter().map(|survey| (&survey.session.node, &survey.seen)).collect();
        if self.known.is_none()
            && self.adopt
            && let Some(id) = bramble_kube::adoptable(&cluster, &seen)
        {
            self.known = Some(Identity { id: id.clone(), ca: None });
            self.go_by(id);
        }
        self.foreign = bramble_kube::foreign(&cluster, &self.id, self.known.as_ref(), &seen);
        let ca = self.known.as_ref().and_then(|known| known.ca.as_deref());
        self.agenda = match (&self.goal, lifecycle(&cluster, &inputs)) {
            (Goal::Up { prepare_only: false }, Some(life)) => bramble_kube::agenda(&cluster, &*life, &seen, ca),
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
        if let Some(health) = speaks.filter(|_| self.agenda.runs() && !self.restores()) {
            let changed = bramble_kube::changed_ranges(&cluster, &health.records, health.service);
            self.agenda.problems.extend(changed);
        }
        self.records = speaks.map(|health| health.records.clone()).unwrap_or_default();
        let objects = health.iter().find_map(|health| health.objects.clone());
        let mark = smoke_mark(&cluster);
        let mut planes = fleet.nodes.iter().filter(|survey| survey.session.node.role == Role::ControlPlane);
        self.smoked = planes.any(|survey| survey.seen.done("smoke") == Some(mark.as_str()));
        let agenda = &self.agenda;
        let turn = |seen: &Observation| self.turn(seen);
        let context = |Survey { mut session, seen, plan, .. }: Survey<N>| {
            session.begin_turn(turn(&seen));
            let task = agenda.tasks.get(&session.node.name).cloned();
            NodeContext { session, seen, plan, task, rolls: false }
        };
        self.nodes = fleet.nodes.into_iter().map(context).collect();
        self.lost = fleet.lost;
        self.addons = if self.asks_planes() { self.compare_addons(objects.as_ref()) } else { AddonPlan::default() };
    }

    /// Gives the turn of this run on a node of which this was seen.
    pub(crate) fn turn(&self, seen: &Observation) -> Turn {
        Turn { run: self.name.clone(), who: self.who.clone(), seen: seen.facts.run.clone() }
    }

    /// What lies between the add-ons that there are and those of the cluster file.
    fn compare_addons(&self, there: Option<&BTreeSet<String>>) -> AddonPlan {
        let planes = self.nodes.iter().filter(|context| context.is_control_plane());
        let mut marks = planes.filter(|context| self.agenda.is_member(context.name())).map(|c| c.seen.done(ADDONS));
        // A backup may be older than what was applied since.
        let mark = marks.find_map(|mark| mark).filter(|_| self.agenda.runs() && !self.restores());
        AddonPlan::new(mark, &self.inputs.addons, there)
    }

    /// Whether what all nodes take part in can be asked: there is Kubernetes, and all are there.
    pub(crate) fn asks_all(&self) -> bool {
        self.has_kubernetes() && self.lost.is_empty()
    }

    /// Whether what the cluster as a whole has can be asked and changed: there is Kubernetes, and all control planes are there.
    pub(crate) fn asks_planes(&self) -> bool {
        self.has_kubernetes() && self.lost.iter().all(|(node, _)| node.role != Role::ControlPlane)
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
