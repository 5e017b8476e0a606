//! All nodes of a cluster, visited at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use bramble_kube::{ANSWERS, FORGOTTEN, Inputs, Lifecycle, OBJECT, OBJECTS, RECORD, Record, SERVICE, UNREADY};
use bramble_remote::{ConnectError, UnknownKey};
use bramble_spec::{Cluster, Node, NodeName, Problem, Role, lines, name_ranges};
use bramble_state::{Observation, Plan, Resource};
use tokio::task::JoinSet;

use crate::error::{Result, bail};
use crate::event::{Event, Interface};
use crate::session::Session;
use crate::transport::Network;

/// What came of the nodes that answer, and why the others do not, each in the order of the cluster file.
pub struct Fleet<T> {
    /// What came of those that answer.
    pub nodes: Vec<T>,
    /// Those that do not, each with the reason.
    pub lost: Vec<(Node, anyhow::Error)>,
}

impl<T: Send + 'static> Fleet<T> {
    /// Connects to each of the nodes and does `work` there as soon as it answers: nobody waits for the slow and the dead.
    /// Unknown host keys are shown and asked for, all at once, after the others are through.
    ///
    /// # Errors
    /// A host key that somebody trusts cannot be written down. What fails on one node is only that node's loss.
    pub async fn visit<N: Network, F>(
        network: &Arc<N>,
        nodes: &[Node],
        interface: &Arc<dyn Interface>,
        work: impl Fn(Session<N>) -> F + Send + Sync + 'static,
    ) -> Result<Fleet<T>>
    where
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        let work = Arc::new(work);
        let mut waiting: Vec<(usize, Node)> = nodes.iter().cloned().enumerate().collect();
        let mut good: Vec<(usize, T)> = Vec::new();
        let mut bad: Vec<(usize, Node, anyhow::Error)> = Vec::new();
        let mut asked = false;
        loop {
            let mut tasks = JoinSet::new();
            for (index, node) in waiting.drain(..) {
                let (network, work, interface) = (network.clone(), work.clone(), interface.clone());
                tasks.spawn(async move {
                    interface.event(node.name.as_str(), Event::Connecting);
                    let result = match network.connect(&node).await {
                        Ok(transport) => {
                            Ok(work(Session::new(node.clone(), network.clone(), transport, interface.clone())).await)
                        }
                        Err(error) => Err(error),
                    };
                    if !matches!(result, Ok(Ok(_))) {
                        interface.event(node.name.as_str(), Event::Lost);
                    }
                    (index, node, result)
                });
            }
            let mut unknown: Vec<UnknownKey> = Vec::new();
            while let Some(result) = tasks.join_next().await {
                match result.context("a task of this program failed")? {
                    (index, _, Ok(Ok(made))) => good.push((index, made)),
                    (index, node, Ok(Err(error))) => bad.push((index, node, error)),
                    (index, node, Err(ConnectError::UnknownHostKey(key))) if !asked => {
                        if !unknown.contains(&key) {
                            unknown.push(*key);
                        }
                        waiting.push((index, node));
                    }
                    (index, node, Err(error)) => bad.push((index, node, error.into())),
                }
            }
            if unknown.is_empty() {
                break;
            }
            asked = true;
            if interface.trusts(&unknown) {
                for key in &unknown {
                    network.trust(key).context("the host key cannot be written down")?;
                }
            }
        }
        good.sort_by_key(|(index, _)| *index);
        bad.sort_by_key(|(index, ..)| *index);
        Ok(Fleet {
            nodes: good.into_iter().map(|(_, made)| made).collect(),
            lost: bad.into_iter().map(|(_, node, error)| (node, error)).collect(),
        })
    }

    /// Gives those that answer.
    ///
    /// # Errors
    /// One is missing: for commands that need all of them.
    pub fn complete(self) -> Result<Vec<T>> {
        complete(&self.lost)?;
        Ok(self.nodes)
    }
}

