//! Releases of distributions, from upstream, from a mirror or out of a bundle: all three have the same files.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bramble_kube::{LocalFile, Release, Upstream};
use bramble_spec::{Arch, Release as Wanted, Sha256Digest};

use crate::output::Printer;
use crate::pins::{Pins, SnapPin, replace};
use crate::project::file_digest;
use crate::store::{Revision, Store, sha3_384};

/// Where the releases of a distribution come from.
pub(crate) struct Releases {
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
    Store(Store),
}

/// What a file must be.
#[derive(Clone, Copy)]
pub(crate) enum Digest<'a> {
    Sha256(&'a Sha256Digest),
    /// SHA3-384, in hexadecimal digits.
    Sha3(&'a str),
}

impl Digest<'_> {
    fn of(self, path: &Path) -> anyhow::Result<String> {
        match self {
            Digest::Sha256(_) => Ok(file_digest(path)?.to_string()),
            Digest::Sha3(_) => sha3_384(path),
        }
    }

    fn published(self) -> String {
        match self {
            Digest::Sha256(digest) => digest.to_string(),
            Digest::Sha3(digest) => digest.to_owned(),
        }
    }
}

/// A file that upstream does not have.
#[derive(Debug, thiserror::Error)]
#[error("there is nothing at {0}")]
struct Absent(String);

/// How often a download that gets nowhere is tried.
const TRIES: u32 = 4;
/// How long a server may be silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// More than any list of digests or images has.
const LIMIT: u64 = 4 * 1024 * 1024;

impl Releases {
    /// `mirror`: an address with the same files, without a `/` at its end; `bundle`: a bundle's folder; `cache`: where
    /// fetched files go.
    pub(crate) fn new(
        upstream: &'static Upstream,
        mirror: Option<&str>,
        bundle: Option<&Path>,
        cache: &Path,
    ) -> Releases {
        let origin = match (bundle, mirror) {
            (Some(bundle), _) => Origin::Folder(bundle.join(upstream.name)),
            (None, Some(mirror)) => Origin::Web { downloads: mirror.to_owned(), mirror: true },
            (None, None) if upstream.store => Origin::Store(Store { address: upstream.downloads.to_owned() }),
            (None, None) => Origin::Web { downloads: upstream.downloads.to_owned(), mirror: false },
        };
        Releases { upstream, origin, cache: cache.join(upstream.name) }
    }

