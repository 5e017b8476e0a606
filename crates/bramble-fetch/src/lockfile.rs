//! `bramble.lock`: the exact bytes that were chosen at first use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bramble_kube::Identity;
use bramble_spec::{ClusterName, KubeVersion, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::atomic_file::replace_file;
use crate::digest::{Sha512Digits, text_digest};
use crate::error::{FetchError, Result, bail, failure};
use crate::http::long_text_at;
use crate::small_file::read_text;
use crate::snap_store::Revision;
use crate::watcher::Watcher;

/// Holds the text of the lock file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    /// The identities of clusters, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    clusters: BTreeMap<String, Identity>,
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
    pub(crate) sha256: Sha256Digest,
    /// Of the assertions that vouch for it. Lock files of older programs lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) assertions: Option<Sha256Digest>,
}

/// The image of a system as it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImagePin {
    pub(crate) url: String,
    /// Of the file that is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Sha256Digest>,
    /// The same, where only this one is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha512: Option<Sha512Digits>,
    /// Of what is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unpacked: Option<Sha256Digest>,
    /// The day on which it was published.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) released: String,
    /// The fingerprint of the key with which its publisher has signed it, if that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed_with: Option<String>,
}

impl ImagePin {
    /// Names an image of which nothing else is known.
    pub(crate) fn at(url: &str) -> ImagePin {
        ImagePin {
            url: url.to_owned(),
            sha256: None,
            sha512: None,
            unpacked: None,
            released: String::new(),
            signed_with: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    /// What it is used for.
    purpose: String,
    sha256: Sha256Digest,
}

/// Keeps what comes from elsewhere as it was when it was first used: versions that were chosen, digests of files.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    /// The folder in which texts are kept, by their digests.
    cache: PathBuf,
    contents: Contents,
}

impl LockFile {
    /// Opens a lock file, which need not be there yet. `cache`: the folder in which texts are kept.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path, cache: PathBuf) -> Result<LockFile> {
        match path.exists() {
            true => LockFile::parse(&read_text(path)?, path, cache),
            false => Ok(LockFile { path: path.to_owned(), cache, contents: Contents::default() }),
        }
    }

    /// Reads the text of the lock file that lies at `path`. `cache`: the folder in which texts are kept.
    ///
    /// # Errors
    /// It is not the text of a lock file.
    pub fn parse(text: &str, path: &Path, cache: PathBuf) -> Result<LockFile> {
        let contents = serde_json::from_str(text).map_err(|error| {
            let said = error.to_string();
            // What our own types say of a value is of use, what a library says of a form is not.
            let of_form = !error.is_data() || ["invalid ", "missing ", "unknown "].iter().any(|word| said.starts_with(word));
            let why = if of_form { String::new() } else { format!(" ({said})") };
            failure!(
                "{} line {}{why} is not as bramble wrote it: take the file back from your version control; without it what is newest is chosen anew",
                path.display(),
                error.line()
            )
        })?;
        Ok(LockFile { path: path.to_owned(), cache, contents })
    }

    /// Renders the text of the lock file.
    ///
    /// # Errors
    /// None are known.
    pub fn render(&self) -> Result<String> {
        Ok(format!("{:#}\n", serde_json::to_value(&self.contents)?))
    }

    /// Gives the version with its patch that is installed from an apt repository: chosen once, then kept.
    pub(crate) fn kubernetes(
        &mut self,
        repository: &str,
        wanted: KubeVersion,
        watcher: &dyn Watcher,
    ) -> Result<KubeVersion> {
        if wanted.patch.is_some() {
            return Ok(wanted);
        }
        let url = format!("{repository}Packages");
        if let Some(version) = self.contents.versions.get(&url) {
            return version.parse().map_err(|_| {
                failure!("{} pins `{version}` for {url}, which is no version; remove that line", self.path.display())
            });
        }
        let version = newest(&long_text_at(&url, watcher)?, "kubeadm", wanted.minor)
            .ok_or_else(|| failure!("{repository} offers no kubeadm {wanted}"))?;
        self.contents.versions.insert(url, version.to_string());
        self.save()?;
        Ok(version)
    }

    /// Gives the identity of a cluster that was made from here.
    pub fn identity(&self, cluster: &ClusterName) -> Option<&Identity> {
        self.contents.clusters.get(cluster.as_str())
    }

    /// Keeps the identity of a cluster, or forgets that there is one.
    ///
    /// # Errors
    /// The lock file cannot be written.
    pub fn set_identity(&mut self, cluster: &ClusterName, identity: Option<Identity>) -> Result<()> {
        if self.identity(cluster) == identity.as_ref() {
            return Ok(());
        }
        match identity {
            Some(identity) => self.contents.clusters.insert(cluster.to_string(), identity),
            None => self.contents.clusters.remove(cluster.as_str()),
        };
        self.save()
    }

    fn save(&self) -> Result<()> {
        replace_file(&self.path, self.render()?.as_bytes(), 0o644)
    }

    /// Gives the release that a channel offers: looked up once, then kept.
    pub(crate) fn release(&mut self, channel: &str, look_up: impl FnOnce() -> Result<String>) -> Result<String> {
        self.kept(|contents| &mut contents.versions, channel, look_up)
    }

