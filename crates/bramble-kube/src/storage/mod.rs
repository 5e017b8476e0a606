//! Volumes that all nodes share: an NFS export of one of them, or a replicated GlusterFS volume of several.
//!
//! Both are mounted by services of our own, which wait for the network and try again until the other side is there, so that
//! nodes can boot in any order. Where the mount is missing nothing can be written in its place.

use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_spec::{Cluster, Gluster, Nfs, Node, NodeName, hex};
use bramble_state::{Cleanup, Disk, File, Observation, Resource, STEPS, Step, Unit};
use sha2::{Digest, Sha256};

use crate::distribution;
use crate::inputs::Inputs;
use crate::template::fill;

const NFS: &str = "storage-nfs";
const GLUSTER: &str = "storage-glusterfs";
/// The services that mount something; those of disks are the labels of these, too.
const MOUNTED_NFS: &str = "bramble-mount-nfs";
const MOUNTED_GLUSTER: &str = "bramble-mount-glusterfs";
const NFS_DISK: &str = "bramble-nfs";
const BRICK_DISK: &str = "bramble-brick";

/// Lists the Debian packages that a node needs.
pub(crate) fn packages(cluster: &Cluster, node: &Node) -> Vec<&'static str> {
    let mut all = Vec::new();
    if let Some(nfs) = &cluster.storage.nfs {
        // What a server depends on is named, too: it is wanted when the server is not any more.
        all.push("nfs-common");
        all.extend((nfs.server == node.name).then_some("nfs-kernel-server"));
    }
    if let Some(gluster) = &cluster.storage.glusterfs {
        all.push("glusterfs-client");
        all.extend(gluster.nodes.contains(&node.name).then_some("glusterfs-server"));
    }
    all
}

/// Gives what a node has of the cluster's storage.
pub(crate) fn resources(cluster: &Cluster, node: &Node, seen: &Observation, inputs: &Inputs) -> Vec<Resource> {
    let mut all = Vec::new();
    let kubelets = distribution::pod_units();
    let wipe = |disk: &Option<String>| {
        disk.as_ref().is_some_and(|disk| inputs.format.contains(&(node.name.clone(), disk.clone())))
    };
    // Before the other side is there, mounting would only fail.
    let marks = storage_marks(cluster);
    let ready = |mark: &str| marks.iter().any(|(name, text)| *name == mark && seen.done(name) == Some(text.as_str()));
    if let Some(nfs) = &cluster.storage.nfs {
        if nfs.server == node.name {
            all.extend(disk(wipe(&nfs.disk), nfs.disk.as_deref(), NFS_DISK, &nfs.folder, "nfs-server.service"));
            all.extend(export(cluster, nfs));
            let how = format!("mount --bind -o nosuid,nodev {} {}", nfs.folder, nfs.mount);
            all.extend(service(MOUNTED_NFS, &nfs.mount, &how, "nfs-server.service", &kubelets, ready(NFS)));
        } else {
            let server = cluster.nodes.iter().find(|other| other.name == nfs.server);
            let address = server.map(|server| server.address.to_string()).unwrap_or_default();
            // The service tries again by itself, and sooner (nfs(5), `retry`).
            let how =
                format!("mount -t nfs4 -o hard,noatime,nosuid,nodev,retry=0 {address}:{} {}", nfs.folder, nfs.mount);
            all.extend(service(MOUNTED_NFS, &nfs.mount, &how, "remote-fs-pre.target", &kubelets, ready(NFS)));
        }
    }
    if let Some(gluster) = &cluster.storage.glusterfs {
        let bricks: Vec<&Node> = gluster.nodes.iter().filter_map(|name| find(cluster, name)).collect();
        if gluster.nodes.contains(&node.name) {
            all.extend(disk(
                wipe(&gluster.disk),
                gluster.disk.as_deref(),
                BRICK_DISK,
                &gluster.brick,
                "glusterd.service",
            ));
            let text = waits(&gluster.brick, gluster.disk.is_some(), "");
            let drop_in = "/etc/systemd/system/glusterd.service.d/bramble.conf";
            all.push(Resource::File(File::new(drop_in, text)));
            all.push(Resource::Unit(Unit::new("glusterd", vec![drop_in.into()])));
        }
        // Of itself first, and from the others if it has nothing to give.
        let own = bricks.iter().filter(|brick| brick.name == node.name);
        let servers: Vec<String> = own
            .chain(bricks.iter().filter(|brick| brick.name != node.name))
            .map(|brick| brick.address.to_string())
            .collect();
        if let [first, others @ ..] = servers.as_slice() {
            let backup = if others.is_empty() {
                String::new()
            } else {
                format!(" -o backup-volfile-servers={}", others.join(":"))
            };
            let how = format!("mount -t glusterfs{backup} {first}:/{} {}", gluster.volume, gluster.mount);
            all.extend(service(MOUNTED_GLUSTER, &gluster.mount, &how, "glusterd.service", &kubelets, ready(GLUSTER)));
        }
    }
    all
}

