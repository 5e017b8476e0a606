//! Writing one image to several disks at once: unpacked once, each disk with a boot partition of its own, read back and
//! compared, and only then made bootable.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use crate::error::ImageError;
use crate::overlay::Change;
use crate::partitions::boot_partition_end;

/// What is read, compared and written at once. The first one holds the partition table, and goes to the disk last.
const CHUNK: usize = 4 << 20;
/// What is read at once where it is not known how much is wanted.
const PAGE: usize = 256 << 10;
/// What direct I/O wants buffers, places and lengths to be multiples of, on disks with sectors of up to so many bytes.
const ALIGNMENT: usize = 4096;
/// Chunks that may wait for the slowest disk: what bounds the memory.
const WAITING: usize = 4;

/// What is to be other bytes on a disk, asked as soon as its boot partition is on it; what it reads is the image.
pub type Customise<'a> = Box<dyn FnOnce(&mut Written<'_>) -> Result<Vec<Change>, ImageError> + Send + 'a>;

/// A disk to be written.
pub struct Target<'a> {
    /// The disk, open for reading and writing.
    pub disk: File,
    /// What is to be its own.
    pub customise: Customise<'a>,
}

/// How far the work on a disk is. Numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So much of the image was written.
    Written(u64),
    /// All of it is written.
    Customising,
    /// So much was read back, of so much.
    Verified(u64, u64),
    /// Only its beginning is to be read back, and its partition table to be written.
    Ending,
}

/// Why a disk does not hold the image.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The image itself is at fault: no disk holds it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image is longer than the disk.
    #[error("the image is longer than this disk, which has {0} bytes")]
    TooLong(u64),
    /// Reading or writing the disk failed.
    #[error("cannot {action} at byte {offset}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        offset: u64,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk gives back other bytes than were written.
    #[error(
        "what was written at byte {offset} reads otherwise: the disk is worn out, or a fake of a larger one; use another"
    )]
    Differs {
        /// Where the chunk begins that differs.
        offset: u64,
    },
}

/// Bytes that begin at a multiple of [`ALIGNMENT`] in memory.
struct Aligned {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Aligned {
    fn new(length: usize) -> Aligned {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Aligned { bytes, range: start..start + length }
    }

    fn all(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    fn all_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.range.clone()]
    }
}

/// A part of the image. What is behind its end is zero.
struct Chunk {
    index: u64,
    bytes: Aligned,
    length: usize,
    digest: [u8; 32],
}

/// A chunk, or that there are no more.
type Handed = Option<Arc<Chunk>>;

impl Chunk {
    fn offset(&self) -> u64 {
        self.index * CHUNK as u64
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A disk under the work.
struct Device {
    file: File,
    size: u64,
}

impl Device {
    fn new(file: File) -> Result<Device, WriteError> {
        match (&file).seek(SeekFrom::End(0)) {
            Ok(size) => Ok(Device { file, size }),
            Err(source) => Err(WriteError::Disk { action: "find its end", offset: 0, source }),
        }
    }

    /// The length up to which direct I/O reads and writes, which is that of the disk at its end.
    fn whole(&self, offset: u64, length: usize) -> usize {
        length.next_multiple_of(ALIGNMENT).min(left(self.size, offset))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        self.file.write_all_at(bytes, offset).map_err(|source| WriteError::Disk { action: "write", offset, source })
    }

    /// Writes so many bytes of a buffer, and what direct I/O wants behind them.
    fn put(&self, bytes: &Aligned, length: usize, offset: u64) -> Result<(), WriteError> {
        self.write(&bytes.all()[..self.whole(offset, length)], offset)
    }

    /// Reads bytes back, and compares them with what they should be.
    fn check(&self, into: &mut Aligned, length: usize, offset: u64, wanted: &[u8; 32]) -> Result<(), WriteError> {
        let bytes = &mut into.all_mut()[..self.whole(offset, length)];
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|source| WriteError::Disk { action: "read back", offset, source })?;
        if digest(&bytes[..length]) == *wanted { Ok(()) } else { Err(WriteError::Differs { offset }) }
    }

    /// Lets all that was written be on the disk; where it goes through this machine's memory, that forgets it, so that what
    /// is read next comes from the disk.
    fn sync(&self) -> Result<(), WriteError> {
        let synced = self.file.sync_all();
        synced.map_err(|source| WriteError::Disk { action: "end writing", offset: 0, source })?;
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed).ok();
        Ok(())
    }

