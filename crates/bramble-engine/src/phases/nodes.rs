//! Every node becomes what the cluster file says, and a member. Nodes go on independently and wait only for what they need
//! from another; but of the members of a running cluster control planes change one after the other, and whoever must stop
//! its pods is left to the phase `rolling`.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Inputs, JoinFacts, Lifecycle, Task, lifecycle};
use bramble_shell::Script;
use bramble_spec::{Cluster, Node, NodeName, Role};
use bramble_state::{BLOBS, Observation, Plan, Resource, Upload};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::error::Result;
use crate::event::Event;
use crate::kept_tokens;
use crate::node_plan::Plans;
use crate::phase::Phase;
use crate::phases::RESTART;
use crate::project::random;
use crate::run_state::{Goal, NodeContext, RunState};
use crate::session::Session;
use crate::survey::{desired, forget};
use crate::transport::Network;

pub(crate) fn phase<N: Network>() -> Phase<N> {
    Phase { plan, ..Phase::new("nodes", |run| Box::pin(apply(run))) }
}

fn plan<N: Network>(run: &RunState<N>, plans: &mut Plans) {
    let cluster = &run.cluster;
    let orphans = run.nodes.iter().any(|context| context.seen.done(bramble_kube::MEMBER).is_some());
    for context in &run.nodes {
        let name = context.name();
        let step = match &context.task {
            Some(Task::Init) if run.restores() => format!("make the cluster {} out of the backup", cluster.name),
            Some(Task::Init) if orphans && !run.agenda.runs() => format!(
                "make the cluster {} anew: the control plane that its nodes belong to is gone (`bramble restore` brings \
                 it back from a backup)",
                cluster.name
            ),
            Some(Task::Init) => format!("make the cluster {}", cluster.name),
            Some(Task::Join) => format!(
                "join the cluster {} as {}{}",
                cluster.name,
                context.session.node.role,
                if run.agenda.lists(name) { ", in the place of the board that had this name" } else { "" }
            ),
            _ => continue,
        };
        plans.add_step(name, step);
    }
}

/// What the nodes tell each other.
#[derive(Debug, Clone, Default)]
struct Shared {
    facts: JoinFacts,
    joinable: bool,
    /// The maker of the cluster gave up.
    broken: bool,
    /// Control planes that are members and have yet to be what the cluster file says: others join after that.
    unsettled: usize,
    /// The control plane that did not come back from what was changed: the others are left as they are.
    stopped: Option<NodeName>,
}

async fn apply<N: Network>(run: &mut RunState<N>) -> Result<()> {
    let (cluster, inputs) = (run.cluster.clone(), run.inputs.clone());
    let mut shared = match lifecycle(&cluster, &inputs) {
        Some(life) if run.has_kubernetes() => join_facts(run, &*life).await?,
        _ => Shared::default(),
    };
    let member = |context: &NodeContext<N>| run.agenda.is_member(context.name());
    let settling =
        |context: &&NodeContext<N>| context.is_control_plane() && member(context) && context.plan.reboot.is_none();
    shared.unsettled = run.nodes.iter().filter(settling).count();
    let joining = run.nodes.iter().filter(|context| context.task == Some(Task::Join));
    let shared_run = Arc::new(SharedRun {
        joining: joining.map(|context| context.name().clone()).collect(),
        restored: match &run.goal {
            Goal::Restore(restored) => Some(restored.state.clone()),
            _ => None,
        },
        cluster,
        inputs,
        share: watch::channel(shared).0,
        plane_turns: Semaphore::new(1),
    });
    let mut tasks = JoinSet::new();
    let mut waiting = Vec::new();
    for (at, mut context) in std::mem::take(&mut run.nodes).into_iter().enumerate() {
        let member = run.agenda.is_member(context.name());
        if member && context.plan.reboot.is_some() {
            context.rolls = true;
            waiting.push((at, context, None));
            continue;
        }
        let shared_run = shared_run.clone();
        tasks.spawn(async move {
            let result = shared_run.work(&mut context, member).await;
            (at, context, Some(result))
        });
    }
    let mut all = waiting;
    while let Some(done) = tasks.join_next().await {
        all.push(done?);
    }
    all.sort_by_key(|(at, ..)| *at);
    let told = shared_run.share.borrow().facts.get(JoinFacts::CA).ok().map(str::to_owned);
    let mut results = Vec::new();
    for (_, context, result) in all {
        if context.task == Some(Task::Init) && matches!(result, Some(Ok(_))) {
            run.made.clone_from(&told);
        }
        run.nodes.push(context);
        results.push(result);
    }
    for (at, result) in results.into_iter().enumerate() {
        match result {
            None => {}
            Some(Ok(changes)) if matches!(run.nodes[at].task, Some(Task::Upgrade { .. })) => {
                run.changes += changes;
                run.nodes[at].rolls = true;
            }
            Some(result) => run.took(at, result),
        }
    }
    Ok(())
}

