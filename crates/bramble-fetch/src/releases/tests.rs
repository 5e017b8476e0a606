use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bramble_kube::{Upstream, upstream};
use bramble_spec::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sha3::Sha3_384;

use super::*;
use crate::watcher::Silent;

fn k3s() -> &'static Upstream {
    upstream("k3s").unwrap()
}

fn microk8s() -> &'static Upstream {
    upstream("microk8s").unwrap()
}

/// What a server does wrong with a file, once for each entry.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Closes the connection after so many bytes.
    BreaksOff(usize),
    /// Sends so many bytes, and then nothing.
    Stalls(usize),
    /// Answers 503.
    Refuses,
    /// Sends the whole file whatever it is asked for.
    IgnoresRange,
}

/// Serves the tree of a release as upstream does: the download address leads to another one.
#[derive(Default)]
struct Server {
    files: HashMap<String, Vec<u8>>,
    faults: Mutex<HashMap<String, Vec<Fault>>>,
    asked: Mutex<Vec<String>>,
}

impl Server {
    fn start(self) -> (String, Arc<Server>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Arc::new(self);
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = shared.clone();
                std::thread::spawn(move || server.answer(&stream).ok());
            }
        });
        (address, server)
    }

    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().unwrap()?;
        let mut range = None;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(from) = line.strip_prefix("range: bytes=") {
                range = from.trim_end_matches('-').parse::<usize>().ok();
            }
        }
        let path = request.split(' ').nth(1).unwrap().to_owned();
        self.asked.lock().unwrap().push(format!("{path}{}", range.map_or(String::new(), |n| format!(" from {n}"))));
        let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
        if path == "/channels/stable" {
            let more = "Location: https://example.org/k3s/releases/tag/v1.34.6%2Bk3s1\r\nContent-Length: 0\r\n";
            return stream.write_all(head("302 Found", more).as_bytes());
        }
        if path == "/channels/v1.33" {
            let text = "v1.33.9+k3s2\n";
            return stream.write_all(
                format!("{}{text}", head("200 OK", &format!("Content-Length: {}\r\n", text.len()))).as_bytes(),
            );
        }
        let Some(stored) = path.strip_prefix("/stored") else {
            if !self.files.contains_key(&path) {
                return stream.write_all(head("404 Not Found", "Content-Length: 0\r\n").as_bytes());
            }
            let more = format!("Location: /stored{path}\r\nContent-Length: 0\r\n");
            return stream.write_all(head("302 Found", &more).as_bytes());
        };
        let fault =
            self.faults.lock().unwrap().get_mut(stored).and_then(|all| (!all.is_empty()).then(|| all.remove(0)));
        let whole = &self.files[stored];
        let from = match (fault, range) {
            (Some(Fault::IgnoresRange), _) | (_, None) => 0,
            (_, Some(from)) => from,
        };
        if let Some(Fault::Refuses) = fault {
            return stream.write_all(head("503 Busy", "Content-Length: 0\r\n").as_bytes());
        }
        if from >= whole.len() {
            return stream.write_all(head("416 Range Not Satisfiable", "Content-Length: 0\r\n").as_bytes());
        }
        let body = &whole[from..];
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        stream.write_all(head(status, &format!("Content-Length: {}\r\n", body.len())).as_bytes())?;
        match fault {
            Some(Fault::BreaksOff(count)) => stream.write_all(&body[..count]),
            Some(Fault::Stalls(count)) => {
                stream.write_all(&body[..count])?;
                std::thread::sleep(Duration::from_secs(20));
                Ok(())
            }
            _ => stream.write_all(body),
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

const PROGRAM: &str = "/v1.34.6%2Bk3s1/k3s-arm64";

/// A release as k3s publishes it, for arm64 alone.
fn release_server(faults: &[(&str, &[Fault])]) -> (String, Arc<Server>, Vec<u8>) {
    let program: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let archive = b"images".to_vec();
    let digests = format!("{}  k3s-airgap-images-arm64.tar.zst\n{} *k3s-arm64\n", sha256(&archive), sha256(&program));
    let mut server = Server::default();
    for (name, bytes) in [
        ("k3s-arm64", program.clone()),
        ("k3s-airgap-images-arm64.tar.zst", archive),
        ("sha256sum-arm64.txt", digests.into_bytes()),
        ("k3s-images.txt", b"docker.io/rancher/mirrored-library-busybox:1.37.0\n".to_vec()),
    ] {
        server.files.insert(format!("/v1.34.6%2Bk3s1/{name}"), bytes);
    }
    for (path, faults) in faults {
        server.faults.lock().unwrap().insert((*path).to_owned(), faults.to_vec());
    }
    let (address, server) = server.start();
    (address, server, program)
}

fn download_of(url: &str, to: &Path, digest: &str, patience: Duration, watcher: &dyn Watcher) -> Result<()> {
    let digest = digest.parse().unwrap();
    download(&Remote { url, headers: &[], digest: Digest::Sha256(&digest), most: 1_000_000 }, to, patience, watcher)
}

fn fetch(address: &str, dir: &Path, digest: &str) -> Result<Vec<u8>> {
    let to = dir.join("k3s-arm64");
    download_of(&format!("{address}{PROGRAM}"), &to, digest, Duration::from_millis(500), &Silent)?;
    Ok(fs::read(to)?)
}

#[test]
fn a_release_is_chosen_once_and_its_files_are_those_that_upstream_published() {
    let dir = tempfile::tempdir().unwrap();
    let (address, server, program) = release_server(&[]);
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let releases = Releases::new(k3s(), Some(&address), None, &dir.path().join("releases"));
    let stable: WantedRelease = "stable".parse().unwrap();
    assert_eq!(releases.version(&stable, &["arm64"], &mut lock, &Silent).unwrap(), "1.34.6+k3s1");
    assert_eq!(releases.version(&"1.33".parse().unwrap(), &["arm64"], &mut lock, &Silent).unwrap(), "1.33.9+k3s2");
    let release = releases.release("1.34.6+k3s1", &["arm64", "armhf"], &mut lock, &Silent).unwrap();
    assert_eq!(release.files.len(), 2);
    assert_eq!(release.images, ["docker.io/rancher/mirrored-library-busybox:1.37.0"]);
    assert!(!release.offline);
    let file = &release.files["k3s-arm64"];
    assert!(!file.path.exists(), "nothing large is fetched before it is needed");
    releases.bring(&release, &file.path, &Silent).unwrap();
    assert_eq!(fs::read(&file.path).unwrap(), program);

    // All of it is known now.
    let asked = server.asked.lock().unwrap().len();
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    assert_eq!(releases.version(&stable, &["arm64"], &mut lock, &Silent).unwrap(), "1.34.6+k3s1");
    assert_eq!(releases.release("1.34.6+k3s1", &["arm64", "armhf"], &mut lock, &Silent).unwrap(), release);
    releases.bring(&release, &file.path, &Silent).unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), asked);

    let missing = releases.release("1.34.6+k3s1", &["amd64"], &mut lock, &Silent).unwrap_err().to_string();
    assert!(missing.contains("has no release v1.34.6+k3s1 for amd64"), "{missing}");
    let channel = releases.version(&"1.30".parse().unwrap(), &["arm64"], &mut lock, &Silent).unwrap_err().to_string();
    assert!(channel.contains("there is no such channel"), "{channel}");
}