    /// Takes away what a disk boots by.
    fn blank(&self) -> Result<(), WriteError> {
        self.put(&Aligned::new(CHUNK), CHUNK, 0)?;
        self.sync()
    }
}

/// A disk that holds the image up to `length`, but for its first chunk, which is still here.
pub struct Written<'a> {
    disk: &'a Device,
    head: &'a Aligned,
    length: u64,
    at: u64,
    /// What was read already, by its number: file systems go to and fro between their tables and their files.
    pages: BTreeMap<u64, Aligned>,
}

impl<'a> Written<'a> {
    fn new(disk: &'a Device, head: &'a Aligned, length: u64) -> Written<'a> {
        Written { disk, head, length, at: 0, pages: BTreeMap::new() }
    }
}

impl Read for Written<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let number = self.at / PAGE as u64;
        let within = (self.at % PAGE as u64) as usize;
        let more = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = into.len().min(more).min(PAGE - within);
        if count == 0 {
            return Ok(0);
        }
        let start = number * PAGE as u64;
        let bytes = if start < CHUNK as u64 {
            &self.head.all()[start as usize..]
        } else {
            let page = match self.pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(place) => {
                    let mut page = Aligned::new(PAGE);
                    let length = self.disk.whole(start, left(self.length, start).min(PAGE));
                    self.disk.file.read_exact_at(&mut page.all_mut()[..length], start)?;
                    place.insert(page)
                }
            };
            page.all()
        };
        into[..count].copy_from_slice(&bytes[within..within + count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Written<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Writes an image to all disks, and tells for each how it ended, in their order. A disk that fails does not keep the others
/// from going on; it has no partition table then, so it does not boot. The same holds for all when `stop` becomes true.
/// `progress` hears the number of the disk.
pub fn write(
    mut image: impl Read,
    targets: Vec<Target<'_>>,
    stop: &AtomicBool,
    progress: &(dyn Fn(usize, Progress) + Sync),
) -> Vec<Result<u64, WriteError>> {
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut workers = Vec::new();
        for (number, target) in targets.into_iter().enumerate() {
            let (sender, receiver) = sync_channel(WAITING);
            senders.push(Some(sender));
            workers.push(scope.spawn(move || one(target, &receiver, stop, &|what| progress(number, what))));
        }
        let read = hand_out(&mut image, &mut senders, stop);
        // Nobody takes half an image for a whole one.
        let whole = read.is_ok();
        for sender in senders.into_iter().flatten().filter(|_| whole) {
            sender.send(None).ok();
        }
        let mut results: Vec<Result<u64, WriteError>> = Vec::new();
        let mut cause = read.err();
        for worker in workers {
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            results.push(match (result, cause.take()) {
                (Err(WriteError::Image(ImageError::CutOff)), Some(error)) => Err(WriteError::Image(error)),
                (result, _) => result,
            });
        }
        results
    })
}

/// Reads the image once, for all who still want it.
fn hand_out(image: &mut impl Read, to: &mut [Option<SyncSender<Handed>>], stop: &AtomicBool) -> Result<(), ImageError> {
    for index in 0.. {
        go_on(stop)?;
        let mut bytes = Aligned::new(CHUNK);
        let mut length = 0;
        while length < CHUNK {
            match image.read(&mut bytes.all_mut()[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ImageError::Io { action: "unpack the image", source }),
            }
        }
        if length == 0 {
            return Ok(());
        }
        let digest = digest(&bytes.all()[..length]);
        let chunk = Arc::new(Chunk { index, bytes, length, digest });
        for sender in to.iter_mut() {
            // A disk that failed listens no more.
            if sender.as_ref().is_some_and(|sender| sender.send(Some(chunk.clone())).is_err()) {
                *sender = None;
            }
        }
        if length < CHUNK || to.iter().all(Option::is_none) {
            return Ok(());
        }
    }
    Ok(())
}

fn go_on(stop: &AtomicBool) -> Result<(), ImageError> {
    if stop.load(Ordering::Relaxed) { Err(ImageError::Stopped) } else { Ok(()) }
}

