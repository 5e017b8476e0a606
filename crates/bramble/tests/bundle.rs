//! `bramble bundle create`, from a web server with the tree of a mirror.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use bramble_spec::Arch;
use common::{assert_code, bramble, serve, text};

/// Not the digest of the program.
const PROGRAM: &str = "9b7eb9f2fd3e2fc2f7a41d1e1bd3a41a4e2bcf1e4f3f3e6c4a9e4c0d9f8f7e6d";

/// Where containerd's project has its archives, up to the architecture.
const CONTAINERD: &str = "/containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-";

fn tree(digests: &str) -> BTreeMap<String, String> {
    let base = "/v1.36.3%2Bk0s.2";
    [
        ("/channels/stable".to_owned(), "v1.36.3+k0s.2\n"),
        (format!("{base}/sha256sums.txt"), digests),
        (format!("{base}/k0s-v1.36.3%2Bk0s.2-arm64"), "program"),
        (format!("{base}/k0s-airgap-bundle-v1.36.3%2Bk0s.2-linux-arm64.tar"), "images"),
        (format!("{base}/airgap-images-linux-arm64.txt"), "quay.io/k0sproject/pause:3.10\n"),
    ]
    .map(|(path, text)| (path, text.to_owned()))
    .into()
}

fn create(dir: &Path, mirror: &str, more: &[&str]) -> Output {
    let mut command = bramble();
    command.current_dir(dir).env("XDG_CACHE_HOME", dir.join("cache"));
    command.args(["bundle", "create", "k0s:stable", "--to", "bundle", "--mirror", mirror]).args(more);
    command.output().unwrap()
}

#[test]
fn a_bundle_is_made_of_what_was_published_and_nothing_is_fetched_twice() {
    let dir = tempfile::tempdir().unwrap();
    let digest = |text: &str| {
        fs::write(dir.path().join("text"), text).unwrap();
        let output = std::process::Command::new("sha256sum").arg(dir.path().join("text")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    };
    let digests = format!(
        "{} *k0s-v1.36.3+k0s.2-arm64\n{} *k0s-airgap-bundle-v1.36.3+k0s.2-linux-arm64.tar\n",
        digest("program"),
        digest("images")
    );
    let (mirror, asked) = serve(|_| tree(&digests));
    let made = create(dir.path(), &mirror, &["--arch", "arm64"]);
    assert_code(&made, 0);
    assert!(text(&made).contains("k0s v1.36.3+k0s.2 for arm64"), "{}", text(&made));
    let place = dir.path().join("bundle/k0s/v1.36.3+k0s.2");
    assert_eq!(fs::read_to_string(place.join("k0s-v1.36.3+k0s.2-arm64")).unwrap(), "program");
    assert_eq!(fs::read_to_string(dir.path().join("bundle/k0s/channels/stable")).unwrap(), "v1.36.3+k0s.2\n");
    let large = |log: &[String]| log.iter().filter(|path| path.contains("arm64") && !path.ends_with(".txt")).count();
    assert_eq!(large(&asked.lock().unwrap()), 2);
    assert_code(&create(dir.path(), &mirror, &["--arch", "arm64"]), 0);
    assert_eq!(large(&asked.lock().unwrap()), 2, "what is there and right is not fetched again");
    fs::write(place.join("k0s-v1.36.3+k0s.2-arm64"), "damaged").unwrap();
    assert_code(&create(dir.path(), &mirror, &["--arch", "arm64"]), 0);
    assert_eq!(fs::read_to_string(place.join("k0s-v1.36.3+k0s.2-arm64")).unwrap(), "program");

    let missing = create(dir.path(), &mirror, &["--arch", "amd64"]);
    assert_code(&missing, 1);
    assert!(text(&missing).contains("k0s v1.36.3+k0s.2 has no program for amd64"), "{}", text(&missing));
    let mut unknown = bramble();
    let unknown = unknown.current_dir(dir.path()).args(["bundle", "create", "k4s:stable"]).output().unwrap();
    assert_code(&unknown, 1);
    assert!(text(&unknown).contains("those that have: k3s, k0s"), "{}", text(&unknown));
}

#[test]
fn a_file_that_is_not_the_published_one_does_not_get_into_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let digests = format!("{PROGRAM} *k0s-v1.36.3+k0s.2-arm64\n");
    let (mirror, _) = serve(|_| tree(&digests));
    let refused = create(dir.path(), &mirror, &["--arch", "arm64"]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains(PROGRAM) && text(&refused).contains("it is refused"), "{}", text(&refused));
    assert!(!dir.path().join("bundle/k0s/v1.36.3+k0s.2/k0s-v1.36.3+k0s.2-arm64").exists());
}

