//! How we prove who we are: which keys are shown, in which order, and what is said if none is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::MethodKind;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use crate::connection::{Client, Target};
use crate::error::ConnectError;

/// How to prove who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Files of keys that somebody chose, private or public: they are shown first, by the agent if it has them.
    pub named: Vec<PathBuf>,
    /// Private key files in their usual places: shown last; one that does not exist is passed over.
    pub usual: Vec<PathBuf>,
    /// Files of certificates for some of the keys, besides those that lie beside them.
    pub certificates: Vec<PathBuf>,
    /// The socket of an SSH agent.
    pub agent: Option<PathBuf>,
    /// Whether keys of the agent are used only if they are among the files (ssh_config(5), `IdentitiesOnly`).
    pub only_files: bool,
}

type Agent = AgentClient<tokio::net::UnixStream>;

/// A key that can be shown.
struct Offer {
    /// What people call it.
    name: String,
    signs: Signer,
    certificate: Option<Certificate>,
}

#[derive(Clone)]
enum Signer {
    File(Arc<PrivateKey>),
    Agent(PublicKey),
}

impl Signer {
    fn public(&self) -> &PublicKey {
        match self {
            Signer::File(key) => key.public_key(),
            Signer::Agent(key) => key,
        }
    }
}

/// All keys in the order in which they are shown, and what was passed over and why.
#[derive(Default)]
struct Offers {
    all: Vec<Offer>,
    passed_over: Vec<String>,
}

/// Logs in with the first key that is taken.
///
/// # Errors
/// None is, or more than a key is wanted; all that was tried is named.
pub(crate) async fn log_in(handle: &mut Handle<Client>, target: &Target) -> Result<(), ConnectError> {
    let (credentials, host) = (&target.credentials, target.display());
    let mut offers = Offers::default();
    let mut agent = offers.connect(credentials).await;
    let held = match &mut agent {
        Some(agent) => agent.request_identities().await.unwrap_or_default(),
        None => Vec::new(),
    };
    offers.collect(credentials, &held);
    let mut tried = Vec::new();
    let mut end = "";
    let mut rsa_hash = None;
    for offer in offers.all {
        let rsa = is_rsa(&offer.signs.public().algorithm());
        let with = match rsa {
            true => match rsa_signature(handle, &mut rsa_hash).await {
                Ok(Some(hash)) => Some(hash),
                Ok(None) => {
                    tried.push(format!("{} ({ONLY_SHA1})", offer.name));
                    continue;
                }
                Err(source) => return Err(ConnectError::Protocol { host, source }),
            },
            false => None,
        };
        tried.push(format!("{}{}", offer.name, if rsa { " with SHA-2" } else { "" }));
        let answer = match show(handle, &target.user, &offer, with, agent.as_mut()).await {
            Ok(answer) => answer,
            // An agent that refuses to sign is like a key that is not taken: the next one may be.
            Err(reason) if !handle.is_closed() => {
                if let Some(last) = tried.last_mut() {
                    last.push_str(&format!(" ({reason})"));
                }
                continue;
            }
            Err(_) => {
                end = MANY;
                break;
            }
        };
        match answer {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, partial_success: true }
                if !remaining_methods.contains(&MethodKind::PublicKey) =>
            {
                let wants: Vec<String> = remaining_methods.iter().map(String::from).collect();
                return Err(ConnectError::SecondFactor {
                    host,
                    user: target.user.clone(),
                    key: offer.name,
                    wants: wants.join(" or "),
                });
            }
            AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty() => {
                end = MANY;
                break;
            }
            AuthResult::Failure { remaining_methods, .. } if !remaining_methods.contains(&MethodKind::PublicKey) => {
                end = NO_KEYS;
                break;
            }
            AuthResult::Failure { .. } => {}
        }
    }
    let mut said = match tried.is_empty() {
        true => "there was no key to try".to_owned(),
        false => format!("tried {}", tried.join(", ")),
    };
    for passed in &offers.passed_over {
        said.push_str(&format!("; {passed}"));
    }
    said.push_str(end);
    Err(ConnectError::Denied { host, user: target.user.clone(), tried: said })
}

