//! All nodes of a cluster, visited at once.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use bramble_remote::{
    ConnectError, Connection, Credentials, Dialer, HostKeys, Root, Secret, Spreader, SshConfig, Target, UnknownKey,
};
use bramble_spec::{Jump, Node, Sudo};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::node::NodeSession;
use crate::output::Printer;
use crate::progress::{Event, Progress};
use crate::project::Project;
use bramble_spec::{fold, group};

/// What came of the nodes that answer, and why the others do not, each in the order of the cluster file.
pub(crate) struct Fleet<T = NodeSession> {
    pub(crate) nodes: Vec<T>,
    pub(crate) lost: Vec<(Node, anyhow::Error)>,
}

/// Runs of `ssh -G` at once.
const LOOKUPS: usize = 8;

impl Fleet {
    /// Connects to every node.
    pub(crate) async fn connect(project: &Project, printer: &Printer, progress: &Progress) -> anyhow::Result<Fleet> {
        Fleet::visit(project, &project.cluster.nodes, printer, progress, async |session| Ok(session)).await
    }

    /// Connects to the control planes, for commands that need one of them.
    pub(crate) async fn control_planes(project: &Project, printer: &Printer) -> anyhow::Result<Fleet> {
        let planes: Vec<Node> = project.cluster.control_planes().cloned().collect();
        let progress = Progress::new(printer, planes.iter().map(|node| node.name.as_str()));
        let fleet = Fleet::visit(project, &planes, printer, &progress, async |session| Ok(session)).await;
        progress.end();
        fleet
    }

    /// The session of the first control plane that answers.
    pub(crate) fn control_plane(nodes: &[NodeSession]) -> Option<&NodeSession> {
        nodes.iter().find(|session| session.node.role == bramble_spec::Role::ControlPlane)
    }
}

