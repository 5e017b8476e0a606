//! `bramble.lock`: the exact bytes that were chosen at first use.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bramble_spec::{KubeVersion, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::images::ImagePin;
use crate::output::Printer;
use crate::store::Revision;

#[derive(Debug, Default, Serialize, Deserialize)]
struct LockFile {
    /// By URL.
    files: BTreeMap<String, Pin>,
    /// Versions that were chosen, by the URL that offered them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    versions: BTreeMap<String, String>,
    /// The snaps of releases, by release and architecture.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    snaps: BTreeMap<String, Vec<SnapPin>>,
    /// The images of systems, by name or URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<String, ImagePin>,
}

/// A snap as it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapPin {
    #[serde(flatten)]
    pub(crate) revision: Revision,
    pub(crate) sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    /// What it is used for.
    purpose: String,
    sha256: String,
}

/// Files from elsewhere, each with the digest that it had when it was first used.
pub(crate) struct Pins {
    path: PathBuf,
    cache: PathBuf,
    lock: LockFile,
}

/// More than any manifest or key has.
const LIMIT: u64 = 32 * 1024 * 1024;

impl Pins {
    pub(crate) fn open(path: &Path, cache: PathBuf) -> anyhow::Result<Pins> {
        let lock = match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => LockFile::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Pins { path: path.to_owned(), cache, lock })
    }

    /// The version with its patch that is installed from an apt repository: chosen once, then kept.
    pub(crate) fn kubernetes(
        &mut self,
        repository: &str,
        wanted: KubeVersion,
        printer: &Printer,
    ) -> anyhow::Result<KubeVersion> {
        if wanted.patch.is_some() {
            return Ok(wanted);
        }
        let url = format!("{repository}Packages");
        if let Some(version) = self.lock.versions.get(&url) {
            return version.parse().map_err(|_| {
                anyhow!("{} pins `{version}` for {url}, which is no version; remove that line", self.path.display())
            });
        }
        let version = newest(&get(&url, printer)?, "kubeadm", wanted.minor)
            .ok_or_else(|| anyhow!("{repository} offers no kubeadm {wanted}"))?;
        self.lock.versions.insert(url, version.to_string());
        self.save()?;
        Ok(version)
    }

    fn save(&self) -> anyhow::Result<()> {
        replace(&self.path, format!("{:#}\n", serde_json::to_value(&self.lock)?).as_bytes(), 0o644)
    }

    /// The release that a channel offers: looked up once, then kept.
    pub(crate) fn release(
        &mut self,
        channel: &str,
        look_up: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        self.kept(|lock| &mut lock.versions, channel, look_up)
    }

    /// The snaps of a release for an architecture: looked up once, then kept.
    pub(crate) fn snaps(
        &mut self,
        release: &str,
        look_up: impl FnOnce() -> anyhow::Result<Vec<SnapPin>>,
    ) -> anyhow::Result<Vec<SnapPin>> {
        self.kept(|lock| &mut lock.snaps, release, look_up)
    }

    /// The image that a name or a URL stands for: looked up once, then kept.
    pub(crate) fn image(
        &mut self,
        name: &str,
        look_up: impl FnOnce() -> anyhow::Result<ImagePin>,
    ) -> anyhow::Result<ImagePin> {
        self.kept(|lock| &mut lock.images, name, look_up)
    }

    /// What the lock file has under a name, or else what is found now.
    fn kept<T: Clone>(
        &mut self,
        of: fn(&mut LockFile) -> &mut BTreeMap<String, T>,
        name: &str,
        look_up: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Some(pinned) = of(&mut self.lock).get(name) {
            return Ok(pinned.clone());
        }
        let found = look_up()?;
        of(&mut self.lock).insert(name.to_owned(), found.clone());
        self.save()?;
        Ok(found)
    }

    /// The text behind a URL: from the cache if it is there, else fetched. Bytes other than the pinned ones are refused.
    pub(crate) fn fetch(&mut self, purpose: &str, url: &str, printer: &Printer) -> anyhow::Result<String> {
        self.text(purpose, url, || get(url, printer))
    }

    /// The same, with the text from where `get` has it: the URL is only its name.
    pub(crate) fn text(
        &mut self,
        purpose: &str,
        url: &str,
        get: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let pinned = self.lock.files.get(url).cloned();
        if let Some(pin) = &pinned
            && let Ok(text) = fs::read_to_string(self.cache.join(&pin.sha256))
            && digest(&text) == pin.sha256
        {
            return Ok(text);
        }
        let text = get()?;
        let sha256 = digest(&text);
        if let Some(pin) = pinned {
            if pin.sha256 != sha256 {
                bail!(
                    "{url} has changed: its digest is {sha256}, {} pins {}; remove the pin if the change is wanted",
                    self.path.display(),
                    pin.sha256
                );
            }
        } else {
            self.lock.files.insert(url.to_owned(), Pin { purpose: purpose.to_owned(), sha256: sha256.clone() });
            self.save()?;
        }
        fs::create_dir_all(&self.cache)?;
        replace(&self.cache.join(&sha256), text.as_bytes(), 0o600)?;
        Ok(text)
    }
}

