//! The archive that a kernel unpacks into its memory: cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// An archive with this program as `/init`, packed with gzip, which every kernel unpacks.
///
/// The kernel unpacks several archives, one behind the other; what a later one has takes the place of what an earlier one has.
pub(crate) fn with_init(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = GzEncoder::new(Vec::new(), Compression::default());
    let mut number = 0;
    let mut entry = |name: &str, mode: u32, device: (u32, u32), content: &[u8]| {
        number += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        let name = format!("{name}\0");
        // inode, mode, uid, gid, links, time, size, device, device of a node, length of the name, check.
        let numbers =
            [number, mode, 0, 0, links, 0, content.len() as u32, 0, 0, device.0, device.1, name.len() as u32, 0];
        let mut head = String::from("070701");
        head.extend(numbers.map(|number| format!("{number:08x}")));
        archive.write_all(head.as_bytes())?;
        archive.write_all(name.as_bytes())?;
        archive.write_all(padding(head.len() + name.len()))?;
        archive.write_all(content)?;
        archive.write_all(padding(content.len()))
    };
    for name in ["dev", "proc", "sys"] {
        entry(name, FOLDER, (0, 0), &[])?;
    }
    // Without it the program has nothing to print to (Documentation/filesystems/ramfs-rootfs-initramfs.rst).
    entry("dev/console", CONSOLE, (5, 1), &[])?;
    entry("init", PROGRAM, (0, 0), program)?;
    entry("TRAILER!!!", 0, (0, 0), &[])?;
    archive.finish()
}

/// What comes behind so many bytes, whose next multiple of four is where the next ones begin.
pub(crate) fn padding(length: usize) -> &'static [u8] {
    &[0; 3][..length.next_multiple_of(4) - length]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[ignore = "needs cpio: `make test`"]
    fn cpio_reads_it() {
        let packed = with_init(b"#!/bin/sh\n:").unwrap();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).unwrap();
        let mut cpio = Command::new("cpio");
        cpio.args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"]);
        let mut cpio = cpio.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cpio.stdin.take().unwrap().write_all(&plain).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let short: Vec<String> = listed
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {}", words[0], words[words.len() - 1])
            })
            .collect();
        assert_eq!(
            short,
            ["drwxr-xr-x dev", "drwxr-xr-x proc", "drwxr-xr-x sys", "crw------- dev/console", "-rwxr-xr-x init"]
        );
        assert!(listed.contains(" 11 ") && listed.contains("5,   1"), "{listed}");
    }
}