/// The tree of the project of Kubernetes, with a registry beside it: programs that are scripts, images with nothing in them.
fn kubernetes(
    digest_of: impl Fn(&str) -> String,
    change: impl Fn(&mut BTreeMap<String, String>),
) -> BTreeMap<String, String> {
    let images =
        ["kube-apiserver:v1.36.9", "kube-proxy:v1.36.9", "coredns/coredns:v1.14.2", "pause:3.10.2", "etcd:3.6.8-0"];
    let list: String = images.iter().map(|image| format!("echo registry.k8s.io/{image}\n")).collect();
    let mut tree: BTreeMap<String, String> = [("/release/stable-1.36.txt".to_owned(), "v1.36.9\n".to_owned())].into();
    for arch in Arch::ALL {
        for name in ["kubeadm", "kubelet", "kubectl"] {
            let program = format!(
                "#!/bin/sh\n# {arch}\n[ \"$*\" = 'config images list --kubernetes-version v1.36.9' ] || exit 2\n{list}"
            );
            let path = format!("/release/v1.36.9/bin/linux/{arch}/{name}");
            tree.insert(format!("{path}.sha256"), digest_of(&program));
            tree.insert(path, program);
        }
        let archive = containerd(&["containerd", "containerd-shim-runc-v2", "containerd-stress", "ctr"]);
        let path = format!("{CONTAINERD}{arch}.tar.gz");
        tree.insert(format!("{path}.sha256sum"), format!("{}  containerd.tar.gz\n", digest_of(&archive)));
        tree.insert(path, archive);
    }
    for image in images.iter().copied().chain(["library/busybox:1.37"]) {
        let (name, tag) = image.split_once(':').unwrap();
        let of = Arch::ALL.map(|arch| {
            let config = format!(
                "{{\"os\":\"linux\",\"architecture\":\"{arch}\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[]}}}}"
            );
            let digest = format!("sha256:{}", digest_of(&config));
            let manifest = format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{digest}\",\"size\":{}}},\"layers\":[]}}",
                config.len()
            );
            tree.insert(format!("/v2/{name}/blobs/{digest}"), config);
            let digest = format!("sha256:{}", digest_of(&manifest));
            let size = manifest.len();
            tree.insert(format!("/v2/{name}/manifests/{digest}"), manifest);
            format!(
                "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{digest}\",\"size\":{size},\"platform\":{{\"os\":\"linux\",\"architecture\":\"{arch}\"}}}}"
            )
        });
        let index = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{}]}}",
            of.join(",")
        );
        tree.insert(format!("/v2/{name}/manifests/{tag}"), index);
    }
    change(&mut tree);
    tree
}

/// The archive that containerd's project releases, with these programs in it.
fn containerd(programs: &[&str]) -> String {
    let mut archive = tar::Builder::new(Vec::new());
    for name in programs {
        let mut header = tar::Header::new_gnu();
        header.set_size(8);
        header.set_mode(0o755);
        archive.append_data(&mut header, format!("bin/{name}"), &b"program\n"[..]).unwrap();
    }
    String::from_utf8(archive.into_inner().unwrap()).unwrap()
}