fn find<'a>(cluster: &'a Cluster, name: &NodeName) -> Option<&'a Node> {
    cluster.nodes.iter().find(|node| node.name == *name)
}

/// Gives a folder a disk of its own.
fn disk(wipe: bool, device: Option<&str>, label: &'static str, folder: &str, before: &str) -> Vec<Resource> {
    let Some(device) = device else { return Vec::new() };
    let mut all = vec![Resource::Disk(Disk { device: device.to_owned(), label: label.to_owned(), wipe })];
    // Clients write to the one of NFS.
    let options = if label == NFS_DISK { "noatime,nosuid,nodev" } else { "noatime" };
    // One at USB may be later than everything else.
    let how = format!(
        "sh -c 'n=0; until blkid -L {label} >/dev/null || [ $n -ge 50 ]; do sleep 1; n=$((n + 1)); done; mount -o {options} LABEL={label} {folder}'"
    );
    all.extend(service(label, folder, &how, "local-fs.target", before, true));
    all
}

/// Gives a service that mounts something at a folder, and tries until it is there.
fn service(name: &'static str, folder: &str, how: &str, after: &str, before: &str, running: bool) -> Vec<Resource> {
    let path = format!("/etc/bramble/mounts/{name}");
    let unit_path = format!("/etc/systemd/system/{name}.service");
    let mut undo = Commands::new();
    undo.set("f", &path).fixed("[ ! -e \"$f\" ] || sh \"$f\" down");
    let order = [("AFTER", after), ("BEFORE", before)];
    let values = [&[("NAME", name), ("FOLDER", folder), ("HOW", how), ("SCRIPT", &path)], &order[..]].concat();
    let script = fill(include_str!("mounted.sh.in"), &values);
    let unit = fill(include_str!("mounted.service"), &values);
    vec![
        Resource::File(File::new(&path, script)),
        Resource::File(File::new(&unit_path, unit)),
        // A service that tries in vain is not stopped by what its unit says.
        Resource::Step(Step {
            id: name,
            title: format!("remember that {folder} is not to stay"),
            version: "1".to_owned(),
            apply: Commands::new(),
            undo: Some(undo),
        }),
        Resource::Unit(Unit { running, ..Unit::new(name, vec![path, unit_path]) }),
    ]
}

/// Tells a server so much that it does not start without its folder, and starts when that is there.
fn waits(folder: &str, disk: bool, more: &str) -> String {
    let there = if disk { format!("mountpoint -q {folder}") } else { format!("mkdir -p {folder}") };
    fill(include_str!("server.conf"), &[("THERE", &there), ("MORE", more)])
}

const EXPORTS: &str = "/etc/exports.d/bramble.exports";

/// The mark of what is exported.
const EXPORTED: &str = "storage-nfs-exports";

/// Exports a folder (exports(5)) to the other nodes and nobody else.
fn export(cluster: &Cluster, nfs: &Nfs) -> Vec<Resource> {
    let squash = if nfs.no_root_squash { "no_root_squash" } else { "root_squash" };
    let clients = cluster.nodes.iter().filter(|node| node.name != nfs.server);
    let clients: String =
        clients.map(|node| format!("{} {}(rw,sync,no_subtree_check,{squash})\n", nfs.folder, node.address)).collect();
    let text = format!("# Written by bramble.\n{clients}");
    let mut apply = Commands::new();
    apply.fixed("exportfs -r");
    let version = digest(&text);
    let open = format!("ExecStartPre=/bin/chmod 1777 {}\n", nfs.folder);
    let prepare = waits(&nfs.folder, nfs.disk.is_some(), &open);
    let drop_in = "/etc/systemd/system/nfs-server.service.d/bramble.conf";
    vec![
        Resource::File(File::new(drop_in, prepare)),
        Resource::File(File::new(EXPORTS, text)),
        Resource::Unit(Unit::new("nfs-server", vec![drop_in.into()])),
        // A server that starts again makes all clients wait until its grace period is over.
        Resource::Step(Step {
            id: EXPORTED,
            title: format!("export {} to the nodes", nfs.folder),
            version,
            apply,
            undo: None,
        }),
    ]
}

