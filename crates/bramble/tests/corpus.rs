//! What the fuzzers have found, and what they began with (`make fuzz` goes on). That of images is tested where those are read.

#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/checks/fetch.rs"]
mod fetch;
#[path = "../../../fuzz/checks/remote.rs"]
mod remote;
#[path = "../../../fuzz/checks/texts.rs"]
mod texts;

use std::fs;
use std::path::Path;

fn holds(folder: &str, check: fn(&[u8])) {
    let files: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap().collect();
    assert!(!files.is_empty());
    for file in files {
        let path = file.unwrap().path();
        if path.is_file() {
            check(&fs::read(path).unwrap());
        }
    }
}

macro_rules! corpora {
    ($($target:ident: $check:path),* $(,)?) => {
        $(#[test]
        fn $target() {
            holds(concat!("../../fuzz/corpus/", stringify!($target)), $check);
        })*
    };
}

corpora! {
    archive: fetch::archive,
    cluster_file: texts::cluster_file,
    known_hosts: remote::known_hosts,
    kubeconfig: texts::kubeconfig,
    leases: texts::leases,
    lists: fetch::lists,
    lock_file: fetch::lock_file,
    manifest: texts::manifest,
    observation: texts::observation,
    relay: remote::relay,
    signature: fetch::signature,
    ssh_config: remote::ssh_config,
}

#[test]
fn examples() {
    holds("../../examples", texts::cluster_file);
}
