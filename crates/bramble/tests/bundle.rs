//! `bramble bundle create`, from a web server with the tree of a mirror.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use common::{assert_code, bramble, serve, text};

/// Not the digest of the program.
const PROGRAM: &str = "9b7eb9f2fd3e2fc2f7a41d1e1bd3a41a4e2bcf1e4f3f3e6c4a9e4c0d9f8f7e6d";

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
