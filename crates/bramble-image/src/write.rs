//! Writing one image to several disks at once: unpacked once, each disk with a boot partition of its own, read back and
//! compared, and only then made bootable.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use crate::boot::edit_boot;
use crate::customise::{Identity, customise};
use crate::error::ImageError;
use crate::overlay::Change;
use crate::partitions::boot_partition;
use crate::system::System;

/// What is read, compared and written at once. The first one holds the partition table, and goes to the disk last.
const CHUNK: usize = 4 << 20;
/// What direct I/O wants buffers, places and lengths to be multiples of, on disks with sectors of up to so many bytes.
const ALIGNMENT: usize = 4096;
/// Chunks that may wait for the slowest disk: what bounds the memory.
const WAITING: usize = 4;

/// What is to be other bytes on a disk, asked when the image is on it; what it reads is the image.
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
    start: usize,
}

impl Aligned {
    fn new() -> Aligned {
        let bytes = vec![0; CHUNK + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Aligned { bytes, start }
    }

    fn all(&self) -> &[u8] {
        &self.bytes[self.start..self.start + CHUNK]
    }

    fn all_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + CHUNK]
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

/// The length up to which direct I/O writes.
fn whole(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A disk that holds the image, but for its first chunk, which is still here.
pub struct Written<'a> {
    disk: &'a File,
    /// That of the disk.
    size: u64,
    head: &'a [u8],
    length: u64,
    at: u64,
    buffer: Aligned,
    /// The chunk that is in the buffer.
    has: Option<u64>,
}

impl Read for Written<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let within = (self.at % CHUNK as u64) as usize;
        let more = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = into.len().min(more).min(CHUNK - within);
        if count == 0 {
            return Ok(0);
        }
        let chunk = self.at / CHUNK as u64;
        if chunk == 0 {
            into[..count].copy_from_slice(&self.head[within..within + count]);
        } else {
            if self.has != Some(chunk) {
                let offset = chunk * CHUNK as u64;
                let length = whole(left(self.length, offset)).min(left(self.size, offset));
                self.has = None;
                self.disk.read_exact_at(&mut self.buffer.all_mut()[..length], offset)?;
                self.has = Some(chunk);
            }
            into[..count].copy_from_slice(&self.buffer.all()[within..within + count]);
        }
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
/// from going on; it has no partition table then, so it does not boot. `progress` hears the number of the disk.
pub fn write(
    mut image: impl Read,
    targets: Vec<Target<'_>>,
    progress: &(dyn Fn(usize, Progress) + Sync),
) -> Vec<Result<u64, WriteError>> {
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut workers = Vec::new();
        for (number, target) in targets.into_iter().enumerate() {
            let (sender, receiver) = sync_channel(WAITING);
            senders.push(Some(sender));
            workers.push(scope.spawn(move || one(target, &receiver, &|what| progress(number, what))));
        }
        let read = hand_out(&mut image, &mut senders);
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
fn hand_out(image: &mut impl Read, to: &mut [Option<SyncSender<Handed>>]) -> Result<(), ImageError> {
    for index in 0.. {
        let mut bytes = Aligned::new();
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

fn one(target: Target<'_>, chunks: &Receiver<Handed>, progress: &dyn Fn(Progress)) -> Result<u64, WriteError> {
    let Target { disk, customise } = target;
    let disk = &disk;
    let size = io::Seek::seek(&mut &*disk, SeekFrom::End(0)).map_err(|source| WriteError::Disk {
        action: "find its end",
        offset: 0,
        source,
    })?;
    let put = |bytes: &[u8], offset: u64| {
        disk.write_all_at(bytes, offset).map_err(|source| WriteError::Disk { action: "write", offset, source })
    };
    // What it held until now does not boot any more either.
    let empty = Aligned::new();
    put(&empty.all()[..left(size, 0)], 0)?;
    let mut head: Option<Arc<Chunk>> = None;
    let mut digests: Vec<[u8; 32]> = Vec::new();
    let mut length = 0;
    // Without a word that this was all, it was not.
    while let Some(chunk) = chunks.recv().map_err(|_| ImageError::CutOff)? {
        if chunk.offset() + chunk.length as u64 > size {
            return Err(WriteError::TooLong(size));
        }
        if chunk.index > 0 {
            put(&chunk.bytes.all()[..whole(chunk.length).min(left(size, chunk.offset()))], chunk.offset())?;
        }
        length = chunk.offset() + chunk.length as u64;
        digests.push(chunk.digest);
        progress(Progress::Written(length));
        if chunk.index == 0 {
            head = Some(chunk);
        }
    }
    let Some(first) = head else { return Err(ImageError::NoTable.into()) };
    sync(disk)?;
    progress(Progress::Customising);
    let mut head = Aligned::new();
    head.all_mut().copy_from_slice(first.bytes.all());
    let first_length = first.length;
    drop(first);
    let mut view = Written { disk, size, head: head.all(), length, at: 0, buffer: Aligned::new(), has: None };
    let changes = customise(&mut view)?;
    apply(disk, size, &mut head, &changes, length, &mut digests)?;
    sync(disk)?;

    let mut buffer = Aligned::new();
    let mut verified = first_length as u64;
    for (index, wanted) in (1u64..).zip(digests.iter().skip(1)) {
        let offset = index * CHUNK as u64;
        check(disk, size, offset, left(length, offset), wanted, &mut buffer)?;
        verified = offset + left(length, offset) as u64;
        progress(Progress::Verified(verified - first_length as u64, length));
    }
    // Everything else is right: now it may boot. The sectors of the partition table go last, alone.
    let bytes = &head.all()[..whole(first_length).min(left(size, 0))];
    let (table, rest) = bytes.split_at(ALIGNMENT.min(bytes.len()));
    put(rest, ALIGNMENT as u64)?;
    sync(disk)?;
    put(table, 0)?;
    sync(disk)?;
    check(disk, size, 0, first_length, &digest(&head.all()[..first_length]), &mut buffer)?;
    progress(Progress::Verified(verified, length));
    Ok(length)
}

/// How much of a chunk lies before the end.
fn left(end: u64, offset: u64) -> usize {
    usize::try_from(end - offset).unwrap_or(CHUNK).min(CHUNK)
}

/// Changes bytes of what was written: each chunk is read, compared with what it should be, and written anew.
fn apply(
    disk: &File,
    disk_size: u64,
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
    let mut buffer = Aligned::new();
    for (index, changes) in by_chunk {
        let offset = index * CHUNK as u64;
        let size = left(length, offset);
        let bytes = if index == 0 {
            head.all_mut()
        } else {
            check(disk, disk_size, offset, size, &digests[index as usize], &mut buffer)?;
            buffer.all_mut()
        };
        for (within, change) in changes {
            bytes[within..within + change.len()].copy_from_slice(change);
        }
        digests[index as usize] = digest(&bytes[..size]);
        if index > 0 {
            disk.write_all_at(&bytes[..whole(size).min(left(disk_size, offset))], offset)
                .map_err(|source| WriteError::Disk { action: "write", offset, source })?;
        }
    }
    Ok(())
}

fn check(
    disk: &File,
    disk_size: u64,
    offset: u64,
    length: usize,
    wanted: &[u8; 32],
    buffer: &mut Aligned,
) -> Result<(), WriteError> {
    let bytes = &mut buffer.all_mut()[..whole(length).min(left(disk_size, offset))];
    disk.read_exact_at(bytes, offset).map_err(|source| WriteError::Disk { action: "read back", offset, source })?;
    if digest(&bytes[..length]) == *wanted { Ok(()) } else { Err(WriteError::Differs { offset }) }
}

fn sync(disk: &File) -> Result<(), WriteError> {
    disk.sync_all().map_err(|source| WriteError::Disk { action: "end writing", offset: 0, source })
}

/// What makes a board of an image that is on a disk: the changes of its boot partition.
pub fn board(written: &mut Written<'_>, identity: &Identity) -> Result<Vec<Change>, ImageError> {
    let partition = boot_partition(written)?;
    let ((), changes) = edit_boot(written, partition, |boot| customise(boot, System::of(boot)?, identity))?;
    Ok(changes)
}
