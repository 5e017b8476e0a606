//! Where the images of systems come from: catalogues, web servers, files here.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bramble_image::{Identity, ImageError, Offer, board, boot_partition, catalogue, is_whole};
use bramble_spec::Node;

use crate::error::{Context, Result};
use crate::http::text_at;
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
    let fit = boot_partition(&mut beginning()).and_then(|_| is_whole(&mut beginning()));
    if let Some(error) = fit.err().filter(told) {
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
