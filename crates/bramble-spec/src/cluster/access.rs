//! How the nodes of a cluster are reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How nodes are reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Access {
    /// The user to log in as.
    pub user: String,
    /// Key files as written, `~` not yet expanded.
    pub keys: Vec<String>,
    /// sshd's port.
    pub port: u16,
    /// A host to go through.
    pub jump: Option<Jump>,
    /// How root is reached.
    pub sudo: Sudo,
}

/// A host to go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jump {
    /// The user there, if it is another.
    pub user: Option<String>,
    /// Its name or address.
    pub host: String,
    /// sshd's port there, if it is not the usual one.
    pub port: Option<u16>,
}

impl Jump {
    /// Takes `[user@]host[:port]` apart, as ssh does: an address may begin with `ssh://`, and one of IPv6 with a port stands in
    /// brackets. `None` if the port is no number. Whether the host makes sense is not looked at.
    pub fn split(text: &str) -> Option<Jump> {
        let text = text.strip_prefix("ssh://").map_or(text, |address| address.trim_end_matches('/'));
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
            None if rest.matches(':').count() > 1 => (rest, None),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        Some(Jump { user, host: host.to_owned(), port: port.map(str::parse).transpose().ok()? })
    }
}

/// Whether sudo asks for a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sudo {
    /// It does not.
    #[default]
    Passwordless,
    /// It does: bramble asks once.
    Password,
}