#[test]
fn a_bundle_has_the_same_release_without_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let (address, _, program) = release_server(&[]);
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let releases = Releases::new(k3s(), Some(&address), None, &dir.path().join("releases"));
    let stable: WantedRelease = "stable".parse().unwrap();
    let release = releases.release("1.34.6+k3s1", &["arm64"], &mut lock, &Silent).unwrap();
    let bundle = dir.path().join("bundle");
    let files = ["k3s-arm64", "k3s-airgap-images-arm64.tar.zst"].map(str::to_owned);
    let bytes = releases.bundle(&release, &files, &bundle, &Silent).unwrap();
    assert_eq!(bytes, program.len() as u64 + 6);
    releases.describe(&stable, &release, &["arm64"], &bundle, &mut lock, &Silent).unwrap();

    // Another machine, with neither a lock file nor a cache.
    let mut lock = LockFile::open(&dir.path().join("other.lock"), dir.path().join("other")).unwrap();
    let offline = Releases::new(k3s(), None, Some(&bundle), &dir.path().join("none"));
    assert_eq!(offline.version(&stable, &["arm64"], &mut lock, &Silent).unwrap(), "1.34.6+k3s1");
    let same = offline.release("1.34.6+k3s1", &["arm64", "armhf"], &mut lock, &Silent).unwrap();
    assert!(same.offline);
    assert_eq!(same.files["k3s-arm64"].sha256, release.files["k3s-arm64"].sha256);
    assert_eq!(fs::read(&same.files["k3s-arm64"].path).unwrap(), program);
    fs::remove_file(&same.files["k3s-arm64"].path).unwrap();
    let error = offline.bring(&same, &same.files["k3s-arm64"].path, &Silent).unwrap_err().to_string();
    assert!(error.contains("the bundle has no k3s-arm64") && error.contains("bundle create"), "{error}");
    let error = offline.version(&"1.33".parse().unwrap(), &["arm64"], &mut lock, &Silent).unwrap_err().to_string();
    assert!(error.contains("the bundle has no release of k3s v1.33"), "{error}");
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    use Fault::*;
    for faults in [
        &[BreaksOff(300_000), BreaksOff(10)][..],
        &[Stalls(300_000)],
        &[Refuses, BreaksOff(1000), Refuses],
        &[BreaksOff(300_000), IgnoresRange],
        &[BreaksOff(0), Stalls(0), Refuses],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (address, server, program) = release_server(&[(PROGRAM, faults)]);
        assert_eq!(fetch(&address, dir.path(), &sha256(&program)).unwrap(), program, "{faults:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left: {faults:?}");
        if matches!(faults, [Stalls(_)]) {
            assert!(
                server.asked.lock().unwrap().iter().any(|path| path.ends_with(" from 300000")),
                "{:?}",
                server.asked
            );
        }
    }
}

