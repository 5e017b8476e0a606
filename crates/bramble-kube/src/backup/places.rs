//! Where backups go, as a node reaches it: settings of ssh, keys, and the addresses of services.

use bramble_spec::{BackupPlace, Backups, Cluster};
use bramble_state::{File, Resource};

use crate::inputs::BackupKeys;
use crate::template::fill;

/// The folder with all that a node has for backups.
pub(super) const FOLDER: &str = "/etc/bramble/backup/";
const SSH_CONFIG: &str = "/etc/bramble/backup/ssh_config";
const KNOWN_HOSTS: &str = "/etc/bramble/backup/known_hosts";
const OWN_KEY: &str = "/etc/bramble/backup/key";

/// A place, as a node reaches it.
pub(super) struct Way<'b> {
    /// How the cluster file calls it.
    pub(super) label: String,
    pub(super) kind: Kind<'b>,
}

pub(super) enum Kind<'b> {
    /// A host of the settings of ssh, and a folder there.
    Sftp { host: String, folder: &'b str },
    /// A bucket, a folder behind it; the address of the service, if it is not Amazon's; its region; the file of its credentials.
    S3 { bucket: &'b str, endpoint: Option<&'b str>, region: &'b str, credentials: String },
}

/// Lists the ways to all places.
pub(super) fn ways(backups: &Backups) -> Vec<Way<'_>> {
    let each = backups.to.iter().enumerate();
    each.map(|(at, place)| {
        let kind = match place {
            BackupPlace::Node { folder, .. } | BackupPlace::Ssh { folder, .. } => Kind::Sftp { host: host(at), folder },
            BackupPlace::S3 { bucket, endpoint, region, .. } => {
                Kind::S3 { bucket, endpoint: endpoint.as_deref(), region, credentials: key(at) }
            }
        };
        Way { label: place.to_string(), kind }
    })
    .collect()
}

fn host(at: usize) -> String {
    format!("place{at}")
}

fn key(at: usize) -> String {
    format!("{FOLDER}key-{at}")
}

/// Gives a file that nobody else reads and no plan shows.
pub(super) fn secret(path: &str, text: &str) -> Resource {
    Resource::File(File { mode: "600".into(), secret: true, ..File::new(path, text) })
}

/// Gives what a node needs to reach them.
pub(super) fn files(cluster: &Cluster, backups: &Backups, keys: &BackupKeys) -> Vec<Resource> {
    let mut all = Vec::new();
    let (mut hosts, mut known) = (String::new(), String::new());
    let text_of = |name: &String| keys.files.get(name).map(String::as_str);
    if backups.to.iter().any(|place| !matches!(place, BackupPlace::S3 { .. })) {
        all.push(secret(OWN_KEY, &keys.private));
    }
    for (at, place) in backups.to.iter().enumerate() {
        // What another board in the place of one would get is encrypted, and the key stays here.
        let (address, port, user, key, known_hosts, strict) = match place {
            BackupPlace::Node { node, .. } => {
                let address =
                    cluster.nodes.iter().find(|known| known.name == *node).map(|node| node.address.to_string());
                let user = "bramble-backup";
                (address.unwrap_or_default(), cluster.access.port, user, OWN_KEY.to_owned(), "/dev/null", "no")
            }
            BackupPlace::Ssh { user, host: address, port, host_key, key: own, .. } => {
                let named = if *port == 22 { address.clone() } else { format!("[{address}]:{port}") };
                known.push_str(&format!("{named} {host_key}\n"));
                let key = match own.as_ref().and_then(text_of) {
                    Some(text) => {
                        all.push(secret(&key(at), text));
                        key(at)
                    }
                    None => OWN_KEY.to_owned(),
                };
                (address.clone(), *port, user.as_str(), key, KNOWN_HOSTS, "yes")
            }
            BackupPlace::S3 { credentials, .. } => {
                all.push(secret(&key(at), text_of(credentials).unwrap_or_default()));
                continue;
            }
        };
        let (host, port) = (host(at), port.to_string());
        let values = [
            ("HOST", host.as_str()),
            ("ADDRESS", &address),
            ("PORT", &port),
            ("USER", user),
            ("KEY", &key),
            ("KNOWN", known_hosts),
            ("STRICT", strict),
        ];
        hosts.push_str(&fill(include_str!("ssh_host.conf"), &values));
    }
    for (path, text) in [(SSH_CONFIG, hosts), (KNOWN_HOSTS, known)] {
        if !text.is_empty() {
            all.push(Resource::File(File::new(path, text)));
        }
    }
    all
}
