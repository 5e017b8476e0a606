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
#[ignore = "needs root: `make test`"]
fn images_are_judged_by_what_their_manifests_say_before_anything_is_applied() {
    let registry = Registry::start("127.0.0.1");
    let (arm64, amd64, armv7) = (
        json!({ "os": "linux", "architecture": "arm64", "variant": "v8" }),
        json!({ "os": "linux", "architecture": "amd64" }),
        json!({ "os": "linux", "architecture": "arm", "variant": "v7" }),
    );
    let both = [(arm64, None), (amd64.clone(), None)];
    registry.list("acme/both", true, &both);
    registry.list("acme/docker", false, &both);
    registry.image("acme/intel", "1", &amd64, None);
    registry.image("acme/old", "1", &armv7, None);
    registry.list("library/influxdb", true, &both);
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
    // So does an affinity, a name, a role.
    for place in [
        "affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ \
         matchExpressions: [{ key: kubernetes.io/arch, operator: In, values: [amd64] }] }] } } }",
        "nodeName: big",
        "affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ \
         matchExpressions: [{ key: kubernetes.io/hostname, operator: NotIn, values: [kube1, kube2] }] }] } } }",
    ] {
        fs::write(&file, manifest(&at("intel"), "").replace("nodeSelector: {  }", place)).unwrap();
        assert_eq!(check(dir.path(), &["web.yaml"]), (0, check(dir.path(), &["web.yaml"]).1), "{place}");
    }
    fs::write(&file, manifest(&at("intel"), "node-role.kubernetes.io/control-plane: \"\"")).unwrap();
    let (code, found) = check(dir.path(), &["web.yaml"]);
    assert!(code == 1 && found["images"][0]["problems"][0].as_str().unwrap().contains("so kube1 would say"), "{found}");
    // The image that a text of settings runs, and a file that is not there.
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: local }\ndata:\n  helperPod.yaml: |\n    apiVersion: v1\n    \
               kind: Pod\n    metadata: { name: helper }\n    spec: { containers: [{ name: helper, image: \"IMAGE\" }] }\n";
    fs::write(&file, map.replace("IMAGE", &at("intel"))).unwrap();
    assert_eq!(check(dir.path(), &["web.yaml"]).1["images"][0]["objects"], json!(["ConfigMap local"]));
    fs::write(&file, manifest(&at("intel"), "kubernetes.io/arch: amd64")).unwrap();
    let mut missing = bramble();
    missing.current_dir(dir.path()).args(["image", "check", "wbe.yaml"]);
    assert!(text(&missing.output().unwrap()).contains("there is no file wbe.yaml"));

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

#[test]
#[ignore = "needs root: `make test`"]
fn a_bundle_has_the_images_and_manifests_of_addons_for_all_processors_of_the_nodes() {
    let registry = Registry::start("127.0.0.1");
    let (arm64, amd64) =
        (json!({ "os": "linux", "architecture": "arm64" }), json!({ "os": "linux", "architecture": "amd64" }));
    let layer = vec![7; 300_000];
    let root = |what: &str| (layer.as_slice(), json!({ "Env": [what] }));
    let s390x = json!({ "os": "linux", "architecture": "s390x" });
    let all = [(arm64.clone(), Some(root("a"))), (s390x, Some(root("b"))), (amd64.clone(), Some(root("c")))];
    registry.list("acme/both", true, &all);
    registry.image("acme/single", "1", &amd64, Some(root("d")));
    let dir = tempfile::tempdir().unwrap();
    let at = |image: &str| format!("{}/acme/{image}:1", registry.address);
    let pod = |name: &str, image: &str, place: &str| {
        format!(
            "{{ apiVersion: v1, kind: Pod, metadata: {{ name: {name} }}, spec: {{ {place} containers: [{{ name: a, image: \"{}\" }}] }} }}\n---\n",
            at(image)
        )
    };
    let manifest = pod("one", "both", "") + &pod("two", "single", "nodeSelector: { kubernetes.io/arch: amd64 },");
    fs::create_dir(dir.path().join("repository")).unwrap();
    fs::write(dir.path().join("repository/pods.yaml"), &manifest).unwrap();
    let script = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm one";
    let output =
        std::process::Command::new("sh").args(["-c", script]).current_dir(dir.path().join("repository")).output();
    assert_code(&output.unwrap(), 0);
    let cluster = CLUSTER
        .replace("registries: { docker.io: \"http://REGISTRY\" }\n", "addons: { own: { pods: { git: repository } } }\n")
        .replace("k3s: { version: v1.34.6+k3s1 }", "kubeadm: { version: \"1.34\" }");
    fs::write(dir.path().join("bramble.yaml"), &cluster).unwrap();
    let run = |dir: &Path, args: &[&str]| {
        let mut command = bramble();
        command.current_dir(dir).env("HOME", dir).args(args);
        command.output().unwrap()
    };
    let made = run(dir.path(), &["bundle", "create", "--to", "supplies"]);
    assert_code(&made, 0);
    assert!(text(&made).contains("add-ons: 1 manifests from elsewhere, 2 images"), "{}", text(&made));
    let listed: Value = serde_json::from_str(&common::read(&dir.path().join("supplies/addons.json"))).unwrap();
    let platforms: Vec<&Value> = listed["images"].as_array().unwrap().iter().map(|image| &image["platforms"]).collect();
    assert_eq!(platforms, [&json!([["amd64", ""], ["arm64", ""]]), &json!([["amd64", ""]])]);
    // Every part is what its name says.
    let script = "set -e; for f in supplies/addons/*.tar; do mkdir parts; tar -xf $f -C parts; \
                  for b in parts/blobs/sha256/*; do echo \"${b##*/}  $b\"; done | sha256sum -c --quiet; rm -r parts; done";
    let output = std::process::Command::new("sh").args(["-c", script]).current_dir(dir.path()).output().unwrap();
    assert_code(&output, 0);

    // Elsewhere, where neither the registry nor the repository is.
    drop(registry);
    let other = tempfile::tempdir().unwrap();
    for name in ["bramble.yaml", "bramble.lock"] {
        fs::copy(dir.path().join(name), other.path().join(name)).unwrap();
    }
    let supplies = dir.path().join("supplies").display().to_string();
    let shown = run(other.path(), &["--bundle", &supplies, "addons", "show", "pods"]);
    assert_code(&shown, 0);
    assert!(text(&shown).contains("\"two\""), "{}", text(&shown));
    let without = run(other.path(), &["addons", "show", "pods"]);
    assert_code(&without, 1);
    fs::write(other.path().join("bramble.yaml"), cluster.replace("git: repository", "git: repository, path: deploy"))
        .unwrap();
    let lacking = run(other.path(), &["--bundle", &supplies, "addons", "show", "pods"]);
    assert!(text(&lacking).contains("has nothing of repository#HEAD:deploy"), "{}", text(&lacking));
}
