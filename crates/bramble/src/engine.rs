//! From what is to what should be, over all nodes at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{Agenda, Inputs, JoinFacts, Lifecycle, Task, lifecycle};
use bramble_shell::Script;
use bramble_spec::{Cluster, Node, NodeName, Role};
use bramble_state::{BLOBS, Observation, Plan, Resource, Upload};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::commands::up::Restored;
use crate::fleet::Fleet;
use crate::node::NodeSession;
use crate::output::Printer;
use crate::progress::{Event, Progress};
use crate::project::Project;
use crate::show::NodePlan;
use crate::turns;

/// A node that was looked at, with what would change on it.
pub(crate) struct Survey {
    pub(crate) session: NodeSession,
    pub(crate) seen: Observation,
    pub(crate) plan: Plan,
}

pub(crate) fn wish<'a>(
    cluster: &'a Cluster,
    node: &'a Node,
    inputs: &'a Inputs,
) -> impl Fn(&Observation) -> Vec<Resource> + Sync + 'a {
    move |seen| bramble_kube::prepare(cluster, node, seen, inputs)
}

/// Looks at a node, in one exchange, and finds what would change on it.
pub(crate) async fn look(cluster: &Cluster, inputs: &Inputs, session: NodeSession) -> anyhow::Result<Survey> {
    session.say(Event::Looking);
    let (resources, seen) = session.look(&wish(cluster, &session.node, inputs)).await?;
    let plan = bramble_state::plan(&resources, &seen);
    session.say(Event::Looked);
    Ok(Survey { session, seen, plan })
}

/// Looks at all nodes.
pub(crate) async fn survey(
    project: &Project,
    cluster: &Arc<Cluster>,
    inputs: &Arc<Inputs>,
    printer: &Printer,
    progress: &Progress,
) -> anyhow::Result<Fleet<Survey>> {
    let (cluster, inputs) = (cluster.clone(), inputs.clone());
    let work = move |session| {
        let (cluster, inputs) = (cluster.clone(), inputs.clone());
        async move { look(&cluster, &inputs, session).await }
    };
    Fleet::visit(project, &project.cluster.nodes, printer, progress, work).await.inspect_err(|_| progress.end())
}

/// What stands against going on, for all nodes, before anything is changed.
pub(crate) fn obstacles(
    cluster: &Cluster,
    inputs: &Inputs,
    surveys: &[Survey],
    agenda: &Agenda,
) -> Vec<(NodeName, String)> {
    let mut found = agenda.problems.clone();
    for survey in surveys {
        let name = &survey.session.node.name;
        for message in bramble_kube::check(cluster, &survey.session.node, &survey.seen, inputs) {
            found.push((name.clone(), message));
        }
        for problem in &survey.plan.problems {
            found.push((name.clone(), problem.message.clone()));
        }
    }
    let together: Vec<_> = surveys.iter().map(|survey| (&survey.session.node.name, &survey.seen)).collect();
    found.extend(bramble_kube::check_together(&together).into_iter().map(|(name, message)| (name.clone(), message)));
    found
}

/// What lies between the members that there are and the cluster file.
pub(crate) fn agenda(cluster: &Cluster, inputs: &Inputs, surveys: &[Survey]) -> Agenda {
    let Some(life) = lifecycle(cluster, inputs) else { return Agenda::default() };
    let seen: Vec<_> = surveys.iter().map(|survey| (&survey.session.node, &survey.seen)).collect();
    bramble_kube::agenda(cluster, &*life, &seen)
}

/// What is to be done so that the cluster comes back from a backup.
pub(crate) fn restoration(cluster: &Cluster, surveys: &[Survey], restored: &Restored) -> Agenda {
    let seen: Vec<_> = surveys.iter().map(|survey| (&survey.session.node, &survey.seen)).collect();
    bramble_kube::restoration(cluster, &seen, &restored.ca, restored.moved)
}

