//! A real container registry: Debian's docker-registry.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::{text, wait_for};

/// What is in an image: a tar archive, and what runs in it.
pub type Root<'a> = Option<(&'a [u8], Value)>;

/// A registry of its own, which ends with the test.
pub struct Registry {
    process: Child,
    pub address: String,
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
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub fn start(host: &str) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(format!("{host}:0")).unwrap().local_addr().unwrap().port();
        let address = format!("{host}:{port}");
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
    pub fn image(&self, repository: &str, tag: &str, platform: &Value, root: Root<'_>) -> Value {
        let (mut layers, mut ids, mut runs) = (Vec::new(), Vec::new(), json!({}));
        if let Some((tar, config)) = root {
            let mut layer = self.put(repository, tar);
            ids.push(layer["digest"].clone());
            layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar");
            layers.push(layer);
            runs = config;
        }
        let mut config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids }, "config": runs });
        for (key, value) in platform.as_object().unwrap() {
            config[key] = value.clone();
        }
        let mut config = self.put(repository, config.to_string().as_bytes());
        config["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
        self.manifest(repository, tag, kind, &manifest, platform)
    }

    fn manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &Value, platform: &Value) -> Value {
        let bytes = manifest.to_string();
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        ureq::put(url).content_type(kind).send(bytes.as_bytes()).unwrap();
        let digest = format!("sha256:{}", bramble_spec::hex(&Sha256::digest(bytes.as_bytes())));
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len(), "platform": platform })
    }

    /// An image for several processors, each with what is in it, as Docker's list or as OCI's index.
    pub fn list(&self, repository: &str, oci: bool, images: &[(Value, Root<'_>)]) {
        let entries: Vec<Value> = images
            .iter()
            .enumerate()
            .map(|(n, (platform, root))| self.image(repository, &format!("part{n}"), platform, root.clone()))
            .collect();
        let kind = match oci {
            true => "application/vnd.oci.image.index.v1+json",
            false => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries });
        self.manifest(repository, "1", kind, &list, &Value::Null);
    }
}
