//! The way to the nodes by SSH, as the cluster file and the user's own configuration say.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use bramble_remote::{
    ConnectError, Connection, Credentials, Dialer, ExecError, Exit, HostKeys, Parcel, Recipient, Root, Spreader,
    SshConfig, Target, UnknownKey,
};
use bramble_shell::Script;
use bramble_spec::{Cluster, Jump, Node};
use bramble_state::{BLOBS, Upload};
use tokio::sync::Semaphore;

use crate::transport::{Network, Transport};

/// Runs of `ssh -G` at once.
const LOOKUPS: usize = 8;

/// What SSH needs besides the cluster file.
#[derive(Debug, Clone)]
pub struct SshSetup {
    /// How root is reached.
    pub root: Root,
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The socket of the user's SSH agent.
    pub agent: Option<PathBuf>,
    /// Private keys that the cluster file names.
    pub keys: Vec<PathBuf>,
    /// The file in which trusted host keys are kept; the user's and the system's are read as well.
    pub known_hosts: PathBuf,
}

/// The nodes of a cluster, reached by SSH.
#[derive(Debug)]
pub struct SshNetwork {
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

/// The SSH connection to a node.
#[derive(Debug)]
pub struct SshTransport {
    /// The connection.
    pub connection: Connection,
    root: Root,
    address: Ipv4Addr,
    spreader: Arc<Spreader>,
}

impl Transport for SshTransport {
    async fn run(&self, script: &Script, on_output: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Exit, ExecError> {
        self.connection.read_script(&self.root, script, on_output).await
    }

    async fn deliver(&self, upload: &Upload, on_progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<(), ExecError> {
        let parcel = Parcel {
            name: &upload.name,
            digest: upload.sha256.as_str(),
            folder: BLOBS,
            from: &upload.from,
            secret: upload.secret,
        };
        let to = Recipient { connection: &self.connection, root: &self.root, address: self.address };
        self.spreader.deliver(&to, &parcel, on_progress).await
    }
}

impl Network for SshNetwork {
    type Transport = SshTransport;

    async fn connect(&self, node: &Node) -> Result<SshTransport, ConnectError> {
        let (target, credentials) = self.target(node).await;
        let connection = Connection::open(&target, &credentials, &self.dialer).await?;
        let (root, spreader) = (self.root.clone(), self.spreader.clone());
        Ok(SshTransport { connection, root, address: node.address, spreader })
    }

    fn trust(&self, key: &UnknownKey) -> Result<(), ConnectError> {
        self.dialer.host_keys.trust(key)
    }
}

impl SshNetwork {
    /// Reads the known host keys. Nothing is connected to yet.
    ///
    /// # Errors
    /// A known_hosts file that is there cannot be read.
    pub fn new(cluster: &Cluster, setup: SshSetup) -> Result<SshNetwork, ConnectError> {
        let access = &cluster.access;
        let ssh_dir = setup.home.as_ref().map(|home| home.join(".ssh"));
        let configured = ssh_dir.as_ref().is_some_and(|dir| dir.join("config").exists())
            || std::path::Path::new("/etc/ssh/ssh_config.d").read_dir().is_ok_and(|mut dir| dir.next().is_some());
        let mut files = vec![setup.known_hosts];
        files.extend(ssh_dir.iter().map(|dir| dir.join("known_hosts")));
        files.push(PathBuf::from("/etc/ssh/ssh_known_hosts"));
        let standard = ["id_ed25519", "id_ecdsa", "id_rsa"];
        Ok(SshNetwork {
            keys: setup.keys.into_iter().map(private_half).collect(),
            standard: ssh_dir.iter().flat_map(|dir| standard.map(|name| dir.join(name))).collect(),
            agent: setup.agent,
            home: setup.home,
            configured,
            user: access.user.clone(),
            port: access.port,
            jump: access.jump.clone(),
            gateway: cluster.gateway().filter(|(_, uplink)| uplink.reach.is_some()).map(|(node, _)| node.clone()),
            dialer: Arc::new(Dialer::new(HostKeys::open(files)?)),
            spreader: Arc::default(),
            lookups: Semaphore::new(LOOKUPS),
            root: setup.root,
        })
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
        let mut seen = HashSet::new();
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
