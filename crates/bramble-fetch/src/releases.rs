//! Releases of distributions, from upstream, from a mirror or out of a bundle: all three have the same files.

use std::fs;
use std::path::{Path, PathBuf};

use bramble_kube::{LocalFile, Reference, Release, Upstream};
use bramble_spec::{Arch, Sha256Digest, WantedRelease};

use crate::atomic_file::replace_file;
use crate::digest::{Digest, file_digest};
use crate::error::{Context, Result, bail, failure};
use crate::http::{PATIENCE, RELEASE_LIMIT, Remote, download, led_to, text_at};
use crate::lockfile::{LockFile, SnapPin};
use crate::small_file::read_text;
use crate::snap_store::{Revision, SnapStore, vouch_for};
use crate::watcher::Watcher;

/// Gets the releases of a distribution from where they are.
pub struct Releases {
    upstream: &'static Upstream,
    origin: Origin,
    /// The folder of files that were fetched.
    cache: PathBuf,
}

enum Origin {
    Web {
        downloads: String,
        /// Whether it is a mirror: then its channels are below its own address.
        mirror: bool,
    },
    /// A bundle, with `<version>/<file>` and `channels/<channel>` in it.
    Folder(PathBuf),
    Store(SnapStore),
}

impl Releases {
    /// Says where releases come from. `mirror`: an address with the same files, without a `/` at its end; `bundle`: a bundle's folder; `cache`: where
    /// fetched files go.
    pub fn new(upstream: &'static Upstream, mirror: Option<&str>, bundle: Option<&Path>, cache: &Path) -> Releases {
        let origin = match (bundle, mirror) {
            (Some(bundle), _) => Origin::Folder(bundle.join(upstream.name)),
            (None, Some(mirror)) => Origin::Web { downloads: mirror.to_owned(), mirror: true },
            (None, None) if upstream.store => Origin::Store(SnapStore { address: upstream.downloads.to_owned() }),
            (None, None) => Origin::Web { downloads: upstream.downloads.to_owned(), mirror: false },
        };
        Releases { upstream, origin, cache: cache.join(upstream.name) }
    }