/// Why it ended before all keys were shown.
const MANY: &str = "; then its sshd ended the log-in, which takes only some keys at a time (MaxAuthTries) and may turn away for a while \
                    who showed wrong ones (PerSourcePenalties): name the right one first, under access.keys or as IdentityFile";
const NO_KEYS: &str = "; this sshd takes no keys of this user (PubkeyAuthentication)";
/// Why an RSA key was not tried.
const ONLY_SHA1: &str = "not tried: this sshd takes RSA keys only with SHA-1 signatures, which can be forged; take an Ed25519 key, or \
                         update sshd";

/// Shows one key. The error is the signer's.
async fn show(
    handle: &mut Handle<Client>,
    user: &str,
    offer: &Offer,
    hash: Option<HashAlg>,
    agent: Option<&mut Agent>,
) -> Result<AuthResult, String> {
    let lost = |error: russh::Error| error.to_string();
    match (&offer.signs, &offer.certificate, agent) {
        (Signer::File(key), Some(certificate), _) => {
            handle.authenticate_openssh_cert(user, key.clone(), certificate.clone()).await.map_err(lost)
        }
        (Signer::File(key), None, _) => {
            let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
            handle.authenticate_publickey(user, key).await.map_err(lost)
        }
        (Signer::Agent(_), Some(certificate), Some(agent)) => handle
            .authenticate_certificate_with(user, certificate.clone(), hash, agent)
            .await
            .map_err(|error| format!("the agent does not sign: {error}")),
        (Signer::Agent(key), None, Some(agent)) => handle
            .authenticate_publickey_with(user, key.clone(), hash, agent)
            .await
            .map_err(|error| format!("the agent does not sign: {error}")),
        (Signer::Agent(_), _, None) => Err("the agent is gone".to_owned()),
    }
}

impl Offers {
    async fn connect(&mut self, credentials: &Credentials) -> Option<Agent> {
        let socket = credentials.agent.as_ref()?;
        match AgentClient::connect_uds(socket).await {
            Ok(agent) => Some(agent),
            Err(_) => {
                self.passed_over.push(format!("the agent at {} does not answer", socket.display()));
                None
            }
        }
    }

    /// Puts keys into their order: those that somebody chose, then the agent's own, then those in the usual places.
    fn collect(&mut self, credentials: &Credentials, held: &[AgentIdentity]) {
        let certificates = certificates(&credentials.certificates, &mut self.passed_over);
        for path in &credentials.named {
            self.file(path, true, held, &certificates);
        }
        if !credentials.only_files {
            for identity in held {
                self.agents(identity, &certificates);
            }
        }
        for path in &credentials.usual {
            self.file(path, false, held, &certificates);
        }
    }

    /// Adds a key of the agent.
    fn agents(&mut self, identity: &AgentIdentity, certificates: &[Certificate]) {
        match identity {
            AgentIdentity::PublicKey { key, comment } => {
                self.add(format!("{comment} (agent)"), Signer::Agent(key.clone()), certificates);
            }
            AgentIdentity::Certificate { certificate, comment } => {
                let key = PublicKey::new(certificate.public_key().clone(), "");
                let signs = Signer::Agent(key);
                let name = format!("{comment} (agent, with a certificate)");
                self.all.push(Offer { name, signs, certificate: Some(certificate.clone()) });
            }
        }
    }

