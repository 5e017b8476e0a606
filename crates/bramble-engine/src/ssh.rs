//! The way to the nodes by SSH, as the cluster file and the user's own configuration say.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bramble_remote::{
    ConnectError, Connection, Credentials, Dialer, ExecError, Exit, HostKeys, Local, Parcel, Recipient, Root, Spreader,
    SshConfig, Target, Tokens, UnknownKey, Way,
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
    /// Keys that the cluster file names, private or public.
    pub keys: Vec<PathBuf>,
    /// The file in which trusted host keys are kept; the user's and the system's are read as well.
    pub known_hosts: PathBuf,
}

/// The nodes of a cluster, reached by SSH.
#[derive(Debug)]
pub struct SshNetwork {
    keys: Vec<PathBuf>,
    agent: Option<PathBuf>,
    local: Local,
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
        let connection = Connection::open(&self.target(node).await?, &self.dialer).await?;
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
        let uid = fs::metadata("/proc/self").map_or(0, |own| own.uid());
        let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(SshNetwork {
            keys: setup.keys,
            agent: setup.agent,
            configured: is_configured(setup.home.as_deref()),
            local: Local { home: setup.home, user: user_name(uid), uid, machine: machine.trim().to_owned() },
            user: access.user.clone(),
            port: access.port,
            jump: access.jump.clone(),
            gateway: cluster.gateway().filter(|(_, uplink)| uplink.reach.is_some()).map(|(node, _)| node.clone()),
            dialer: Arc::new(Dialer::new(HostKeys::open([setup.known_hosts])?)),
            spreader: Arc::default(),
            lookups: Semaphore::new(LOOKUPS),
            root: setup.root,
        })
    }

    async fn target(&self, node: &Node) -> Result<Target, ConnectError> {
        let mut target = self.directly(node.host()).await?;
        if let Some(gateway) = self.gateway.as_ref().filter(|gateway| gateway.name != node.name) {
            target.way = Way::Jump(Box::new(self.directly(gateway.host()).await?));
        }
        Ok(target)
    }

    /// A machine that is reached without the rack's gateway.
    async fn directly(&self, address: String) -> Result<Target, ConnectError> {
        let port = (self.port != 22).then_some(self.port);
        let node = Jump { user: Some(self.user.clone()), host: address, port };
        let (mut target, config) = self.host(&node).await?;
        target.way = match &self.jump {
            Some(jump) => Way::Jump(Box::new(self.hop(jump, HOPS).await?)),
            None => self.configured_way(&node, &target, &config, HOPS).await?,
        };
        Ok(target)
    }

    /// A machine on the way to others, with what leads to it.
    async fn hop(&self, jump: &Jump, hops: usize) -> Result<Target, ConnectError> {
        let (mut target, config) = self.host(jump).await?;
        target.way = Box::pin(self.configured_way(jump, &target, &config, hops)).await?;
        Ok(target)
    }

    /// The way that the user's own configuration names. `hops`: how many there may still be.
    async fn configured_way(
        &self,
        given: &Jump,
        target: &Target,
        config: &SshConfig,
        hops: usize,
    ) -> Result<Way, ConnectError> {
        let host = || target.host.clone();
        if let Some(command) = &config.proxy_command {
            if config.proxy_hands_over {
                let said =
                    "ProxyUseFdpass hands over a socket, which bramble does not take: let the command pass the data on"
                        .into();
                return Err(ConnectError::Configuration { host: host(), said });
            }
            let command = self.tokens(given, target, config).text(command);
            return command.map(Way::Command).map_err(|said| ConnectError::Configuration { host: host(), said });
        }
        let mut way = Way::Direct;
        for (n, written) in config.jump.iter().enumerate() {
            if hops <= n {
                let said = format!("more than {HOPS} jump hosts, one behind the other: does one lead to itself?");
                return Err(ConnectError::Configuration { host: host(), said });
            }
            let jump = Jump::split(written).ok_or_else(|| {
                let said = format!("`{written}` (ProxyJump) is no `[user@]host[:port]`");
                ConnectError::Configuration { host: host(), said }
            })?;
            way = Way::Jump(Box::new(match n {
                // The first one may be behind others itself.
                0 => self.hop(&jump, hops - config.jump.len().min(hops)).await?,
                _ => Target { way, ..self.host(&jump).await?.0 },
            }));
        }
        Ok(way)
    }

    /// A machine and how to log in there, as the user's own configuration says, but for the way.
    async fn host(&self, given: &Jump) -> Result<(Target, SshConfig), ConnectError> {
        let config = self.lookup(given).await?;
        let host = config.hostname.clone().unwrap_or_else(|| given.host.clone());
        let user = given.user.clone().or_else(|| config.user.clone()).unwrap_or_else(|| self.user.clone());
        let mut target = Target::new(&host, given.port.or(config.port).unwrap_or(22), &user);
        target.alias.clone_from(&config.host_key_alias);
        let ssh = self.local.home.as_ref().map(|home| home.join(".ssh"));
        let beside = |name: &str| ssh.iter().map(|dir| dir.join(name)).collect::<Vec<_>>();
        target.known_hosts = config
            .user_known_hosts
            .clone()
            .unwrap_or_else(|| ["known_hosts", "known_hosts2"].iter().flat_map(|name| beside(name)).collect());
        target
            .known_hosts
            .extend(config.global_known_hosts.clone().unwrap_or_else(|| SYSTEM.map(PathBuf::from).into()));
        let tokens = self.tokens(given, &target, &config);
        let path = |written: &String| {
            let variable = |name: &str| std::env::var(name).ok();
            let told = |said| ConnectError::Configuration { host: given.host.clone(), said };
            tokens.path(written, &variable).map_err(told)
        };
        let revoked = config.revoked_host_keys.as_ref().map(path).transpose()?;
        let all =
            |written: &[String]| written.iter().filter(|file| *file != "none").map(path).collect::<Result<Vec<_>, _>>();
        let mut named = self.keys.clone();
        named.extend(all(&config.identities)?);
        // Who names files wants no others, as ssh has it.
        let usual = match config.identities.is_empty() {
            true => USUAL.iter().flat_map(|name| beside(name)).collect(),
            false => Vec::new(),
        };
        let agent = match config.agent.as_deref() {
            None | Some("SSH_AUTH_SOCK") => self.agent.clone(),
            Some("none") => None,
            Some(written) => match written.strip_prefix('$') {
                Some(name) if !name.starts_with('{') => std::env::var_os(name).map(PathBuf::from),
                _ => Some(path(&written.to_owned())?),
            },
        };
        let certificates = all(&config.certificates)?;
        target.revoked = revoked;
        target.credentials = Credentials { named, usual, certificates, agent, only_files: config.identities_only };
        Ok((target, config))
    }

    fn tokens<'a>(&'a self, given: &'a Jump, target: &'a Target, config: &'a SshConfig) -> Tokens<'a> {
        Tokens {
            local: &self.local,
            given: &given.host,
            host: &target.host,
            alias: config.host_key_alias.as_deref(),
            port: target.port,
            user: &target.user,
            jump: config.jump.last().and_then(|written| Jump::split(written)).map(|jump| jump.host).unwrap_or_default(),
            connection: config.connection.as_deref(),
        }
    }

    async fn lookup(&self, given: &Jump) -> Result<SshConfig, ConnectError> {
        if !self.configured {
            return Ok(SshConfig::default());
        }
        let _turn = self.lookups.acquire().await;
        let found = bramble_remote::lookup(&given.host, given.user.as_deref(), given.port).await;
        let found = found.map_err(|said| ConnectError::Configuration { host: given.host.clone(), said })?;
        Ok(found.unwrap_or_default())
    }
}