/// Gives all that any node may have of NFS, and of GlusterFS. The file systems on disks of its own stay.
pub(crate) fn cleanups() -> [Cleanup; 2] {
    let of = |mount: &'static str, disk: &'static str, server: &str, mark: &'static str, packages: [&str; 2]| {
        let service =
            |name: &str| [format!("/etc/bramble/mounts/{name}"), format!("/etc/systemd/system/{name}.service")];
        let drop_in = format!("/etc/systemd/system/{server}.service.d/bramble.conf");
        Cleanup {
            what: format!("the folder of {}", if server == "glusterd" { "GlusterFS" } else { "NFS" }),
            units: [mount, server, disk].map(|name| format!("{name}.service")).to_vec(),
            files: [mount, disk].into_iter().flat_map(service).chain([drop_in]).collect(),
            packages: packages.map(str::to_owned).to_vec(),
            steps: vec![mark, mount, disk],
            ..Cleanup::default()
        }
    };
    let mut nfs = of(MOUNTED_NFS, NFS_DISK, "nfs-server", NFS, ["nfs-kernel-server", "nfs-common"]);
    nfs.files.push(EXPORTS.to_owned());
    nfs.steps.push(EXPORTED);
    [nfs, of(MOUNTED_GLUSTER, BRICK_DISK, "glusterd", GLUSTER, ["glusterfs-server", "glusterfs-client"])]
}

/// Gives the script for the first node with a brick, when all of them are prepared: it makes the pool and the volume
/// what they should be. Nodes are added; a brick with data is never taken out by itself.
pub fn pool_script(cluster: &Cluster) -> Option<Script> {
    let gluster = cluster.storage.glusterfs.as_ref()?;
    let mut script = Commands::new();
    script.fixed(include_str!("gluster.sh"));
    let bricks: Vec<String> =
        gluster.nodes.iter().filter_map(|name| find(cluster, name)).map(|node| node.address.to_string()).collect();
    script.call("gluster_pool", &bricks);
    let path = brick(gluster);
    let allowed = cluster.network.subnet.to_string();
    let fixed = [gluster.volume.as_str(), path.as_str(), allowed.as_str()];
    script.call("gluster_volume", fixed.into_iter().chain(bricks.iter().map(String::as_str)));
    Some(Script::new("make the GlusterFS pool and its volume", &script).silent_for(Duration::from_secs(10 * 60)))
}

/// Gives the path of the brick: a folder below the disk's own, so that a missing disk is a missing brick.
fn brick(gluster: &Gluster) -> String {
    format!("{}/{}", gluster.brick, gluster.volume)
}

/// Names a text that a mark stands for.
fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..8])
}

/// Lists the marks of a node that has all that the cluster file says, each with its text: one for NFS, one for
/// GlusterFS.
pub fn storage_marks(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let nfs = cluster.storage.nfs.as_ref().map(|nfs| (NFS, digest(&format!("{nfs:?}"))));
    let gluster = cluster.storage.glusterfs.as_ref().map(|gluster| (GLUSTER, digest(&format!("{gluster:?}"))));
    nfs.into_iter().chain(gluster).collect()
}

/// Gives the script for every node when what it mounts is there.
pub fn mount_script(cluster: &Cluster) -> Option<Script> {
    let storage = &cluster.storage;
    let names = [storage.nfs.as_ref().map(|_| MOUNTED_NFS), storage.glusterfs.as_ref().map(|_| MOUNTED_GLUSTER)];
    let names: Vec<String> = names.into_iter().flatten().map(|name| format!("{name}.service")).collect();
    if names.is_empty() {
        return None;
    }
    let mut script = Commands::new();
    script.fixed(STEPS).fixed(include_str!("mount.sh"));
    script.call("mounted", &names);
    for (name, text) in storage_marks(cluster) {
        script.call("step_ends", [name, &text]);
    }
    Some(Script::new("mount the shared folders", &script))
}
