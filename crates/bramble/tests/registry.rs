//! `bramble image check` against a real registry (Debian's docker-registry): one image for each kind of manifest.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::fs;
use std::path::Path;

use common::{assert_code, bramble, text};
use registry::Registry;
use serde_json::{Value, json};

const CLUSTER: &str = r#"
cluster: shelf
network: { subnet: 10.0.0.0/24 }
distribution: { k3s: { version: v1.34.6+k3s1 } }
registries: { docker.io: "http://REGISTRY" }
nodes:
  - { name: kube1, role: control-plane, board: rpi-5-8gb, address: 10.0.0.50 }
  - { name: kube2, role: worker, board: rpi-4b-4gb, address: 10.0.0.51 }
  - { name: big, role: worker, board: generic-amd64, address: 10.0.0.52 }
"#;

fn check(dir: &Path, what: &[&str]) -> (i32, Value) {
    let mut command = bramble();
    command.current_dir(dir).args(["-o", "json", "image", "check"]).args(what);
    let output = command.output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    (output.status.code().unwrap(), value)
}

#[test]
fn images_are_judged_by_what_their_manifests_say_before_anything_is_applied() {
    let registry = Registry::start("127.0.0.1");
    let (arm64, amd64, armv7) = (
        json!({ "os": "linux", "architecture": "arm64", "variant": "v8" }),
        json!({ "os": "linux", "architecture": "amd64" }),
        json!({ "os": "linux", "architecture": "arm", "variant": "v7" }),
    );
    registry.list("acme/both", true, &[arm64.clone(), amd64.clone()]);
    registry.list("acme/docker", false, &[arm64.clone(), amd64.clone()]);
    registry.image("acme/intel", "1", &amd64, None);
    registry.image("acme/old", "1", &armv7, None);
    registry.list("library/influxdb", true, &[arm64, amd64]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bramble.yaml"), CLUSTER.replace("REGISTRY", &registry.address)).unwrap();
    let at = |image: &str| format!("{}/acme/{image}:1", registry.address);

    let (code, found) = check(dir.path(), &[&at("both"), &at("docker")]);
    assert_eq!(code, 0, "{found}");
    assert_eq!(found["images"][0]["platforms"], json!(["amd64", "arm64"]));
    assert_eq!(found["images"][1]["platforms"], json!(["amd64", "arm64"]));

    // One that nothing on Arm can run, and one for which the selector keeps it where it runs.
    let manifest = |image: &str, selector: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  \
             template:\n    spec:\n      nodeSelector: {{ {selector} }}\n      containers: [{{ name: web, image: \"{image}\" }}]\n"
        )
    };
    let file = dir.path().join("web.yaml");
    fs::write(&file, manifest(&at("intel"), "")).unwrap();
    let (code, found) = check(dir.path(), &["web.yaml"]);
    assert_eq!(code, 1);
    let problem = found["images"][0]["problems"][0].as_str().unwrap();
    assert!(problem.contains("nothing for arm64") && problem.contains("kube1, kube2"), "{problem}");
    assert!(problem.contains("nodeSelector") && problem.contains("exec format error"), "{problem}");
    assert_eq!(found["images"][0]["objects"], json!(["Deployment shop/web"]));
    fs::write(&file, manifest(&at("intel"), "kubernetes.io/arch: amd64")).unwrap();
    assert_eq!(check(dir.path(), &["web.yaml"]).0, 0);

    // 32 bits run on the Arm boards, and not on the other.
    let (code, found) = check(dir.path(), &[&at("old")]);
    assert_eq!(code, 1);
    assert!(found["images"][0]["problems"][0].as_str().unwrap().contains("nothing for amd64, so big"), "{found}");
    assert_eq!(found["images"][0]["notes"], json!(["it runs as a 32-bit program"]));

    // The pages of a Raspberry Pi 5, and an image that is found through the mirror of its registry.
    let (code, found) = check(dir.path(), &["influxdb:1"]);
    assert_eq!(code, 1);
    assert!(found["images"][0]["problems"][0].as_str().unwrap().contains("16 KiB"), "{found}");

    let (code, found) = check(dir.path(), &[&at("none"), "Not An Image"]);
    assert_eq!(code, 1);
    let problems: Vec<&str> =
        found["images"].as_array().unwrap().iter().map(|image| image["problems"][0].as_str().unwrap()).collect();
    assert!(
        problems[0].contains("there is no image") && problems[1].contains("is no name of an image"),
        "{problems:?}"
    );

    let mut command = bramble();
    command.current_dir(dir.path()).args(["image", "check", "web.yaml", &at("old")]);
    let output = command.output().unwrap();
    assert_code(&output, 1);
    assert!(text(&output).contains("✗ ") && text(&output).contains("✓ "), "{}", text(&output));
}