    /// Gives the snaps of a release for an architecture: looked up once, then kept.
    pub(crate) fn snaps(
        &mut self,
        release: &str,
        look_up: impl FnOnce() -> Result<Vec<SnapPin>>,
    ) -> Result<Vec<SnapPin>> {
        self.kept(|contents| &mut contents.snaps, release, look_up)
    }

    /// Gives the image that is pinned for a name or a URL.
    pub(crate) fn pinned_image(&self, name: &str) -> Option<ImagePin> {
        self.contents.images.get(name).cloned()
    }

    /// Pins the image that a name or a URL stands for.
    pub(crate) fn pin_image(&mut self, name: &str, pin: ImagePin) -> Result<()> {
        self.contents.images.insert(name.to_owned(), pin);
        self.save()
    }

    /// Pins other snaps for a release and an architecture than before.
    pub(crate) fn pin_snaps(&mut self, release: &str, pins: Vec<SnapPin>) -> Result<()> {
        self.contents.snaps.insert(release.to_owned(), pins);
        self.save()
    }

    /// Forgets what was pinned for a URL.
    pub(crate) fn forget(&mut self, url: &str) -> Result<()> {
        match self.contents.files.remove(url) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    /// Gives what the lock file has under a name, or else what is found now.
    fn kept<T: Clone>(
        &mut self,
        of: fn(&mut Contents) -> &mut BTreeMap<String, T>,
        name: &str,
        look_up: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(pinned) = of(&mut self.contents).get(name) {
            return Ok(pinned.clone());
        }
        let found = look_up()?;
        of(&mut self.contents).insert(name.to_owned(), found.clone());
        self.save()?;
        Ok(found)
    }

    /// Gives the text behind a URL: from the cache if it is there, else fetched. Bytes other than the pinned ones are
    /// refused, and so is a text that does not pass `check`: that is never pinned.
    pub(crate) fn fetch(
        &mut self,
        purpose: &str,
        url: &str,
        check: impl Fn(&str) -> Result<()>,
        watcher: &dyn Watcher,
    ) -> Result<String> {
        self.text(purpose, url, check, || long_text_at(url, watcher))
    }

    /// Does the same with the text from where `get` has it: the URL is only its name.
    pub(crate) fn text(
        &mut self,
        purpose: &str,
        url: &str,
        check: impl Fn(&str) -> Result<()>,
        get: impl FnOnce() -> Result<String>,
    ) -> Result<String> {
        let pinned = self.contents.files.get(url).cloned();
        let unusable = |error: FetchError| error.context(format!("{url} cannot be used ({purpose})"));
        if let Some(pin) = &pinned
            && let Ok(text) = fs::read_to_string(self.cache.join(pin.sha256.as_str()))
            && text_digest(&text)? == pin.sha256
        {
            let pinned = |error| {
                unusable(error).context(format!("{} pins what is broken: remove its entry", self.path.display()))
            };
            return check(&text).map(|()| text).map_err(pinned);
        }
        let text = get()?;
        let sha256 = text_digest(&text)?;
        if let Some(pin) = &pinned
            && pin.sha256 != sha256
        {
            bail!(
                "{url} has changed: its digest is {sha256}, {} pins {}; remove the pin if the change is wanted",
                self.path.display(),
                pin.sha256
            );
        }
        check(&text).map_err(unusable)?;
        if pinned.is_none() {
            self.contents.files.insert(url.to_owned(), Pin { purpose: purpose.to_owned(), sha256: sha256.clone() });
            self.save()?;
        }
        fs::create_dir_all(&self.cache)?;
        replace_file(&self.cache.join(sha256.as_str()), text.as_bytes(), 0o600)?;
        Ok(text)
    }
}

/// Finds the newest patch of a minor in the index of an apt repository (deb822(5), one paragraph for each package and version).
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::watcher::Silent;

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
        let url = serve(&["one", "two"]);
        let fetch = || LockFile::open(&lock, cache.clone()).unwrap().fetch("a test", &url, |_| Ok(()), &Silent);
        assert_eq!(fetch().unwrap(), "one");
        assert_eq!(fetch().unwrap(), "one", "the second time comes from the cache");
        fs::remove_dir_all(&cache).unwrap();
        let error = fetch().unwrap_err().to_string();
        assert!(error.contains("has changed") && error.contains("bramble.lock"), "{error}");
    }

    #[test]
    fn the_newest_patch_is_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        let url = serve(&[
            "Package: kubeadm\nVersion: 1.36.9-1.1\n\nPackage: kubeadm\nVersion: 1.36.10-1.1\nArchitecture: arm64\n\n\
             Package: kubelet\nVersion: 1.36.11-1.1\n\nPackage: kubeadm\nVersion: 1.35.12-1.1\n",
        ]);
        let wanted: KubeVersion = "1.36".parse().unwrap();
        for time in ["the first time", "from the lock file, since the server answers once"] {
            let mut lock = LockFile::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
            assert_eq!(lock.kubernetes(&url, wanted, &Silent).unwrap().to_string(), "1.36.10", "{time}");
            let own: KubeVersion = "1.36.2".parse().unwrap();
            assert_eq!(lock.kubernetes(&url, own, &Silent).unwrap(), own, "what is named is not looked up");
        }
    }
}