/// Remembers how far files came.
#[derive(Default)]
struct Transfers(Mutex<Vec<(u64, Option<u64>)>>);

impl Watcher for Transfers {
    fn note(&self, _: &str) {}

    fn transfer(&self, _: &str, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((done, total));
    }
}

#[test]
fn a_watcher_hears_how_far_a_file_is_also_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (address, _, program) = release_server(&[(PROGRAM, &[Fault::BreaksOff(300_000)])]);
    let whole = program.len() as u64;
    let url = format!("{address}{PROGRAM}");
    let to = dir.path().join("k3s-arm64");
    let transfers = Transfers::default();
    download_of(&url, &to, &sha256(&program), PATIENCE, &transfers).unwrap();
    let heard = transfers.0.into_inner().unwrap();
    assert_eq!(heard.last(), Some(&(whole, Some(whole))));
    assert!(heard.iter().all(|(_, total)| *total == Some(whole)), "{heard:?}");
    assert!(heard.iter().any(|(done, _)| *done == 300_000), "{heard:?}");
    assert!(heard.is_sorted(), "nothing is counted twice: {heard:?}");
}

#[test]
fn a_download_that_cannot_be_right_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (address, ..) = release_server(&[]);
    let error = fetch(&address, dir.path(), &sha256(b"other")).unwrap_err().to_string();
    assert!(error.contains("it is refused"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    // The beginning of another file is here: it is fetched again, whole.
    let (address, _, program) = release_server(&[]);
    fs::write(dir.path().join("k3s-arm64.part"), b"something else").unwrap();
    assert_eq!(fetch(&address, dir.path(), &sha256(&program)).unwrap(), program);
    fs::remove_file(dir.path().join("k3s-arm64")).unwrap();

    let url = format!("{address}/v1.34.6%2Bk3s1/k3s-riscv64");
    let to = dir.path().join("k3s-riscv64");
    let error = download_of(&url, &to, &sha256(b""), PATIENCE, &Silent).unwrap_err().to_string();
    assert!(error.contains("there is nothing at"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let (address, ..) = release_server(&[(PROGRAM, &[Fault::Refuses; 4])]);
    let error = fetch(&address, dir.path(), &sha256(b"")).unwrap_err().chain();
    assert!(error.contains("the next run goes on") && error.contains("503"), "{error}");
}

const INFO: &str = "?fields=channel-map,revision,version,base,download";

fn entry(arch: &str, channel: &str, revision: u64, version: &str, base: Option<&str>, bytes: &[u8]) -> Value {
    let sha3 = hex(&Sha3_384::digest(bytes));
    json!({ "channel": { "architecture": arch, "name": channel, "risk": "stable", "track": "x" }, "revision": revision,
        "version": version, "base": base, "download": { "sha3-384": sha3, "size": bytes.len(), "url": "elsewhere" } })
}

/// A store in which MicroK8s 1.36 is stable, 1.35 was so for one architecture already, and 1.34 has a snap that is not
/// what its digest says.
fn store_server() -> (Releases, Arc<Server>, tempfile::TempDir) {
    let mut server = Server::default();
    let mut add = |snap: &str, id: &str, entries: Vec<(Value, &[u8])>| {
        for (entry, bytes) in &entries {
            let revision = entry["revision"].as_u64().unwrap();
            let digest = URL_SAFE_NO_PAD.encode(Sha3_384::digest(bytes));
            let stored = if revision == 9000 { b"another" } else { *bytes };
            server.files.insert(format!("/api/v1/snaps/download/{id}_{revision}.snap"), stored.to_vec());
            let text = format!(
                "type: snap-revision\nsnap-sha3-384: {digest}\nsnap-id: {id}\nsnap-revision: {revision}\nsign-key-sha3-384: KEY\n\nAcSIGNATURE\n"
            );
            server.files.insert(format!("/v2/assertions/snap-revision/{digest}"), text.into_bytes());
        }
        let text = format!(
            "type: snap-declaration\nsnap-id: {id}\npublisher-id: canonical\nsign-key-sha3-384: KEY\n\nAcSIGNATURE\n"
        );
        server.files.insert(format!("/v2/assertions/snap-declaration/16/{id}?max-format=7"), text.into_bytes());
        let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
        let info = json!({ "snap-id": id, "channel-map": entries }).to_string();
        server.files.insert(format!("/v2/snaps/info/{snap}{INFO}"), info.into_bytes());
    };
    let own = |arch, channel, revision, version, bytes: &'static [u8]| {
        (entry(arch, channel, revision, version, Some("core22"), bytes), bytes)
    };
    add(
        "microk8s",
        "MID",
        vec![
            own("arm64", "1.36/stable", 9123, "v1.36.3", b"microk8s for arm64"),
            own("amd64", "1.36/stable", 9124, "v1.36.3", b"microk8s for amd64"),
            own("arm64", "1.35/stable", 9050, "v1.35.6", b"older for arm64"),
            own("amd64", "1.35/stable", 9061, "v1.35.7", b"older for amd64"),
            own("arm64", "1.34/stable", 9000, "v1.34.9", b"oldest for arm64"),
        ],
    );
    for (snap, id) in [("snapd", "SID"), ("core22", "CID")] {
        let bytes = id.as_bytes();
        let old = entry("arm64", "edge", 70, "2.80", None, b"edge");
        add(snap, id, vec![(old, b"edge"), (entry("arm64", "stable", 60, "2.79", None, bytes), bytes)]);
    }
    let key = b"type: account-key\nsign-key-sha3-384: ROOT\n\nAcSIGNATURE\n".to_vec();
    server.files.insert("/v2/assertions/account-key/KEY?max-format=1".into(), key);
    let (address, server) = server.start();
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::Store(SnapStore { address });
    let releases = Releases { upstream: microk8s(), origin, cache: dir.path().join("releases/microk8s") };
    (releases, server, dir)
}

#[test]
fn snaps_are_chosen_once_and_come_with_those_who_vouch_for_them() {
    let (releases, server, dir) = store_server();
    let open = || LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let mut lock = open();
    let minor: WantedRelease = "1.36".parse().unwrap();
    let version = releases.version(&minor, &["arm64", "amd64"], &mut lock, &Silent).unwrap();
    assert_eq!(version, "1.36.3+r9124", "the highest revision names it");
    let release = releases.release(&version, &["arm64", "armhf"], &mut lock, &Silent).unwrap();
    let names: Vec<&str> = release.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "core22_arm64.assert",
            "core22_arm64.snap",
            "microk8s_arm64.assert",
            "microk8s_arm64.snap",
            "snapd_arm64.assert",
            "snapd_arm64.snap"
        ]
    );
    assert_eq!(fs::read(&release.files["microk8s_arm64.snap"].path).unwrap(), b"microk8s for arm64");
    assert_eq!(fs::read(&release.files["core22_arm64.snap"].path).unwrap(), b"CID", "the stable one");
    let assertion = fs::read_to_string(&release.files["microk8s_arm64.assert"].path).unwrap();
    let types: Vec<&str> = assertion.lines().filter_map(|line| line.strip_prefix("type: ")).collect();
    assert_eq!(types, ["account-key", "snap-declaration", "snap-revision"]);
    assert!(assertion.contains("AcSIGNATURE\n\ntype: snap-declaration"), "{assertion}");

    // All of it is known now, and a snap that is gone comes again.
    let asked = server.asked.lock().unwrap().len();
    assert_eq!(releases.release(&version, &["arm64"], &mut open(), &Silent).unwrap(), release);
    assert_eq!(server.asked.lock().unwrap().len(), asked);
    let path = &release.files["microk8s_arm64.snap"].path;
    fs::remove_file(path).unwrap();
    releases.bring(&release, path, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"microk8s for arm64");

    let by_name: WantedRelease = "v1.36.3+r9124".parse().unwrap();
    assert_eq!(releases.version(&by_name, &["arm64"], &mut open(), &Silent).unwrap(), version);
}

