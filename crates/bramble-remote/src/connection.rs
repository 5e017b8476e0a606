//! One SSH connection for each node, for the whole run.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use russh::client::{self, Handle};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{AlgorithmKind, Preferred};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, oneshot};

use crate::error::ConnectError;
use crate::exec::printable;
use crate::host_keys::{HostKeys, Peer, Verdict};
use crate::login::{Credentials, is_rsa, log_in};

/// A machine to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its name or address.
    pub host: String,
    /// sshd's port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// How it is reached.
    pub way: Way,
    /// How to prove who we are.
    pub credentials: Credentials,
    /// What files of known hosts call it, if not by its address (ssh_config(5), `HostKeyAlias`).
    pub alias: Option<String>,
    /// Files of known hosts besides those of the dialer.
    pub known_hosts: Vec<PathBuf>,
    /// A file of keys that it may not show (ssh_config(5), `RevokedHostKeys`).
    pub revoked: Option<PathBuf>,
}

/// How a machine is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// By a connection of its own.
    #[default]
    Direct,
    /// Through this machine.
    Jump(Box<Target>),
    /// By the input and the output of this shell command (ssh_config(5), `ProxyCommand`).
    Command(String),
}

impl Target {
    /// A machine that is reached by a connection of its own, with nothing to prove who we are.
    pub fn new(host: &str, port: u16, user: &str) -> Target {
        Target {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            way: Way::Direct,
            credentials: Credentials::default(),
            alias: None,
            known_hosts: Vec::new(),
            revoked: None,
        }
    }

    pub(crate) fn display(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What the connections of a run share.
#[derive(Debug)]
pub struct Dialer {
    /// Which hosts are trusted.
    pub host_keys: HostKeys,
    calls: Semaphore,
    handshakes: Semaphore,
    /// Connections to hosts that others are reached through: one for all, since sshd refuses many handshakes at once
    /// (`MaxStartups` of sshd_config(5)).
    jumps: Mutex<HashMap<Target, Arc<tokio::sync::Mutex<Jump>>>>,
}

/// A machine that others are reached through.
#[derive(Debug)]
enum Jump {
    Up(Weak<Connection>),
    Down { since: Instant, reason: String },
}

impl Default for Jump {
    fn default() -> Self {
        Jump::Up(Weak::new())
    }
}

/// For how long nobody tries a jump host again that did not answer: each of the nodes behind it would wait in turn.
const JUMP_DOWN: Duration = Duration::from_secs(2);

/// Machines that are called at once: waiting for the dead costs nothing, but a network's table of neighbours is finite
/// (1024 entries by default, arp(7)).
const CALLS: usize = 512;
/// Handshakes under way at once, with machines that have answered: more would only make all of them slow.
const HANDSHAKES: usize = 64;

impl Dialer {
    /// A dialer that trusts these keys.
    pub fn new(host_keys: HostKeys) -> Dialer {
        Dialer {
            host_keys,
            calls: Semaphore::new(CALLS),
            handshakes: Semaphore::new(HANDSHAKES),
            jumps: Mutex::default(),
        }
    }

    /// The connection that leads through `target`, made anew if there is none that lives.
    async fn jump(self: &Arc<Self>, target: &Target) -> Result<Arc<Connection>, ConnectError> {
        // Each has a lock of its own: a jump host may be behind another one.
        let jump = match self.jumps.lock() {
            Ok(mut jumps) => jumps.entry(target.clone()).or_default().clone(),
            Err(poisoned) => poisoned.into_inner().entry(target.clone()).or_default().clone(),
        };
        let mut jump = jump.lock().await;
        match &*jump {
            Jump::Up(known) => {
                if let Some(known) = known.upgrade().filter(|known| !known.handle.is_closed()) {
                    return Ok(known);
                }
            }
            Jump::Down { since, reason } if since.elapsed() < JUMP_DOWN => {
                return Err(ConnectError::Unreachable { host: target.display(), reason: reason.clone() });
            }
            Jump::Down { .. } => {}
        }
        match Box::pin(Connection::open(target, self)).await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *jump = Jump::Up(Arc::downgrade(&fresh));
                Ok(fresh)
            }
            Err(error) => {
                if let ConnectError::Unreachable { reason, .. } = &error {
                    *jump = Jump::Down { since: Instant::now(), reason: reason.clone() };
                }
                Err(error)
            }
        }
    }
}

