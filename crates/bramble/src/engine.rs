//! From what is to what should be, over all nodes at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{INIT, Inputs, JoinFacts, JoinFactsSeed, Token, Token32};
use bramble_spec::{Cluster, Distribution, Node, NodeName, Role};
use bramble_state::{Observation, Plan, Resource};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::node::NodeSession;
use crate::output::Printer;
use crate::progress::{Event, Progress};
use crate::project::Project;
use crate::show::NodePlan;

/// A node that was looked at, with what would change on it.
pub(crate) struct Survey {
    pub(crate) session: NodeSession,
    pub(crate) seen: Observation,
    pub(crate) plan: Plan,
}

/// What a node still has to do to be part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Nothing.
    Member,
    /// Make the cluster.
    Init,
    /// Join it.
    Join,
}

fn wish<'a>(
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
    Fleet::visit(project, printer, progress, work).await.inspect_err(|_| progress.end())
}

/// What stands against going on, for all nodes, before anything is changed.
pub(crate) fn obstacles(cluster: &Cluster, inputs: &Inputs, surveys: &[Survey]) -> Vec<(NodeName, String)> {
    let mut found = Vec::new();
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

/// What each node has to do to be part of the cluster, by what the nodes' marks say.
pub(crate) fn memberships(cluster: &Cluster, surveys: &[Survey]) -> BTreeMap<NodeName, Membership> {
    let mut all = BTreeMap::new();
    if cluster.distribution == Distribution::None {
        return all;
    }
    let mark = |survey: &Survey| survey.seen.done(INIT).map(str::to_owned);
    let planes = || surveys.iter().filter(|survey| survey.session.node.role == Role::ControlPlane);
    // The control plane that made the cluster, or will.
    let maker = planes().find(|survey| mark(survey).as_deref() == Some("control-plane")).or_else(|| planes().next());
    let made = maker.and_then(mark).is_some();
    let ca = maker.and_then(|survey| survey.seen.done("ca-hash")).filter(|_| made);
    for survey in surveys {
        let node = &survey.session.node;
        let is_maker = maker.is_some_and(|maker| maker.session.node.name == node.name);
        let membership = match (is_maker, ca) {
            (true, Some(_)) => Membership::Member,
            (true, None) => Membership::Init,
            (false, Some(ca)) if mark(survey).as_deref() == Some(format!("{} {ca}", node.role).as_str()) => {
                Membership::Member
            }
            (false, _) => Membership::Join,
        };
        all.insert(node.name.clone(), membership);
    }
    all
}

/// The plans as they are shown.
pub(crate) fn node_plans(cluster: &Cluster, surveys: &[Survey]) -> Vec<NodePlan> {
    let memberships = memberships(cluster, surveys);
    surveys
        .iter()
        .map(|survey| NodePlan {
            name: survey.session.node.name.clone(),
            plan: survey.plan.clone(),
            steps: match memberships.get(&survey.session.node.name) {
                Some(Membership::Init) => vec![format!("make the cluster {}", cluster.name)],
                Some(Membership::Join) => {
                    vec![format!("join the cluster {} as {}", cluster.name, survey.session.node.role)]
                }
                _ => Vec::new(),
            },
        })
        .collect()
}

/// What the nodes tell each other during a run.
#[derive(Debug, Clone, Default)]
struct Shared {
    ca_hash: Option<String>,
    token: Option<Token>,
    certificate_key: Option<Token32>,
    joinable: bool,
    /// The maker of the cluster gave up.
    broken: bool,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) sessions: Vec<NodeSession>,
    pub(crate) changes: usize,
    pub(crate) failed: Vec<(NodeName, anyhow::Error)>,
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    let mut source = std::fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes)
}