#[test]
fn what_the_store_does_not_have_or_not_for_all_is_said() {
    let (releases, _, dir) = store_server();
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let mut version =
        |wanted: &str, arches: &[&str]| releases.version(&wanted.parse().unwrap(), arches, &mut lock, &Silent);
    let error = version("1.35", &["arm64", "amd64"]).unwrap_err().to_string();
    assert!(error.contains("v1.35.7 for amd64 and v1.35.6 for arm64 in 1.35/stable now"), "{error}");
    assert_eq!(version("1.34", &["arm64"]).unwrap(), "1.34.9+r9000");
    let error = version("1.33", &["arm64"]).unwrap_err().to_string();
    assert!(error.contains("no microk8s for arm64 in 1.33/stable"), "{error}");
    let error = version("stable", &["arm64"]).unwrap_err().to_string();
    assert!(error.contains("in latest/stable"), "{error}");

    let mut lock = LockFile::open(&dir.path().join("other.lock"), dir.path().join("cache")).unwrap();
    let mut release =
        |version: &str, arch: &str| releases.release(version, &[arch], &mut lock, &Silent).unwrap_err().to_string();
    let error = release("1.36.3+r8000", "arm64");
    assert!(error.contains("1.36.3+r8000 in no channel any more"), "{error}");
    let error = release("1.35.7+r9061", "arm64");
    assert!(error.contains("no microk8s v1.35.7 for arm64"), "{error}");
    let error = release("1.34.9+r9000", "arm64");
    assert!(error.contains("it is refused"), "{error}");
    let left = fs::read_dir(dir.path().join("releases/microk8s/v1.34.9+r9000")).unwrap();
    assert!(left.flatten().all(|file| !file.file_name().to_string_lossy().starts_with("microk8s")));
}

