//! Where the images of systems come from: catalogues, web servers, files here.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bramble_image::{Identity, ImageError, Offer, board, boot_partition, catalogue};
use bramble_spec::{ImageSource, Node, name_ranges};

use crate::digest::{Digest, file_digest};
use crate::error::{Context, Result, bail, failure};
use crate::http::{PATIENCE, download, text_at};
use crate::lockfile::{ImagePin, LockFile};
use crate::sources::Sources;
use crate::watcher::Watcher;

/// The catalogue of Raspberry Pi Imager (rpi-imager, src/config.h).
pub const CATALOGUE: &str = "https://downloads.raspberrypi.com/os_list_imagingutility_v4.json";
/// More lists than any catalogue has.
const LISTS: usize = 100;

/// Lists all that a catalogue offers, with the lists that it refers to. One of those that cannot be had is told, and left out.
///
/// # Errors
/// The catalogue cannot be fetched, or is none.
pub fn offers(url: &str, watcher: &dyn Watcher) -> Result<Vec<Offer>> {
    let fetch = |url: &str| -> Result<_> {
        let text = text_at(url, &[], watcher)?;
        catalogue(&text).with_context(|| format!("{url} is no catalogue of images"))
    };
    let mut all = fetch(url)?;
    let mut known = BTreeSet::from([url.to_owned()]);
    let mut waiting = VecDeque::from(std::mem::take(&mut all.more));
    while let Some(next) = waiting.pop_front() {
        if known.len() == LISTS || !known.insert(next.clone()) {
            continue;
        }
        match fetch(&next) {
            Ok(more) => {
                all.offers.extend(more.offers);
                waiting.extend(more.more);
            }
            Err(error) => watcher.note(&format!("{}: its images are left out", error.chain())),
        }
    }
    Ok(all.offers)
}

/// Brings the image of the cluster file here, and tells where it is. What was chosen by a name, or without a digest, is
/// pinned.
///
/// # Errors
/// The cluster file names no image, or it cannot be fetched, or is not what was published.
pub fn fetch_os_image(sources: &Sources<'_>, lock: &mut LockFile, watcher: &dyn Watcher) -> Result<PathBuf> {
    let cluster = sources.cluster.name.as_str();
    let source = sources.cluster.image.as_ref().ok_or_else(|| {
        failure!(
            "the cluster file of {cluster} names no image: add `image: {{ name: … }}` (`bramble image list` has the \
             names), or `file`, or `url`"
        )
    })?;
    let pin = match source {
        ImageSource::File { path, sha256 } => {
            let path = sources.path(path);
            if let Some(published) = sha256 {
                let found = file_digest(&path)?;
                if found != *published {
                    bail!(
                        "{} has the digest {found}, the cluster file says {published}: it is refused",
                        path.display()
                    );
                }
            }
            return Ok(path);
        }
        ImageSource::Url { url, sha256: Some(sha256) } => {
            ImagePin { sha256: Some(sha256.clone()), ..ImagePin::at(url) }
        }
        ImageSource::Url { url, sha256: None } => lock.image(url, || beside(url, watcher))?,
        ImageSource::Name { name, catalogue } => {
            // Another catalogue may mean another image by the same name.
            let key = catalogue.as_ref().map_or_else(|| name.clone(), |catalogue| format!("{catalogue}#{name}"));
            let catalogue = catalogue.as_deref().unwrap_or(CATALOGUE);
            lock.image(&key, || chosen(sources, catalogue, name, watcher))?
        }
    };
    let digest = match (&pin.sha256, &pin.sha512, &pin.unpacked) {
        (Some(packed), ..) => Digest::Sha256(packed),
        (_, Some(packed), _) => Digest::Sha512(packed),
        (.., Some(unpacked)) => Digest::Unpacked(unpacked),
        (None, None, None) => bail!("bramble.lock has no digest for {}: remove its pin", pin.url),
    };
    let path = place(sources, &digest.published());
    if path.exists() {
        // Disks forget, too, and what is written is compared with this.
        if digest.of(&path)? == digest.published() {
            return Ok(path);
        }
        watcher.note(&format!("{} is not what it was any more, and is fetched again", path.display()));
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    download(&pin.url, &[], &path, digest, PATIENCE, watcher)?;
    Ok(path)
}

/// What is unpacked of an image to see what it is: its boot partition begins within, and lists its files there.
const BEGINNING: u64 = 32 << 20;

/// Refuses an image that the boards of these nodes cannot boot, as far as its beginning tells, before any disk is touched.
///
/// # Errors
/// It cannot be read, or a board cannot boot it.
pub fn refuse_unfit<'a>(packed: &Path, mut nodes: impl Iterator<Item = (&'a Node, &'a Identity)>) -> Result<()> {
    let cannot = || format!("cannot unpack {}", packed.display());
    let mut file = File::open(packed).with_context(cannot)?;
    let size = bramble_image::unpacked_size(&mut file).with_context(cannot)?;
    let mut bytes = Vec::new();
    file.rewind().with_context(cannot)?;
    let unpacked = bramble_image::decompress(file).with_context(cannot)?;
    unpacked.take(BEGINNING).read_to_end(&mut bytes).with_context(cannot)?;
    let size = if (bytes.len() as u64) < BEGINNING { bytes.len() as u64 } else { size.unwrap_or(i64::MAX as u64) };
    let beginning = || Beginning { bytes: &bytes, size, at: 0 };
    // What lies behind is known when it is there.
    let told = |error: &ImageError| !matches!(error, ImageError::Io { .. });
    if let Some(error) = boot_partition(&mut beginning()).err().filter(told) {
        return Err(error).with_context(|| format!("{} is no image of a board's disk", packed.display()));
    }
    nodes.try_for_each(|(node, identity)| match board(&mut beginning(), identity).err().filter(told) {
        Some(error) => Err(error).with_context(|| format!("{} is no image for {}", packed.display(), node.name)),
        None => Ok(()),
    })
}