/// Carries out the plans; without `kubernetes`, the nodes are only prepared. Nodes go on independently; they wait only for what they need from another.
pub(crate) async fn carry_out(
    cluster: &Arc<Cluster>,
    inputs: &Arc<Inputs>,
    surveys: Vec<Survey>,
    kubernetes: bool,
) -> anyhow::Result<Outcome> {
    let memberships = if kubernetes { memberships(cluster, &surveys) } else { BTreeMap::new() };
    let running = memberships.values().any(|membership| *membership == Membership::Member);
    let mut shared = Shared::default();
    let joining: Vec<Node> = surveys
        .iter()
        .map(|survey| survey.session.node.clone())
        .filter(|node| memberships.get(&node.name) == Some(&Membership::Join))
        .collect();
    let several = cluster.control_planes().count() > 1;
    if memberships.values().any(|membership| *membership == Membership::Init) {
        shared.token = Some(Token::new(random()?));
        shared.certificate_key = several.then(random).transpose()?.map(Token32::new);
    } else if !joining.is_empty() {
        let maker = surveys
            .iter()
            .find(|survey| {
                survey.session.node.role == Role::ControlPlane
                    && memberships.get(&survey.session.node.name) == Some(&Membership::Member)
            })
            .ok_or_else(|| anyhow!("no control plane is part of the cluster"))?;
        if joining.iter().any(|node| node.role == Role::ControlPlane) {
            bail!(
                "adding a control plane to a running cluster is not supported by this version: take the cluster down and up again"
            );
        }
        let names: Vec<&Node> = joining.iter().collect();
        let mut token = None;
        let facts = |name: &str, value: &str| {
            if name == "token" {
                token = Token::parse(value.trim());
            }
        };
        maker
            .session
            .ask(&bramble_kube::join_facts_script(&names), facts)
            .await
            .context("the cluster gives no join token")?;
        shared.token = Some(token.ok_or_else(|| anyhow!("the cluster gives no join token"))?);
        shared.ca_hash = maker.seen.done("ca-hash").map(str::to_owned);
        shared.joinable = true;
    }
    let (share, _) = watch::channel(shared);
    let share = Arc::new(share);
    // While there is no cluster yet nothing is lost when control planes boot together.
    let plane_reboots = Arc::new(Semaphore::new(if running { 1 } else { Semaphore::MAX_PERMITS }));
    let other_reboots = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    // Control planes join one after the other: etcd takes one new member at a time.
    let plane_joins = Arc::new(Semaphore::new(1));
    let mut tasks = JoinSet::new();
    for survey in surveys {
        let task = NodeTask {
            cluster: cluster.clone(),
            inputs: inputs.clone(),
            membership: memberships.get(&survey.session.node.name).copied(),
            share: share.clone(),
            reboots: if survey.session.node.role == Role::ControlPlane {
                plane_reboots.clone()
            } else {
                other_reboots.clone()
            },
            plane_joins: plane_joins.clone(),
        };
        tasks.spawn(task.run(survey));
    }
    let mut outcome = Outcome { sessions: Vec::new(), changes: 0, failed: Vec::new() };
    while let Some(result) = tasks.join_next().await {
        let (session, result) = result?;
        match result {
            Ok(changes) => {
                outcome.changes += changes;
                let text =
                    if changes == 0 { "nothing to change".to_owned() } else { format!("{changes} changes made") };
                session.say(Event::Done(text));
            }
            Err(error) => {
                session.say(Event::Failed(error.to_string()));
                outcome.failed.push((session.node.name.clone(), error));
            }
        }
        outcome.sessions.push(session);
    }
    outcome.sessions.sort_by_key(|session| cluster.nodes.iter().position(|node| node.name == session.node.name));
    Ok(outcome)
}

struct NodeTask {
    cluster: Arc<Cluster>,
    inputs: Arc<Inputs>,
    membership: Option<Membership>,
    share: Arc<watch::Sender<Shared>>,
    reboots: Arc<Semaphore>,
    plane_joins: Arc<Semaphore>,
}

impl NodeTask {
    async fn run(self, survey: Survey) -> (NodeSession, anyhow::Result<usize>) {
        let mut session = survey.session;
        let result = self.work(&mut session, survey.plan, survey.seen).await;
        if result.is_err() && self.membership == Some(Membership::Init) {
            self.share.send_modify(|shared| shared.broken = true);
        }
        (session, result)
    }

