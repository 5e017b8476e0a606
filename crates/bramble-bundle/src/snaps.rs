//! Snaps of the lab: compressed archives, each with an assertion of the form that the store's have.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bramble_lab::{NodeFile, NodePackage, PathContext};
use bramble_spec::KubeVersion;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha3::{Digest, Sha3_384};

use crate::archive::header;
use crate::error::Error;

/// The texts in the snap of MicroK8s beside its programs.
pub(crate) const TEXTS: &[(&str, &[&str])] = &[
    ("meta/snap.yaml", &["name: microk8s", "base: core22", "confinement: classic"]),
    // All of it is a part of kubelite here.
    (
        "meta/services",
        &[
            "daemon-kubelite microk8s kubelite",
            "daemon-containerd idle",
            "daemon-cluster-agent microk8s cluster-agent",
            "daemon-apiserver-kicker idle",
        ],
    ),
];
pub(crate) const SCRIPTS: &[(&str, &str)] = &[
    ("kubectl", "#!/bin/sh\nLD_LIBRARY_PATH=${0%/*}/lib exec \"${0%/*}/bin/kubectl\" \"$@\"\n"),
    ("idle", "#!/bin/sh\nexec sleep infinity\n"),
    ("actions/common/utils.sh", "use_snap_env() { :; }\n"),
    ("usr/bin/python3", include_str!("standins/snap-python.sh")),
    ("meta/hooks/install", include_str!("standins/snap-install.sh")),
    ("meta/hooks/remove", include_str!("standins/snap-remove.sh")),
];

/// Packs the snap of a distribution and those that it needs, with their assertions, by name.
pub(crate) fn files(
    name: &str,
    snap: Vec<u8>,
    kubernetes: KubeVersion,
    arch: &str,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    // Another version is another revision.
    let revision = kubernetes.patch.unwrap_or_default() + 1;
    let snaps = [("snapd", small("snapd")?, revision), ("core22", small("core22")?, revision), (name, snap, revision)];
    let both = snaps.into_iter().flat_map(|(name, bytes, revision)| {
        let assertion = assertion(name, revision, &bytes);
        [(format!("{name}_{arch}.snap"), bytes), (format!("{name}_{arch}.assert"), assertion.into_bytes())]
    });
    Ok(both.collect())
}

/// Makes Debian's package of snapd, with a stand-in as its program.
pub(crate) fn snapd() -> NodePackage {
    NodePackage {
        name: "snapd".to_owned(),
        status: SNAPD.to_owned(),
        files: vec![NodeFile {
            path: "/usr/bin/snap".to_owned(),
            text: include_str!("standins/snap.sh").to_owned(),
            mode: 0o755,
        }],
        folders: vec!["var/snap".to_owned()],
    }
}

/// The record of snapd in dpkg's status.
const SNAPD: &str = "Package: snapd\nStatus: install ok installed\nPriority: optional\nSection: devel\nInstalled-Size: 1\n\
    Maintainer: the lab <lab@localhost>\nArchitecture: all\nVersion: 2.79\nDescription: a stand-in for snapd";

fn small(name: &str) -> Result<Vec<u8>, Error> {
    let text = format!("name: {name}\n");
    let mut out = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = header(tar::EntryType::Regular, text.len() as u64, 0o644);
    let packed = out.append_data(&mut header, "meta/snap.yaml", text.as_bytes());
    let bytes = packed.and_then(|()| out.into_inner()?.finish());
    let mut bytes = bytes.at("pack", name.as_ref())?;
    bytes.flush().at("pack", name.as_ref())?;
    Ok(bytes)
}

fn assertion(name: &str, revision: u32, bytes: &[u8]) -> String {
    let digest = URL_SAFE_NO_PAD.encode(Sha3_384::digest(bytes));
    let key = "sign-key-sha3-384: the-labs\n\nnobody signed this\n";
    format!(
        "type: account-key\n{key}\ntype: snap-declaration\nsnap-id: {name}\n{key}\n\
         type: snap-revision\nsnap-sha3-384: {digest}\nsnap-id: {name}\nsnap-revision: {revision}\n{key}"
    )
}