    /// Adds the key of a file, which the agent signs with if it has it.
    fn file(&mut self, path: &Path, chosen: bool, held: &[AgentIdentity], certificates: &[Certificate]) {
        let shown = path.display();
        let private = private_half(path);
        let public = public_of(path);
        if public.is_none() && !private.exists() {
            if chosen {
                self.passed_over.push(format!("{shown} is not there"));
            }
            return;
        }
        let mut own = certificates.to_vec();
        let mut beside = private.clone().into_os_string();
        beside.push("-cert.pub");
        own.extend(fs::read_to_string(beside).ok().and_then(|text| Certificate::from_openssh(&text).ok()));
        let is_held = |public: &PublicKey| {
            held.iter().any(|identity| {
                matches!(identity, AgentIdentity::PublicKey { key, .. } if key.key_data() == public.key_data())
            })
        };
        if let Some(public) = public.filter(is_held) {
            self.add(format!("{shown} (agent)"), Signer::Agent(public), &own);
            return;
        }
        match usable(&private) {
            Ok(key) => self.add(private.display().to_string(), Signer::File(Arc::new(key)), &own),
            Err(reason) => self.passed_over.push(format!("{} was passed over: {reason}", private.display())),
        }
    }

    /// Adds a key that is not among them yet, after those of its certificates.
    fn add(&mut self, name: String, signs: Signer, certificates: &[Certificate]) {
        let public = signs.public().key_data().clone();
        let is_this = |offer: &Offer| offer.certificate.is_none() && *offer.signs.public().key_data() == public;
        if self.all.iter().any(is_this) {
            return;
        }
        for certificate in certificates.iter().filter(|certificate| *certificate.public_key() == public) {
            let name = format!("{name} with a certificate");
            self.all.push(Offer { name, signs: signs.clone(), certificate: Some(certificate.clone()) });
        }
        self.all.push(Offer { name, signs, certificate: None });
    }
}

fn certificates(files: &[PathBuf], passed_over: &mut Vec<String>) -> Vec<Certificate> {
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        match text.and_then(|text| Certificate::from_openssh(&text).map_err(|error| error.to_string())) {
            Ok(certificate) => all.push(certificate),
            Err(reason) => passed_over.push(format!("the certificate {} was passed over: {reason}", path.display())),
        }
    }
    all
}

/// Gives the file of the private key beside that of a public one.
fn private_half(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "pub") { path.with_extension("") } else { path.to_owned() }
}

/// Reads the public half of a key, by which an agent knows it: the file itself, the one beside it, or what stands in the open in a
/// private one.
fn public_of(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let texts = [path.to_owned(), PathBuf::from(beside)].map(|path| fs::read_to_string(path).unwrap_or_default());
    texts.iter().find_map(|text| {
        let public = text.lines().find_map(|line| PublicKey::from_openssh(line.trim()).ok());
        public.or_else(|| PrivateKey::from_openssh(text).ok().map(|key| key.public_key().clone()))
    })
}

/// Reads a private key that can sign here.
fn usable(path: &Path) -> Result<PrivateKey, String> {
    let key = russh::keys::load_secret_key(path, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => "it has a passphrase; add it to the agent with ssh-add".to_owned(),
        russh::keys::Error::IO(error) => error.to_string(),
        _ => "it holds no private key that can be read".to_owned(),
    })?;
    match key.algorithm() {
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            Err("it is on a FIDO token; add it to the agent with ssh-add".to_owned())
        }
        _ if key.is_encrypted() => Err("it has a passphrase; add it to the agent with ssh-add".to_owned()),
        _ => Ok(key),
    }
}

pub(crate) fn is_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { .. })
}

/// Finds how an RSA key may sign for this server: with SHA-2 alone; `None` if it would only take SHA-1. `cache`: what it said of
/// that.
async fn rsa_signature(
    handle: &Handle<Client>,
    cache: &mut Option<Option<Option<HashAlg>>>,
) -> Result<Option<HashAlg>, russh::Error> {
    let said = match *cache {
        Some(said) => said,
        None => *cache.insert(handle.best_supported_rsa_hash().await?),
    };
    // If it does not say, ssh, too, tries the better one.
    Ok(said.unwrap_or(Some(HashAlg::Sha512)))
}