    pub(crate) fn upstream(&self) -> &'static Upstream {
        self.upstream
    }

    pub(crate) fn is_of(&self, upstream: &Upstream) -> bool {
        self.upstream.name == upstream.name
    }

    /// The name of the channel of a wish that names no release.
    fn channel(wanted: &Wanted) -> String {
        match wanted.minor() {
            Some(minor) => format!("v1.{minor}"),
            None => wanted.to_string(),
        }
    }

    /// The version of the release that is wanted for these architectures, without `v`: looked up once, then as the lock
    /// file says.
    pub(crate) fn version(
        &self,
        wanted: &Wanted,
        arches: &[&str],
        pins: &mut Pins,
        printer: &Printer,
    ) -> anyhow::Result<String> {
        if wanted.build().is_some() {
            return Ok(wanted.to_string());
        }
        let channel = Self::channel(wanted);
        pins.release(&format!("{} {channel}", self.upstream.name), || {
            let (place, name) = match &self.origin {
                Origin::Web { downloads, mirror } => {
                    let url = match mirror {
                        true => Some(format!("{downloads}/channels/{channel}")),
                        false => (self.upstream.channel)(&channel),
                    };
                    let url = url.ok_or_else(|| {
                        anyhow!("{} has no channel for {channel}: name a release", self.upstream.name)
                    })?;
                    (url.clone(), led_to(&url, printer)?)
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
                    let release = store.channel(self.upstream.name, &channel, arches, printer)?;
                    (format!("{} {channel}", store.address), release)
                }
            };
            let release = name.trim().parse::<Wanted>().ok().filter(|release| release.build().is_some());
            let release = release.ok_or_else(|| anyhow!("{place} leads to no release, but to `{}`", name.trim()))?;
            Ok(release.to_string())
        })
    }

    /// What upstream says of a release for these architectures (as Debian calls them).
    pub(crate) fn release(
        &self,
        version: &str,
        arches: &[&str],
        pins: &mut Pins,
        printer: &Printer,
    ) -> anyhow::Result<Release> {
        let mut release = Release {
            version: version.to_owned(),
            offline: matches!(self.origin, Origin::Folder(_)),
            ..Release::default()
        };
        if let Origin::Store(store) = &self.origin {
            for arch in arches.iter().filter(|arch| self.upstream.architectures.contains(arch)) {
                self.add_snaps(store, arch, &mut release, pins, printer)?;
            }
            return Ok(release);
        }
        let mut lists: Vec<&str> = arches.iter().map(|arch| (self.upstream.digests)(arch)).collect();
        lists.sort_unstable();
        lists.dedup();
        for list in lists {
            for line in self.list(version, list, pins, printer)?.lines() {
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
            let images = self.list(version, list, pins, printer)?;
            release.images.extend(images.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
        }
        release.images.sort();
        release.images.dedup();
        Ok(release)
    }

    /// The snaps of a release for an architecture. The store says SHA3-384 of them, boards compute SHA-256: what has not
    /// been here before is fetched at once.
    fn add_snaps(
        &self,
        store: &Store,
        arch: &str,
        release: &mut Release,
        pins: &mut Pins,
        printer: &Printer,
    ) -> anyhow::Result<()> {
        let version = release.version.clone();
        let place = |snap: &str, suffix: &str| {
            let name = format!("{snap}_{arch}.{suffix}");
            (self.path(&version, &name), name)
        };
        let snaps = pins.snaps(&format!("{} v{version} {arch}", self.upstream.name), || {
            let revisions = store.revisions(self.upstream.name, &version, arch, printer)?;
            let fetch = |revision: Revision| {
                let (path, _) = place(&revision.snap, "snap");
                let published = Digest::Sha3(&revision.sha3_384);
                if !path.exists() || published.of(&path)? != revision.sha3_384 {
                    fs::remove_file(&path).ok();
                    download(&store.download(&revision), &path, published, PATIENCE, printer)?;
                }
                Ok(SnapPin { sha256: file_digest(&path)?.to_string(), revision })
            };
            revisions.into_iter().map(fetch).collect()
        })?;
        for pin in snaps {
            let (path, name) = place(&pin.revision.snap, "snap");
            let sha256 = pin.sha256.parse().map_err(|_| anyhow!("the lock file has no digest of {name}"))?;
            release.urls.insert(name.clone(), store.download(&pin.revision));
            release.files.insert(name, LocalFile { path, sha256 });
            let (path, name) = place(&pin.revision.snap, "assert");
            if !path.exists() {
                let text = store.assertions(&pin.revision, printer)?;
                fs::create_dir_all(path.parent().unwrap_or(&self.cache))?;
                replace(&path, text.as_bytes(), 0o644)?;
            }
            let sha256 = file_digest(&path)?;
            release.files.insert(name, LocalFile { path, sha256 });
        }
        Ok(())
    }

    /// A small text of a release; empty if there is none. It is pinned under upstream's own address, wherever it comes
    /// from.
    fn list(&self, version: &str, name: &str, pins: &mut Pins, printer: &Printer) -> anyhow::Result<String> {
        let named = format!("{}/{}", self.upstream.downloads, below(version, name));
        let text = pins.text("release", &named, || match &self.origin {
            Origin::Web { downloads, .. } => {
                let url = format!("{downloads}/{}", below(version, name));
                printer.info(format!("fetching {url}"));
                let mut text = String::new();
                match open(&url, 0) {
                    Ok(response) => {
                        response
                            .into_body()
                            .into_reader()
                            .take(LIMIT)
                            .read_to_string(&mut text)
                            .with_context(|| format!("cannot fetch {url}"))?;
                    }
                    // Not every release is there for every architecture.
                    Err(error) if error.is::<Absent>() => {}
                    Err(error) => return Err(error),
                }
                Ok(text)
            }
            Origin::Folder(_) | Origin::Store(_) => match fs::read_to_string(self.path(version, name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
                text => text.with_context(|| format!("cannot read {}", self.path(version, name).display())),
            },
        })?;
        Ok(text)
    }

    /// Where a file of a release is here.
    fn path(&self, version: &str, name: &str) -> PathBuf {
        let dir = match &self.origin {
            Origin::Web { .. } | Origin::Store(_) => &self.cache,
            Origin::Folder(dir) => dir,
        };
        dir.join(format!("v{version}")).join(name)
    }

    /// Makes sure that a file is here, if it is one of a release.
    pub(crate) fn bring(&self, release: &Release, path: &Path, printer: &Printer) -> anyhow::Result<()> {
        let Some((name, file)) = release.files.iter().find(|(_, file)| file.path == path) else { return Ok(()) };
        if path.exists() {
            return Ok(());
        }
        match &self.origin {
            Origin::Web { downloads, .. } => {
                let url = format!("{downloads}/{}", below(&release.version, name));
                download(&url, path, Digest::Sha256(&file.sha256), PATIENCE, printer)
            }
            Origin::Store(_) => {
                let url = release.urls.get(name).ok_or_else(|| anyhow!("{} is gone", path.display()))?;
                download(url, path, Digest::Sha256(&file.sha256), PATIENCE, printer)
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
    pub(crate) fn bundle(
        &self,
        release: &Release,
        files: &[String],
        to: &Path,
        printer: &Printer,
    ) -> anyhow::Result<u64> {
        let place = self.bundled(release, to);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        let mut bytes = 0;
        for name in files {
            let file = release
                .files
                .get(name)
                .ok_or_else(|| anyhow!("the release v{} of {} has no {name}", release.version, self.upstream.name))?;
            let path = place.join(name);
            if !path.exists() || file_digest(&path)? != file.sha256 {
                self.bring(release, &file.path, printer)?;
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
    pub(crate) fn describe(
        &self,
        wanted: &Wanted,
        release: &Release,
        arches: &[&str],
        to: &Path,
        pins: &mut Pins,
        printer: &Printer,
    ) -> anyhow::Result<()> {
        let place = self.bundled(release, to);
        let mut lists: Vec<&str> =
            arches.iter().flat_map(|arch| [(self.upstream.digests)(arch), (self.upstream.images)(arch)]).collect();
        lists.sort_unstable();
        lists.dedup();
        for name in lists {
            let text = match self.upstream.store {
                true => self.upstream.described(release, name),
                false => self.list(&release.version, name, pins, printer)?,
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

/// The architectures that a board's system may have, as Debian calls them.
pub(crate) fn arches(arch: Arch) -> &'static [&'static str] {
    match arch {
        // A 64-bit board may run a 32-bit system.
        Arch::Arm64 => &["arm64", "armhf"],
        Arch::Amd64 => &["amd64"],
    }
}

/// A file's place below the address of all releases.
fn below(version: &str, name: &str) -> String {
    format!("v{version}/{name}").replace('+', "%2B")
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into()
}

/// The last part of the address that this one leads to, or the text that is there.
fn led_to(url: &str, printer: &Printer) -> anyhow::Result<String> {
    printer.info(format!("fetching {url}"));
    let mut response = agent()
        .get(url)
        .config()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .call()
        .with_context(|| format!("cannot fetch {url}"))?;
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let last = location.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        return Ok(last.replace("%2B", "+").replace("%2b", "+"));
    }
    if !status.is_success() {
        bail!("{url} answers {status}: there is no such channel");
    }
    response.body_mut().with_config().limit(LIMIT).read_to_string().with_context(|| format!("cannot fetch {url}"))
}

/// The text at an address, asked for with these headers.
pub(crate) fn text_at(url: &str, headers: &[(&str, &str)], printer: &Printer) -> anyhow::Result<String> {
    printer.info(format!("fetching {url}"));
    let mut request = agent().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.call().with_context(|| format!("cannot fetch {url}"))?;
    match response.status().as_u16() {
        200 => response
            .body_mut()
            .with_config()
            .limit(LIMIT)
            .read_to_string()
            .with_context(|| format!("cannot fetch {url}")),
        404 | 410 => Err(Absent(url.to_owned()).into()),
        _ => bail!("{url} answers {}", response.status()),
    }
}

/// Asks for a file from this byte on.
fn open(url: &str, from: u64) -> anyhow::Result<ureq::http::Response<ureq::Body>> {
    let mut request = agent().get(url);
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().with_context(|| format!("cannot fetch {url}"))?;
    match response.status().as_u16() {
        200 | 206 | 416 => Ok(response),
        404 | 410 => Err(Absent(url.to_owned()).into()),
        _ => bail!("{url} answers {}", response.status()),
    }
}

/// Fetches a file whole, or not at all. What was cut off goes on where it stopped. `patience`: how long the server may be
/// silent.
pub(crate) fn download(
    url: &str,
    to: &Path,
    digest: Digest<'_>,
    patience: Duration,
    printer: &Printer,
) -> anyhow::Result<()> {
    let dir = to.parent().ok_or_else(|| anyhow!("{} is no file", to.display()))?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    // Another run may be fetching the same.
    file.lock().with_context(|| format!("cannot lock {}", part.display()))?;
    if to.exists() {
        return Ok(());
    }
    printer.info(format!("fetching {url}"));
    let mut tries = 0;
    let mut whole = false;
    while !whole {
        let start = file.seek(SeekFrom::End(0))?;
        let result = go_on(url, &mut file, start, patience);
        let gained = file.seek(SeekFrom::End(0))? > start;
        match result {
            Ok(()) => whole = true,
            Err(error) if error.is::<Absent>() => {
                fs::remove_file(&part).ok();
                return Err(error);
            }
            Err(error) => {
                tries = if gained { 1 } else { tries + 1 };
                if tries == TRIES {
                    return Err(
                        error.context(format!("{} is not whole yet, and the next run goes on with it", part.display()))
                    );
                }
                printer.info(format!("{error:#}; trying again"));
                std::thread::sleep(Duration::from_millis(500) * tries);
            }
        }
        if whole {
            file.sync_all()?;
            let (found, published) = (digest.of(&part)?, digest.published());
            if found != published {
                file.set_len(0)?;
                // The beginning may have been of another file.
                if start > 0 {
                    whole = false;
                    continue;
                }
                fs::remove_file(&part).ok();
                bail!("{url} has the digest {found}, and {published} was published for it: it is refused");
            }
        }
    }
    fs::rename(&part, to).with_context(|| format!("cannot write {}", to.display()))
}

/// Adds to a file what is missing from `start` on.
fn go_on(url: &str, file: &mut File, start: u64, patience: Duration) -> anyhow::Result<()> {
    let response = open(url, start)?;
    match response.status().as_u16() {
        // It is not asked for the rest, or does not know how.
        200 => {
            file.set_len(0)?;
            file.rewind()?;
        }
        // There is nothing behind what is here; its digest tells whether that is all.
        416 => return Ok(()),
        _ => {}
    }
    let (sender, receiver) = sync_channel::<std::io::Result<Vec<u8>>>(4);
    let mut reader = response.into_body().into_reader();
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; 256 * 1024];
            let read = reader.read(&mut chunk).map(|count| {
                chunk.truncate(count);
                chunk
            });
            let last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
            if sender.send(read).is_err() || last {
                return;
            }
        }
    });
    loop {
        match receiver.recv_timeout(patience) {
            Ok(Ok(chunk)) if chunk.is_empty() => return Ok(()),
            Ok(chunk) => file.write_all(&chunk.with_context(|| format!("{url} broke off"))?).context("cannot write")?,
            Err(RecvTimeoutError::Timeout) => bail!("{url} sends nothing for {} s", patience.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("{url} broke off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use bramble_kube::{K3S, MICROK8S};
    use bramble_spec::hex;
    use serde_json::{Value, json};
    use sha2::{Digest as _, Sha256};
    use sha3::Sha3_384;

    use super::*;
    use crate::output::Format;

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

    fn printer() -> Printer {
        Printer::new(Format::Text, true, false)
    }

    fn sha256(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    const PROGRAM: &str = "/v1.34.6%2Bk3s1/k3s-arm64";

    /// A release as k3s publishes it, for arm64 alone.
    fn release_server(faults: &[(&str, &[Fault])]) -> (String, Arc<Server>, Vec<u8>) {
        let program: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let archive = b"images".to_vec();
        let digests =
            format!("{}  k3s-airgap-images-arm64.tar.zst\n{} *k3s-arm64\n", sha256(&archive), sha256(&program));
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

    fn fetch(address: &str, dir: &Path, digest: &str) -> anyhow::Result<Vec<u8>> {
        let to = dir.join("k3s-arm64");
        let url = format!("{address}{PROGRAM}");
        download(&url, &to, Digest::Sha256(&digest.parse().unwrap()), Duration::from_millis(500), &printer())?;
        Ok(fs::read(to)?)
    }

    #[test]
    fn a_release_is_chosen_once_and_its_files_are_those_that_upstream_published() {
        let dir = tempfile::tempdir().unwrap();
        let (address, server, program) = release_server(&[]);
        let mut pins = Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
        let releases = Releases::new(&K3S, Some(&address), None, &dir.path().join("releases"));
        let stable: Wanted = "stable".parse().unwrap();
        assert_eq!(releases.version(&stable, &["arm64"], &mut pins, &printer()).unwrap(), "1.34.6+k3s1");
        assert_eq!(
            releases.version(&"1.33".parse().unwrap(), &["arm64"], &mut pins, &printer()).unwrap(),
            "1.33.9+k3s2"
        );
        let release = releases.release("1.34.6+k3s1", &["arm64", "armhf"], &mut pins, &printer()).unwrap();
        assert_eq!(release.files.len(), 2);
        assert_eq!(release.images, ["docker.io/rancher/mirrored-library-busybox:1.37.0"]);
        assert!(!release.offline);
        let file = &release.files["k3s-arm64"];
        assert!(!file.path.exists(), "nothing large is fetched before it is needed");
        releases.bring(&release, &file.path, &printer()).unwrap();
        assert_eq!(fs::read(&file.path).unwrap(), program);

        // All of it is known now.
        let asked = server.asked.lock().unwrap().len();
        let mut pins = Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
        assert_eq!(releases.version(&stable, &["arm64"], &mut pins, &printer()).unwrap(), "1.34.6+k3s1");
        assert_eq!(releases.release("1.34.6+k3s1", &["arm64", "armhf"], &mut pins, &printer()).unwrap(), release);
        releases.bring(&release, &file.path, &printer()).unwrap();
        assert_eq!(server.asked.lock().unwrap().len(), asked);

        let missing = releases.release("1.34.6+k3s1", &["amd64"], &mut pins, &printer()).unwrap_err().to_string();
        assert!(missing.contains("has no release v1.34.6+k3s1 for amd64"), "{missing}");
        let channel =
            releases.version(&"1.30".parse().unwrap(), &["arm64"], &mut pins, &printer()).unwrap_err().to_string();
        assert!(channel.contains("there is no such channel"), "{channel}");
    }

    #[test]
    fn a_bundle_has_the_same_release_without_a_network() {
        let dir = tempfile::tempdir().unwrap();
        let (address, _, program) = release_server(&[]);
        let mut pins = Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
        let releases = Releases::new(&K3S, Some(&address), None, &dir.path().join("releases"));
        let stable: Wanted = "stable".parse().unwrap();
        let release = releases.release("1.34.6+k3s1", &["arm64"], &mut pins, &printer()).unwrap();
        let bundle = dir.path().join("bundle");
        let files = ["k3s-arm64", "k3s-airgap-images-arm64.tar.zst"].map(str::to_owned);
        let bytes = releases.bundle(&release, &files, &bundle, &printer()).unwrap();
        assert_eq!(bytes, program.len() as u64 + 6);
        releases.describe(&stable, &release, &["arm64"], &bundle, &mut pins, &printer()).unwrap();

        // Another machine, with neither a lock file nor a cache.
        let mut pins = Pins::open(&dir.path().join("other.lock"), dir.path().join("other")).unwrap();
        let offline = Releases::new(&K3S, None, Some(&bundle), &dir.path().join("none"));
        assert_eq!(offline.version(&stable, &["arm64"], &mut pins, &printer()).unwrap(), "1.34.6+k3s1");
        let same = offline.release("1.34.6+k3s1", &["arm64", "armhf"], &mut pins, &printer()).unwrap();
        assert!(same.offline);
        assert_eq!(same.files["k3s-arm64"].sha256, release.files["k3s-arm64"].sha256);
        assert_eq!(fs::read(&same.files["k3s-arm64"].path).unwrap(), program);
        fs::remove_file(&same.files["k3s-arm64"].path).unwrap();
        let error = offline.bring(&same, &same.files["k3s-arm64"].path, &printer()).unwrap_err().to_string();
        assert!(error.contains("the bundle has no k3s-arm64") && error.contains("bundle create"), "{error}");
        let error =
            offline.version(&"1.33".parse().unwrap(), &["arm64"], &mut pins, &printer()).unwrap_err().to_string();
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
        let error = download(&url, &to, Digest::Sha256(&sha256(b"").parse().unwrap()), PATIENCE, &printer())
            .unwrap_err()
            .to_string();
        assert!(error.contains("there is nothing at"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let (address, ..) = release_server(&[(PROGRAM, &[Fault::Refuses; 4])]);
        let error = format!("{:#}", fetch(&address, dir.path(), &sha256(b"")).unwrap_err());
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
        let origin = Origin::Store(Store { address });
        let releases = Releases { upstream: &MICROK8S, origin, cache: dir.path().join("releases/microk8s") };
        (releases, server, dir)
    }

    #[test]
    fn snaps_are_chosen_once_and_come_with_those_who_vouch_for_them() {
        let (releases, server, dir) = store_server();
        let open = || Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
        let mut pins = open();
        let minor: Wanted = "1.36".parse().unwrap();
        let version = releases.version(&minor, &["arm64", "amd64"], &mut pins, &printer()).unwrap();
        assert_eq!(version, "1.36.3+r9124", "the highest revision names it");
        let release = releases.release(&version, &["arm64", "armhf"], &mut pins, &printer()).unwrap();
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
        assert_eq!(releases.release(&version, &["arm64"], &mut open(), &printer()).unwrap(), release);
        assert_eq!(server.asked.lock().unwrap().len(), asked);
        let path = &release.files["microk8s_arm64.snap"].path;
        fs::remove_file(path).unwrap();
        releases.bring(&release, path, &printer()).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"microk8s for arm64");

        let by_name: Wanted = "v1.36.3+r9124".parse().unwrap();
        assert_eq!(releases.version(&by_name, &["arm64"], &mut open(), &printer()).unwrap(), version);
    }

    #[test]
    fn what_the_store_does_not_have_or_not_for_all_is_said() {
        let (releases, _, dir) = store_server();
        let mut pins = Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
        let mut version =
            |wanted: &str, arches: &[&str]| releases.version(&wanted.parse().unwrap(), arches, &mut pins, &printer());
        let error = version("1.35", &["arm64", "amd64"]).unwrap_err().to_string();
        assert!(error.contains("v1.35.7 for amd64 and v1.35.6 for arm64 in 1.35/stable now"), "{error}");
        assert_eq!(version("1.34", &["arm64"]).unwrap(), "1.34.9+r9000");
        let error = version("1.33", &["arm64"]).unwrap_err().to_string();
        assert!(error.contains("no microk8s for arm64 in 1.33/stable"), "{error}");
        let error = version("stable", &["arm64"]).unwrap_err().to_string();
        assert!(error.contains("in latest/stable"), "{error}");

        let mut pins = Pins::open(&dir.path().join("other.lock"), dir.path().join("cache")).unwrap();
        let mut release = |version: &str, arch: &str| {
            releases.release(version, &[arch], &mut pins, &printer()).unwrap_err().to_string()
        };
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
        let mut pins = Pins::open(&dir.path().join("bramble.lock"), dir.path().join("cache")).unwrap();
        let wanted: Wanted = "1.36".parse().unwrap();
        let mut release = releases.release("1.36.3+r9123", &["arm64"], &mut pins, &printer()).unwrap();
        let archive = dir.path().join("images.tar");
        fs::write(&archive, "images").unwrap();
        let sha256 = file_digest(&archive).unwrap();
        release.files.insert("images_arm64.tar".into(), LocalFile { path: archive, sha256 });
        release.images.push("docker.io/library/busybox:1.36".into());
        let bundle = dir.path().join("bundle");
        releases.bundle(&release, &MICROK8S.files(&release, "arm64"), &bundle, &printer()).unwrap();
        releases.describe(&wanted, &release, &["arm64"], &bundle, &mut pins, &printer()).unwrap();

        let mut pins = Pins::open(&dir.path().join("other.lock"), dir.path().join("other")).unwrap();
        let offline = Releases::new(&MICROK8S, None, Some(&bundle), &dir.path().join("none"));
        assert_eq!(offline.version(&wanted, &["arm64"], &mut pins, &printer()).unwrap(), "1.36.3+r9123");
        let same = offline.release("1.36.3+r9123", &["arm64"], &mut pins, &printer()).unwrap();
        assert!(same.offline);
        assert_eq!(same.images, release.images);
        let digests = |release: &Release| {
            release.files.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect::<Vec<_>>()
        };
        assert_eq!(digests(&same), digests(&release));
        assert_eq!(fs::read(&same.files["images_arm64.tar"].path).unwrap(), b"images");
    }
}
