//! Nodes that are upgraded or booted while the cluster runs, one turn after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use bramble_kube::{Inputs, MEMBER, lifecycle};
use bramble_spec::{Cluster, Node, NodeName, Role, hex, name_ranges};
use bramble_state::{Observation, Plan, RebootWhen, Turn, Updates, Wanted};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::backup::refuse_foreign;
use crate::error::{Result, bail};
use crate::event::{Event, Interface};
use crate::node_plan::NodePlan;
use crate::phases::rolling::{CORDONED, drain, returns};
use crate::project::{Project, random};
use crate::session::Session;
use crate::survey::{Fleet, answers, complete, speaker};
use crate::transport::Network;

/// What is done with each node in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It boots.
    Reboot,
    /// What could be newer becomes so; it boots if that is needed.
    Upgrade(Wanted),
}

/// Maintenance of nodes that have been looked at.
pub struct Maintenance<N: Network> {
    cluster: Arc<Cluster>,
    inputs: Arc<Inputs>,
    work: Work,
    /// Those that are to be maintained.
    chosen: Vec<Looked<N>>,
    /// Further control planes, which speak for the cluster.
    others: Vec<Looked<N>>,
}

struct Looked<N: Network> {
    session: Session<N>,
    seen: Observation,
    updates: Updates,
}

impl<N: Network> Looked<N> {
    fn is_control_plane(&self) -> bool {
        self.session.node.role == Role::ControlPlane
    }

    fn is_member(&self) -> bool {
        self.seen.done(MEMBER).is_some()
    }