    /// Gives who makes these releases.
    pub fn upstream(&self) -> &'static Upstream {
        self.upstream
    }

    /// Tells whether they are releases of this distribution.
    pub fn is_of(&self, upstream: &Upstream) -> bool {
        self.upstream.name == upstream.name
    }

    /// Names the channel of a wish that names no release.
    fn channel(wanted: &WantedRelease) -> String {
        match wanted.minor() {
            Some(minor) => format!("v1.{minor}"),
            None => wanted.to_string(),
        }
    }

    /// Gives the version of the release that is wanted for these architectures, without `v`: looked up once, then as the lock
    /// file says.
    ///
    /// # Errors
    /// There is no such channel, or it leads to no release.
    pub fn version(
        &self,
        wanted: &WantedRelease,
        arches: &[&str],
        lock: &mut LockFile,
        watcher: &dyn Watcher,
    ) -> Result<String> {
        if wanted.build().is_some() {
            return Ok(wanted.to_string());
        }
        let channel = Self::channel(wanted);
        let release = lock.release(&format!("{} {channel}", self.upstream.name), || {
            let (place, name) = match &self.origin {
                Origin::Web { downloads, mirror } => {
                    let url = match mirror {
                        true => Some(format!("{downloads}/channels/{channel}")),
                        false => (self.upstream.channel)(&channel),
                    };
                    let url = url.ok_or_else(|| {
                        failure!("{} has no channel for {channel}: name a release", self.upstream.name)
                    })?;
                    (url.clone(), led_to(&url, watcher)?)
                }
                Origin::Folder(dir) => {
                    let path = dir.join("channels").join(&channel);
                    let text = read_text(&path).with_context(|| {
                        format!("the bundle has no release of {} {channel} ({})", self.upstream.name, path.display())
                    })?;
                    (path.display().to_string(), text)
                }
                Origin::Store(store) => {
                    let channel = (self.upstream.channel)(&channel).unwrap_or_else(|| channel.clone());
                    let release = store.channel(self.upstream.name, &channel, arches, watcher)?;
                    (format!("{} {channel}", store.address), release)
                }
            };
            let shown: String = name.trim().chars().take(80).collect();
            let release = named_release(&name);
            release.ok_or_else(|| failure!("{place} leads to no release, but to `{}`", shown.escape_debug()))
        })?;
        // It becomes a part of paths, and the lock file may have been edited.
        named_release(&release).ok_or_else(|| {
            failure!(
                "bramble.lock pins `{}` for {} {channel}, which is no release: remove that entry",
                release.escape_debug(),
                self.upstream.name
            )
        })
    }

    /// Gives what upstream says of a release for these architectures (as Debian calls them).
    ///
    /// # Errors
    /// There is no such release, or a list of it is not the one that was pinned.
    pub fn release(
        &self,
        version: &str,
        arches: &[&str],
        lock: &mut LockFile,
        watcher: &dyn Watcher,
    ) -> Result<Release> {
        let mut release = Release {
            version: version.to_owned(),
            offline: matches!(self.origin, Origin::Folder(_)),
            ..Release::default()
        };
        if let Origin::Store(store) = &self.origin {
            for arch in arches.iter().filter(|arch| self.upstream.architectures.contains(arch)) {
                self.add_snaps(store, arch, &mut release, lock, watcher)?;
            }
            return Ok(release);
        }
        let mut lists: Vec<&str> = arches.iter().map(|arch| (self.upstream.digests)(arch)).collect();
        lists.sort_unstable();
        lists.dedup();
        for list in &lists {
            for (name, sha256) in digests(&self.list(version, list, lock, watcher)?)? {
                let path = self.path(version, &name);
                release.files.insert(name, LocalFile { path, sha256 });
            }
        }
        if release.files.is_empty() {
            // It may be there later: what is pinned now are lists that are not there.
            for list in lists {
                lock.forget(&self.address(version, list))?;
            }
            bail!(
                "{} has no release v{version} for {}",
                match &self.origin {
                    Origin::Web { downloads, .. } => downloads.clone(),
                    Origin::Folder(dir) => format!("the bundle {}", dir.display()),
                    Origin::Store(store) => store.address.clone(),
                },
                arches.join(", ")
            );
        }
        let mut lists: Vec<&str> = arches.iter().map(|arch| (self.upstream.images)(arch)).collect();
        lists.dedup();
        for list in lists {
            release.images.extend(image_names(&self.list(version, list, lock, watcher)?)?);
        }
        release.images.sort();
        release.images.dedup();
        Ok(release)
    }

    /// Adds the snaps of a release for an architecture. The store says SHA3-384 of them, boards compute SHA-256: what has not
    /// been here before is fetched at once.
    fn add_snaps(
        &self,
        store: &SnapStore,
        arch: &str,
        release: &mut Release,
        lock: &mut LockFile,
        watcher: &dyn Watcher,
    ) -> Result<()> {
        let version = release.version.clone();
        let place = |snap: &str, suffix: &str| {
            let name = format!("{snap}_{arch}.{suffix}");
            (self.path(&version, &name), name)
        };
        let key = format!("{} v{version} {arch}", self.upstream.name);
        let mut pins = lock.snaps(&key, || {
            let revisions = store.revisions(self.upstream.name, &version, arch, watcher)?;
            let fetch = |revision: Revision| {
                let (path, _) = place(revision.snap.as_str(), "snap");
                let (url, digest) = (store.download(&revision), Digest::Sha3(&revision.sha3_384));
                download(&Remote { url: &url, headers: &[], digest, most: RELEASE_LIMIT }, &path, PATIENCE, watcher)?;
                Ok(SnapPin { sha256: file_digest(&path)?, revision, assertions: None })
            };
            revisions.into_iter().map(fetch).collect()
        })?;
        let mut fresh = false;
        for pin in &mut pins {
            let (path, name) = place(pin.revision.snap.as_str(), "snap");
            release.urls.insert(name.clone(), store.download(&pin.revision));
            release.files.insert(name, LocalFile { path, sha256: pin.sha256.clone() });
            let (path, name) = place(pin.revision.snap.as_str(), "assert");
            let known = path.exists() && pin.assertions.is_some() && Some(file_digest(&path)?) == pin.assertions;
            if !known {
                let text = store.assertions(&pin.revision, watcher)?;
                vouch_for(&text, &pin.revision)?;
                fs::create_dir_all(path.parent().unwrap_or(&self.cache))?;
                replace_file(&path, text.as_bytes(), 0o644)?;
                pin.assertions = Some(file_digest(&path)?);
                fresh = true;
            }
            release.files.insert(name, LocalFile { sha256: file_digest(&path)?, path });
        }
        match fresh {
            true => lock.pin_snaps(&key, pins),
            false => Ok(()),
        }
    }

    /// Gives a small text of a release; empty if there is none. It is pinned under upstream's own address, wherever it comes
    /// from.
    fn list(&self, version: &str, name: &str, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<String> {
        let check =
            |text: &str| match (self.upstream.architectures.iter()).any(|arch| (self.upstream.images)(arch) == name) {
                true => image_names(text).map(drop),
                false => digests(text).map(drop),
            };
        lock.text("release", &self.address(version, name), check, || match &self.origin {
            Origin::Web { downloads, .. } => {
                match text_at(&format!("{downloads}/{}", below(version, name)), &[], watcher) {
                    // Not every release is there for every architecture.
                    Err(error) if error.is_absent() => Ok(String::new()),
                    text => text,
                }
            }
            Origin::Folder(_) | Origin::Store(_) => {
                let path = self.path(version, name);
                if path.exists() { read_text(&path) } else { Ok(String::new()) }
            }
        })
    }

    /// Gives the address under which a list is pinned.
    fn address(&self, version: &str, name: &str) -> String {
        format!("{}/{}", self.upstream.downloads, below(version, name))
    }

    /// Says where a file of a release is here.
    fn path(&self, version: &str, name: &str) -> PathBuf {
        let dir = match &self.origin {
            Origin::Web { .. } | Origin::Store(_) => &self.cache,
            Origin::Folder(dir) => dir,
        };
        dir.join(format!("v{version}")).join(name)
    }

    /// Makes sure that a file is here as it was published, if it is one of a release.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what upstream published.
    pub fn bring(&self, release: &Release, path: &Path, watcher: &dyn Watcher) -> Result<()> {
        let Some((name, file)) = release.files.iter().find(|(_, file)| file.path == path) else { return Ok(()) };
        let url = match (&self.origin, release.urls.get(name)) {
            (Origin::Web { downloads, .. }, _) => format!("{downloads}/{}", below(&release.version, name)),
            (Origin::Store(_), Some(url)) => url.clone(),
            // Assertions are written when the release is read.
            (Origin::Store(_), None) if path.exists() && file_digest(path)? == file.sha256 => return Ok(()),
            (Origin::Store(_), None) => bail!("{} has changed or is gone: run this again", path.display()),
            (Origin::Folder(dir), _) => {
                if !path.exists() {
                    bail!(
                        "the bundle has no {name} of {} v{} ({}): `bramble bundle create` adds it",
                        self.upstream.name,
                        release.version,
                        dir.display()
                    );
                }
                let found = file_digest(path)?;
                if found != file.sha256 {
                    bail!(
                        "{} has the digest {found}, and {} was published for it: it is refused; copy the bundle again, \
                         or make it again (`bramble bundle create`)",
                        path.display(),
                        file.sha256
                    );
                }
                return Ok(());
            }
        };
        let digest = Digest::Sha256(&file.sha256);
        download(&Remote { url: &url, headers: &[], digest, most: RELEASE_LIMIT }, path, PATIENCE, watcher)
    }

    /// Puts files of a release into a bundle and tells how many bytes they have.
    ///
    /// # Errors
    /// One of them cannot be fetched or written.
    pub fn bundle(&self, release: &Release, files: &[String], to: &Path, watcher: &dyn Watcher) -> Result<u64> {
        let place = self.bundled(release, to);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        let mut bytes = 0;
        for name in files {
            let file = release
                .files
                .get(name)
                .ok_or_else(|| failure!("the release v{} of {} has no {name}", release.version, self.upstream.name))?;
            let path = place.join(name);
            if !path.exists() || file_digest(&path)? != file.sha256 {
                self.bring(release, &file.path, watcher)?;
                let fresh = place.join(format!("{name}.part"));
                fs::copy(&file.path, &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
                if file_digest(&fresh)? != file.sha256 {
                    fs::remove_file(&file.path).ok();
                    bail!("{} was damaged and is removed; run this again", file.path.display());
                }
                fs::rename(&fresh, &path)?;
            }
            bytes += fs::metadata(&path)?.len();
        }
        Ok(bytes)
    }

    /// Puts into a bundle what describes a release: digests and images, and which channel led to it.
    ///
    /// # Errors
    /// It cannot be fetched or written.
    pub fn describe(
        &self,
        wanted: &WantedRelease,
        release: &Release,
        arches: &[&str],
        to: &Path,
        lock: &mut LockFile,
        watcher: &dyn Watcher,
    ) -> Result<()> {
        let place = self.bundled(release, to);
        let mut lists: Vec<&str> =
            arches.iter().flat_map(|arch| [(self.upstream.digests)(arch), (self.upstream.images)(arch)]).collect();
        lists.sort_unstable();
        lists.dedup();
        for name in lists {
            let text = match self.upstream.store {
                true => self.upstream.described(release, name),
                false => self.list(&release.version, name, lock, watcher)?,
            };
            fs::write(place.join(name), text)?;
        }
        if wanted.build().is_none() {
            let channels = to.join(self.upstream.name).join("channels");
            fs::create_dir_all(&channels)?;
            fs::write(channels.join(Self::channel(wanted)), format!("v{}\n", release.version))?;
        }
        Ok(())
    }

    fn bundled(&self, release: &Release, to: &Path) -> PathBuf {
        to.join(self.upstream.name).join(format!("v{}", release.version))
    }
}

/// Lists the architectures that a board's system may have, as Debian calls them.
pub(crate) fn arches(arch: Arch) -> &'static [&'static str] {
    match arch {
        // A 64-bit board may run a 32-bit system.
        Arch::Arm64 => &["arm64", "armhf"],
        Arch::Amd64 => &["amd64"],
    }
}

