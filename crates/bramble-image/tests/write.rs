//! Writing to files as if they were disks: what goes wrong is found, and leaves nothing that boots.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bramble_image::{Change, ImageError, Progress, Target, WriteError, write};

/// Nobody says that it is enough.
static GO_ON: AtomicBool = AtomicBool::new(false);

const LENGTH: usize = (9 << 20) + 1234;

fn image() -> Vec<u8> {
    (0..LENGTH as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn disk(dir: &Path, name: &str, size: u64) -> File {
    let path = dir.join(name);
    fs::write(&path, vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
    fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn plain(disk: File) -> Target<'static> {
    Target { disk, customise: Box::new(|_| Ok(Vec::new())) }
}

#[test]
fn changes_go_to_their_places_also_across_the_parts_in_which_disks_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let changes = vec![
        Change { offset: 1024, bytes: vec![1; 512] },
        Change { offset: (4 << 20) - 512, bytes: vec![2; 1024] },
        Change { offset: (9 << 20) + 512, bytes: vec![3; 512] },
    ];
    let mut expected = image();
    for change in &changes {
        let at = usize::try_from(change.offset).unwrap();
        expected[at..at + change.bytes.len()].copy_from_slice(&change.bytes);
    }
    let customise = move |written: &mut bramble_image::Written<'_>| {
        let mut seen = Vec::new();
        written.read_to_end(&mut seen).unwrap();
        assert!(seen == image(), "what is customised is the image");
        Ok(changes)
    };
    let target = Target { disk: disk(dir.path(), "a", 12 << 20), customise: Box::new(customise) };
    let exact = LENGTH as u64;
    let results = write(Cursor::new(image()), vec![target, plain(disk(dir.path(), "b", exact))], &GO_ON, &|_, _| {});
    for result in results {
        assert_eq!(result.unwrap(), exact);
    }
    assert!(fs::read(dir.path().join("a")).unwrap()[..LENGTH] == expected);
    assert!(fs::read(dir.path().join("b")).unwrap() == image(), "a disk that is just as long");
}

#[test]
fn a_bit_that_changes_after_it_was_written_is_found_and_the_disk_does_not_boot() {
    for at in [LENGTH as u64 - 1, 4 << 20, (8 << 20) + 77, 5000, 2 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let targets = vec![plain(disk(dir.path(), "bad", 12 << 20)), plain(disk(dir.path(), "good", 12 << 20))];
        let path = dir.path().join("bad");
        let flip = |number: usize, progress: Progress| {
            // What stands in front goes to the disk last.
            let when = if at < 4 << 20 { Progress::Ending } else { Progress::Customising };
            if (number, progress) == (0, when) {
                let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            }
        };
        let results = write(Cursor::new(image()), targets, &GO_ON, &flip);
        assert!(
            matches!(results[0], Err(WriteError::Differs { offset }) if offset == (at / (4 << 20) * (4 << 20)).max(if at < 4 << 20 { 4096 } else { 0 })),
            "{:?}",
            results[0]
        );
        assert!(fs::read(&path).unwrap()[..4 << 20].iter().all(|byte| *byte == 0), "its beginning is there");
        assert!(results[1].is_ok());
        assert!(fs::read(dir.path().join("good")).unwrap()[..LENGTH] == image());
    }
}

/// An image that cannot be read any further.
struct Breaks(Cursor<Vec<u8>>);

impl Read for Breaks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::other("the end of the stick")),
            count => Ok(count),
        }
    }
}

#[test]
fn an_image_that_cannot_be_read_to_its_end_is_on_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let targets = vec![plain(disk(dir.path(), "a", 12 << 20)), plain(disk(dir.path(), "b", 12 << 20))];
    let results = write(Breaks(Cursor::new(image())), targets, &GO_ON, &|_, _| {});
    let said: Vec<String> = results.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    assert_eq!(said, ["cannot unpack the image", "the image broke off"]);
    for name in ["a", "b"] {
        assert!(fs::read(dir.path().join(name)).unwrap()[..4 << 20].iter().all(|byte| *byte == 0), "{name}");
    }
}

#[test]
fn a_disk_that_cannot_be_written_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    disk(dir.path(), "locked", 12 << 20);
    let locked = File::open(dir.path().join("locked")).unwrap();
    let targets =
        vec![plain(locked), plain(disk(dir.path(), "short", 5 << 20)), plain(disk(dir.path(), "good", 12 << 20))];
    let results = write(Cursor::new(image()), targets, &GO_ON, &|_, _| {});
    assert!(matches!(results[0], Err(WriteError::Disk { action: "write", offset: 0, .. })), "{:?}", results[0]);
    assert!(matches!(results[1], Err(WriteError::TooLong(_))), "{:?}", results[1]);
    assert!(results[2].is_ok());
}

#[test]
fn stopped_in_the_middle_no_disk_boots() {
    let dir = tempfile::tempdir().unwrap();
    for at_the_end in [false, true] {
        let stop = AtomicBool::new(false);
        let targets = vec![plain(disk(dir.path(), "a", 12 << 20)), plain(disk(dir.path(), "b", 12 << 20))];
        let results = write(Cursor::new(image()), targets, &stop, &|_, progress| {
            if matches!(progress, Progress::Verified(..)) == at_the_end {
                stop.store(true, Ordering::Relaxed);
            }
        });
        for (result, name) in results.into_iter().zip(["a", "b"]) {
            assert!(matches!(result, Err(WriteError::Image(ImageError::Stopped))), "{result:?}");
            assert!(fs::read(dir.path().join(name)).unwrap()[..1 << 20].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn what_is_wrong_with_the_boot_partition_is_known_before_the_rest_is_written() {
    // A table whose boot partition ends at 3 MiB, in front of much more.
    let mut image = vec![0; 64 << 20];
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image[446 + 4] = 0x0c;
    image[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    image[446 + 12..446 + 16].copy_from_slice(&4096_u32.to_le_bytes());
    let dir = tempfile::tempdir().unwrap();
    let customise = |_: &mut bramble_image::Written<'_>| Err(ImageError::NoTable);
    let target = Target { disk: disk(dir.path(), "a", 64 << 20), customise: Box::new(customise) };
    let results = write(Cursor::new(image), vec![target], &GO_ON, &|_, _| {});
    assert!(matches!(results[0], Err(WriteError::Image(ImageError::NoTable))), "{results:?}");
    let written = fs::read(dir.path().join("a")).unwrap();
    assert!(written[32 << 20..].iter().all(|byte| *byte == 0xa5), "it went on");
}