/// An image of which only the beginning is here.
struct Beginning<'a> {
    bytes: &'a [u8],
    /// Of all of it.
    size: u64,
    at: u64,
}

impl Read for Beginning<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size {
            return Ok(0);
        }
        let rest = usize::try_from(self.at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        if count == 0 && !into.is_empty() {
            return Err(io::Error::other("this part of the image is not unpacked"));
        }
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Beginning<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Says where an image is kept, by its digest.
fn place(sources: &Sources<'_>, digest: &str) -> PathBuf {
    sources.releases.with_file_name("images").join(digest)
}

/// Chooses the image of this name: newer ones stand before older ones with the same.
fn chosen(sources: &Sources<'_>, catalogue: &str, name: &str, watcher: &dyn Watcher) -> Result<ImagePin> {
    let mut all = offers(catalogue, watcher)?;
    all.retain(|offer| offer.name == name);
    let newest = all.iter().max_by(|a, b| a.released.cmp(&b.released));
    let offer = newest.ok_or_else(|| failure!("{catalogue} has no image `{name}`: see `bramble image list`"))?;
    if let Some(other) = all.iter().find(|other| other.released == offer.released && other.url != offer.url) {
        bail!("{catalogue} has two images `{name}`: give the `url` of one: {} or {}", offer.url, other.url);
    }
    let strangers = sources.cluster.nodes.iter().filter(|node| !offer.is_for(&node.board.id, node.board.arch));
    let strangers: Vec<&str> = strangers.map(|node| node.name.as_str()).collect();
    if strangers.len() == sources.cluster.nodes.len() {
        bail!(
            "`{name}` is not made for the boards of {}: `bramble image list --board BOARD` shows those that are (what is \
             meant nevertheless can be named by its `url`: {})",
            name_ranges(strangers),
            offer.url
        );
    }
    // They may have another one, which bramble does not write.
    if !strangers.is_empty() {
        watcher.note(&format!("`{name}` is not made for the boards of {}", name_ranges(strangers)));
    }
    Ok(ImagePin {
        url: offer.url.clone(),
        sha256: offer.packed.clone(),
        sha512: None,
        unpacked: Some(offer.unpacked.clone()),
        released: offer.released.clone(),
    })
}

/// Finds the digest that is published beside a file: in a file of its own, or in the list of its folder.
fn beside(url: &str, watcher: &dyn Watcher) -> Result<ImagePin> {
    let (folder, name) = url.rsplit_once('/').ok_or_else(|| failure!("{url} names no file"))?;
    let mut asked = Vec::new();
    let lists = [format!("{url}.sha256"), format!("{folder}/SHA256SUMS"), format!("{folder}/SHA512SUMS")];
    for list in lists {
        let text = match text_at(&list, &[], watcher) {
            Ok(text) => text,
            Err(error) if error.is_absent() => {
                asked.push(list);
                continue;
            }
            Err(error) => return Err(error),
        };
        let digest = listed(&text, name);
        let mut pin = ImagePin::at(url);
        if list.ends_with("SHA512SUMS") {
            let is = |digest: &&str| digest.len() == 128 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            pin.sha512 = digest.filter(is).map(str::to_ascii_lowercase);
        } else {
            pin.sha256 = digest.and_then(|digest| digest.parse().ok());
        }
        if pin.sha256.is_none() && pin.sha512.is_none() {
            bail!("{list} has no digest of {name}");
        }
        return Ok(pin);
    }
    bail!("no digest is published for {url} ({}): add its `sha256`", asked.join(", "))
}

/// Finds the digest of a file in a list as sha256sum writes it; a list of one digest may do without the name.
fn listed<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(|line| {
        let (digest, file) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (digest, file.trim_start().trim_start_matches('*'))
    });
    let is = |file: &str| file == name || Path::new(file).file_name().is_some_and(|last| last == name);
    lines.find(|(_, file)| is(file) || (file.is_empty() && text.trim().lines().count() == 1)).map(|(digest, _)| digest)
}