/// The plans as they are shown.
pub(crate) fn node_plans(
    cluster: &Cluster,
    inputs: &Inputs,
    surveys: &[Survey],
    agenda: &Agenda,
    restoring: bool,
) -> Vec<NodePlan> {
    let version = lifecycle(cluster, inputs).map(|life| life.version()).unwrap_or_default();
    let orphans = surveys.iter().any(|survey| survey.seen.done(bramble_kube::MEMBER).is_some()) && !agenda.runs();
    let steps = |survey: &Survey| match agenda.tasks.get(&survey.session.node.name) {
        Some(Task::Init) => vec![match orphans {
            _ if restoring => format!("make the cluster {} out of the backup", cluster.name),
            false => format!("make the cluster {}", cluster.name),
            true => format!(
                "make the cluster {} anew: the control plane that its nodes belong to is gone (`bramble restore` brings \
                 it back from a backup)",
                cluster.name
            ),
        }],
        Some(Task::Join) => vec![format!(
            "join the cluster {} as {}{}",
            cluster.name,
            survey.session.node.role,
            if agenda.lists(&survey.session.node.name) { ", in the place of the board that had this name" } else { "" }
        )],
        Some(Task::Upgrade { from }) => {
            vec![format!("upgrade Kubernetes from {from} to {version}, its pods elsewhere")]
        }
        Some(Task::Nothing) if survey.plan.reboot.is_some() => vec!["its pods go elsewhere meanwhile".to_owned()],
        _ => Vec::new(),
    };
    let leavers = agenda.leavers.iter().map(|leaver| NodePlan {
        name: leaver.name.clone(),
        plan: Plan::default(),
        steps: vec![format!(
            "leave the cluster {}: it is not in the cluster file any more ({})",
            cluster.name, leaver.address
        )],
    });
    let nodes = surveys.iter().map(|survey| NodePlan {
        name: survey.session.node.name.clone(),
        plan: survey.plan.clone(),
        steps: steps(survey),
    });
    leavers.chain(nodes).collect()
}

/// How long a distribution's programs may take to start again.
const RESTART: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// What the nodes tell each other during a run.
#[derive(Debug, Clone, Default)]
struct Shared {
    facts: JoinFacts,
    joinable: bool,
    /// The maker of the cluster gave up.
    broken: bool,
    /// Control planes that are members and have yet to be what the cluster file says: others join after that.
    unsettled: usize,
}

/// How a run ended.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) sessions: Vec<NodeSession>,
    pub(crate) changes: usize,
    pub(crate) failed: Vec<(NodeName, anyhow::Error)>,
}

impl Outcome {
    /// Takes in how the work on a node ended.
    pub(crate) fn take(&mut self, session: NodeSession, result: anyhow::Result<usize>) {
        match result {
            Ok(changes) => {
                self.changes += changes;
                let text =
                    if changes == 0 { "nothing to change".to_owned() } else { format!("{changes} changes made") };
                session.say(Event::Done(text));
            }
            Err(error) => {
                session.say(Event::Failed(error.to_string()));
                self.failed.push((session.node.name.clone(), error));
            }
        }
        self.sessions.push(session);
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut source = std::fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes)
}