/// How long a machine may take to answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the sshd of a machine that is there may be gone: at a board's first boot cloud-init starts it anew, and again
/// when packages were installed.
const SSHD_STARTS: Duration = Duration::from_secs(15);
/// How many relays may stay on a node for others. Each holds a session, and an sshd gives ten to a connection (sshd_config(5),
/// `MaxSessions`).
const STAYING: usize = 4;
/// How long until it is asked again.
const PAUSE: Duration = Duration::from_millis(300);
/// Handshake and log-in, on a slow board under load.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a node.
pub struct Connection {
    pub(crate) handle: Handle<Client>,
    /// The relays that stay for nodes that come later, the oldest first.
    staying: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// The connection that this one travels in.
    _jump: Option<Arc<Connection>>,
    /// The command that it travels through, which ends with it.
    _command: Option<Child>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.handle.is_closed()).finish()
    }
}

pub(crate) struct Client {
    peer: Arc<Peer>,
    verdict: Arc<Mutex<Option<Verdict>>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let verdict = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.peer.check(key),
            PublicKeyOrCertificate::Certificate(certificate) => self.peer.check_certificate(certificate),
        };
        let known = matches!(verdict, Verdict::Known);
        if let Ok(mut slot) = self.verdict.lock() {
            *slot = Some(verdict);
        }
        Ok(known)
    }
}

impl Connection {
    /// Connects and logs in. A host whose key is not known to the dialer is refused with its fingerprint. One that is there
    /// and has no sshd is asked again for 15 s.
    pub async fn open(target: &Target, dialer: &Arc<Dialer>) -> Result<Connection, ConnectError> {
        let began = Instant::now();
        loop {
            match Connection::open_once(target, dialer).await {
                Err(error) if error.may_pass() && began.elapsed() < SSHD_STARTS => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    /// Notes one more relay that stays, and dismisses the oldest if there are too many. The result ends when this one shall.
    pub(crate) fn stay(&self) -> oneshot::Receiver<()> {
        let (stays, dismissed) = oneshot::channel();
        let mut staying = self.staying.lock().unwrap_or_else(PoisonError::into_inner);
        staying.retain(|other| !other.is_closed());
        staying.push_back(stays);
        if staying.len() > STAYING {
            staying.pop_front();
        }
        dismissed
    }

    async fn open_once(target: &Target, dialer: &Arc<Dialer>) -> Result<Connection, ConnectError> {
        let jump = match &target.way {
            Way::Jump(jump) => Some(dialer.jump(jump).await?),
            _ => None,
        };
        let host = target.display();
        let peer = Arc::new(dialer.host_keys.peer(target)?);
        let config = Arc::new(client::Config {
            preferred: preferences(&peer),
            nodelay: true,
            keepalive_interval: Some(Duration::from_secs(10)),
            keepalive_max: 3,
            ..client::Config::default()
        });
        let verdict = Arc::new(Mutex::new(None));
        let client = Client { peer, verdict: verdict.clone() };
        let unreachable = |reason: &str| ConnectError::Unreachable { host: host.clone(), reason: reason.to_owned() };
        let slow = || unreachable("sshd does not finish the handshake");
        let mut command = None;
        let (handshake, _turn) = match (&jump, &target.way) {
            (Some(jump), _) => {
                let turn = dialer.handshakes.acquire().await.ok();
                let handshake = async {
                    let channel = jump
                        .handle
                        .channel_open_direct_tcpip(&target.host, u32::from(target.port), "127.0.0.1", 0)
                        .await
                        .map_err(|_| unreachable("the jump host cannot reach it"))?;
                    client::connect_stream(config, channel.into_stream(), client).await.map_err(Handshake::Ssh)
                };
                (tokio::time::timeout(LOGIN_TIMEOUT, handshake).await, turn)
            }
            (None, Way::Command(line)) => {
                let turn = dialer.handshakes.acquire().await.ok();
                let (child, stream) = through(line).map_err(|error| unreachable(&error.to_string()))?;
                let child = command.insert(child);
                let handshake = async { client::connect_stream(config, stream, client).await.map_err(Handshake::Ssh) };
                let result = tokio::time::timeout(LOGIN_TIMEOUT, handshake).await;
                if let Ok(Err(Handshake::Ssh(_))) = &result
                    && verdict.lock().is_ok_and(|verdict| verdict.is_none())
                {
                    let said = last_words(child).await;
                    return Err(unreachable(&format!("`{line}` (ProxyCommand of ~/.ssh/config) {said}")));
                }
                (result, turn)
            }
            (None, _) => {
                let call = dialer.calls.acquire().await;
                let connect = TcpStream::connect((target.host.as_str(), target.port));
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
                    .await
                    .map_err(|_| unreachable(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))?
                    .map_err(|error| match error.kind() {
                        io::ErrorKind::ConnectionRefused => ConnectError::Refused { host: host.clone() },
                        _ => unreachable(&error.to_string()),
                    })?;
                stream.set_nodelay(true).map_err(|error| unreachable(&error.to_string()))?;
                let turn = match dialer.handshakes.try_acquire() {
                    Ok(turn) => Some(turn),
                    // Where many wait, one whose server is slow to say its first word must not keep others from their
                    // handshake; where none wait, waiting for that word would only cost a journey there and back.
                    Err(_) => {
                        tokio::time::timeout(LOGIN_TIMEOUT, stream.peek(&mut [0])).await.map_err(|_| slow())?.ok();
                        dialer.handshakes.acquire().await.ok()
                    }
                };
                drop(call);
                let handshake = async { client::connect_stream(config, stream, client).await.map_err(Handshake::Ssh) };
                (tokio::time::timeout(LOGIN_TIMEOUT, handshake).await, turn)
            }
        };
        let result = handshake.map_err(|_| slow())?;
        let mut handle = match result {
            Ok(handle) => handle,
            Err(Handshake::Connect(error)) => return Err(error),
            Err(Handshake::Ssh(source)) => {
                let verdict = verdict.lock().ok().and_then(|mut slot| slot.take());
                return Err(refusal(host, verdict, source));
            }
        };
        match tokio::time::timeout(LOGIN_TIMEOUT, log_in(&mut handle, target)).await {
            Ok(result) => result?,
            Err(_) => return Err(unreachable("sshd does not finish the log-in")),
        }
        Ok(Connection { handle, staying: Mutex::default(), _jump: jump, _command: command })
    }
}

/// Starts a command whose input and output are the connection.
fn through(line: &str) -> io::Result<(Child, impl AsyncRead + AsyncWrite + Unpin + Send + use<>)> {
    let mut command = Command::new("/bin/sh");
    // As ssh does it: the shell makes place for the command.
    command.args(["-c", &format!("exec {line}")]).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("it has no input and output"));
    };
    Ok((child, tokio::io::join(output, input)))
}

/// Tells what a command said before it ended.
async fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(mut errors) = child.stderr.take() {
        tokio::time::timeout(PAUSE, (&mut errors).take(4096).read_to_end(&mut said)).await.ok();
    }
    let said = String::from_utf8_lossy(&said);
    match said.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("says: {}", printable(line.trim())),
        None => "ends without a word".to_owned(),
    }
}

