//! How bytes reach a node: one SSH connection each, commands on it, uploads, files that
//! nodes pass on to each other, host keys.
//!
//! This crate does not know what is being run. It reads no environment and no home folder: whoever calls it says
//! which keys, which agent and which known_hosts files are meant.

mod connection;
mod error;
mod exec;
mod host_keys;
mod key_pair;
mod known_hosts;
mod login;
mod public_key;
mod spread;
mod ssh_config;

pub use connection::{Connection, Dialer, Target, Way};
pub use error::{ConnectError, ExecError};
pub use exec::{Exit, LineReader, Root, Secret, printable};
pub use host_keys::{HostKeys, UnknownKey};
pub use key_pair::new_key_pair;
pub use login::Credentials;
pub use public_key::{are_halves, is_encrypted, public_half, public_keys};
#[cfg(feature = "testing")]
pub use spread::relay_events;
pub use spread::{Parcel, Recipient, Spreader};
pub use ssh_config::{Local, SshConfig, Tokens, lookup};