/// Carries out the plans; without an agenda, the nodes are only prepared. Nodes go on independently and wait only for
/// what they need from another; but of the members of a running cluster control planes change one after the other, and
/// whoever must stop its pods waits for its turn at the end.
pub(crate) async fn carry_out(
    cluster: &Arc<Cluster>,
    inputs: &Arc<Inputs>,
    surveys: Vec<Survey>,
    agenda: &Agenda,
    restored: Option<Upload>,
) -> anyhow::Result<Outcome> {
    let share = Arc::new(watch::channel(Shared::default()).0);
    if let Some(life) = lifecycle(cluster, inputs) {
        let shared = join_facts(&*life, &surveys, agenda).await?;
        share.send_replace(shared);
    }
    if let (Some(life), Some(_)) = (lifecycle(cluster, inputs), &restored) {
        for session in surveys.iter().map(|survey| &survey.session).filter(|s| s.node.role == Role::ControlPlane) {
            if agenda.tasks.get(&session.node.name) == Some(&Task::Join) {
                session.say(Event::Waiting("its control plane to end".into()));
                session.ask(&bramble_kube::stop_script(&*life), |_, _| {}).await?;
            }
        }
    }
    let settling = |survey: &&Survey| {
        let session = &survey.session;
        let later = survey.plan.reboot.is_some();
        session.node.role == Role::ControlPlane && agenda.is_member(&session.node.name) && !later
    };
    let unsettled = surveys.iter().filter(settling).count();
    share.send_modify(|shared| shared.unsettled = unsettled);
    let joining = agenda.tasks.iter().filter(|(_, task)| **task == Task::Join).map(|(name, _)| name.clone());
    let joining: Arc<BTreeSet<NodeName>> = Arc::new(joining.collect());
    let plane_turns = Arc::new(Semaphore::new(1));
    let mut tasks = JoinSet::new();
    let mut outcome = Outcome::default();
    let mut later = Vec::new();
    for survey in surveys {
        let name = &survey.session.node.name;
        let task = agenda.tasks.get(name).cloned();
        let member = agenda.is_member(name);
        if member && survey.plan.reboot.is_some() {
            later.push((survey.session, task));
            continue;
        }
        let work = NodeTask {
            cluster: cluster.clone(),
            inputs: inputs.clone(),
            member,
            task,
            share: share.clone(),
            plane_turns: plane_turns.clone(),
            restored: restored.clone(),
            joining: joining.clone(),
        };
        tasks.spawn(work.run(survey));
    }
    while let Some(result) = tasks.join_next().await {
        let (session, task, result) = result?;
        match (&task, &result) {
            (Some(Task::Upgrade { .. }), Ok(changes)) => {
                outcome.changes += changes;
                later.push((session, task));
            }
            _ => outcome.take(session, result),
        }
    }
    if let Some(life) = lifecycle(cluster, inputs) {
        settle(cluster, &*life, agenda, &outcome).await?;
    }
    if !later.is_empty() {
        if outcome.failed.is_empty() {
            turns::take(cluster, inputs, later, &mut outcome).await?;
        } else {
            for (session, _) in later {
                outcome.take(session, Err(anyhow!("it was not taken out of service, because others failed")));
            }
        }
    }
    outcome.sessions.sort_by_key(|session| cluster.nodes.iter().position(|node| node.name == session.node.name));
    if !agenda.tasks.is_empty() {
        write_members(cluster, agenda, &outcome).await?;
    }
    Ok(outcome)
}

/// What control planes need after others have joined, one after the other.
async fn settle(cluster: &Cluster, life: &dyn Lifecycle, agenda: &Agenda, outcome: &Outcome) -> anyhow::Result<()> {
    let plane = |name: &NodeName| cluster.control_planes().any(|node| node.name == *name);
    let joined = agenda.tasks.iter().any(|(name, task)| *task == Task::Join && plane(name));
    let Some(script) = life.settle().filter(|_| joined && outcome.failed.is_empty()) else { return Ok(()) };
    for session in outcome.sessions.iter().filter(|session| session.node.role == Role::ControlPlane) {
        session.say(Event::Waiting("its API to settle".into()));
        session.ask(&Script::new("settle after others have joined", &script), |_, _| {}).await?;
        session.ask(&bramble_kube::updated_script(life, session.node.address), |_, _| {}).await?;
    }
    Ok(())
}

