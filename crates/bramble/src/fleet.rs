//! All nodes of a cluster, connected.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use bramble_remote::{ConnectError, Connection, Credentials, HostKeys, Root, Secret, SshConfig, Target, UnknownKey};
use bramble_spec::{Jump, Node, Sudo};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::node::NodeSession;
use crate::output::Printer;
use crate::progress::{Event, Progress};
use crate::project::Project;

/// The nodes that answer, and why the others do not.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<NodeSession>,
    pub(crate) lost: Vec<(Node, anyhow::Error)>,
}

/// Handshakes under way at once: more only makes all of them slow.
const CONCURRENT: usize = 64;

impl Fleet {
    /// Connects to every node. Unknown host keys are shown and asked for, all at once.
    pub(crate) async fn connect(project: &Project, printer: &Printer, progress: &Progress) -> anyhow::Result<Fleet> {
        let access = &project.cluster.access;
        let root = match (access.user.as_str(), access.sudo) {
            ("root", _) => Root::Already,
            (_, Sudo::Passwordless) => Root::Sudo,
            (_, Sudo::Password) => Root::SudoPassword(Secret::new(password(&access.user)?)),
        };
        let ssh_dir = project.home.as_ref().map(|home| home.join(".ssh"));
        let configured = ssh_dir.as_ref().is_some_and(|dir| dir.join("config").exists())
            || std::path::Path::new("/etc/ssh/ssh_config.d").read_dir().is_ok_and(|mut dir| dir.next().is_some());
        let mut files = vec![project.private_dir()?.join("known_hosts")];
        files.extend(ssh_dir.iter().map(|dir| dir.join("known_hosts")));
        files.push(PathBuf::from("/etc/ssh/ssh_known_hosts"));
        let plan = Arc::new(ConnectPlan {
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
            host_keys: HostKeys { files },
            root,
        });
        let mut waiting: Vec<Node> = project.cluster.nodes.clone();
        let mut fleet = Fleet { nodes: Vec::new(), lost: Vec::new() };
        let mut asked = false;
        loop {
            let (nodes, failed) = plan.connect_all(waiting, progress).await?;
            fleet.nodes.extend(nodes);
            let mut unknown: Vec<UnknownKey> = Vec::new();
            waiting = Vec::new();
            for (node, error) in failed {
                match error {
                    ConnectError::UnknownHostKey(key) if !asked => {
                        if !unknown.contains(&key) {
                            unknown.push(*key);
                        }
                        waiting.push(node);
                    }
                    other => fleet.lost.push((node, other.into())),
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
                    plan.host_keys.trust(key)?;
                }
            }
        }
        fleet.nodes.sort_by_key(|session| project.cluster.nodes.iter().position(|node| node.name == session.node.name));
        Ok(fleet)
    }

    /// Fails if a node is missing: for commands that need all of them.
    pub(crate) fn complete(self) -> anyhow::Result<Vec<NodeSession>> {
        if self.lost.is_empty() {
            return Ok(self.nodes);
        }
        let list: Vec<String> = self.lost.iter().map(|(node, error)| format!("\n  {}: {error}", node.name)).collect();
        bail!("not every node can be reached:{}", list.concat())
    }

    /// The session of the first control plane that answers.
    pub(crate) fn control_plane(nodes: &[NodeSession]) -> Option<&NodeSession> {
        nodes.iter().find(|session| session.node.role == bramble_spec::Role::ControlPlane)
    }
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
    host_keys: HostKeys,
    root: Root,
}

type Connected = Result<NodeSession, (Node, ConnectError)>;

impl ConnectPlan {
    async fn connect_all(
        self: &Arc<Self>,
        nodes: Vec<Node>,
        progress: &Progress,
    ) -> anyhow::Result<(Vec<NodeSession>, Vec<(Node, ConnectError)>)> {
        let slots = Arc::new(Semaphore::new(CONCURRENT));
        let mut tasks: JoinSet<Connected> = JoinSet::new();
        for node in nodes {
            let (plan, slots, progress) = (self.clone(), slots.clone(), progress.clone());
            tasks.spawn(async move {
                let _slot = slots.acquire_owned().await;
                progress.event(node.name.as_str(), Event::Connecting);
                plan.connect(node, progress).await
            });
        }
        let mut good = Vec::new();
        let mut bad = Vec::new();
        while let Some(result) = tasks.join_next().await {
            match result? {
                Ok(session) => good.push(session),
                Err(failed) => bad.push(failed),
            }
        }
        Ok((good, bad))
    }

    async fn connect(&self, node: Node, progress: Progress) -> Connected {
        let (target, credentials) = self.target(&node).await;
        match Connection::open(&target, &credentials, &self.host_keys).await {
            Ok(connection) => Ok(NodeSession {
                node,
                target,
                credentials,
                host_keys: self.host_keys.clone(),
                root: self.root.clone(),
                connection,
                progress,
            }),
            Err(error) => Err((node, error)),
        }
    }

    async fn target(&self, node: &Node) -> (Target, Credentials) {
        let address = node.address.to_string();
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
