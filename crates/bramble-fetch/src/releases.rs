//! Releases of distributions, from upstream, from a mirror or out of a bundle: all three have the same files.

use std::fs;
use std::path::{Path, PathBuf};

use bramble_kube::{LocalFile, Release, Upstream};
use bramble_spec::{Arch, Sha256Digest, WantedRelease};

use crate::atomic_file::replace_file;
use crate::digest::{Digest, file_digest, sha3_384};
use crate::error::{Context, Result, bail, failure};
use crate::http::{PATIENCE, download, led_to, text_at};
use crate::lockfile::{LockFile, SnapPin};
use crate::snap_store::{Revision, SnapStore};
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
        lock.release(&format!("{} {channel}", self.upstream.name), || {
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
                    let text = fs::read_to_string(&path).with_context(|| {
                        format!("the bundle has no release of {} {channel} ({})", self.upstream.name, path.display())
                    })?;
                    (path.display().to_string(), text)
                }
                Origin::Store(store) => {
                    let channel = (self.upstream.channel)(&channel).unwrap_or(channel);
                    let release = store.channel(self.upstream.name, &channel, arches, watcher)?;
                    (format!("{} {channel}", store.address), release)
                }
            };
            let release = name.trim().parse::<WantedRelease>().ok().filter(|release| release.build().is_some());
            let release = release.ok_or_else(|| failure!("{place} leads to no release, but to `{}`", name.trim()))?;
            Ok(release.to_string())
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
        for list in lists {
            for line in self.list(version, list, lock, watcher)?.lines() {
                // As sha256sum prints them; `*` stands before the names of files that it read as binary.
                let mut words = line.split_whitespace();
                let (Some(digest), Some(name)) = (words.next(), words.next()) else { continue };
                let name = name.trim_start_matches('*');
                let Ok(sha256) = digest.parse::<Sha256Digest>() else { continue };
                if name.contains('/') || name.starts_with('.') {
                    bail!("{list} of {} v{version} names the file `{name}`", self.upstream.name);
                }
                release.files.insert(name.to_owned(), LocalFile { path: self.path(version, name), sha256 });
            }
        }
        if release.files.is_empty() {
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
            let images = self.list(version, list, lock, watcher)?;
            release.images.extend(images.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
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
        let snaps = lock.snaps(&format!("{} v{version} {arch}", self.upstream.name), || {
            let revisions = store.revisions(self.upstream.name, &version, arch, watcher)?;
            let fetch = |revision: Revision| {
                let (path, _) = place(&revision.snap, "snap");
                if !path.exists() || sha3_384(&path)? != revision.sha3_384 {
                    fs::remove_file(&path).ok();
                    let published = Digest::Sha3(&revision.sha3_384);
                    download(&store.download(&revision), &[], &path, published, PATIENCE, watcher)?;
                }
                Ok(SnapPin { sha256: file_digest(&path)?.to_string(), revision })
            };
            revisions.into_iter().map(fetch).collect()
        })?;
        for pin in snaps {
            let (path, name) = place(&pin.revision.snap, "snap");
            let sha256 = pin.sha256.parse().map_err(|_| failure!("the lock file has no digest of {name}"))?;
            release.urls.insert(name.clone(), store.download(&pin.revision));
            release.files.insert(name, LocalFile { path, sha256 });
            let (path, name) = place(&pin.revision.snap, "assert");
            if !path.exists() {
                let text = store.assertions(&pin.revision, watcher)?;
                fs::create_dir_all(path.parent().unwrap_or(&self.cache))?;
                replace_file(&path, text.as_bytes(), 0o644)?;
            }
            let sha256 = file_digest(&path)?;
            release.files.insert(name, LocalFile { path, sha256 });
        }
        Ok(())
    }

    /// Gives a small text of a release; empty if there is none. It is pinned under upstream's own address, wherever it comes
    /// from.
    fn list(&self, version: &str, name: &str, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<String> {
        let named = format!("{}/{}", self.upstream.downloads, below(version, name));
        let text = lock.text("release", &named, || match &self.origin {
            Origin::Web { downloads, .. } => {
                match text_at(&format!("{downloads}/{}", below(version, name)), &[], watcher) {
                    // Not every release is there for every architecture.
                    Err(error) if error.is_absent() => Ok(String::new()),
                    text => text,
                }
            }
            Origin::Folder(_) | Origin::Store(_) => match fs::read_to_string(self.path(version, name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
                text => text.with_context(|| format!("cannot read {}", self.path(version, name).display())),
            },
        })?;
        Ok(text)
    }

    /// Says where a file of a release is here.
    fn path(&self, version: &str, name: &str) -> PathBuf {
        let dir = match &self.origin {
            Origin::Web { .. } | Origin::Store(_) => &self.cache,
            Origin::Folder(dir) => dir,
        };
        dir.join(format!("v{version}")).join(name)
    }

    /// Makes sure that a file is here, if it is one of a release.
    ///
    /// # Errors
    /// It cannot be fetched, or is not what upstream published.
    pub fn bring(&self, release: &Release, path: &Path, watcher: &dyn Watcher) -> Result<()> {
        let Some((name, file)) = release.files.iter().find(|(_, file)| file.path == path) else { return Ok(()) };
        if path.exists() {
            return Ok(());
        }
        match &self.origin {
            Origin::Web { downloads, .. } => {
                let url = format!("{downloads}/{}", below(&release.version, name));
                download(&url, &[], path, Digest::Sha256(&file.sha256), PATIENCE, watcher)
            }
            Origin::Store(_) => {
                let url = release.urls.get(name).ok_or_else(|| failure!("{} is gone", path.display()))?;
                download(url, &[], path, Digest::Sha256(&file.sha256), PATIENCE, watcher)
            }
            Origin::Folder(dir) => bail!(
                "the bundle has no {name} of {} v{} ({}): `bramble bundle create` adds it",
                self.upstream.name,
                release.version,
                dir.display()
            ),
        }
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

#[cfg(test)]
mod tests;