/// Lets the control planes write down who the members are, if that has changed: a node that is taken out of the cluster
/// file is known from there.
async fn write_members(cluster: &Cluster, agenda: &Agenda, outcome: &Outcome) -> anyhow::Result<()> {
    let good = |name: &NodeName| {
        outcome.sessions.iter().any(|session| session.node.name == *name)
            && !outcome.failed.iter().any(|(failed, _)| failed == name)
    };
    let members: Vec<_> = cluster
        .members()
        .filter(|node| good(&node.name) || agenda.lists(&node.name))
        .map(|node| (node.name.clone(), node.address))
        .collect();
    let script = bramble_kube::members_script(members.iter().map(|(name, address)| (name, *address)));
    for session in &outcome.sessions {
        let name = &session.node.name;
        let fresh = !agenda.is_member(name);
        if session.node.role == Role::ControlPlane && good(name) && (fresh || members != agenda.members) {
            session.ask(&script, |_, _| {}).await.context("the list of the members cannot be written")?;
        }
    }
    Ok(())
}

/// A control plane of the cluster that runs: it speaks for the cluster. One whose API answers comes first.
pub(crate) async fn member_plane<'a>(
    life: &dyn Lifecycle,
    surveys: &'a [Survey],
    agenda: &Agenda,
) -> anyhow::Result<&'a Survey> {
    let member = |survey: &&Survey| {
        survey.session.node.role == Role::ControlPlane && agenda.is_member(&survey.session.node.name)
    };
    let planes: Vec<&Survey> = surveys.iter().filter(member).collect();
    if planes.len() > 1 {
        for survey in &planes {
            let mut answers = false;
            let told = |name: &str, value: &str| answers |= name == bramble_kube::ANSWERS && value == "yes";
            // One that cannot even be asked does not speak for the cluster either.
            if survey.session.ask(&bramble_kube::answers_script(life), told).await.is_ok() && answers {
                return Ok(survey);
            }
        }
    }
    planes.first().copied().ok_or_else(|| anyhow!("no control plane is part of the cluster"))
}

/// What is known of joining before anybody begins: the secrets of a new cluster, or what a running one tells.
async fn join_facts(life: &dyn Lifecycle, surveys: &[Survey], agenda: &Agenda) -> anyhow::Result<Shared> {
    let mut shared = Shared { facts: life.secrets(random()?), ..Shared::default() };
    let Some(ca) = &agenda.ca else { return Ok(shared) };
    shared.joinable = true;
    let joining: Vec<&Node> = surveys
        .iter()
        .map(|survey| &survey.session.node)
        .filter(|node| agenda.tasks.get(&node.name) == Some(&Task::Join))
        .collect();
    if joining.is_empty() {
        return Ok(shared);
    }
    let plane = member_plane(life, surveys, agenda).await?;
    // A node that joins under an old name is refused while its old record says Ready, or while its dead member counts.
    let old = joining.iter().map(|node| (&node.name, node.address));
    plane
        .session
        .ask(&bramble_kube::forget_script(life, old), |_, _| {})
        .await
        .context("the old records of nodes that are about to join cannot be removed")?;
    let script = life.join_facts(&plane.session.node, &plane.seen, &joining, &shared.facts)?;
    let mut ask = life.kubectl();
    ask.append(&script);
    let script = Script::new("tell how nodes join", &ask);
    let facts = &mut shared.facts;
    plane
        .session
        .ask(&script, |name, value| facts.set(name, value))
        .await
        .context("the cluster does not tell how to join it")?;
    shared.facts.set(JoinFacts::CA, ca);
    Ok(shared)
}

struct NodeTask {
    cluster: Arc<Cluster>,
    inputs: Arc<Inputs>,
    member: bool,
    task: Option<Task>,
    share: Arc<watch::Sender<Shared>>,
    plane_turns: Arc<Semaphore>,
    /// The state that the cluster is made of.
    restored: Option<Upload>,
    /// Who joins.
    joining: Arc<BTreeSet<NodeName>>,
}

