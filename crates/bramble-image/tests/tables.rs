//! Partition tables of any bytes: none of them makes the reader stumble, and what it finds lies inside of the disk.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};

use bramble_image::{boot_partition, edit_boot};
use proptest::prelude::*;

/// A disk with a FAT of 1 MiB that has some files.
fn disk() -> Vec<u8> {
    let mut volume = Cursor::new(vec![0; 1 << 20]);
    fatfs::format_volume(&mut volume, fatfs::FormatVolumeOptions::new()).unwrap();
    {
        let files = fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).unwrap();
        for name in ["config.txt", "cmdline.txt", "a longer name.txt"] {
            files.root_dir().create_file(name).unwrap().write_all(&[b'x'; 3000]).unwrap();
        }
        files.root_dir().create_dir("current").unwrap().create_file("cmdline.txt").unwrap();
    }
    let mut disk = vec![0; 4096];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[450] = 0x0c;
    disk[454..458].copy_from_slice(&8u32.to_le_bytes());
    disk[458..462].copy_from_slice(&2048u32.to_le_bytes());
    disk.extend(volume.into_inner());
    disk
}

proptest! {
    #[test]
    fn a_damaged_fat_is_an_error_at_worst(
        damage in proptest::collection::vec((prop_oneof![0usize..512, 0usize..20_000, 0usize..100_000], any::<u8>()), 1..12),
    ) {
        let mut disk = disk();
        let partition = boot_partition(&mut Cursor::new(&disk)).unwrap();
        for (at, byte) in damage {
            disk[4096 + at] = byte;
        }
        edit_boot(Cursor::new(&disk), partition, |boot| {
            boot.read("cmdline.txt")?;
            boot.write("user-data", &"y".repeat(5000))?;
            boot.write("current/cmdline.txt", "z")
        })
        .ok();
    }

    #[test]
    fn what_is_found_lies_inside(
        noise in proptest::collection::vec(any::<u8>(), 0..8192),
        marked in any::<bool>(),
        kind in prop_oneof![Just(0x0cu8), Just(0xee), Just(0x83), any::<u8>()],
        efi in any::<bool>(),
    ) {
        let mut disk = noise;
        if marked && disk.len() >= 1024 {
            disk[510] = 0x55;
            disk[511] = 0xaa;
            disk[450] = kind;
            if efi {
                disk[512..520].copy_from_slice(b"EFI PART");
            }
        }
        let length = disk.len() as u64;
        if let Ok(found) = boot_partition(&mut Cursor::new(&disk)) {
            prop_assert!(found.start + found.length <= length && found.length > 0);
            // Nor does the reader of FAT.
            edit_boot(Cursor::new(&disk), found, |boot| Ok(boot.has("config.txt"))).ok();
        }
    }
}
