//! The section `storage`.

use super::resolver::Resolver;
use super::text::is_folder;
use crate::addon::{Addon, AddonKind, SharedVolumes};
use crate::cluster::*;
use crate::de::Spanned;
use crate::distribution::STATE_FOLDERS;
use crate::document::{GlusterSection, NfsSection, StorageSection};
use crate::names::NodeName;
use crate::problem::Problem;
use crate::published::PROVISIONER_IMAGE;

impl Resolver<'_> {
    /// The storage, and the add-ons that make volumes of it.
    pub(super) fn storage(&mut self, section: StorageSection, nodes: &[Node]) -> (Storage, Vec<Addon>) {
        let mut addons = Vec::new();
        let place = section.glusterfs.as_ref().map(|section| section.span).unwrap_or_default();
        let whole = section.nfs.as_ref().map_or(place, |section| section.span);
        let mut class = |this: &mut Self, class: Option<Spanned<String>>, own: &str, folder: &str, owner| {
            let Spanned { value: class, span } = class.unwrap_or(Spanned { value: own.to_owned(), span: place });
            if class != "none" && this.plain_name("a storage class", &class, span) {
                let same = |addon: &Addon| matches!(&addon.kind, AddonKind::Shared(other) if other.class == class);
                if addons.iter().any(same) {
                    this.error(format!("two storage classes are called {class}"), span, "give each its own name");
                }
                let shared =
                    SharedVolumes { owner, class, folder: folder.to_owned(), image: PROVISIONER_IMAGE.to_owned() };
                addons.push(Addon { name: format!("storage-{own}"), kind: AddonKind::Shared(shared) });
            }
        };
        let nfs = section.nfs.and_then(|Spanned { value, span }| {
            let NfsSection { server, folder, disk, no_root_squash, mount, class: wanted } = value;
            let Some(server) = server else {
                self.missing("server", span, span, "name the node that has the folder: `server: kube1`");
                return None;
            };
            self.known_node(&server, nodes);
            let mount = self.shared_folder(mount, "/mnt/nfs");
            let no_root_squash = no_root_squash.unwrap_or_default();
            let is_gateway = nodes.iter().any(|node| node.name == server.value && node.role == Role::Gateway);
            let volumes = wanted.as_ref().is_none_or(|class| class.value != "none");
            if is_gateway && volumes && !no_root_squash {
                let what =
                    "pods run on no gateway, and root of other nodes may not remove the files of pods in its folder";
                self.found.push(
                    Problem::warning(what, server.span)
                        .next("volumes are removed if you name another node, or set `no_root_squash: true`"),
                );
            }
            let owner = (!is_gateway && !no_root_squash).then(|| server.value.clone());
            class(self, wanted, "nfs", &mount, owner);
            Some(Nfs {
                server: server.value,
                folder: self.shared_folder(folder, "/srv/nfs"),
                disk: self.shared_disk(disk),
                no_root_squash,
                mount,
            })
        });
        let glusterfs = section.glusterfs.map(|Spanned { value, span }| {
            let GlusterSection { nodes: wanted_nodes, volume, brick, disk, mount, class: wanted } = value;
            for (at, node) in wanted_nodes.iter().enumerate() {
                self.known_node(node, nodes);
                if wanted_nodes[..at].iter().any(|other| other.value == node.value) {
                    self.error(format!("{} is named twice", node.value), node.span, "each node holds one copy");
                }
            }
            match wanted_nodes.len() {
                0 => self.missing(
                    "nodes",
                    span,
                    span,
                    "name the nodes that hold the volume: `nodes: [kube1, kube2, kube3]`",
                ),
                1 => self.found.push(Problem::warning("a volume on one node is lost with it", span).next("name three")),
                2 => self.found.push(
                    Problem::warning("with two copies, writes stop when the first node is lost", span)
                        .next("name three: then any one may be lost"),
                ),
                _ => {}
            }
            let volume = volume.unwrap_or(Spanned { value: "shared".to_owned(), span });
            self.plain_name("a volume's name", &volume.value, volume.span);
            let mount = self.shared_folder(mount, "/mnt/shared");
            class(self, wanted, "shared", &mount, None);
            Gluster {
                nodes: wanted_nodes.into_iter().map(|node| node.value).collect(),
                volume: volume.value,
                brick: self.shared_folder(brick, "/srv/brick"),
                disk: self.shared_disk(disk),
                mount,
            }
        });
        if let (Some(nfs), Some(gluster)) = (&nfs, &glusterfs) {
            let shared = gluster.nodes.contains(&nfs.server);
            let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
            let help = "give each its own";
            if shared && same(&nfs.disk, &gluster.disk) {
                let disk = nfs.disk.as_deref().unwrap_or_default();
                self.error(format!("{disk} of {} cannot be NFS' and GlusterFS' at once", nfs.server), place, help);
            }
        }
        // What lies within another one would be hidden by it, or hide it.
        let mut folders: Vec<(&str, &str)> = Vec::new();
        folders.extend(
            nfs.iter().flat_map(|nfs| [("storage.nfs.folder", &*nfs.folder), ("storage.nfs.mount", &*nfs.mount)]),
        );
        folders.extend(
            glusterfs
                .iter()
                .flat_map(|g| [("storage.glusterfs.brick", &*g.brick), ("storage.glusterfs.mount", &*g.mount)]),
        );
        for (at, (name, folder)) in folders.iter().enumerate() {
            let within = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            if let Some((other, its)) = folders[..at].iter().find(|(_, its)| within(folder, its) || within(its, folder))
            {
                self.error(
                    format!("`{name}` {folder} and `{other}` {its} cannot lie within each other"),
                    whole,
                    "give each a folder of its own",
                );
            }
        }
        (Storage { nfs, glusterfs }, addons)
    }

    fn known_node(&mut self, name: &Spanned<NodeName>, nodes: &[Node]) {
        if !self.nodes_broken && !nodes.iter().any(|node| node.name == name.value) {
            self.error(format!("there is no node `{}`", name.value), name.span, "name one of `nodes`");
        }
    }

    fn shared_folder(&mut self, folder: Option<Spanned<String>>, own: &str) -> String {
        let Some(folder) = folder else { return own.to_owned() };
        let text = folder.value.trim_end_matches('/').to_owned();
        if !is_folder(&text) {
            self.error(
                format!("`{}` is no folder", folder.value),
                folder.span,
                "write it from the root, such as /srv/nfs",
            );
        } else if !is_free(&text) {
            self.error(
                format!("{text} is the system's"),
                folder.span,
                "choose one that nothing else uses, below /srv, /mnt or /media",
            );
        }
        text
    }

    fn shared_disk(&mut self, disk: Option<Spanned<String>>) -> Option<String> {
        let disk = disk?;
        let plain = disk.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-:".contains(&b));
        if !disk.value.starts_with("/dev/") || !plain || disk.value.contains("..") {
            self.error(
                format!("`{}` is no disk", disk.value),
                disk.span,
                "write it like /dev/sda, or better /dev/disk/by-id/…, which stays when another one is plugged in",
            );
        }
        Some(disk.value)
    }
}

/// Whether the system and Kubernetes have no use of their own for a folder, which is mounted over and given to everybody.
fn is_free(folder: &str) -> bool {
    let parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["var", "lib", own, ..] => {
            let known = ["bramble", "glusterd", "dpkg", "apt"];
            !known.contains(own)
                && !STATE_FOLDERS.contains(own)
                && !own.starts_with("systemd")
                && !own.starts_with("bramble")
        }
        [first, _, ..] => {
            let system = [
                "bin",
                "boot",
                "dev",
                "etc",
                "home",
                "lib",
                "lib32",
                "lib64",
                "proc",
                "root",
                "run",
                "sbin",
                "snap",
                "sys",
                "tmp",
                "usr",
                "var",
                "lost+found",
            ];
            !system.contains(first)
        }
        _ => {
            matches!(parts.as_slice(), [own] if ["data", "storage", "nfs", "export", "exports", "shared", "gluster"].contains(own))
        }
    }
}