fn one(
    target: Target<'_>,
    chunks: &Receiver<Handed>,
    stop: &AtomicBool,
    progress: &dyn Fn(Progress),
) -> Result<u64, WriteError> {
    let disk = Device::new(target.disk)?;
    // What it held until now does not boot any more either, whatever of the rest is on it when it is pulled out.
    disk.blank()?;
    let mut head: Option<Aligned> = None;
    let mut boot_end = None;
    let mut customise = Some(target.customise);
    let mut changes = Vec::new();
    let mut digests: Vec<[u8; 32]> = Vec::new();
    let mut length = 0;
    let cut_off = |_| go_on(stop).err().unwrap_or(ImageError::CutOff);
    // Without a word that this was all, it was not.
    while let Some(chunk) = chunks.recv().map_err(cut_off)? {
        if chunk.offset() + chunk.length as u64 > disk.size {
            return Err(WriteError::TooLong(disk.size));
        }
        length = chunk.offset() + chunk.length as u64;
        digests.push(chunk.digest);
        match &head {
            Some(_) => disk.put(&chunk.bytes, chunk.length, chunk.offset())?,
            None => {
                let mut copy = Aligned::new(CHUNK);
                copy.all_mut().copy_from_slice(chunk.bytes.all());
                boot_end = boot_partition_end(copy.all());
                head = Some(copy);
            }
        }
        progress(Progress::Written(length));
        // What is wrong with the image is known before all of it is written.
        if let Some(head) = &head
            && boot_end.is_some_and(|end| end <= length)
            && let Some(customise) = customise.take()
        {
            changes = customise(&mut Written::new(&disk, head, length))?;
        }
    }
    let Some(mut head) = head else { return Err(ImageError::NoTable.into()) };
    disk.sync()?;
    progress(Progress::Customising);
    if let Some(customise) = customise {
        changes = customise(&mut Written::new(&disk, &head, length))?;
    }
    apply(&disk, &mut head, &changes, length, &mut digests)?;
    disk.sync()?;

    let mut buffer = Aligned::new(CHUNK);
    let mut verified = 0;
    for (index, wanted) in (1u64..).zip(digests.iter().skip(1)) {
        go_on(stop)?;
        let offset = index * CHUNK as u64;
        disk.check(&mut buffer, left(length, offset), offset, wanted)?;
        verified += left(length, offset) as u64;
        progress(Progress::Verified(verified, length));
    }
    // Everything else is right: now it may boot. The sectors of the partition table go last, alone, when what stands behind
    // them was read back, too.
    let whole = disk.whole(0, left(length, 0));
    let (table, rest) = head.all()[..whole].split_at(ALIGNMENT.min(left(disk.size, 0)));
    let mut end = || {
        disk.write(rest, ALIGNMENT as u64)?;
        disk.sync()?;
        progress(Progress::Ending);
        disk.check(&mut buffer, rest.len(), ALIGNMENT as u64, &digest(rest))?;
        disk.write(table, 0)?;
        disk.sync()?;
        disk.check(&mut buffer, left(length, 0), 0, &digests[0])
    };
    if let Err(error) = end() {
        // What reads otherwise is not to boot; a disk that cannot be written any more has nothing to be taken away.
        disk.blank().ok();
        return Err(error);
    }
    progress(Progress::Verified(length, length));
    Ok(length)
}

/// How much of a chunk lies before the end.
fn left(end: u64, offset: u64) -> usize {
    usize::try_from(end - offset).unwrap_or(CHUNK).min(CHUNK)
}

/// Changes bytes of what was written: each chunk is read, compared with what it should be, and written anew.
fn apply(
    disk: &Device,
    head: &mut Aligned,
    changes: &[Change],
    length: u64,
    digests: &mut [[u8; 32]],
) -> Result<(), WriteError> {
    let mut by_chunk: BTreeMap<u64, Vec<(usize, &[u8])>> = BTreeMap::new();
    for change in changes {
        let mut at = change.offset;
        let mut rest = change.bytes.as_slice();
        while !rest.is_empty() {
            let within = (at % CHUNK as u64) as usize;
            let count = rest.len().min(CHUNK - within);
            by_chunk.entry(at / CHUNK as u64).or_default().push((within, &rest[..count]));
            at += count as u64;
            rest = &rest[count..];
        }
    }
    let mut buffer = Aligned::new(CHUNK);
    for (index, changes) in by_chunk {
        let offset = index * CHUNK as u64;
        let size = left(length, offset);
        let wanted = &mut digests[index as usize];
        let chunk = if index == 0 { &mut *head } else { &mut buffer };
        if index > 0 {
            disk.check(chunk, size, offset, wanted)?;
        }
        for (within, change) in changes {
            chunk.all_mut()[within..within + change.len()].copy_from_slice(change);
        }
        *wanted = digest(&chunk.all()[..size]);
        if index > 0 {
            disk.put(chunk, size, offset)?;
        }
    }
    Ok(())
}