/// Gives a file's place below the address of all releases.
fn below(version: &str, name: &str) -> String {
    format!("v{version}/{name}").replace('+', "%2B")
}

/// Gives a release as it is called in paths, if the text names one.
fn named_release(text: &str) -> Option<String> {
    let release = text.trim().parse::<WantedRelease>().ok().filter(|release| release.build().is_some())?;
    Some(release.to_string())
}

/// Reads a list of digests as sha256sum prints it; one that is not there is empty.
pub(crate) fn digests(list: &str) -> Result<Vec<(String, Sha256Digest)>> {
    let mut found = Vec::new();
    for line in list.lines() {
        // `*` stands before the names of files that were read as binary.
        let mut words = line.split_whitespace();
        let (Some(digest), Some(name)) = (words.next(), words.next()) else { continue };
        let name = name.trim_start_matches('*');
        let Ok(sha256) = digest.parse::<Sha256Digest>() else { continue };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            bail!("it names the file `{}`, which is not in the release's own folder", name.escape_debug());
        }
        found.push((name.to_owned(), sha256));
    }
    if found.is_empty() && !list.trim().is_empty() {
        bail!("it is no list of SHA-256 digests");
    }
    Ok(found)
}

/// Reads a list of images; one that is not there is empty.
pub(crate) fn image_names(list: &str) -> Result<Vec<String>> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    let name = |line: &str| match Reference::parse(line) {
        Some(_) => Ok(line.to_owned()),
        None => Err(failure!("`{}` is no name of an image", line.chars().take(80).collect::<String>().escape_debug())),
    };
    lines.map(name).collect()
}

#[cfg(test)]
mod tests;
