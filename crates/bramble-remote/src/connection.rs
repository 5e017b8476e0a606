//! One SSH connection for each node, for the whole run.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use russh::client::{self, AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{AlgorithmKind, Preferred};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::error::ConnectError;
use crate::host_keys::{HostKeys, Verdict};

/// A machine to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its name or address.
    pub host: String,
    /// sshd's port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The machine to go through.
    pub jump: Option<Box<Target>>,
}

impl Target {
    fn display(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// How to prove who we are.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Private key files, tried in this order after the agent's keys. One that does not exist is passed over.
    pub keys: Vec<PathBuf>,
    /// The socket of an SSH agent.
    pub agent: Option<PathBuf>,
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
    async fn jump(
        self: &Arc<Self>,
        target: &Target,
        credentials: &Credentials,
    ) -> Result<Arc<Connection>, ConnectError> {
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
        match Box::pin(Connection::open(target, credentials, self)).await {
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
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.handle.is_closed()).finish()
    }
}

pub(crate) struct Client {
    host: String,
    port: u16,
    dialer: Arc<Dialer>,
    verdict: Arc<Mutex<Option<Verdict>>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let known = &self.dialer.host_keys;
        let verdict = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => known.check(&self.host, self.port, key),
            PublicKeyOrCertificate::Certificate(certificate) => {
                known.check_certificate(&self.host, self.port, certificate)
            }
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
    pub async fn open(
        target: &Target,
        credentials: &Credentials,
        dialer: &Arc<Dialer>,
    ) -> Result<Connection, ConnectError> {
        let began = Instant::now();
        loop {
            match Connection::open_once(target, credentials, dialer).await {
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

    async fn open_once(
        target: &Target,
        credentials: &Credentials,
        dialer: &Arc<Dialer>,
    ) -> Result<Connection, ConnectError> {
        let jump = match &target.jump {
            Some(jump) => Some(dialer.jump(jump, credentials).await?),
            None => None,
        };
        let host = target.display();
        let preferred = preferences(&dialer.host_keys, target);
        let config = Arc::new(client::Config {
            preferred,
            nodelay: true,
            keepalive_interval: Some(Duration::from_secs(10)),
            keepalive_max: 3,
            ..client::Config::default()
        });
        let verdict = Arc::new(Mutex::new(None));
        let client =
            Client { host: target.host.clone(), port: target.port, dialer: dialer.clone(), verdict: verdict.clone() };
        let unreachable = |reason: &str| ConnectError::Unreachable { host: host.clone(), reason: reason.to_owned() };
        let slow = || unreachable("sshd does not finish the handshake");
        let (handshake, _turn) = match &jump {
            Some(jump) => {
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
            None => {
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
        match tokio::time::timeout(LOGIN_TIMEOUT, login(&mut handle, target, credentials)).await {
            Ok(result) => result?,
            Err(_) => return Err(unreachable("sshd does not finish the log-in")),
        }
        Ok(Connection { handle, staying: Mutex::default(), _jump: jump })
    }
}

/// Says what is asked for in a handshake: types of host keys that are known first, as ssh does, and no SHA-1.
fn preferences(host_keys: &HostKeys, target: &Target) -> Preferred {
    let mut preferred = Preferred::DEFAULT.clone();
    let known = host_keys.algorithms(&target.host, target.port);
    let is_known = |a: &Algorithm| known.iter().any(|k| k == a || (is_rsa(k) && is_rsa(a)));
    let all = preferred.key.iter().filter(|algorithm| **algorithm != Algorithm::Rsa { hash: None }).cloned();
    let (first, last): (Vec<_>, Vec<_>) = all.partition(is_known);
    let all: Vec<Algorithm> = first.into_iter().chain(last).collect();
    if host_keys.has_authority(&target.host, target.port) {
        preferred.host_key_certificates = all.clone().into();
    }
    preferred.key = all.into();
    preferred
}

fn is_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { .. })
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

async fn login(handle: &mut Handle<Client>, target: &Target, credentials: &Credentials) -> Result<(), ConnectError> {
    let host = target.display();
    let protocol = |source| ConnectError::Protocol { host: host.clone(), source };
    let mut tried = Vec::new();
    let mut rsa_hash = None;
    if let Some(socket) = &credentials.agent
        && let Ok(mut agent) = AgentClient::connect_uds(socket).await
    {
        for identity in agent.request_identities().await.unwrap_or_default() {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let rsa = is_rsa(&key.algorithm());
            let signs = signature_hash(handle, &key.algorithm(), &mut rsa_hash).await.map_err(&protocol)?;
            let Signs::With(hash) = signs else {
                tried.push(format!("{comment} (agent; {ONLY_SHA1})"));
                continue;
            };
            // An agent that refuses to sign is like a key that is not accepted: the next one may be.
            if let Ok(AuthResult::Success) =
                handle.authenticate_publickey_with(&target.user, key, hash, &mut agent).await
            {
                return Ok(());
            }
            tried.push(format!("{comment} (agent{})", if rsa { ", with SHA-2" } else { "" }));
        }
    }
    for path in &credentials.keys {
        if !path.exists() {
            continue;
        }
        let key = load(path)?;
        let rsa = is_rsa(&key.algorithm());
        let signs = signature_hash(handle, &key.algorithm(), &mut rsa_hash).await.map_err(&protocol)?;
        let Signs::With(hash) = signs else {
            tried.push(format!("{} ({ONLY_SHA1})", path.display()));
            continue;
        };
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        if let AuthResult::Success = handle.authenticate_publickey(&target.user, key).await.map_err(&protocol)? {
            return Ok(());
        }
        tried.push(format!("{}{}", path.display(), if rsa { " with SHA-2" } else { "" }));
    }
    let tried =
        if tried.is_empty() { "there was no key to try".to_owned() } else { format!("tried {}", tried.join(", ")) };
    Err(ConnectError::Denied { host: target.display(), user: target.user.clone(), tried })
}

fn load(path: &Path) -> Result<russh::keys::PrivateKey, ConnectError> {
    russh::keys::load_secret_key(path, None).map_err(|error| {
        let reason = match error {
            russh::keys::Error::KeyIsEncrypted => "it has a passphrase; add it to the agent with ssh-add".to_owned(),
            other => other.to_string(),
        };
        ConnectError::BadKey { path: path.to_owned(), reason }
    })
}

/// Why an RSA key was not tried.
const ONLY_SHA1: &str = "not tried: this sshd takes RSA keys only with SHA-1 signatures, which can be forged; take an Ed25519 key, or \
                         update sshd";

/// How a key signs for a server.
enum Signs {
    /// With this hash; only RSA keys have a choice.
    With(Option<HashAlg>),
    /// The server would only take SHA-1.
    OnlySha1,
}

/// Finds how a key may sign: an RSA key with SHA-2 alone. `cache`: what the server said of that.
async fn signature_hash(
    handle: &Handle<Client>,
    key: &Algorithm,
    cache: &mut Option<Option<Option<HashAlg>>>,
) -> Result<Signs, russh::Error> {
    if !is_rsa(key) {
        return Ok(Signs::With(None));
    }
    let said = match *cache {
        Some(said) => said,
        None => *cache.insert(handle.best_supported_rsa_hash().await?),
    };
    Ok(match said {
        Some(Some(hash)) => Signs::With(Some(hash)),
        Some(None) => Signs::OnlySha1,
        // It does not say; ssh, too, tries the better one then.
        None => Signs::With(Some(HashAlg::Sha512)),
    })
}
