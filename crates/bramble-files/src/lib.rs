//! Files that are there whole or not at all, and files that nobody else ever sees.
//!
//! While they are written they have no name (`O_TMPFILE`, open(2)): whenever the program ends, also by `kill -9`, nothing of
//! them is left. Where a file system knows no such files, they have a name beside their place, and lose it when they are
//! dropped.

mod text;

pub use text::{bytes_of, is_utf16, shown, text_of, utf8};

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;

/// A file in the making.
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    /// Where it will be.
    path: PathBuf,
    /// Its name beside its place, if it has one.
    named: Option<PathBuf>,
}

impl WholeFile {
    /// Begins a file that will be at `path`, with these permission bits (less those of the umask).
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(path: &Path, mode: u32) -> io::Result<WholeFile> {
        let folder = folder_of(path);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(folder, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(WholeFile { file: file.into(), path: path.to_owned(), named: None }),
            // Of kernels and file systems that have no files without names (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) if folder.is_dir() => {
                let named = beside(path);
                remove(&named)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                let file = open(&named, flags, Mode::from_raw_mode(mode))?.into();
                Ok(WholeFile { file, path: path.to_owned(), named: Some(named) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts the file in its place, where it takes that of one that is there, when all of it is on the disk.
    ///
    /// # Errors
    /// The disk is full or failing; then what was there is still there.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let named = match self.named.take() {
            Some(named) => named,
            None => {
                let named = beside(&self.path);
                remove(&named)?;
                linkat(CWD, path_of(&self.file), CWD, &named, AtFlags::SYMLINK_FOLLOW)?;
                named
            }
        };
        let moved = fs::rename(&named, &self.path);
        if moved.is_err() {
            fs::remove_file(&named).ok();
        }
        moved?;
        File::open(folder_of(&self.path))?.sync_all()
    }
}

impl WholeFile {
    /// Gives the file, to be written.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            fs::remove_file(named).ok();
        }
    }
}

/// Writes a file: it is there whole, or what was there before is.
///
/// # Errors
/// As of [`WholeFile::create`] and [`WholeFile::finish`].
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = WholeFile::create(path, mode)?;
    file.write_all(bytes)?;
    file.finish()
}

/// A file that nobody else can read, and that is gone when this is.
#[derive(Debug)]
pub struct PrivateFile(WholeFile, PathBuf);

impl PrivateFile {
    /// Makes one on the file system of this folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create_in(folder: &Path) -> io::Result<PrivateFile> {
        let file = WholeFile::create(&folder.join("private"), 0o600)?;
        let path = file.named.clone().unwrap_or_else(|| path_of(&file.file));
        Ok(PrivateFile(file, path))
    }

    /// Gives the path under which this process can open it.
    pub fn path(&self) -> &Path {
        &self.1
    }

    /// Gives the file, to be written.
    pub fn file(&mut self) -> &mut File {
        self.0.file()
    }
}

/// What this process can open an open file by (proc_pid_fd(5)).
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The name of a file before it gets its own.
fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins");
        replace_file(&path, b"one", 0o600).unwrap();
        let mut file = WholeFile::create(&path, 0o644).unwrap();
        file.write_all(b"two").unwrap();
        assert_eq!((names(dir.path()), fs::read(&path).unwrap()), (vec!["pins".to_owned()], b"one".to_vec()));
        file.finish().unwrap();
        assert_eq!((names(dir.path()), fs::read(&path).unwrap()), (vec!["pins".to_owned()], b"two".to_vec()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        drop(WholeFile::create(&path, 0o600).unwrap());
        assert_eq!(names(dir.path()), ["pins"]);
    }

    #[test]
    fn a_private_file_is_written_and_read_by_its_path_and_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut private = PrivateFile::create_in(dir.path()).unwrap();
        private.file().write_all(b"state").unwrap();
        assert_eq!(names(dir.path()), [] as [String; 0]);
        assert_eq!(fs::read(private.path()).unwrap(), b"state");
        let mut again = fs::OpenOptions::new().write(true).create(true).truncate(true).open(private.path()).unwrap();
        again.write_all(b"new").unwrap();
        let mut text = String::new();
        private.file().rewind().unwrap();
        private.file().read_to_string(&mut text).unwrap();
        assert_eq!(text, "new");
        assert_eq!(fs::metadata(private.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        fs::create_dir_all(path.join("in it")).unwrap();
        assert!(replace_file(&path, b"x", 0o600).is_err());
        assert_eq!(names(dir.path()), ["folder"]);
        assert!(replace_file(&dir.path().join("none/x"), b"x", 0o600).is_err());
    }
}
