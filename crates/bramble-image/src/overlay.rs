//! Changes of a partition, kept beside it until somebody writes them.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::partitions::Partition;

const BLOCK: usize = 512;

/// Bytes that are to be others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where they begin on the disk.
    pub offset: u64,
    /// What is to be there.
    pub bytes: Vec<u8>,
}

/// A partition that can be written without its disk being touched.
pub(crate) struct Overlay<R> {
    disk: R,
    partition: Partition,
    at: u64,
    /// By number within the partition.
    changed: BTreeMap<u64, [u8; BLOCK]>,
}

impl<R: Read + Seek> Overlay<R> {
    pub(crate) fn new(disk: R, partition: Partition) -> Overlay<R> {
        Overlay { disk, partition, at: 0, changed: BTreeMap::new() }
    }

    /// What differs from the disk now, neighbours together. Blocks that came back to what they were are left out.
    pub(crate) fn changes(mut self) -> io::Result<Vec<Change>> {
        let mut changes: Vec<Change> = Vec::new();
        for (number, bytes) in std::mem::take(&mut self.changed) {
            if self.original(number)? == bytes {
                continue;
            }
            let offset = self.partition.start + number * BLOCK as u64;
            match changes.last_mut() {
                Some(last) if last.offset + last.bytes.len() as u64 == offset => last.bytes.extend(bytes),
                _ => changes.push(Change { offset, bytes: bytes.to_vec() }),
            }
        }
        Ok(changes)
    }

    fn original(&mut self, number: u64) -> io::Result<[u8; BLOCK]> {
        let mut bytes = [0; BLOCK];
        self.disk.seek(SeekFrom::Start(self.partition.start + number * BLOCK as u64))?;
        self.disk.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The block at the current place, the place within it, and how many of `wanted` bytes lie in it.
    fn here(&self, wanted: usize) -> (u64, usize, usize) {
        let within = (self.at % BLOCK as u64) as usize;
        let left = usize::try_from(self.partition.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        (self.at / BLOCK as u64, within, wanted.min(BLOCK - within).min(left))
    }
}

impl<R: Read + Seek> Read for Overlay<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (number, within, count) = self.here(into.len());
        if count == 0 {
            return Ok(0);
        }
        let block = match self.changed.get(&number) {
            Some(block) => *block,
            None => self.original(number)?,
        };
        into[..count].copy_from_slice(&block[within..within + count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Read + Seek> Write for Overlay<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (number, within, count) = self.here(bytes.len());
        if count == 0 {
            return Ok(0);
        }
        let mut block = match self.changed.get(&number) {
            Some(block) => *block,
            None => self.original(number)?,
        };
        block[within..within + count].copy_from_slice(&bytes[..count]);
        self.changed.insert(number, block);
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R> Seek for Overlay<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.partition.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