impl<N: Network> Fleet<Session<N>> {
    /// Connects to every node, and does nothing there.
    ///
    /// # Errors
    /// As of [`Fleet::visit`].
    pub async fn connect(
        network: &Arc<N>,
        nodes: &[Node],
        interface: &Arc<dyn Interface>,
    ) -> Result<Fleet<Session<N>>> {
        Fleet::visit(network, nodes, interface, async |session| Ok(session)).await
    }
}

impl<N: Network> Fleet<(Session<N>, Observation)> {
    /// Connects to every node, and looks at it, whatever it should have.
    ///
    /// # Errors
    /// As of [`Fleet::visit`].
    pub async fn observe(
        network: &Arc<N>,
        nodes: &[Node],
        interface: &Arc<dyn Interface>,
    ) -> Result<Fleet<(Session<N>, Observation)>> {
        Fleet::visit(network, nodes, interface, async |session: Session<N>| {
            let seen = session.observe(&[]).await?;
            Ok((session, seen))
        })
        .await
    }
}

pub(crate) fn complete(lost: &[(Node, anyhow::Error)]) -> Result<()> {
    if !lost.is_empty() {
        bail!("not every node can be reached:{}", losses(lost));
    }
    Ok(())
}

/// Writes a line for each reason why nodes are lost.
pub(crate) fn losses(lost: &[(Node, anyhow::Error)]) -> String {
    match lost {
        // Of one alone everything can be said.
        [(node, error)] => format!("\n  {}: {error:#}", node.name),
        _ => {
            let problem = |(node, error): &(Node, _)| Problem::error(without_address(node, error), &node.name);
            lines(&lost.iter().map(problem).collect::<Vec<_>>())
        }
    }
}

/// Says why a node is lost, in words that are the same for all nodes that are lost for the same reason.
pub fn without_address(node: &Node, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let bracketed = format!("[{}]:", node.address);
    let address = if text.contains(&bracketed) { format!("[{}]", node.address) } else { node.address.to_string() };
    let Some(at) = text.find(&address) else { return text };
    let rest = &text[at + address.len()..];
    let rest = rest.strip_prefix(':').map_or(rest, |port| port.trim_start_matches(|c: char| c.is_ascii_digit()));
    format!("{}it{rest}", &text[..at])
}

/// A node that was looked at, with what would change on it.
pub struct Survey<N: Network> {
    /// The connection to it.
    pub session: Session<N>,
    /// What is there.
    pub seen: Observation,
    /// What would change.
    pub plan: Plan,
    /// What its API says, if it is a control plane that was asked.
    pub health: Option<Health>,
}

/// What the API of a control plane says of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it answers.
    pub answers: bool,
    /// What is not as it should be: nodes that are not Ready, or not there, and pods of the system.
    pub unready: Vec<String>,
    /// The objects of add-ons that there are, if it was asked for them.
    pub objects: Option<BTreeSet<String>>,
    /// Its records of nodes.
    pub records: BTreeMap<NodeName, Record>,
    /// Its own address in the range of services.
    pub service: Option<Ipv4Addr>,
}

/// What a node should have.
pub(crate) fn desired<'a>(
    cluster: &'a Cluster,
    node: &'a Node,
    inputs: &'a Inputs,
) -> impl Fn(&Observation) -> Vec<Resource> + Sync + 'a {
    move |seen| bramble_kube::prepare(cluster, node, seen, inputs)
}

/// Looks at a node, in one exchange, and finds what would change on it. `asks`: whether a control plane's API is asked too.
async fn look<N: Network>(
    cluster: &Cluster,
    inputs: &Inputs,
    session: Session<N>,
    asks: bool,
) -> anyhow::Result<Survey<N>> {
    session.say(Event::Looking);
    let life = bramble_kube::lifecycle(cluster, inputs).filter(|_| asks && session.node.role == Role::ControlPlane);
    let node = session.node.clone();
    let desired = desired(cluster, &node, inputs);
    let (looked, health) = tokio::join!(session.look(&desired), async {
        match &life {
            Some(life) => Some(ask_health(cluster, inputs, &**life, &session).await),
            None => None,
        }
    });
    let (resources, mut seen) = looked?;
    let plan = bramble_state::plan(&resources, &seen);
    if plan.is_empty() {
        seen.forget_texts();
    }
    session.say(Event::Looked);
    Ok(Survey { session, seen, plan, health })
}