impl NodeTask {
    async fn run(self, survey: Survey) -> (NodeSession, Option<Task>, anyhow::Result<usize>) {
        let mut session = survey.session;
        let result = self.work(&mut session, survey.plan, survey.seen).await;
        let init = self.task == Some(Task::Init);
        let settled = self.member && session.node.role == Role::ControlPlane;
        self.share.send_modify(|shared| {
            shared.broken |= init && result.is_err();
            shared.unsettled -= usize::from(settled);
        });
        (session, self.task, result)
    }

    async fn work(&self, session: &mut NodeSession, plan: Plan, seen: Observation) -> anyhow::Result<usize> {
        let node = session.node.clone();
        let wish = wish(&self.cluster, &node, &self.inputs);
        let Some(life) = lifecycle(&self.cluster, &self.inputs).filter(|_| self.task.is_some()) else {
            return Ok(session.converge(&wish, Some((plan, seen))).await?.1);
        };
        if self.member {
            let changes = self.update(session, &*life, plan, seen).await?;
            if self.restored.is_some() {
                self.wait_until_joinable(session).await?;
                let refresh = Script::new("start its programs again", &life.refresh(&session.node)).silent_for(RESTART);
                session.ask(&refresh, |_, _| {}).await?;
            }
            return Ok(changes);
        }
        let (mut seen, changes) = session.converge(&wish, Some((plan, seen))).await?;
        // It may have been a member of what was there before.
        seen.forget(bramble_kube::MEMBER);
        if self.task == Some(Task::Init) {
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
    async fn update(
        &self,
        session: &mut NodeSession,
        life: &dyn Lifecycle,
        plan: Plan,
        seen: Observation,
    ) -> anyhow::Result<usize> {
        let node = session.node.clone();
        let upgrades = matches!(self.task, Some(Task::Upgrade { .. }));
        let whole = wish(&self.cluster, &node, &self.inputs);
        let wish = |seen: &Observation| {
            let mut resources = whole(seen);
            resources.retain(|resource| !upgrades || !life.is_program(resource));
            resources
        };
        let plan = if upgrades { bramble_state::plan(&wish(&seen), &seen) } else { plan };
        if node.role != Role::ControlPlane || plan.is_empty() {
            return Ok(session.converge(&wish, Some((plan, seen))).await?.1);
        }
        let _turn = self.plane_turns.acquire().await?;
        let (_, changes) = session.converge(&wish, Some((plan, seen))).await?;
        session.ask(&bramble_kube::updated_script(life, node.address), |_, _| {}).await?;
        Ok(changes)
    }

    async fn init(&self, session: &NodeSession, life: &dyn Lifecycle, seen: &Observation) -> anyhow::Result<()> {
        let secrets = self.share.borrow().facts.clone();
        let state = self.restored.as_ref().map(|upload| format!("{BLOBS}/{}", upload.sha256));
        let step = life.init(&session.node, seen, &secrets, state.as_deref())?;
        let mut plan = bramble_state::plan(&[Resource::Step(step)], seen);
        if let Some(change) = plan.changes.last_mut() {
            change.uploads.extend(self.restored.clone());
        }
        let several = self.cluster.control_planes().count() > 1;
        session
            .apply(&plan, |name, value| {
                self.share.send_modify(|shared| {
                    shared.facts.set(name, value);
                    // Control planes need the certificates too, which are there when init is through, and old records
                    // of those that join must be gone.
                    shared.joinable |= name == JoinFacts::JOINABLE && !several && state.is_none();
                });
            })
            .await?;
        if state.is_some() {
            let old = self.cluster.nodes.iter().filter(|node| self.joining.contains(&node.name));
            let script = bramble_kube::forget_script(life, old.map(|node| (&node.name, node.address)));
            session.ask(&script, |_, _| {}).await.context("the old records of nodes that join cannot be removed")?;
        }
        self.share.send_modify(|shared| shared.joinable = true);
        // The gate does this too, later and with all its consequences; here it only saves time.
        session.ask(&bramble_kube::adopt_script(&self.cluster, life), |_, _| {}).await.ok();
        Ok(())
    }

    async fn wait_until_joinable(&self, session: &NodeSession) -> anyhow::Result<JoinFacts> {
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

/// Whether a node has yet to mount the folders that all share, which the plan then says.
pub(crate) fn plan_folders(cluster: &Cluster, surveys: &[Survey], plans: &mut [NodePlan]) -> bool {
    let marks = bramble_kube::storage_marks(cluster);
    let waits = |survey: &Survey| marks.iter().any(|(name, text)| survey.seen.done(name) != Some(text.as_str()));
    for survey in surveys.iter().filter(|survey| waits(survey)) {
        if let Some(plan) = plans.iter_mut().find(|plan| plan.name == survey.session.node.name) {
            plan.steps.push("mount the shared folders".to_owned());
        }
    }
    surveys.iter().any(waits)
}

/// Lets nodes have the folders that they share: the pool first, then the mounts. Gives what a person should know.
pub(crate) async fn share_folders(cluster: &Cluster, sessions: &[NodeSession]) -> anyhow::Result<Vec<String>> {
    let mut notes = Vec::new();
    let Some(mount) = bramble_kube::mount_script(cluster) else { return Ok(notes) };
    if let Some(pool) = bramble_kube::pool_script(cluster) {
        let first = cluster.storage.glusterfs.iter().flat_map(|gluster| &gluster.nodes).next();
        let holder = sessions.iter().find(|session| Some(&session.node.name) == first);
        let holder = holder.ok_or_else(|| anyhow!("the first node of the GlusterFS volume does not answer"))?;
        holder.say(Event::Waiting("the GlusterFS pool and its volume".into()));
        let told = holder.ask(&pool, |_, value| notes.push(value.to_owned())).await;
        told.context("the GlusterFS volume cannot be made")?;
    }
    for session in sessions {
        session.say(Event::Waiting("the shared folders".into()));
        let result = session.ask(&mount, |_, _| {}).await;
        result.with_context(|| format!("{} does not get the shared folders", session.node.name))?;
    }
    Ok(notes)
}

/// Waits until the cluster is well, and lets pods on every node talk to each other once.
pub(crate) async fn gates(
    cluster: &Cluster,
    inputs: &Inputs,
    sessions: &[NodeSession],
    smoke: bool,
) -> anyhow::Result<Option<String>> {
    let Some(life) = lifecycle(cluster, inputs) else { return Ok(None) };
    let plane = Fleet::control_plane(sessions).ok_or_else(|| anyhow!("no control plane answers"))?;
    plane.say(Event::Waiting("all nodes to be Ready".into()));
    plane
        .ask(&bramble_kube::ready_script(cluster, &*life), |_, value| {
            if value == "nodes-ready" {
                plane.say(Event::Waiting("the system's pods".into()));
            }
        })
        .await
        .context("the cluster does not become ready")?;
    // Nobody needs the tokens any more. Which control plane made them is not known any more either.
    for session in sessions.iter().filter(|session| session.node.role == Role::ControlPlane) {
        session
            .ask(&bramble_kube::forget_tokens_script(&*life), |_, _| {})
            .await
            .context("the join tokens cannot be removed")?;
    }
    if !smoke {
        return Ok(None);
    }
    let Some(image) = life.smoke_image() else {
        return Ok(Some("left out: the bundle has no image with a web server in it".into()));
    };
    plane.say(Event::Waiting("the smoke test: pods on every node talk to each other".into()));
    let mut result = None;
    plane
        .ask(&bramble_kube::smoke_script(cluster, &*life, &image), |name, value| {
            if name == "smoke" {
                result = Some(format!("passed: {value}"));
            }
        })
        .await
        .context("the smoke test failed")?;
    Ok(result)
}
