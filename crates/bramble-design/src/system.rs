//! The system of the image against the boards.

use bramble_spec::{Arch, Cluster, ImageSource, Severity};

use crate::rules::{Findings, Rule};

/// What the name of an image tells of its architecture.
fn told(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    [
        ("arm64", "arm64"),
        ("aarch64", "arm64"),
        ("64-bit", "arm64"),
        ("armhf", "armhf"),
        ("armv7", "armhf"),
        ("32-bit", "armhf"),
        ("amd64", "amd64"),
        ("x86_64", "amd64"),
    ]
    .into_iter()
    .find(|(word, _)| name.contains(word))
    .map(|(_, arch)| arch)
}

pub(crate) fn check(cluster: &Cluster, findings: &mut Findings<'_>) {
    let name = match &cluster.image {
        Some(ImageSource::File { path, .. }) => path,
        Some(ImageSource::Url { url, .. }) => url,
        Some(ImageSource::Name { name, .. }) => name,
        None => return,
    };
    let Some(system) = told(name) else { return };
    for node in &cluster.nodes {
        let figures = [("image", system.to_owned()), ("board", node.board.arch.to_string())];
        match (system, node.board.arch) {
            ("arm64", Arch::Arm64) | ("amd64", Arch::Amd64) => {}
            ("armhf", Arch::Arm64) => {
                let severity = match cluster.distribution.has_armhf() {
                    true => Severity::Warning,
                    false => Severity::Error,
                };
                findings.add(
                    severity,
                    Rule::Architecture,
                    node.name.as_str(),
                    format!("the image has a 32-bit system, on a 64-bit {}", node.board.name),
                    &figures,
                    "take the 64-bit image: most container images have no 32-bit Arm any more",
                );
            }
            _ => findings.add(
                Severity::Error,
                Rule::Architecture,
                node.name.as_str(),
                format!("the image is for {system}, a {} is {}", node.board.name, node.board.arch),
                &figures,
                "install this one by hand (`accept: [architecture]`), or put it into a cluster file with its own image",
            ),
        }
    }
}
