//! The section `backup`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ByWord, Short};
use crate::de::Spanned;

/// Backups that the control planes make by themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupSection {
    /// How much time there is between two of them, such as `6h`, `90m` or `1d`.
    #[schemars(required)]
    pub(crate) every: Option<Spanned<String>>,
    /// How many are kept at each place; 14 if not given.
    pub(crate) keep: Option<Spanned<u16>>,
    /// Where they go, at least one place: a folder of a node, `kube2:/srv/backups`; `ssh://user@host/folder`; or `s3://bucket/folder`.
    #[serde(default)]
    pub(crate) to: Vec<Spanned<Short<BackupServer>>>,
    /// The claims of volumes that are saved there as well, as `namespace/name`, if their volumes are folders of nodes.
    #[serde(default)]
    pub(crate) volumes: Vec<Spanned<String>>,
}

/// A place for backups.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupServer {
    /// `node:/folder`, `ssh://[user@]host[:port]/folder` or `s3://bucket/folder`.
    pub(crate) url: String,
    /// Of an SSH server: its public host key, as `ssh-keyscan HOST` prints it behind the name.
    pub(crate) host_key: Option<Spanned<String>>,
    /// Of an SSH server: the file of a private key without a passphrase; without it, the key that bramble makes
    /// (`bramble backup places` shows its public half).
    pub(crate) key: Option<Spanned<String>>,
    /// Of S3: the address of the service, such as `https://nas.lan:9000`; Amazon's if not given.
    pub(crate) endpoint: Option<Spanned<String>>,
    /// Of S3: its region; `us-east-1` if not given.
    pub(crate) region: Option<Spanned<String>>,
    /// Of S3: the file with the credentials, in the form of ~/.aws/credentials.
    pub(crate) credentials: Option<Spanned<String>>,
}

impl From<String> for BackupServer {
    fn from(url: String) -> BackupServer {
        BackupServer { url, ..BackupServer::default() }
    }
}

impl ByWord for BackupServer {
    const EXPECTED: &'static str = "a place, or a map with `url`";
}
