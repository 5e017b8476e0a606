//! `bramble image check` against a real registry (Debian's docker-registry): one image for each kind of manifest.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{assert_code, bramble, text, wait_for};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A registry of its own, which ends with the test.
struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The program out of Debian's package, which is not installed: it would start a service.
fn program() -> PathBuf {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("docker-registry");
    let program = place.join("usr/bin/docker-registry");
    if !program.exists() {
        fs::create_dir_all(&place).unwrap();
        let script =
            "apt-get -q download docker-registry && dpkg -x docker-registry_*.deb . && rm docker-registry_*.deb";
        let output = Command::new("sh").args(["-c", script]).current_dir(&place).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    program
}

impl Registry {
    fn start() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = json!({
            "version": 0.1, "log": { "level": "error" }, "http": { "addr": address },
            "storage": { "filesystem": { "rootdirectory": dir.path().join("data") } },
        });
        let file = dir.path().join("config.yml");
        fs::write(&file, config.to_string()).unwrap();
        let process = Command::new(program())
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { process, address, _dir: dir };
        wait_for("the registry", || ureq::get(format!("http://{}/v2/", registry.address)).call().is_ok());
        registry
    }

    fn put(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", bramble_spec::hex(&Sha256::digest(bytes)));
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let answer = ureq::post(url).send_empty().unwrap();
        let place = answer.headers()["location"].to_str().unwrap().to_owned();
        ureq::put(place).query("digest", &digest).content_type("application/octet-stream").send(bytes).unwrap();
        json!({ "digest": digest, "size": bytes.len() })
    }

    /// An image for one processor, with a tag; gives its entry for a list.
    fn image(&self, repository: &str, tag: &str, platform: &Value) -> Value {
        let mut config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] }, "config": {} });
        for (key, value) in platform.as_object().unwrap() {
            config[key] = value.clone();
        }
        let mut config = self.put(repository, config.to_string().as_bytes());
        config["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [] });
        self.manifest(repository, tag, kind, &manifest, platform)
    }

    fn manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &Value, platform: &Value) -> Value {
        let bytes = manifest.to_string();
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        ureq::put(url).content_type(kind).send(bytes.as_bytes()).unwrap();
        let digest = format!("sha256:{}", bramble_spec::hex(&Sha256::digest(bytes.as_bytes())));
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len(), "platform": platform })
    }

    /// An image for several, as Docker's list or as OCI's index.
    fn list(&self, repository: &str, oci: bool, platforms: &[Value]) {
        let entries: Vec<Value> = platforms
            .iter()
            .enumerate()
            .map(|(n, platform)| self.image(repository, &format!("part{n}"), platform))
            .collect();
        let kind = match oci {
            true => "application/vnd.oci.image.index.v1+json",
            false => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries });
        self.manifest(repository, "1", kind, &list, &Value::Null);
    }
}

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
    let registry = Registry::start();
    let (arm64, amd64, armv7) = (
        json!({ "os": "linux", "architecture": "arm64", "variant": "v8" }),
        json!({ "os": "linux", "architecture": "amd64" }),
        json!({ "os": "linux", "architecture": "arm", "variant": "v7" }),
    );
    registry.list("acme/both", true, &[arm64.clone(), amd64.clone()]);
    registry.list("acme/docker", false, &[arm64.clone(), amd64.clone()]);
    registry.image("acme/intel", "1", &amd64);
    registry.image("acme/old", "1", &armv7);
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
