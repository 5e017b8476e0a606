//! What the project of Kubernetes releases, from a server with the same tree: its programs and images are those that are built
//! here, since the project's own cannot be reached from where this is tested.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;

use bramble_kube::Bundle;
use bramble_spec::{Arch, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Row;
use crate::common::{Rack, assert_code, bramble, serve, text};
use crate::shelf::Shelf;

pub(crate) const ROWS: &[Row] = &[Row {
    name: "lives::releases_of_kubernetes_from_a_server_with_the_same_tree_make_a_cluster",
    test: releases_make_a_cluster,
}];

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Puts an image of the bundle into the tree of a registry.
fn publish(tree: &mut BTreeMap<String, Vec<u8>>, bundle: &Bundle, name: &str, repository: &str, tag: &str) {
    let image = bundle.manifest.images().find(|image| image.name == name).unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(File::open(bundle.dir.join(&image.path)).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    let list: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let mut part = |file: &str, kind: &str| {
        let bytes = files[file].clone();
        let of = json!({ "mediaType": kind, "digest": format!("sha256:{}", digest(&bytes)), "size": bytes.len() });
        tree.insert(format!("/v2/{repository}/blobs/sha256:{}", digest(&bytes)), bytes);
        of
    };
    let config = part(list[0]["Config"].as_str().unwrap(), "application/vnd.docker.container.image.v1+json");
    let layer = part("layer.tar", "application/vnd.docker.image.rootfs.diff.tar");
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
    tree.insert(format!("/v2/{repository}/manifests/{tag}"), manifest.to_string().into_bytes());
}

fn releases_make_a_cluster(shelf: &Shelf) {
    shelf.clear();
    let built = Bundle::open(bundle(&[]).as_ref()).unwrap();
    let version = format!("v{}", built.manifest.kubernetes);
    let arch = Arch::HERE.to_string();
    let files = built.files(&arch).unwrap();
    let (mirror, _) = serve(|_| {
        let mut tree: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        tree.insert("/release/stable-1.36.txt".to_owned(), format!("{version}\n").into_bytes());
        for program in &files.programs {
            let bytes = fs::read(built.dir.join(&program.path)).unwrap();
            let path = format!("/release/{version}/bin/linux/{arch}/{}", program.name);
            tree.insert(format!("{path}.sha256"), digest(&bytes).into_bytes());
            tree.insert(path, bytes);
        }
        for image in &files.images {
            let (name, tag) = image.name.strip_prefix("bundle.bramble/").unwrap().split_once(':').unwrap();
            let (repository, tag) = match name {
                "coredns" => ("coredns/coredns", tag),
                "busybox" => ("library/busybox", "1.37"),
                // What this kubeadm asks for, whatever is in it.
                "etcd" => ("etcd", "3.6.8-0"),
                other => (other, tag),
            };
            publish(&mut tree, &built, &image.name, repository, tag);
        }
        tree
    });
    let made = bundle(&["--upstream", "--mirror", &mirror]);
    let rack =
        Rack::up("t-rel", &["--control-planes", "1", "--workers", "2", "--subnet", "10.78.32.0/24", "--from", &made]);
    let said = rack.go_up();
    assert!(said.contains("Smoke test passed: 9 paths between pods"), "{said}");
    rack.assert_well();
    let images = rack.kubectl(1, "get pods -n kube-system -o 'jsonpath={.items[*].spec.containers[*].image}'");
    assert!(images.split_whitespace().all(|image| image.starts_with("registry.k8s.io/")), "{images}");
    assert_code(&rack.run(&["down", "--yes"]), 0);
    fs::remove_dir_all(made).unwrap();
}

/// The folder that `lab bundle` names.
fn bundle(more: &[&str]) -> String {
    let output = bramble().args(["lab", "bundle"]).args(more).output().unwrap();
    assert_code(&output, 0);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.trim().split_once(" is in ").unwrap_or_else(|| panic!("{}", text(&output))).1.to_owned()
}