/// Looks at all nodes.
pub(crate) async fn survey<N: Network>(
    network: &Arc<N>,
    cluster: &Arc<Cluster>,
    inputs: &Arc<Inputs>,
    interface: &Arc<dyn Interface>,
    asks: bool,
) -> Result<Fleet<Survey<N>>> {
    let (shared_cluster, shared_inputs) = (cluster.clone(), inputs.clone());
    let work = move |session| {
        let (cluster, inputs) = (shared_cluster.clone(), shared_inputs.clone());
        async move { look(&cluster, &inputs, session, asks).await }
    };
    Fleet::visit(network, &cluster.nodes, interface, work).await
}

/// Asks the API of a control plane how the cluster is; one that cannot even be asked does not answer.
/// The first control plane is asked what there is of add-ons, too.
async fn ask_health<N: Network>(
    cluster: &Cluster,
    inputs: &Inputs,
    life: &dyn Lifecycle,
    session: &Session<N>,
) -> Health {
    let mut health = Health::default();
    let mut objects = BTreeSet::new();
    let first = cluster.control_planes().next().is_some_and(|node| node.name == session.node.name);
    let addons = if first { inputs.addons.as_slice() } else { &[] };
    let asked = session
        .ask(&bramble_kube::health_script(cluster, life, addons), |name, value| match name {
            ANSWERS => health.answers = value == "yes",
            UNREADY => health.unready.push(value.to_owned()),
            OBJECT => {
                objects.insert(value.to_owned());
            }
            OBJECTS => health.objects = Some(std::mem::take(&mut objects)),
            RECORD => health.records.extend(Record::parse(value)),
            SERVICE => health.service = value.parse().ok(),
            _ => {}
        })
        .await;
    if asked.is_err() {
        health = Health::default();
    }
    health
}

/// Finds the control plane that speaks for the cluster: the first one of these whose API answers. One alone is not asked.
///
/// # Errors
/// There is none, or none of several answers.
pub async fn speaker<'a, N: Network>(
    life: &dyn Lifecycle,
    planes: impl IntoIterator<Item = &'a Session<N>>,
) -> Result<&'a Session<N>> {
    let planes: Vec<&Session<N>> = planes.into_iter().filter(|s| s.node.role == Role::ControlPlane).collect();
    if let [only] = planes.as_slice() {
        return Ok(only);
    }
    let mut silent = Vec::new();
    for session in planes {
        if answers(life, session).await.unwrap_or(false) {
            return Ok(session);
        }
        silent.push(session.node.name.as_str());
    }
    if silent.is_empty() {
        bail!("no control plane of the cluster can be reached");
    }
    bail!("the API answers on none of {}: `bramble status` says more", name_ranges(silent))
}

/// Asks a control plane whether its own API answers.
pub(crate) async fn answers<N: Network>(life: &dyn Lifecycle, plane: &Session<N>) -> anyhow::Result<bool> {
    let mut answers = false;
    let told = |name: &str, value: &str| answers |= name == ANSWERS && value == "yes";
    plane.ask(&bramble_kube::answers_script(life), told).await?;
    Ok(answers)
}

/// Lets the cluster forget nodes.
pub(crate) async fn forget<'n, N: Network>(
    life: &dyn Lifecycle,
    plane: &Session<N>,
    nodes: impl IntoIterator<Item = &'n Node>,
) -> anyhow::Result<()> {
    let nodes: Vec<&Node> = nodes.into_iter().collect();
    let mut left: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let script = bramble_kube::forget_script(life, nodes.iter().map(|node| (&node.name, node.address)));
    let told = |name: &str, value: &str| {
        if name == FORGOTTEN {
            left.remove(value);
        }
    };
    plane.act(&script, told).await?;
    if !left.is_empty() {
        anyhow::bail!("{} does not say whether the records of {} are gone", plane.node.name, name_ranges(left));
    }
    Ok(())
}