fn create_kubernetes(dir: &Path, mirror: &str, arches: &str) -> Output {
    let mut command = bramble();
    command.current_dir(dir).env("XDG_CACHE_HOME", dir.join("cache"));
    command.args(["bundle", "create", "kubeadm:1.36", "--to", "bundle", "--mirror", mirror, "--containerd"]);
    command.args(["--arch", arches]).output().unwrap()
}

#[test]
fn a_bundle_of_kubernetes_is_what_its_project_published() {
    let dir = tempfile::tempdir().unwrap();
    let digest = |text: &str| bramble_spec::hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
    let (mirror, _) = serve(|_| kubernetes(digest, |_| ()));
    let own = Arch::HERE.to_string();
    let made = create_kubernetes(dir.path(), &mirror, &own);
    assert_code(&made, 0);
    assert!(text(&made).contains("kubeadm v1.36.9"), "{}", text(&made));
    let bundle = bramble_kube::Bundle::open(&dir.path().join("bundle")).unwrap();
    let manifest = &bundle.manifest;
    assert_eq!(manifest.kubernetes.to_string(), "1.36.9");
    assert_eq!((manifest.etcd_tag.as_str(), bundle.dns_tag()), ("3.6.8-0", Some("v1.14.2")));
    assert_eq!(manifest.pause_image, "registry.k8s.io/pause:3.10.2");
    let planes = manifest.images().filter(|image| image.control_plane_only);
    let planes: Vec<&str> = planes.map(|image| image.name.as_str()).collect();
    assert_eq!(planes, ["registry.k8s.io/kube-apiserver:v1.36.9", "registry.k8s.io/etcd:3.6.8-0"]);

    let files = bundle.files(&own).unwrap();
    let programs: Vec<&str> = files.programs.iter().map(|program| program.name.as_str()).collect();
    assert_eq!(programs, ["kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr"]);
    assert_eq!(manifest.containerd.as_deref(), Some("2.4.2"));

    let archive = format!("{CONTAINERD}amd64.tar.gz");
    for (what, says) in [
        (&*archive, "it is refused"),
        (&*format!("{archive}.sha256sum"), "has no digest in it"),
        ("/release/v1.36.9/bin/linux/amd64/kubelet", "it is refused"),
        ("/release/stable-1.36.txt", "which is no version of 1.36"),
    ] {
        let what = what.replace("amd64", &own);
        let (mirror, _) = serve(|_| kubernetes(digest, |tree| drop(tree.insert(what.clone(), "v1.35.1\n".to_owned()))));
        let dir = tempfile::tempdir().unwrap();
        let refused = create_kubernetes(dir.path(), &mirror, &own);
        assert_code(&refused, 1);
        assert!(text(&refused).contains(says), "{}", text(&refused));
        assert!(!bramble_kube::Bundle::is_at(&dir.path().join("bundle")));
    }
}

#[test]
fn a_bundle_of_kubernetes_is_for_boards_of_several_architectures() {
    let dir = tempfile::tempdir().unwrap();
    let digest = |text: &str| bramble_spec::hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
    let (mirror, _) = serve(|_| kubernetes(digest, |_| ()));
    let made = create_kubernetes(dir.path(), &mirror, "amd64,arm64");
    assert_code(&made, 0);
    assert!(text(&made).contains("kubeadm v1.36.9 for arm64, amd64"), "{}", text(&made));
    let bundle = bramble_kube::Bundle::open(&dir.path().join("bundle")).unwrap();
    for arch in ["arm64", "amd64"] {
        let files = bundle.files(arch).unwrap();
        assert_eq!((files.programs.len(), files.images.len()), (6, 6));
        let kubelet = std::fs::read_to_string(bundle.dir.join(&files.programs[1].path)).unwrap();
        assert_eq!(kubelet.lines().nth(1), Some(&*format!("# {arch}")));
    }
    assert!(bundle.files("armhf").is_none());
    let refused = create_kubernetes(dir.path(), &mirror, "armhf");
    assert_code(&refused, 1);
    assert!(text(&refused).contains("no programs for armhf since 1.27"), "{}", text(&refused));
}