#[test]
fn a_bundle_has_the_snaps_and_the_images_that_were_added() {
    let (releases, _, dir) = store_server();
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let wanted: WantedRelease = "1.36".parse().unwrap();
    let mut release = releases.release("1.36.3+r9123", &["arm64"], &mut lock, &Silent).unwrap();
    let archive = dir.path().join("images.tar");
    fs::write(&archive, "images").unwrap();
    let sha256 = file_digest(&archive).unwrap();
    release.files.insert("images_arm64.tar".into(), LocalFile { path: archive, sha256 });
    release.images.push("docker.io/library/busybox:1.36".into());
    let bundle = dir.path().join("bundle");
    releases.bundle(&release, &microk8s().files(&release, "arm64"), &bundle, &Silent).unwrap();
    releases.describe(&wanted, &release, &["arm64"], &bundle, &mut lock, &Silent).unwrap();

    let mut lock = LockFile::open(&dir.path().join("other.lock"), dir.path().join("other")).unwrap();
    let offline = Releases::new(microk8s(), None, Some(&bundle), &dir.path().join("none"));
    assert_eq!(offline.version(&wanted, &["arm64"], &mut lock, &Silent).unwrap(), "1.36.3+r9123");
    let same = offline.release("1.36.3+r9123", &["arm64"], &mut lock, &Silent).unwrap();
    assert!(same.offline);
    assert_eq!(same.images, release.images);
    let digests = |release: &Release| {
        release.files.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect::<Vec<_>>()
    };
    assert_eq!(digests(&same), digests(&release));
    assert_eq!(fs::read(&same.files["images_arm64.tar"].path).unwrap(), b"images");
}

