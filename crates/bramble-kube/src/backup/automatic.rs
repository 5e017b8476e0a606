//! Backups that the control planes make by themselves: a timer, a script, and the folders of nodes that take them.

use bramble_shell::{Commands, Script};
use bramble_spec::{BackupPlace, Backups, Cluster, Node, Role};
use bramble_state::{Check, Cleanup, File, Resource, Step, Unit};

use crate::inputs::{BackupKeys, Inputs};
use crate::lifecycle::Lifecycle;
use crate::template::fill;

const FOLDER: &str = "/etc/bramble/backup/";
const SCRIPT: &str = "/etc/bramble/backup/make";
const SSH_CONFIG: &str = "/etc/bramble/backup/ssh_config";
const KNOWN_HOSTS: &str = "/etc/bramble/backup/known_hosts";
const OWN_KEY: &str = "/etc/bramble/backup/key";
const AUTHORIZED: &str = "/etc/bramble/backup/authorized_keys";
const SERVICE: &str = "/etc/systemd/system/bramble-backup.service";
const TIMER: &str = "/etc/systemd/system/bramble-backup.timer";
const SSHD_FILE: &str = "/etc/ssh/sshd_config.d/10-bramble-backup.conf";
/// The mark of the folders that take backups.
const RECEIVES: &str = "backup-folders";

/// The Debian packages that a node needs for them.
pub(crate) fn packages(cluster: &Cluster, node: &Node) -> Vec<&'static str> {
    let Some(backups) = makes(cluster, node) else { return Vec::new() };
    let s3 = backups.to.iter().any(|place| matches!(place, BackupPlace::S3 { .. }));
    let sftp = backups.to.iter().any(|place| !matches!(place, BackupPlace::S3 { .. }));
    let packages = [("age", true), ("rclone", s3), ("openssh-client", sftp)];
    packages.into_iter().filter_map(|(name, needed)| needed.then_some(name)).collect()
}

fn makes<'c>(cluster: &'c Cluster, node: &Node) -> Option<&'c Backups> {
    cluster.backups.as_ref().filter(|_| node.role == Role::ControlPlane)
}

fn folders<'c>(cluster: &'c Cluster, node: &Node) -> Vec<&'c str> {
    let places = cluster.backups.iter().flat_map(|backups| &backups.to);
    let here = places.filter_map(|place| match place {
        BackupPlace::Node { node: name, folder } if *name == node.name => Some(folder.as_str()),
        _ => None,
    });
    here.collect()
}

/// Gives the settings of sshd on a node that takes backups: a user that may do nothing else.
pub(crate) fn sshd(cluster: &Cluster, node: &Node) -> Option<File> {
    let text = format!(
        "# Written by bramble: backups of the cluster come in here.\nMatch User bramble-backup\n    AuthorizedKeysFile {AUTHORIZED}\n    \
         ForceCommand internal-sftp\n    DisableForwarding yes\n    PermitTTY no\n    PasswordAuthentication no\n"
    );
    (!folders(cluster, node).is_empty()).then(|| File { check: Some(Check::Sshd), ..File::new(SSHD_FILE, text) })
}

/// Gives what a node has for backups that are made, and for those that come to it.
pub(crate) fn resources(
    cluster: &Cluster,
    node: &Node,
    life: Option<&dyn Lifecycle>,
    inputs: &Inputs,
) -> Vec<Resource> {
    let mut all = Vec::new();
    let Some(keys) = &inputs.backups else { return all };
    let folders = folders(cluster, node);
    if !folders.is_empty() {
        all.push(Resource::File(File::new(AUTHORIZED, format!("restrict {}\n", keys.public))));
        let mut apply = Commands::new();
        apply.fixed(include_str!("receive.sh"));
        for folder in &folders {
            apply.call("receive_backups", [folder]);
        }
        let mut undo = Commands::new();
        undo.fixed("! getent passwd bramble-backup >/dev/null || userdel bramble-backup");
        all.push(Resource::Step(Step {
            id: RECEIVES,
            title: format!("let backups of the cluster into {}", folders.join(", ")),
            version: folders.join(" "),
            apply,
            undo: Some(undo),
        }));
    }
    if let (Some(backups), Some(life)) = (makes(cluster, node), life) {
        all.extend(timer(cluster, node, backups, life, keys));
    }
    all
}