/// How many machines a way may lead through.
const HOPS: usize = 8;
/// The keys that are tried where nobody names one, the best first.
const USUAL: [&str; 5] = ["id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk"];
/// The system's files of known hosts (ssh_config(5), `GlobalKnownHostsFile`).
const SYSTEM: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
/// What stands in the system's configuration as distributions bring it, and changes nothing here.
const PLAIN: [&str; 5] = ["include", "host *", "sendenv", "hashknownhosts", "gssapi"];

/// Tells whether there is an OpenSSH configuration that says something, the user's or the system's. To ask ssh takes a process
/// for each node.
fn is_configured(home: Option<&Path>) -> bool {
    let says_more = |text: String| {
        let lines = text.lines().map(|line| line.trim().to_ascii_lowercase());
        let mut meant = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        meant.any(|line| !PLAIN.iter().any(|plain| line.starts_with(plain)))
    };
    home.is_some_and(|home| home.join(".ssh/config").exists())
        || Path::new("/etc/ssh/ssh_config.d").read_dir().is_ok_and(|mut dir| dir.next().is_some())
        || fs::read_to_string("/etc/ssh/ssh_config").is_ok_and(says_more)
}

/// The name of a user of this machine.
fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    own.or_else(|| std::env::var("USER").ok()).unwrap_or_default()
}