impl<T: Send + 'static> Fleet<T> {
    /// Connects to each of the nodes and does `work` there as soon as it answers: nobody waits for the slow and the dead.
    /// Unknown host keys are shown and asked for, all at once, after the others are through.
    pub(crate) async fn visit<F>(
        project: &Project,
        nodes: &[Node],
        printer: &Printer,
        progress: &Progress,
        work: impl Fn(NodeSession) -> F + Send + Sync + 'static,
    ) -> anyhow::Result<Fleet<T>>
    where
        F: Future<Output = anyhow::Result<T>> + Send,
    {
        let plan = Arc::new(ConnectPlan::new(project)?);
        let work = Arc::new(work);
        let mut waiting: Vec<(usize, Node)> = nodes.iter().cloned().enumerate().collect();
        let mut good: Vec<(usize, T)> = Vec::new();
        let mut bad: Vec<(usize, Node, anyhow::Error)> = Vec::new();
        let mut asked = false;
        loop {
            let mut tasks = JoinSet::new();
            for (index, node) in waiting.drain(..) {
                let (plan, work, progress) = (plan.clone(), work.clone(), progress.clone());
                tasks.spawn(async move {
                    progress.event(node.name.as_str(), Event::Connecting);
                    let result = match plan.connect(node.clone(), progress.clone()).await {
                        Ok(session) => Ok(work(session).await),
                        Err(error) => Err(error),
                    };
                    if !matches!(result, Ok(Ok(_))) {
                        progress.event(node.name.as_str(), Event::Lost);
                    }
                    (index, node, result)
                });
            }
            let mut unknown: Vec<UnknownKey> = Vec::new();
            while let Some(result) = tasks.join_next().await {
                match result? {
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
            progress.end();
            let mut text = "These hosts are met for the first time:\n".to_owned();
            for key in &unknown {
                text.push_str(&format!("  {:<24} {}\n", key.host, key.fingerprint));
            }
            printer.error(text);
            if printer.confirm("Are these the keys that the boards show?")? {
                for key in &unknown {
                    plan.dialer.host_keys.trust(key)?;
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

    /// Fails if a node is missing: for commands that need all of them.
    pub(crate) fn complete(self) -> anyhow::Result<Vec<T>> {
        if self.lost.is_empty() {
            return Ok(self.nodes);
        }
        bail!("not every node can be reached:{}", self.losses());
    }

    /// A line for each reason why nodes are lost.
    pub(crate) fn losses(&self) -> String {
        let lines = lines(self.lost.iter().map(|(node, error)| (node.name.as_str(), without_address(node, error))));
        match self.lost.as_slice() {
            // Of one alone everything can be said.
            [(node, error)] => format!("\n  {}: {error:#}", node.name),
            _ => lines,
        }
    }
}

/// Why a node is lost, in words that are the same for all nodes that are lost for the same reason.
pub(crate) fn without_address(node: &Node, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let bracketed = format!("[{}]:", node.address);
    let address = if text.contains(&bracketed) { format!("[{}]", node.address) } else { node.address.to_string() };
    let Some(at) = text.find(&address) else { return text };
    let rest = &text[at + address.len()..];
    let rest = rest.strip_prefix(':').map_or(rest, |port| port.trim_start_matches(|c: char| c.is_ascii_digit()));
    format!("{}it{rest}", &text[..at])
}

/// Names and what is to be said of each, one line for those of which the same is to be said.
pub(crate) fn lines<'a>(items: impl IntoIterator<Item = (&'a str, String)>) -> String {
    group(items).into_iter().map(|(names, text)| format!("\n  {}: {text}", fold(names))).collect()
}

struct ConnectPlan {
    keys: Vec<PathBuf>,
    standard: Vec<PathBuf>,
    agent: Option<PathBuf>,
    home: Option<PathBuf>,
    /// Whether there is an OpenSSH configuration worth asking.
    configured: bool,
    user: String,
    port: u16,
    jump: Option<Jump>,
    /// The gateway, if it is reached from outside.
    gateway: Option<Node>,
    dialer: Arc<Dialer>,
    spreader: Arc<Spreader>,
    lookups: Semaphore,
    root: Root,
}

impl ConnectPlan {
    fn new(project: &Project) -> anyhow::Result<ConnectPlan> {
        let access = &project.cluster.access;
        let root = match (access.user.as_str(), access.sudo) {
            ("root", _) => Root::Already,
            (_, Sudo::Passwordless) => Root::Sudo,
            (_, Sudo::Password) => Root::SudoPassword(Secret::new(password(&access.user)?)),
        };
        let ssh_dir = project.home.as_ref().map(|home| home.join(".ssh"));
        let configured = ssh_dir.as_ref().is_some_and(|dir| dir.join("config").exists())
            || std::path::Path::new("/etc/ssh/ssh_config.d").read_dir().is_ok_and(|mut dir| dir.next().is_some());
        let mut files = vec![project.known_hosts()?];
        files.extend(ssh_dir.iter().map(|dir| dir.join("known_hosts")));
        files.push(PathBuf::from("/etc/ssh/ssh_known_hosts"));
        Ok(ConnectPlan {
            keys: access.keys.iter().map(|key| private_half(project.path(key))).collect(),
            standard: ssh_dir
                .iter()
                .flat_map(|dir| ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| dir.join(name)))
                .collect(),
            agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
            home: project.home.clone(),
            configured,
            user: access.user.clone(),
            port: access.port,
            jump: access.jump.clone(),
            gateway: project
                .cluster
                .gateway()
                .filter(|(_, uplink)| uplink.reach.is_some())
                .map(|(node, _)| node.clone()),
            dialer: Arc::new(Dialer::new(HostKeys::open(files)?)),
            spreader: Arc::default(),
            lookups: Semaphore::new(LOOKUPS),
            root,
        })
    }

    async fn connect(&self, node: Node, progress: Progress) -> Result<NodeSession, ConnectError> {
        let (target, credentials) = self.target(&node).await;
        let connection = Connection::open(&target, &credentials, &self.dialer).await?;
        let (dialer, spreader, root) = (self.dialer.clone(), self.spreader.clone(), self.root.clone());
        Ok(NodeSession { node, target, credentials, dialer, spreader, root, connection, progress })
    }

    async fn target(&self, node: &Node) -> (Target, Credentials) {
        let (mut target, credentials) = self.directly(node.host()).await;
        if let Some(gateway) = self.gateway.as_ref().filter(|gateway| gateway.name != node.name) {
            target.jump = Some(Box::new(self.directly(gateway.host()).await.0));
        }
        (target, credentials)
    }

    /// A machine that is reached without the rack's gateway.
    async fn directly(&self, address: String) -> (Target, Credentials) {
        let config = self.lookup(&address).await;
        let jump = match &self.jump {
            Some(jump) => Some(Box::new(self.jump_target(jump).await)),
            None => self.configured_jump(&config.jump).await,
        };
        let target = Target {
            host: config.hostname.unwrap_or(address),
            port: if self.port == 22 { config.port.unwrap_or(22) } else { self.port },
            user: self.user.clone(),
            jump,
        };
        let mut keys = self.keys.clone();
        keys.extend(config.identities.into_iter().map(|path| self.expand(path)));
        keys.extend(self.standard.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        (target, Credentials { keys, agent: self.agent.clone() })
    }

    async fn lookup(&self, host: &str) -> SshConfig {
        if !self.configured {
            return SshConfig::default();
        }
        let _turn = self.lookups.acquire().await;
        bramble_remote::lookup(host).await.unwrap_or_default()
    }

    async fn jump_target(&self, jump: &Jump) -> Target {
        let config = self.lookup(&jump.host).await;
        Target {
            host: config.hostname.unwrap_or_else(|| jump.host.clone()),
            port: jump.port.or(config.port).unwrap_or(22),
            user: jump.user.clone().or(config.user).unwrap_or_else(|| self.user.clone()),
            jump: None,
        }
    }

    /// ProxyJump of the user's own configuration, first hop first.
    async fn configured_jump(&self, hops: &[String]) -> Option<Box<Target>> {
        let mut through: Option<Box<Target>> = None;
        for hop in hops {
            // What cannot be taken apart is left to the resolver, whose error names it.
            let jump = Jump::split(hop).unwrap_or_else(|| Jump { user: None, host: hop.clone(), port: None });
            through = Some(Box::new(Target { jump: through, ..self.jump_target(&jump).await }));
        }
        through
    }

    fn expand(&self, path: PathBuf) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path,
        }
    }
}

/// The file of the private key beside that of the public one.
fn private_half(path: PathBuf) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "pub") { path.with_extension("") } else { path }
}

/// The sudo password: from a file or variable for machines, else asked once.
fn password(user: &str) -> anyhow::Result<String> {
    if let Some(path) = std::env::var_os("BRAMBLE_SUDO_PASSWORD_FILE") {
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    rpassword::prompt_password(format!("sudo password of {user} on the nodes: "))
        .context("there is no terminal to ask for the sudo password; put it into a file and name that in BRAMBLE_SUDO_PASSWORD_FILE")
}