fn timer(cluster: &Cluster, node: &Node, backups: &Backups, life: &dyn Lifecycle, keys: &BackupKeys) -> Vec<Resource> {
    let secret =
        |path: &str, text: &str| Resource::File(File { mode: "600".into(), secret: true, ..File::new(path, text) });
    let mut all = Vec::new();
    let (mut hosts, mut known, mut calls) = (String::new(), String::new(), Commands::new());
    if backups.to.iter().any(|place| !matches!(place, BackupPlace::S3 { .. })) {
        all.push(secret(OWN_KEY, &keys.private));
    }
    for (at, place) in backups.to.iter().enumerate() {
        let (host, key) = (format!("place{at}"), format!("{FOLDER}key-{at}"));
        let label = place.to_string();
        // What another board in the place of one would get is encrypted, and the key stays here.
        let (address, port, user, key, known_hosts, strict, folder) = match place {
            BackupPlace::Node { node, folder } => {
                let address =
                    cluster.nodes.iter().find(|known| known.name == *node).map(|node| node.address.to_string());
                let user = "bramble-backup";
                (address.unwrap_or_default(), cluster.access.port, user, OWN_KEY, "/dev/null", "no", folder)
            }
            BackupPlace::Ssh { user, host: address, port, folder, host_key, key: own } => {
                let named = if *port == 22 { address.clone() } else { format!("[{address}]:{port}") };
                known.push_str(&format!("{named} {host_key}\n"));
                let key = match own.as_ref().and_then(|own| keys.files.get(own)) {
                    Some(text) => {
                        all.push(secret(&key, text));
                        key.as_str()
                    }
                    None => OWN_KEY,
                };
                (address.clone(), *port, user.as_str(), key, KNOWN_HOSTS, "yes", folder)
            }
            BackupPlace::S3 { bucket, endpoint, region, credentials } => {
                all.push(secret(&key, keys.files.get(credentials).map(String::as_str).unwrap_or_default()));
                let provider = if endpoint.is_some() { "Other" } else { "AWS" };
                let endpoint = endpoint.as_deref().unwrap_or_default();
                calls.call("to_s3", [&label, bucket, provider, endpoint, region, &key]);
                continue;
            }
        };
        let port = port.to_string();
        let values = [
            ("HOST", host.as_str()),
            ("ADDRESS", &address),
            ("PORT", &port),
            ("USER", user),
            ("KEY", key),
            ("KNOWN", known_hosts),
            ("STRICT", strict),
        ];
        hosts.push_str(&fill(include_str!("ssh_host.conf"), &values));
        calls.call("to_sftp", [&label, &host, folder]);
    }
    for (path, text) in [(SSH_CONFIG, hosts), (KNOWN_HOSTS, known)] {
        if !text.is_empty() {
            all.push(Resource::File(File::new(path, text)));
        }
    }
    let first = cluster.control_planes().position(|plane| plane.name == node.name).unwrap_or(0);
    let look = (backups.every / 12).clamp(60, 120);
    let mut script = life.kubectl();
    for (name, value) in [
        ("cluster", cluster.name.as_str()),
        ("distribution", life.name()),
        ("api", &cluster.network.api.to_string()),
        ("every", &backups.every.to_string()),
        // Each control plane gives those before it the time to make one.
        ("wait", &(u32::try_from(first).unwrap_or(0) * 3 * look).to_string()),
        ("keep", &backups.keep.to_string()),
        ("recipient", &keys.recipient),
    ] {
        script.set(name, value);
    }
    script.fixed(include_str!("backup.sh")).fixed(include_str!("automatic.sh"));
    script.fixed("begin_backup").fixed("[ \"$due\" = yes ] || exit 0").append(&calls).fixed("end_backup");
    let script = Script::new("make a backup", &script);
    let text = format!("# Written by bramble: saves the state of the cluster, if it is time.\n{}", script.text());
    all.push(Resource::File(File { mode: "700".into(), ..File::new(SCRIPT, text) }));
    all.push(Resource::File(File::new(SERVICE, fill(include_str!("automatic.service"), &[("SCRIPT", SCRIPT)]))));
    all.push(Resource::File(File::new(TIMER, fill(include_str!("automatic.timer"), &[("LOOK", &look.to_string())]))));
    all.push(Resource::Unit(Unit::new("bramble-backup.timer", vec![TIMER.into()])));
    all
}

/// Gives all that nodes may have of it.
pub(crate) fn cleanup() -> Cleanup {
    Cleanup {
        what: "backups that the cluster made by itself".to_owned(),
        units: vec!["bramble-backup.timer".to_owned()],
        files: [FOLDER, SERVICE, TIMER, SSHD_FILE].map(str::to_owned).to_vec(),
        steps: vec![RECEIVES],
        ..Cleanup::default()
    }
}
