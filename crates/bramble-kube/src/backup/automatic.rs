//! Backups that the control planes make by themselves: a timer, a script, and the folders of nodes that take them.

use bramble_shell::{Commands, Script};
use bramble_spec::{BackupPlace, Backups, Cluster, Node, Role};
use bramble_state::{Check, Cleanup, File, Resource, Step, Unit};

use crate::backup::places::{self, FOLDER, Kind, Way};
use crate::backup::volumes;
use crate::inputs::{BackupKeys, Inputs};
use crate::lifecycle::Lifecycle;
use crate::template::fill;

const SCRIPT: &str = "/etc/bramble/backup/make";
const AUTHORIZED: &str = "/etc/bramble/backup/authorized_keys";
const FILES: [&str; 6] = [
    FOLDER,
    "/etc/systemd/system/bramble-backup.service",
    "/etc/systemd/system/bramble-backup.timer",
    "/etc/systemd/system/bramble-volumes.service",
    "/etc/systemd/system/bramble-volumes.timer",
    SSHD_FILE,
];
/// Where the script works, and keeps what it remembers.
const HOME: &str = "/var/lib/bramble/backups-state";
const SSHD_FILE: &str = "/etc/ssh/sshd_config.d/10-bramble-backup.conf";
/// The mark of the folders that take backups.
const RECEIVES: &str = "backup-folders";

/// The Debian packages that a node needs for them.
pub(crate) fn packages(cluster: &Cluster, node: &Node) -> Vec<&'static str> {
    let (state, volumes) = (makes(cluster, node), volumes::saves(cluster, node));
    let Some(backups) = state.or(volumes) else { return Vec::new() };
    let s3 = backups.to.iter().any(|place| matches!(place, BackupPlace::S3 { .. }));
    let sftp = backups.to.iter().any(|place| !matches!(place, BackupPlace::S3 { .. }));
    let state = state.is_some();
    let packages = [("age", state), ("rclone", state && s3), ("openssh-client", sftp), ("restic", volumes.is_some())];
    packages.into_iter().filter_map(|(name, needed)| needed.then_some(name)).collect()
}

fn makes<'c>(cluster: &'c Cluster, node: &Node) -> Option<&'c Backups> {
    cluster.backups.as_ref().filter(|backups| backups.state && node.role == Role::ControlPlane)
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
    let (state, saved) = (makes(cluster, node), volumes::saves(cluster, node));
    if let (Some(backups), Some(life)) = (state.or(saved), life) {
        all.extend(places::files(cluster, backups, keys));
        if state.is_some() {
            all.extend(timer(cluster, node, backups, life, keys));
        }
        if saved.is_some() {
            all.extend(volumes::timer(cluster, node, backups, life, keys));
        }
    }
    all
}

/// The seconds between two looks whether it is time.
pub(super) fn look(backups: &Backups) -> u32 {
    (backups.every / 12).clamp(60, 120)
}

fn timer(cluster: &Cluster, node: &Node, backups: &Backups, life: &dyn Lifecycle, keys: &BackupKeys) -> Vec<Resource> {
    let mut calls = Commands::new();
    for Way { label, kind } in places::ways(backups) {
        match kind {
            Kind::Sftp { host, folder } => calls.call("to_sftp", [&label, &host, folder]),
            Kind::S3 { bucket, endpoint, region, credentials } => {
                let provider = if endpoint.is_some() { "Other" } else { "AWS" };
                calls.call("to_s3", [&label, bucket, provider, endpoint.unwrap_or_default(), region, &credentials])
            }
        };
    }
    let first = cluster.control_planes().position(|plane| plane.name == node.name).unwrap_or(0);
    let look = look(backups);
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
    script.fixed(include_str!("backup.sh")).fixed(include_str!("places.sh")).fixed(include_str!("automatic.sh"));
    script.fixed("begin_backup").fixed("[ \"$due\" = yes ] || exit 0").append(&calls).fixed("end_backup");
    let script = Script::new("make a backup", &script);
    let text = format!("# Written by bramble: saves the state of the cluster, if it is time.\n{}", script.text());
    timed("bramble-backup", HOME, File::new(SCRIPT, text), include_str!("automatic.service"), look)
}

/// Gives a script with the folder in which it works, and a service and a timer that runs it every so many seconds.
pub(super) fn timed(name: &str, home: &str, script: File, service: &str, look: u32) -> Vec<Resource> {
    let [service_file, timer_file] = ["service", "timer"].map(|kind| format!("/etc/systemd/system/{name}.{kind}"));
    let service = fill(service, &[("SCRIPT", &script.path)]);
    let timer = fill(include_str!("automatic.timer"), &[("LOOK", &look.to_string())]);
    vec![
        Resource::OwnedFolder(home.to_owned()),
        Resource::File(File { mode: "700".into(), ..script }),
        Resource::File(File::new(service_file, service)),
        Resource::File(File::new(&timer_file, timer)),
        Resource::Unit(Unit::new(&format!("{name}.timer"), vec![timer_file])),
    ]
}

/// Gives all that nodes may have of it.
pub(crate) fn cleanup() -> Cleanup {
    Cleanup {
        what: "backups that the cluster made by itself".to_owned(),
        units: ["bramble-backup.timer", "bramble-volumes.timer"].map(str::to_owned).to_vec(),
        files: FILES.map(str::to_owned).to_vec(),
        folders: [HOME, volumes::HOME].map(str::to_owned).to_vec(),
        steps: vec![RECEIVES],
        ..Cleanup::default()
    }
}
