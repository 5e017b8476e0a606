//! Whether a FAT is as sound as the library that edits it takes for granted: with other numbers in it, that computes places
//! outside of the file system, or goes round in circles.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

use crate::error::{Context, ImageError};
use crate::little_endian::{u16_at, u32_at};

/// The most clusters that are looked at: a boot partition has some hundred thousand.
const MOST_CLUSTERS: u32 = 1 << 24;
/// The size of an entry of a directory.
const ENTRY: usize = 32;
/// The folder with files that may be edited (that of Ubuntu's A/B boot), by its short name.
const FOLDER: &[u8; 11] = b"CURRENT    ";

/// What the first sector tells (Microsoft, "FAT: General Overview of On-Disk Format", 1.03).
struct Layout {
    /// Bytes of a cluster.
    cluster: u64,
    /// Where the first FAT begins, the root directory of a small file system, and the clusters.
    table: u64,
    root: u64,
    data: u64,
    clusters: u32,
    /// Bits of an entry: 12, 16 or 32.
    bits: u8,
    root_cluster: u32,
}

impl Layout {
    /// Nothing for numbers that no file system has, which the library refuses itself.
    fn of(boot: &[u8; 512]) -> Option<Layout> {
        let word = |at: usize| u64::from(u16_at(boot, at));
        let long = |at: usize| u32_at(boot, at);
        let either = |small: u64, large: u32| if small == 0 { u64::from(large) } else { small };
        let (sector, per_cluster) = (word(11), u64::from(boot[13]));
        if sector == 0 || per_cluster == 0 {
            return None;
        }
        let table = word(14);
        let root = table + u64::from(boot[16]) * either(word(22), long(36));
        let data = root + (word(17) * ENTRY as u64).div_ceil(sector);
        let clusters = u32::try_from(either(word(19), long(32)).checked_sub(data)? / per_cluster).ok()?;
        let bits = match clusters {
            ..4085 => 12,
            4085..65525 => 16,
            _ => 32,
        };
        let (table, root, data) = (table * sector, root * sector, data * sector);
        Some(Layout { cluster: sector * per_cluster, table, root, data, clusters, bits, root_cluster: long(44) })
    }

    /// Tells whether there is a cluster of this number.
    fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && cluster - 2 < self.clusters
    }

    /// The clusters that each cluster says come after it; `None` at the end of a chain, and where there is none.
    fn table(&self, disk: &mut (impl Read + Seek)) -> Result<Vec<Option<u32>>, ImageError> {
        if self.clusters > MOST_CLUSTERS {
            return Err(ImageError::BadBoot("it has too many clusters"));
        }
        let count = self.clusters as usize + 2;
        let mut bytes = Vec::new();
        let length = (count as u64 * u64::from(self.bits)).div_ceil(8);
        read(disk, self.table, length, &mut bytes)?;
        let last = u32::MAX >> (32 - u32::from(self.bits.min(28)));
        let entry = |at: usize| match self.bits {
            12 if at.is_multiple_of(2) => u32::from(u16_at(&bytes, at * 3 / 2)) & last,
            12 => u32::from(u16_at(&bytes, at * 3 / 2)) >> 4,
            16 => u32::from(u16_at(&bytes, at * 2)),
            _ => u32_at(&bytes, at * 4) & last,
        };
        // The first two are no clusters.
        let mut next = vec![None; 2];
        for at in 2..count {
            next.push(match entry(at) {
                0 => None,
                // A bad cluster, or the end.
                value if value >= last - 8 => None,
                value if self.has(value) => Some(value),
                _ => return Err(ImageError::BadBoot("a file goes on outside of it")),
            });
        }
        Ok(next)
    }

    /// Reads a directory: that of the root, or one that begins at a cluster.
    fn directory(
        &self,
        disk: &mut (impl Read + Seek),
        next: &[Option<u32>],
        first: Option<u32>,
    ) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let Some(first) = first else {
            read(disk, self.root, self.data - self.root, &mut bytes)?;
            return Ok(bytes);
        };
        let mut seen = BTreeSet::new();
        let mut at = Some(first);
        while let Some(cluster) = at {
            if !self.has(cluster) || !seen.insert(cluster) {
                return Err(ImageError::BadBoot("a folder of it has no end"));
            }
            read(disk, self.data + u64::from(cluster - 2) * self.cluster, self.cluster, &mut bytes)?;
            at = next[cluster as usize];
        }
        Ok(bytes)
    }
}

fn read(disk: &mut (impl Read + Seek), at: u64, length: u64, into: &mut Vec<u8>) -> Result<(), ImageError> {
    let before = into.len() as u64;
    disk.seek(SeekFrom::Start(at)).during("read its boot partition")?;
    disk.by_ref().take(length).read_to_end(into).during("read its boot partition")?;
    if into.len() as u64 - before < length {
        let source = io::Error::from(io::ErrorKind::UnexpectedEof);
        return Err(ImageError::Io { action: "read its boot partition", source });
    }
    Ok(())
}