/// What is known of joining before anybody begins: the secrets of a new cluster, or what a running one tells.
async fn join_facts<N: Network>(run: &RunState<N>, life: &dyn Lifecycle) -> anyhow::Result<Shared> {
    let mut shared = Shared { facts: life.secrets(random()?), ..Shared::default() };
    let Some(ca) = &run.agenda.ca else {
        if life.state_elsewhere().is_some() {
            shared.facts = kept_tokens::of(&run.private, &run.cluster.name, shared.facts)?;
        }
        return Ok(shared);
    };
    shared.joinable = true;
    let joining: Vec<&Node> = run
        .nodes
        .iter()
        .filter(|context| context.task == Some(Task::Join))
        .map(|context| &context.session.node)
        .collect();
    if joining.is_empty() {
        return Ok(shared);
    }
    let plane = run.speaker(life).await?;
    let seen = run.nodes.iter().find(|context| context.name() == &plane.node.name).map(|context| &context.seen);
    let seen = seen.ok_or_else(|| anyhow!("the control plane {} was not looked at", plane.node.name))?;
    // A node that joins under an old name is refused while its old record says Ready, or while its dead member counts.
    forget(life, plane, joining.iter().copied())
        .await
        .context("the old records of nodes that are about to join cannot be removed")?;
    let mut ask = life.kubectl();
    ask.append(&life.join_facts(&plane.node, seen, &joining, &shared.facts)?);
    let script = Script::new("tell how nodes join", &ask);
    let facts = &mut shared.facts;
    plane.act(&script, |name, value| facts.set(name, value)).await.context("cannot get the join token")?;
    shared.facts.set(JoinFacts::CA, ca);
    Ok(shared)
}

/// What the work on all nodes shares.
struct SharedRun {
    cluster: Arc<Cluster>,
    inputs: Arc<Inputs>,
    share: watch::Sender<Shared>,
    plane_turns: Semaphore,
    /// The state that the cluster is made of.
    restored: Option<Upload>,
    /// Who joins.
    joining: BTreeSet<NodeName>,
}

impl SharedRun {
    async fn work<N: Network>(&self, context: &mut NodeContext<N>, member: bool) -> anyhow::Result<usize> {
        let result = self.bring(context, member).await;
        let init = context.task == Some(Task::Init);
        let settled = member && context.is_control_plane();
        self.share.send_modify(|shared| {
            shared.broken |= init && result.is_err();
            shared.unsettled = shared.unsettled.saturating_sub(usize::from(settled));
        });
        result
    }

    async fn bring<N: Network>(&self, context: &mut NodeContext<N>, member: bool) -> anyhow::Result<usize> {
        let NodeContext { session, seen, plan, task, .. } = context;
        let (plan, seen) = (std::mem::take(plan), seen.clone());
        let node = session.node.clone();
        let desired = desired(&self.cluster, &node, &self.inputs);
        let Some(life) = lifecycle(&self.cluster, &self.inputs).filter(|_| task.is_some()) else {
            return Ok(session.converge(&desired, Some((plan, seen))).await?.1);
        };
        if member {
            let upgrades = matches!(task, Some(Task::Upgrade { .. }));
            let changes = self.update(session, &*life, upgrades, plan, seen).await?;
            if self.restored.is_some() {
                let facts = self.wait_until_joinable(session).await?;
                let refresh = life.refresh(&session.node, &facts)?;
                session.act(&Script::new("start its programs again", &refresh).silent_for(RESTART), |_, _| {}).await?;
            }
            return Ok(changes);
        }
        // It may have been a member of what was there before, whose programs cannot run any more.
        let was_member = seen.done(bramble_kube::MEMBER).is_some();
        let desired = |seen: &Observation| {
            let mut seen = seen.clone();
            seen.forget(bramble_kube::MEMBER);
            desired(&seen)
        };
        let (mut seen, changes) = session.converge(&desired, (!was_member).then_some((plan, seen))).await?;
        seen.forget(bramble_kube::MEMBER);
        if *task == Some(Task::Init) {
            self.init(session, &*life, &seen).await?;
            return Ok(changes + 1);
        }
        let facts = self.wait_until_joinable(session).await?;
        // Control planes join one after the other: etcd takes one new member at a time.
        let turn = match node.role {
            Role::ControlPlane => Some(self.plane_turns.acquire().await?),
            _ => None,
        };
        let step = life.join(&node, &seen, &facts)?;
        session.apply(&bramble_state::plan(&[Resource::Step(step)], &seen), |_, _| {}).await?;
        drop(turn);
        Ok(changes + 1)
    }