pub(crate) fn get(url: &str, printer: &Printer) -> anyhow::Result<String> {
    printer.info(format!("fetching {url}"));
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into();
    let mut response = agent.get(url).call().with_context(|| format!("cannot fetch {url}"))?;
    let body = response.body_mut().with_config().limit(LIMIT);
    body.read_to_string().with_context(|| format!("cannot fetch {url}"))
}

/// The newest patch of a minor in the index of an apt repository (deb822(5), one paragraph for each package and version).
fn newest(index: &str, package: &str, minor: u32) -> Option<KubeVersion> {
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    index
        .split("\n\n")
        .filter(|paragraph| field(paragraph, "Package:").as_deref() == Some(package))
        .filter_map(|paragraph| field(paragraph, "Version:")?.split('-').next()?.parse::<KubeVersion>().ok())
        .filter(|version| version.minor == minor)
        .max_by_key(|version| version.patch)
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Writes a file beside its place, with its mode from the start, and moves it there whole.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;
    use crate::output::Format;

    /// Serves each of the bodies once, in their order.
    fn serve(bodies: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/manifest", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for body in bodies {
                let (stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
                    .unwrap();
            }
        });
        url
    }

    #[test]
    fn what_was_fetched_once_is_pinned_and_a_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, cache) = (dir.path().join("bramble.lock"), dir.path().join("cache"));
        let printer = Printer::new(Format::Text, true, false);
        let url = serve(&["one", "two"]);
        let fetch = || Pins::open(&lock, cache.clone()).unwrap().fetch("test", &url, &printer);
        assert_eq!(fetch().unwrap(), "one");
        assert_eq!(fetch().unwrap(), "one", "the second time comes from the cache");
        fs::remove_dir_all(&cache).unwrap();
        let error = fetch().unwrap_err().to_string();
        assert!(error.contains("has changed") && error.contains("bramble.lock"), "{error}");
    }

    #[test]
    fn the_newest_patch_is_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        let printer = Printer::new(Format::Text, true, false);
        let url = serve(&[
            "Package: kubeadm\nVersion: 1.36.9-1.1\n\nPackage: kubeadm\nVersion: 1.36.10-1.1\nArchitecture: arm64\n\n\
             Package: kubelet\nVersion: 1.36.11-1.1\n\nPackage: kubeadm\nVersion: 1.35.12-1.1\n",
        ]);
        let wanted: KubeVersion = "1.36".parse().unwrap();
        for time in ["the first time", "from the lock file, since the server answers once"] {
            let mut pins = Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
            assert_eq!(pins.kubernetes(&url, wanted, &printer).unwrap().to_string(), "1.36.10", "{time}");
            let own: KubeVersion = "1.36.2".parse().unwrap();
            assert_eq!(pins.kubernetes(&url, own, &printer).unwrap(), own, "what is named is not looked up");
        }
    }
}
