//! A board that is found becomes a node: which board it is, and where it stands in the cluster file.

use crate::catalogue::{Arch, Board, Catalogue};
use crate::yaml::{self, Tree, Value};

impl Catalogue {
    /// Finds the board that tells this model (`/proc/device-tree/model`: kernel, arch/arm64/boot/dts) and so many KiB of memory,
    /// of which its firmware keeps a part; any machine of the architecture if the catalogue does not know it.
    pub fn board_of(&self, model: &str, memory: u64, arch: Arch) -> Option<Board> {
        let model = model.to_lowercase();
        let model = model.split(" rev ").next().unwrap_or_default().replace("raspberry pi compute", "compute");
        let model = model.replace(" model b plus", "b+").replace(" model b", "b");
        let is = |board: &&Board| {
            let name = board.figure(|family| family.name.clone()).unwrap_or_default().to_lowercase();
            board.arch == arch && !name.is_empty() && (model.ends_with(&name) || model.ends_with(&format!("{name}b")))
        };
        let own = self.boards().filter(is);
        let fits = own.filter(|board| board.memory.is_none_or(|sold| u64::from(sold) * 1024 >= memory));
        let least = fits.min_by_key(|board| board.memory).cloned();
        least.or_else(|| self.board(&format!("generic-{arch}")))
    }
}

/// Adds an entry, as YAML in one line, behind the last node of a cluster: everything else of the file stays as it is. Nothing
/// if the file has no such cluster, or no list of nodes.
pub fn add_node(text: &str, cluster: &str, entry: &str) -> Option<String> {
    let (documents, _) = yaml::parse(text);
    let own = documents.iter().find(|document| {
        matches!(value_of(document, "cluster").map(|tree| &tree.value), Some(Value::Scalar { text, .. }) if text == cluster)
    })?;
    let list = value_of(own, "nodes")?;
    let Value::Sequence(nodes) = &list.value else { return None };
    let last = nodes.last()?;
    if text[list.span.start..].starts_with('[') {
        return Some(format!("{}, {entry}{}", &text[..last.span.end], &text[last.span.end..]));
    }
    let dash = text[..last.span.start].rfind('-')?;
    let line = text[..dash].rfind('\n').map_or(0, |newline| newline + 1);
    let indentation = &text[line..dash];
    // A comment behind the last value belongs to it.
    let end = text[last.span.end..].find('\n').map(|newline| last.span.end + newline);
    let (before, after) = text.split_at(end.unwrap_or(text.len()));
    let carriage = if before.ends_with('\r') { "\r" } else { "" };
    Some(format!("{before}\n{indentation}- {entry}{carriage}{after}"))
}

fn value_of<'t>(tree: &'t Tree, name: &str) -> Option<&'t Tree> {
    let Value::Mapping(entries) = &tree.value else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_known_by_its_model_and_its_memory() {
        let catalogue = Catalogue::built_in();
        for (model, mib, arch, id) in [
            ("Raspberry Pi 4 Model B Rev 1.4", 7809, Arch::Arm64, "rpi-4b-8gb"),
            ("Raspberry Pi 4 Model B Rev 1.1", 3791, Arch::Arm64, "rpi-4b-4gb"),
            ("Raspberry Pi 3 Model B Plus Rev 1.3", 909, Arch::Arm64, "rpi-3b-plus"),
            ("Raspberry Pi 3 Model B Rev 1.2", 909, Arch::Arm64, "rpi-3b"),
            ("Raspberry Pi 5 Model B Rev 1.0", 16_220, Arch::Arm64, "rpi-5-16gb"),
            ("Raspberry Pi 400 Rev 1.0", 3791, Arch::Arm64, "rpi-400"),
            ("Raspberry Pi Zero 2 W Rev 1.0", 416, Arch::Arm64, "rpi-zero-2w"),
            ("Raspberry Pi Compute Module 4 Rev 1.1", 1848, Arch::Arm64, "rpi-cm4-2gb"),
            ("Raspberry Pi Compute Module 5 Rev 1.0", 8062, Arch::Arm64, "rpi-cm5-8gb"),
            ("Radxa ROCK Pi 4C", 3900, Arch::Arm64, "rock-pi-4c"),
            // More memory than any that is sold, and one that nobody knows.
            ("Raspberry Pi 5 Model B Rev 2.0", 32_000, Arch::Arm64, "generic-arm64"),
            ("Orange Pi 5 Plus", 16_000, Arch::Arm64, "generic-arm64"),
            ("", 8000, Arch::Amd64, "generic-amd64"),
        ] {
            let found = catalogue.board_of(model, mib * 1024, arch).map(|board| board.id);
            assert_eq!(found.as_deref(), Some(id), "{model}");
        }
    }

    #[test]
    fn a_node_is_added_and_all_else_stays() {
        let entry = "{ name: kube3 }";
        for (before, after) in [
            (
                "cluster: a\nnodes:\n  - { name: kube1 } # the first\n  - { name: kube2 }  # ünder the shelf\n# end\nimage: x\n",
                "cluster: a\nnodes:\n  - { name: kube1 } # the first\n  - { name: kube2 }  # ünder the shelf\n  - { name: kube3 }\n# end\nimage: x\n",
            ),
            (
                "cluster: a\nnodes:\n- name: kube1\n  hardware:\n    hat: none",
                "cluster: a\nnodes:\n- name: kube1\n  hardware:\n    hat: none\n- { name: kube3 }",
            ),
            ("cluster: a\nnodes: [{ name: kube1 }]\n", "cluster: a\nnodes: [{ name: kube1 }, { name: kube3 }]\n"),
            (
                "cluster: b\nnodes:\n  - { name: x }\n---\ncluster: a\r\nnodes:\r\n    - { name: kube1 }\r\n",
                "cluster: b\nnodes:\n  - { name: x }\n---\ncluster: a\r\nnodes:\r\n    - { name: kube1 }\r\n    - { name: kube3 }\r\n",
            ),
        ] {
            assert_eq!(add_node(before, "a", entry).as_deref(), Some(after));
        }
        assert_eq!(add_node("cluster: b\nnodes:\n  - { name: x }\n", "a", entry), None);
        assert_eq!(add_node("cluster: a\nnodes: none\n", "a", entry), None);
    }
}
