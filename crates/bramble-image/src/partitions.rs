//! Partition tables, as far as the boot partition is looked for: MBR, and GPT behind a protective MBR (UEFI 2.10, 5.2, 5.3).

use std::io::{Cursor, Read, Seek, SeekFrom};

use crate::error::{Context, ImageError};
use crate::little_endian::{u32_at, u64_at};

const SECTOR: u64 = 512;
/// Types of MBR partitions that have FAT: 12, 16, 32, with and without LBA, and the EFI system partition.
const FAT: [u8; 7] = [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e, 0xef];
const PROTECTIVE: u8 = 0xee;
/// The types of GPT partitions that have FAT, as they are stored: EFI system, and Microsoft's basic data.
const FAT_GUIDS: [[u8; 16]; 2] = [
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b],
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7],
];
/// More entries than any table has; Linux itself stops at 256.
const MOST_ENTRIES: u32 = 1024;

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Where it begins, in bytes.
    pub start: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// The first partition with a FAT file system, which the firmware of a Raspberry Pi boots from. Sectors have 512 bytes, as
/// on all media that a Pi boots from.
pub fn boot_partition(disk: &mut (impl Read + Seek)) -> Result<Partition, ImageError> {
    let end = disk.seek(SeekFrom::End(0)).during("find the end of the image")?;
    Ok(find(disk, end)?.boot)
}

/// Refuses an image behind whose end its partitions reach: one that broke off.
///
/// # Errors
/// It broke off, or has no partition table that is known.
pub fn is_whole(image: &mut (impl Read + Seek)) -> Result<(), ImageError> {
    let has = image.seek(SeekFrom::End(0)).during("find the end of the image")?;
    // What lies outside of it is the question; without a table there is nothing to read there.
    let table = match find(image, u64::MAX) {
        Err(ImageError::Io { .. }) => find(image, has)?,
        table => table?,
    };
    let wants = table.ends.saturating_mul(SECTOR);
    if wants > has { Err(ImageError::BrokeOff { has, wants }) } else { Ok(()) }
}

/// What a partition table says.
struct Table {
    boot: Partition,
    /// The sector behind the last partition.
    ends: u64,
}

/// Where the boot partition ends, told by the beginning of an image, if that is enough to tell.
pub(crate) fn boot_partition_end(head: &[u8]) -> Option<u64> {
    let partition = find(&mut Cursor::new(head), u64::MAX).ok()?.boot;
    partition.start.checked_add(partition.length)
}

/// The same, on a disk that ends there.
fn find(disk: &mut (impl Read + Seek), end: u64) -> Result<Table, ImageError> {
    let first = sector(disk, end, 0)?.ok_or(ImageError::NoTable)?;
    // Where an archive says what it is (POSIX, pax), packed or not.
    if first[257..262] == *b"ustar" {
        return Err(ImageError::OtherPacking { what: "a tar archive", program: "tar -xf" });
    }
    // A FAT file system begins with the same mark as a table.
    if first[510..] != [0x55, 0xaa] || first[..3] == *b"\xeb\x58\x90" && first[82..87] == *b"FAT32" {
        return Err(ImageError::NoTable);
    }
    let mut boot = None;
    let mut ends = 0;
    for entry in first[446..510].chunks_exact(16) {
        let (kind, start, length) = (entry[4], u64::from(u32_at(entry, 8)), u64::from(u32_at(entry, 12)));
        // A hybrid one may have both: the firmware of older boards takes the first.
        if kind == PROTECTIVE && boot.is_none() {
            return gpt(disk, end);
        }
        if kind != 0 && kind != PROTECTIVE {
            ends = ends.max(start + length);
        }
        if FAT.contains(&kind) && boot.is_none() {
            boot = Some((start, length));
        }
    }
    let (start, length) = boot.ok_or(ImageError::NoBoot)?;
    Ok(Table { boot: inside(start, length, end)?, ends })
}

fn gpt(disk: &mut (impl Read + Seek), end: u64) -> Result<Table, ImageError> {
    let has_gpt = |header: &[u8; 512]| header[..8] == *b"EFI PART";
    let Some(header) = sector(disk, end, 1)?.filter(has_gpt) else {
        // With larger sectors it begins at the second one of these.
        return Err(ImageError::BadTable(match sector(disk, end, 8)?.filter(has_gpt) {
            Some(_) => "it is for disks with sectors of 4096 bytes, and boards boot from those with 512",
            None => "there is no GPT behind its protective MBR",
        }));
    };
    let table = u64_at(&header, 72);
    let count = u32_at(&header, 80);
    let size = u64::from(u32_at(&header, 84));
    if count > MOST_ENTRIES || !(128..=4096).contains(&size) || !size.is_multiple_of(128) {
        return Err(ImageError::BadTable("its GPT has entries of an impossible number or size"));
    }
    let (mut found, mut ends) = (None, 0);
    for index in 0..u64::from(count) {
        let at = table.checked_mul(SECTOR).and_then(|start| start.checked_add(index * size));
        let at =
            at.filter(|at| at.saturating_add(size) <= end).ok_or(ImageError::BadTable("its GPT lies outside of it"))?;
        let mut entry = [0; 48];
        disk.seek(SeekFrom::Start(at)).during("read the partition table")?;
        disk.read_exact(&mut entry).during("read the partition table")?;
        if entry[..16] == [0; 16] {
            continue;
        }
        // The last sector is a part of the partition.
        let (first, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        ends = ends.max(last.saturating_add(1));
        if found.is_none() && FAT_GUIDS.iter().any(|kind| entry[..16] == *kind) {
            let sectors = last.checked_sub(first).and_then(|more| more.checked_add(1));
            found = Some((first, sectors.ok_or(ImageError::BadTable("a partition ends before it begins"))?));
        }
    }
    let (first, sectors) = found.ok_or(ImageError::NoBoot)?;
    Ok(Table { boot: inside(first, sectors, end)?, ends })
}

/// A partition in bytes, if it has any and lies inside of the disk.
fn inside(first: u64, sectors: u64, end: u64) -> Result<Partition, ImageError> {
    let bytes = first.checked_mul(SECTOR).zip(sectors.checked_mul(SECTOR));
    match bytes {
        Some((start, length))
            if length > 0 && start > 0 && start.checked_add(length).is_some_and(|last| last <= end) =>
        {
            Ok(Partition { start, length })
        }
        _ => Err(ImageError::BadTable("its boot partition lies outside of it")),
    }
}

fn sector(disk: &mut (impl Read + Seek), end: u64, number: u64) -> Result<Option<[u8; 512]>, ImageError> {
    if (number + 1) * SECTOR > end {
        return Ok(None);
    }
    let mut bytes = [0; 512];
    disk.seek(SeekFrom::Start(number * SECTOR)).during("read the partition table")?;
    disk.read_exact(&mut bytes).during("read the partition table")?;
    Ok(Some(bytes))
}