    fn plan(&self, work: Work) -> Plan {
        match work {
            Work::Reboot => Plan { reboot: Some("asked for".into()), ..Plan::default() },
            Work::Upgrade(wanted) => self.updates.plan(wanted),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintained {
    /// The nodes that were changed or booted.
    pub nodes: usize,
    /// Those of them that were booted.
    pub booted: usize,
}

impl<N: Network> Maintenance<N> {
    /// Looks at these nodes, or at all if none is named. Control planes are looked at in any case: they speak for the cluster.
    ///
    /// # Errors
    /// One of the nodes cannot be reached, or belongs to another cluster; or a control plane is to be taken out of service
    /// while another one is away.
    pub async fn look(
        project: &Project,
        inputs: Inputs,
        who: String,
        nodes: &[NodeName],
        work: Work,
        network: &Arc<N>,
        interface: &Arc<dyn Interface>,
    ) -> Result<Maintenance<N>> {
        let cluster = Arc::new(project.cluster.clone());
        let is_chosen = |node: &Node| nodes.is_empty() || nodes.contains(&node.name);
        let visited: Vec<Node> =
            cluster.nodes.iter().filter(|node| is_chosen(node) || node.role == Role::ControlPlane).cloned().collect();
        let chosen_names: Arc<Vec<NodeName>> =
            Arc::new(visited.iter().filter(|node| is_chosen(node)).map(|node| node.name.clone()).collect());
        let run = hex(&random::<8>()?);
        let names = chosen_names.clone();
        let fleet = Fleet::visit(network, &visited, interface, move |mut session: Session<N>| {
            let (names, run, who) = (names.clone(), run.clone(), who.clone());
            async move {
                session.say(Event::Looking);
                let seen = session.observe(&[]).await?;
                let updates = match work {
                    Work::Upgrade(wanted) if names.contains(&session.node.name) => {
                        session.say(Event::Waiting("a list of what is new".into()));
                        Updates::parse(&session.ask(&Updates::script(wanted), |_, _| {}).await?)
                    }
                    _ => Updates::default(),
                };
                session.begin_turn(Turn { run, who, seen: seen.facts.run.clone() });
                session.say(Event::Looked);
                Ok(Looked { session, seen, updates })
            }
        })
        .await?;
        let chosen_lost: Vec<(Node, anyhow::Error)> = {
            let (chosen, planes): (Vec<_>, Vec<_>) =
                fleet.lost.into_iter().partition(|(node, _)| chosen_names.contains(&node.name));
            // Two at once are one too many.
            let takes = fleet
                .nodes
                .iter()
                .any(|looked| looked.is_control_plane() && chosen_names.contains(&looked.session.node.name));
            if takes && let Some((node, error)) = planes.first() {
                bail!(
                    "the control plane {} is away, and no other one is taken out of service meanwhile: {error:#}",
                    node.name
                );
            }
            chosen
        };
        complete(&chosen_lost)?;
        let looked: Vec<_> = fleet.nodes.iter().map(|looked| (&looked.session.node, &looked.seen)).collect();
        refuse_foreign(&cluster, project.identity()?.as_ref(), &looked)?;
        let (chosen, others) =
            fleet.nodes.into_iter().partition(|looked| chosen_names.contains(&looked.session.node.name));
        Ok(Maintenance { cluster, inputs: Arc::new(inputs), work, chosen, others })
    }

    /// Says what would be done, in the order of the turns.
    pub fn plan(&self) -> Vec<NodePlan> {
        let node_plan = |looked: &Looked<N>| {
            let plan = looked.plan(self.work);
            let drains = looked.is_member() && !plan.is_empty();
            let steps = drains.then(|| "drained meanwhile".to_owned()).into_iter().collect();
            NodePlan { name: looked.session.node.name.clone(), plan, steps }
        };
        self.chosen.iter().map(node_plan).collect()
    }

    /// Names everybody of whom something is told meanwhile.
    pub fn names(&self) -> Vec<String> {
        self.chosen.iter().chain(&self.others).map(|looked| looked.session.node.name.to_string()).collect()
    }

    /// Names the packages that keep their version, and stay.
    pub fn held(&self) -> Vec<String> {
        let mut held: Vec<String> = self.chosen.iter().flat_map(|looked| looked.updates.held.clone()).collect();
        held.sort();
        held.dedup();
        held
    }

    /// Says of each node whose newer firmware is not written why that is.
    pub fn kept(&self) -> Vec<String> {
        let why = |looked: &Looked<N>| Some(format!("{}: {}", looked.session.node.name, looked.updates.kept.as_ref()?));
        self.chosen.iter().filter_map(why).collect()
    }

    /// Does it: control planes go first, one by one, then workers, `update.workers` at once, and the gateway at last. The
    /// first one that fails is the last one touched.
    ///
    /// # Errors
    /// One failed: then which, why, and which were left alone.
    pub async fn go(self) -> Result<Maintained> {
        Ok(self.maintain().await?)
    }

    async fn maintain(self) -> anyhow::Result<Maintained> {
        let Maintenance { cluster, inputs, work, chosen, others } = self;
        let mut done = Maintained::default();
        let (todo, idle): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|looked| !looked.plan(work).is_empty());
        let mut rest: Vec<NodeName> = todo.iter().map(|looked| looked.session.node.name.clone()).collect();
        for looked in &todo {
            looked.session.say(Event::Waiting("its turn".into()));
        }
        let mut planes: Vec<Looked<N>> = idle.into_iter().chain(others).filter(Looked::is_control_plane).collect();
        let mut ended: Vec<(NodeName, anyhow::Result<bool>)> = Vec::new();
        let (mut workers, mut gateways) = (Vec::new(), Vec::new());
        let mut stopped = false;
        let mut turns = VecDeque::new();
        for looked in todo {
            match looked.session.node.role {
                Role::Worker => workers.push(looked),
                Role::Gateway => gateways.push(looked),
                Role::ControlPlane => turns.push_back(looked),
            }
        }
        while let Some(mut looked) = turns.pop_front() {
            if !stopped {
                let answer = others_answer(&cluster, &inputs, planes.iter().chain(&turns)).await;
                let result = match answer {
                    Ok(()) => turn(&cluster, &inputs, None, &mut looked, work).await,
                    Err(error) => Err(error),
                };
                stopped |= result.is_err();
                ended.push((looked.session.node.name.clone(), result));
            }
            planes.push(looked);
        }
        let stop = Arc::new(AtomicBool::new(stopped));
        let planes = Arc::new(planes);
        for (group, at_once) in [(workers, cluster.update.workers), (gateways, 1)] {
            let places = Arc::new(Semaphore::new(usize::from(at_once)));
            let mut tasks = JoinSet::new();
            for mut looked in group {
                let (cluster, inputs, planes) = (cluster.clone(), inputs.clone(), planes.clone());
                let (stop, places) = (stop.clone(), places.clone());
                tasks.spawn(async move {
                    let place = places.acquire().await;
                    if place.is_err() || stop.load(Ordering::Relaxed) {
                        return None;
                    }
                    let result = turn(&cluster, &inputs, Some(&planes), &mut looked, work).await;
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    Some((looked.session.node.name.clone(), result))
                });
            }
            while let Some(result) = tasks.join_next().await {
                ended.extend(result?);
            }
        }
        let mut failed = String::new();
        for (name, result) in ended {
            rest.retain(|other| *other != name);
            match result {
                Ok(booted) => {
                    done.nodes += 1;
                    done.booted += usize::from(booted);
                }
                Err(error) => failed.push_str(&format!("\n  {name}: {error:#}")),
            }
        }
        if failed.is_empty() {
            return Ok(done);
        }
        let left = match rest.as_slice() {
            [] => String::new(),
            rest => format!("; {} left alone", name_ranges(rest.iter().map(|name| name.as_str()))),
        };
        bail!("{} nodes are done{left}; run the same command again once this is fixed:{failed}", done.nodes)
    }
}

/// Makes sure that every other control plane's API answers: etcd would lose its majority by two of three.
async fn others_answer<'a, N: Network>(
    cluster: &Cluster,
    inputs: &Inputs,
    planes: impl Iterator<Item = &'a Looked<N>>,
) -> anyhow::Result<()> {
    let Some(life) = lifecycle(cluster, inputs) else { return Ok(()) };
    for looked in planes.filter(|looked| looked.is_member()) {
        if !answers(&*life, &looked.session).await? {
            bail!(
                "it was left alone: the API of the control plane {} does not answer, and no other one is taken out of service meanwhile",
                looked.session.node.name
            );
        }
    }
    Ok(())
}

/// One node's turn; tells if it was booted. `planes`: those that speak for the cluster; without them the node speaks for
/// itself.
async fn turn<N: Network>(
    cluster: &Cluster,
    inputs: &Inputs,
    planes: Option<&[Looked<N>]>,
    looked: &mut Looked<N>,
    work: Work,
) -> anyhow::Result<bool> {
    let plan = looked.plan(work);
    let life = lifecycle(cluster, inputs).filter(|_| looked.is_member());
    let plane = match (&life, planes) {
        (Some(life), Some(planes)) => Some(speaker(&**life, planes.iter().map(|plane| &plane.session)).await?),
        _ => None,
    };
    if let Some(life) = &life {
        drain(cluster, &**life, plane, &looked.session).await?;
    }
    let changed = change(looked, &plan).await;
    changed.with_context(|| if life.is_some() { CORDONED } else { "it failed" })?;
    if let Some(life) = &life {
        returns(&**life, plane, &looked.session, None).await?;
    }
    looked.session.say(Event::Done("done".into()));
    Ok(plan.reboot.is_some())
}

async fn change<N: Network>(looked: &mut Looked<N>, plan: &Plan) -> anyhow::Result<()> {
    looked.session.apply(plan, |_, _| {}).await?;
    let Some(reason) = &plan.reboot else { return Ok(()) };
    let boot_id = looked.seen.facts.boot_id.clone();
    looked.session.reboot(&boot_id, reason).await?;
    if looked.updates.firmware.is_some() {
        let ask = Updates::script(Wanted { system: false, firmware: true, reboot: RebootWhen::Never });
        let now = Updates::parse(&looked.session.ask(&ask, |_, _| {}).await?);
        if now.settings != looked.updates.settings {
            bail!("the EEPROM has other settings than before: look at `bramble boot-order` and rpi-eeprom-config");
        }
        if now.firmware.is_some() {
            bail!("the EEPROM still has its old firmware: `sudo rpi-eeprom-update` on the board says more");
        }
    }
    Ok(())
}