    /// What can be changed on a member while its pods run.
    async fn update<N: Network>(
        &self,
        session: &mut Session<N>,
        life: &dyn Lifecycle,
        upgrades: bool,
        plan: Plan,
        seen: Observation,
    ) -> anyhow::Result<usize> {
        let node = session.node.clone();
        let whole = desired(&self.cluster, &node, &self.inputs);
        let desired = |seen: &Observation| {
            let mut resources = whole(seen);
            resources.retain(|resource| !upgrades || !life.is_program(resource));
            resources
        };
        // Where nothing is to change at all, less is nothing, too.
        let less = upgrades && !plan.is_empty();
        let plan = if less { bramble_state::plan(&desired(&seen), &seen) } else { plan };
        if node.role != Role::ControlPlane || plan.is_empty() {
            if !plan.is_empty() && life.follows_control_planes() {
                self.share.subscribe().wait_for(|shared| shared.unsettled == 0).await?;
            }
            return Ok(session.converge(&desired, Some((plan, seen))).await?.1);
        }
        let _turn = self.plane_turns.acquire().await?;
        if let Some(name) = &self.share.borrow().stopped {
            bail!(
                "left as it is, because {name} did not come back from its changes; they take one control plane at most"
            );
        }
        let change = async {
            let (_, changes) = session.converge(&desired, Some((plan, seen))).await?;
            session.ask(&bramble_kube::updated_script(life, node.address), |_, _| {}).await?;
            anyhow::Ok(changes)
        };
        let changed = change.await;
        if changed.is_err() {
            self.share.send_modify(|shared| shared.stopped = Some(node.name.clone()));
        }
        changed
    }

    async fn init<N: Network>(
        &self,
        session: &Session<N>,
        life: &dyn Lifecycle,
        seen: &Observation,
    ) -> anyhow::Result<()> {
        let secrets = self.share.borrow().facts.clone();
        let state = self.restored.as_ref().map(|upload| format!("{BLOBS}/{}", upload.sha256));
        let step = life.init(&session.node, seen, &secrets, state.as_deref())?;
        let mut plan = bramble_state::plan(&[Resource::Step(step)], seen);
        if let Some(change) = plan.changes.last_mut() {
            change.uploads.extend(self.restored.clone());
        }
        let several = self.cluster.control_planes().count() > 1;
        let restores = state.is_some();
        session
            .apply(&plan, |name, value| {
                self.share.send_modify(|shared| {
                    shared.facts.set(name, value);
                    // Control planes need the certificates too, which are there when init is through, and old records
                    // of those that join must be gone.
                    shared.joinable |= name == JoinFacts::JOINABLE && !several && !restores;
                });
            })
            .await?;
        if restores {
            let old = self.cluster.nodes.iter().filter(|node| self.joining.contains(&node.name));
            forget(life, session, old).await.context("the old records of nodes that join cannot be removed")?;
        }
        self.share.send_modify(|shared| shared.joinable = true);
        // The gate does this too, later and with all its consequences; here it only saves time.
        session.act(&bramble_kube::adopt_script(&self.cluster, life), |_, _| {}).await.ok();
        Ok(())
    }

    async fn wait_until_joinable<N: Network>(&self, session: &Session<N>) -> anyhow::Result<JoinFacts> {
        let mut receiver = self.share.subscribe();
        let ready = |shared: &Shared| shared.joinable && shared.unsettled == 0;
        if !ready(&receiver.borrow()) {
            session.say(Event::Waiting("the control plane".into()));
        }
        let shared = receiver.wait_for(|shared| ready(shared) || shared.broken).await?.clone();
        if shared.broken {
            bail!("there is no control plane to join; it failed");
        }
        Ok(shared.facts)
    }
}