    async fn work(&self, session: &mut NodeSession, plan: Plan, seen: Observation) -> anyhow::Result<usize> {
        let node = session.node.clone();
        let wish = wish(&self.cluster, &node, &self.inputs);
        let (seen, changes) = session.converge(&wish, Some((plan, seen)), &self.reboots).await?;
        match self.membership {
            None | Some(Membership::Member) => Ok(changes),
            Some(Membership::Init) => {
                self.init(session, &node, &seen).await?;
                Ok(changes + 1)
            }
            Some(Membership::Join) => {
                let turn = match node.role {
                    Role::ControlPlane => Some(self.plane_joins.acquire().await?),
                    _ => None,
                };
                let facts = self.wait_until_joinable(session).await?;
                let step = bramble_kube::join(&self.cluster, &node, &self.inputs, &facts)
                    .ok_or_else(|| anyhow!("this distribution has no join"))?;
                session.apply(&bramble_state::plan(&[Resource::Step(step)], &seen), |_, _| {}).await?;
                drop(turn);
                Ok(changes + 1)
            }
        }
    }

    async fn init(&self, session: &NodeSession, node: &Node, seen: &Observation) -> anyhow::Result<()> {
        let (token, certificate_key) = {
            let shared = self.share.borrow();
            (shared.token.clone(), shared.certificate_key.clone())
        };
        let token = token.ok_or_else(|| anyhow!("there is no token for the new cluster"))?;
        let seed = JoinFactsSeed { token, certificate_key };
        let step = bramble_kube::init(&self.cluster, node, seen, &self.inputs, &seed)
            .ok_or_else(|| anyhow!("this distribution has no init"))?;
        let plan = bramble_state::plan(&[Resource::Step(step)], seen);
        let several = self.cluster.control_planes().count() > 1;
        session
            .apply(&plan, |name, value| {
                self.share.send_modify(|shared| match name {
                    "ca-hash" => shared.ca_hash = Some(value.to_owned()),
                    // Control planes need the certificates too, which are there when init is through.
                    "joinable" => shared.joinable = !several,
                    _ => {}
                });
            })
            .await?;
        self.share.send_modify(|shared| shared.joinable = true);
        // The gate does this too, later and with all its consequences; here it only saves time.
        session.ask(&bramble_kube::adopt_script(&self.cluster), |_, _| {}).await.ok();
        Ok(())
    }

    async fn wait_until_joinable(&self, session: &NodeSession) -> anyhow::Result<JoinFacts> {
        let mut receiver = self.share.subscribe();
        if !receiver.borrow().joinable {
            session.say(Event::Waiting("the control plane".into()));
        }
        let shared = receiver.wait_for(|shared| shared.joinable || shared.broken).await?.clone();
        if shared.broken {
            bail!("there is no control plane to join; it failed");
        }
        match (shared.token, shared.ca_hash) {
            (Some(token), Some(ca_hash)) => Ok(JoinFacts { token, ca_hash, certificate_key: shared.certificate_key }),
            _ => bail!("the control plane did not tell how to join"),
        }
    }
}

/// Waits until the cluster is well, and lets pods on every node talk to each other once.
pub(crate) async fn gates(
    cluster: &Cluster,
    inputs: &Inputs,
    sessions: &[NodeSession],
    smoke: bool,
) -> anyhow::Result<Option<String>> {
    let plane = Fleet::control_plane(sessions).ok_or_else(|| anyhow!("no control plane answers"))?;
    plane.say(Event::Waiting("all nodes to be Ready".into()));
    plane
        .ask(&bramble_kube::ready_script(cluster), |_, value| {
            if value == "nodes-ready" {
                plane.say(Event::Waiting("the system's pods".into()));
            }
        })
        .await
        .context("the cluster does not become ready")?;
    // Nobody needs the tokens any more.
    plane.ask(&bramble_kube::forget_tokens_script(), |_, _| {}).await.context("the join tokens cannot be removed")?;
    if !smoke {
        return Ok(None);
    }
    plane.say(Event::Waiting("the smoke test: pods on every node talk to each other".into()));
    let mut result = None;
    plane
        .ask(&bramble_kube::smoke_script(cluster, inputs), |name, value| {
            if name == "smoke" {
                result = Some(value.to_owned());
            }
        })
        .await
        .context("the smoke test failed")?;
    Ok(result)
}