#[test]
fn a_program_in_the_cache_whose_bytes_changed_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let (address, _, program) = release_server(&[]);
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let releases = Releases::new(k3s(), Some(&address), None, &dir.path().join("releases"));
    let release = releases.release("1.34.6+k3s1", &["arm64"], &mut lock, &Silent).unwrap();
    let path = &release.files["k3s-arm64"].path;
    releases.bring(&release, path, &Silent).unwrap();
    let mut changed = program.clone();
    changed[1000] ^= 1;
    fs::write(path, changed).unwrap();
    releases.bring(&release, path, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), program);
}

#[test]
fn a_program_in_a_bundle_whose_bytes_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (address, ..) = release_server(&[]);
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let releases = Releases::new(k3s(), Some(&address), None, &dir.path().join("releases"));
    let release = releases.release("1.34.6+k3s1", &["arm64"], &mut lock, &Silent).unwrap();
    let bundle = dir.path().join("bundle");
    releases.bundle(&release, &["k3s-arm64".to_owned()], &bundle, &Silent).unwrap();
    releases.describe(&"1.34.6+k3s1".parse().unwrap(), &release, &["arm64"], &bundle, &mut lock, &Silent).unwrap();
    let offline = Releases::new(k3s(), None, Some(&bundle), &dir.path().join("none"));
    let release = offline.release("1.34.6+k3s1", &["arm64"], &mut lock, &Silent).unwrap();
    let path = &release.files["k3s-arm64"].path;
    fs::write(path, "altered").unwrap();
    let error = offline.bring(&release, path, &Silent).unwrap_err().to_string();
    assert!(error.contains("it is refused") && error.contains("bundle create"), "{error}");
}

#[test]
fn a_list_that_is_none_is_not_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::default();
    server.files.insert("/v1.34.6%2Bk3s1/sha256sum-arm64.txt".into(), b"be right back\n".to_vec());
    let (address, _) = server.start();
    let path = dir.path().join("bramble.lock");
    let mut lock = LockFile::open(&path, dir.path().join("cache")).unwrap();
    let releases = Releases::new(k3s(), Some(&address), None, &dir.path().join("releases"));
    let error = releases.release("1.34.6+k3s1", &["arm64"], &mut lock, &Silent).unwrap_err().chain();
    assert!(error.contains("no list of SHA-256 digests") && !path.exists(), "{error}");
}

#[test]
fn a_release_that_is_not_there_yet_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, _) = Server::default().start();
    let (address, ..) = release_server(&[]);
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let cache = dir.path().join("releases");
    let at = |address: &str, lock: &mut LockFile| {
        Releases::new(k3s(), Some(address), None, &cache).release("1.34.6+k3s1", &["arm64"], lock, &Silent)
    };
    at(&empty, &mut lock).unwrap_err();
    assert!(at(&address, &mut lock).is_ok());
}

#[test]
fn a_list_that_names_files_elsewhere_is_refused() {
    for name in ["../../.bashrc", "/etc/passwd", ".profile", "a\u{1b}[2J"] {
        let error = digests(&format!("{}  {name}\n", sha256(b""))).unwrap_err().to_string();
        assert!(error.contains("not in the release's own folder"), "{name}: {error}");
    }
}

#[test]
fn a_release_that_was_edited_into_the_lock_file_leads_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bramble.lock");
    fs::write(&path, r#"{"files": {}, "versions": {"k3s stable": "1.34.6/../../../x"}}"#).unwrap();
    let mut lock = LockFile::open(&path, dir.path().join("cache")).unwrap();
    let releases = Releases::new(k3s(), Some("http://127.0.0.1:1"), None, &dir.path().join("releases"));
    let error = releases.version(&"stable".parse().unwrap(), &["arm64"], &mut lock, &Silent).unwrap_err().to_string();
    assert!(error.contains("which is no release: remove that entry"), "{error}");
}

#[test]
fn a_base_whose_name_leads_elsewhere_is_refused() {
    let name = |text: &str| serde_json::from_value::<crate::snap_store::SnapName>(json!(text));
    assert!(name("core22").is_ok() && name("../../core22").is_err());
}

#[test]
fn assertions_in_the_cache_whose_bytes_changed_are_fetched_again() {
    let (releases, _, dir) = store_server();
    let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
    let release = releases.release("1.36.3+r9123", &["arm64"], &mut lock, &Silent).unwrap();
    let path = &release.files["microk8s_arm64.assert"].path;
    let whole = fs::read(path).unwrap();
    fs::write(path, "altered").unwrap();
    releases.release("1.36.3+r9123", &["arm64"], &mut lock, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), whole);
}
