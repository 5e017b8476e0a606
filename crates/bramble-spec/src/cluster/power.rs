//! Where the boards' power comes from.

use serde::Serialize;

/// A UPS that a server of Network UPS Tools watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ups {
    /// The UPS and its server, `ups@host` or `ups@host:port`.
    pub name: String,
    /// The user that may watch it.
    pub user: String,
    /// The file with the user's password, as written; without it, the password is `secret`.
    pub password_file: Option<String>,
}