/// Says what is asked for in a handshake: types of host keys that are known first, as ssh does, and no SHA-1.
fn preferences(peer: &Peer) -> Preferred {
    let mut preferred = Preferred::DEFAULT.clone();
    let known = peer.algorithms();
    let is_known = |a: &Algorithm| known.iter().any(|k| k == a || (is_rsa(k) && is_rsa(a)));
    let all = preferred.key.iter().filter(|algorithm| **algorithm != Algorithm::Rsa { hash: None }).cloned();
    let (first, last): (Vec<_>, Vec<_>) = all.partition(is_known);
    let all: Vec<Algorithm> = first.into_iter().chain(last).collect();
    if peer.has_authority() {
        preferred.host_key_certificates = all.clone().into();
    }
    preferred.key = all.into();
    preferred
}

/// Says why a handshake failed. `verdict`: on the host's key, if it showed one.
fn refusal(host: String, verdict: Option<Verdict>, source: russh::Error) -> ConnectError {
    match (verdict, source) {
        (Some(Verdict::Unknown(key)), _) => ConnectError::UnknownHostKey(Box::new(key)),
        (Some(Verdict::Changed(changed)), _) => {
            let what = match changed.known == changed.shown {
                true => "another one".to_owned(),
                false => format!("one of another type ({}, not {})", changed.known, changed.shown),
            };
            let way_out = match &changed.elsewhere {
                None => {
                    "if the board was replaced or flashed again, say so with `bramble up --replaced NODE`".to_owned()
                }
                Some(name) => format!(
                    "if the board was replaced or flashed again, take that line out (`ssh-keygen -R '{name}' -f {}`)",
                    changed.file.display()
                ),
            };
            let (file, line, fingerprint) = (changed.file, changed.line, changed.fingerprint.into());
            ConnectError::ChangedHostKey { host, file, line, what: what.into(), fingerprint, way_out: way_out.into() }
        }
        (Some(Verdict::Revoked { file, line, fingerprint }), _) => {
            ConnectError::RevokedHostKey { host, file, line, fingerprint }
        }
        (_, russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, theirs, .. })
            if !theirs.is_empty() && theirs.iter().all(|offered| SHA1_HOST_KEYS.contains(&offered.as_str())) =>
        {
            ConnectError::WeakHostKey { host, offered: theirs.join(", ") }
        }
        (_, source) => ConnectError::Protocol { host, source },
    }
}

/// The types of host keys whose signatures are made with SHA-1 (RFC 4253, section 6.6).
const SHA1_HOST_KEYS: [&str; 2] = ["ssh-rsa", "ssh-dss"];

enum Handshake {
    Connect(ConnectError),
    Ssh(russh::Error),
}

impl From<ConnectError> for Handshake {
    fn from(error: ConnectError) -> Self {
        Handshake::Connect(error)
    }
}
