//! What goes wrong between here and a node, in words that name the next step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::host_keys::UnknownKey;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No route, or no answer in time.
    #[error("{host} is unreachable: {reason}; is the board on, and is this its address?")]
    Unreachable {
        /// `address:port`.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// The machine is there, sshd is not.
    #[error("{host} refuses connections: the board is up, but sshd is not running on this port")]
    Refused {
        /// `address:port`.
        host: String,
    },
    /// Nobody vouched for this host's key yet.
    #[error("the host key of {} is not known yet: {}; compare it with the board, then accept it by running bramble on a terminal", .0.host, .0.fingerprint)]
    UnknownHostKey(Box<UnknownKey>),
    /// The host shows another key than the one that is known.
    #[error(
        "the host key of {host} has changed: {} line {line} holds {what} than the board shows now ({fingerprint}); \
         {way_out}; otherwise this may be a man-in-the-middle attack", file.display()
    )]
    ChangedHostKey {
        /// `address:port`.
        host: String,
        /// The known_hosts file.
        file: PathBuf,
        /// The line in it.
        line: usize,
        /// What is in that line.
        what: Box<str>,
        /// The key that the host shows.
        fingerprint: Box<str>,
        /// What to do if it is right.
        way_out: Box<str>,
    },
    /// The host shows a key that must not be trusted any more.
    #[error(
        "the host key of {host} ({fingerprint}) is revoked in {} line {line}: it is refused; make a new one on the board \
         (`rm /etc/ssh/ssh_host_*; ssh-keygen -A`)", file.display()
    )]
    RevokedHostKey {
        /// `address:port`.
        host: String,
        /// The known_hosts file.
        file: PathBuf,
        /// The line in it.
        line: usize,
        /// The key that the host shows.
        fingerprint: String,
    },
    /// The host can only prove who it is with SHA-1.
    #[error(
        "{host} proves its identity only with SHA-1 signatures ({offered}), which can be forged: it is refused; update its \
         sshd, or make it a better host key (`ssh-keygen -A` on the board, and no `HostKeyAlgorithms` in its sshd_config)"
    )]
    WeakHostKey {
        /// `address:port`.
        host: String,
        /// The algorithms that it offers.
        offered: String,
    },
    /// None of our keys is accepted.
    #[error(
        "{host} accepts none of the keys for user `{user}` ({tried}); add the public key to the board, or name the right one under access.keys"
    )]
    Denied {
        /// `address:port`.
        host: String,
        /// Who wanted to log in.
        user: String,
        /// Which keys were tried.
        tried: String,
    },
    /// A key was taken, and something else is wanted besides.
    #[error(
        "{host} takes the key {key} for user `{user}` and wants {wants} besides, a second factor that bramble cannot give: let this \
         user in with a key alone (`Match User {user}` with `AuthenticationMethods publickey` in its sshd_config)"
    )]
    SecondFactor {
        /// `address:port`.
        host: String,
        /// Who wanted to log in.
        user: String,
        /// The key.
        key: String,
        /// What is wanted besides, as SSH calls it.
        wants: String,
    },
    /// OpenSSH does not take the user's configuration, or bramble something in it.
    #[error("the OpenSSH configuration for {host} cannot be used: {said}")]
    Configuration {
        /// The machine that was asked about.
        host: String,
        /// What ssh says.
        said: String,
    },
    /// A known_hosts file cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The SSH protocol failed.
    #[error("the SSH connection to {host} failed: {source}")]
    Protocol {
        /// `address:port`.
        host: String,
        /// What failed.
        source: russh::Error,
    },
}

impl ConnectError {
    /// Tells whether nothing at all answers there: no machine is on at this address, as far as the network tells.
    pub fn is_silence(&self) -> bool {
        matches!(self, ConnectError::Unreachable { .. })
    }

    /// Tells whether this is what an sshd that stops or starts looks like.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            ConnectError::Refused { .. } => true,
            ConnectError::Protocol { source, .. } => match source {
                russh::Error::HUP | russh::Error::Disconnect => true,
                russh::Error::IO(error) => matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
                ),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Why a command could not be carried out (a command that ran and failed is no error here).
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The connection broke.
    #[error("the connection was lost; if the board is on again, run bramble again")]
    Lost,
    /// It said nothing for too long.
    #[error("it has said nothing for {} s, asked to {doing}: its disk, its memory or its network may hang; look at the board, then run bramble again", silence.as_secs())]
    Silent {
        /// What it was asked to do.
        doing: String,
        /// How long that may take without a word.
        silence: Duration,
    },
    /// It printed too much.
    #[error("it has printed more than {} MiB, asked to {doing}, and was cut off", bytes / 1024 / 1024)]
    TooMuch {
        /// What it was asked to do.
        doing: String,
        /// How many bytes it may print.
        bytes: u64,
    },
    /// The protocol failed.
    #[error("the SSH channel failed: {0}")]
    Protocol(russh::Error),
    /// sudo wants a password that it was not given.
    #[error("sudo asks for a password on this node; set `access.sudo: password` and bramble asks for it once")]
    SudoPasswordNeeded,
    /// sudo got a password and does not take it.
    #[error("sudo on this node does not accept the password{}", said_by(said))]
    SudoPasswordWrong {
        /// What it said then, if it said anything.
        said: String,
    },
    /// The user may not use sudo.
    #[error("sudo on this node refuses: {0}")]
    SudoRefused(String),
    /// The user's log-in ended before a command began.
    #[error(
        "the log-in shell of this user ends with exit code {code} before any command{}; give the user a shell (`chsh -s /bin/bash`)",
        said_by(said)
    )]
    NotStarted {
        /// Its exit code.
        code: u32,
        /// What it said, if it said anything.
        said: String,
    },
    /// The bytes that arrived are not those that were sent.
    #[error("the upload of {name} failed: {reason}")]
    Upload {
        /// What was uploaded.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// The file to upload cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn said_by(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" (it says: {said})") }
}

impl From<russh::Error> for ExecError {
    fn from(error: russh::Error) -> Self {
        use russh::Error as E;
        match error {
            E::SendError | E::HUP | E::Disconnect | E::KeepaliveTimeout | E::InactivityTimeout | E::IO(_) => {
                ExecError::Lost
            }
            other => ExecError::Protocol(other),
        }
    }
}
