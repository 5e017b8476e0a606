//! What must hold of any file that was fetched or handed over.

use std::path::Path;
use std::sync::LazyLock;

use bramble_fetch::{LockFile, open_image_archive, testing};
use tempfile::NamedTempFile;

/// An archive of images: each that it names has a name.
pub(crate) fn archive(bytes: &[u8]) {
    static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { NamedTempFile::new_in(memory) } else { NamedTempFile::new() };
        made.expect("a file of its own")
    });
    std::fs::write(FILE.path(), bytes).expect("it can be written");
    let Ok(archive) = open_image_archive(FILE.path()) else { return };
    assert!(!archive.images.is_empty());
    for (name, _) in archive.images {
        assert!(bramble_kube::Reference::parse(&name).is_some(), "{name:?}");
    }
}

/// A lock file: what is read is written again as it was.
pub(crate) fn lock_file(bytes: &[u8]) {
    let read = |text: &str| LockFile::parse(text, Path::new("bramble.lock"), Path::new("cache").to_owned());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(lock) = read(text) else { return };
    let written = lock.render().expect("it can be written");
    let again = read(&written).expect("it can be read").render().expect("it can be written");
    assert_eq!(written, again);
}

/// Lists of digests and of images, and keys.
pub(crate) fn lists(bytes: &[u8]) {
    testing::read_lists(&String::from_utf8_lossy(bytes));
}

/// A signature, which nobody has made.
pub(crate) fn signature(bytes: &[u8]) {
    assert!(!testing::is_signature(bytes, b"what nobody has signed"));
}