/// Checks the table, the root directory and the folder whose files may be edited.
///
/// # Errors
/// A number points outside, a folder has no end, or reading failed.
pub(crate) fn check(partition: &mut (impl Read + Seek)) -> Result<(), ImageError> {
    let mut boot = [0; 512];
    partition.rewind().during("read its boot partition")?;
    if partition.read_exact(&mut boot).is_err() {
        return Ok(());
    }
    let Some(layout) = Layout::of(&boot) else { return Ok(()) };
    let next = layout.table(partition)?;
    let root = (layout.bits == 32).then_some(layout.root_cluster);
    if let Some(folder) = entries(&layout, &layout.directory(partition, &next, root)?)? {
        entries(&layout, &layout.directory(partition, &next, Some(folder))?)?;
    }
    Ok(())
}

/// Checks where the files of a directory begin, and finds the folder among them.
fn entries(layout: &Layout, directory: &[u8]) -> Result<Option<u32>, ImageError> {
    let mut found = None;
    for entry in directory.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0) {
        const VOLUME: u8 = 0x08;
        const DIRECTORY: u8 = 0x10;
        // Long names have the mark of a volume, too.
        if entry[0] == 0xe5 || entry[11] & VOLUME != 0 {
            continue;
        }
        let high = if layout.bits == 32 { u32::from(u16_at(entry, 20)) << 16 } else { 0 };
        let first = high | u32::from(u16_at(entry, 26));
        if first != 0 && !layout.has(first) {
            return Err(ImageError::BadBoot("a file begins outside of it"));
        }
        if entry[11] & DIRECTORY != 0 && entry[..11] == *FOLDER && first != 0 {
            found = Some(first);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Cursor, Write};

    use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

    use super::*;

    /// A file system with a file of two clusters, and a folder with another one.
    fn volume(kind: FatType, size: usize) -> Vec<u8> {
        let mut disk = vec![0; size];
        let options = FormatVolumeOptions::new().fat_type(kind).bytes_per_cluster(512);
        fatfs::format_volume(Cursor::new(&mut disk), options).unwrap();
        let files = FileSystem::new(Cursor::new(&mut disk), FsOptions::new()).unwrap();
        files.root_dir().create_file("config.txt").unwrap().write_all(&[b'x'; 700]).unwrap();
        let folder = files.root_dir().create_dir("current").unwrap();
        folder.create_file("cmdline.txt").unwrap().write_all(b"quiet").unwrap();
        drop(folder);
        files.unmount().unwrap();
        disk
    }

    fn said(disk: &[u8]) -> String {
        check(&mut Cursor::new(disk)).map_or_else(|error| error.to_string(), |()| "sound".into())
    }

    /// Where the entry of this short name is.
    fn entry(disk: &[u8], name: &[u8; 11]) -> usize {
        disk.chunks(ENTRY).position(|entry| entry.starts_with(name)).unwrap() * ENTRY
    }

    #[test]
    fn damage_is_found_in_each_kind() {
        for (kind, bits, size) in
            [(FatType::Fat12, 12, 1 << 20), (FatType::Fat16, 16, 4 << 20), (FatType::Fat32, 32, 40 << 20)]
        {
            let disk = volume(kind, size);
            let layout = Layout::of(disk[..512].try_into().unwrap()).unwrap();
            assert_eq!((said(&disk), layout.bits), ("sound".into(), bits), "{kind:?}");

            for name in [b"CONFIG  TXT", b"CMDLINE TXT"] {
                let mut other = disk.clone();
                let at = entry(&disk, name);
                other[at + 26..at + 28].copy_from_slice(&1_u16.to_le_bytes());
                assert!(said(&other).ends_with("a file begins outside of it"), "{kind:?}");
            }

            let file = entry(&disk, b"CONFIG  TXT");
            let first = usize::from(u16_at(&disk, file + 26));
            let mut other = disk.clone();
            let at = layout.table as usize + first * usize::from(layout.bits) / 8;
            let (low, high) = (disk[at] & 0x0f, disk[at + 1] & 0xf0);
            match layout.bits {
                12 if first.is_multiple_of(2) => (other[at], other[at + 1]) = (1, high),
                12 => (other[at], other[at + 1]) = (low | 0x10, 0),
                16 => other[at..at + 2].copy_from_slice(&1_u16.to_le_bytes()),
                _ => other[at..at + 4].copy_from_slice(&1_u32.to_le_bytes()),
            }
            assert!(said(&other).ends_with("a file goes on outside of it"), "{kind:?}: {}", said(&other));
        }
    }

    #[test]
    fn a_folder_that_goes_round_in_circles_is_found() {
        let mut disk = volume(FatType::Fat32, 40 << 20);
        let layout = Layout::of(disk[..512].try_into().unwrap()).unwrap();
        let at = layout.table as usize + layout.root_cluster as usize * 4;
        disk[at..at + 4].copy_from_slice(&layout.root_cluster.to_le_bytes());
        assert!(said(&disk).ends_with("a folder of it has no end"));
    }

    #[test]
    fn what_is_no_file_system_is_left_to_the_library() {
        for disk in [vec![], vec![0; 100], vec![0; 512], vec![0xff; 4096]] {
            check(&mut Cursor::new(disk))
                .unwrap_or_else(|error| assert!(matches!(error, ImageError::Io { .. } | ImageError::BadBoot(_))));
        }
    }
}
