//! The files of a boot partition (FAT).

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path};

use fatfs::{FileSystem, FsOptions};

use crate::error::{Context, ImageError};
use crate::fat;
use crate::overlay::{Change, Overlay};
use crate::partitions::Partition;

/// The most bytes of a file that is edited: cmdline.txt and config.txt have some hundred.
const MOST_TEXT: u64 = 1 << 20;

/// The files of a boot partition, while it is being edited.
pub struct BootFiles<'a, R: Read + Seek> {
    files: FileSystem<&'a mut Overlay<R>>,
}

/// Lets `edit` change files of a boot partition, and tells what that makes of the bytes of the disk, which are not touched.
pub fn edit_boot<R: Read + Seek, T>(
    disk: R,
    partition: Partition,
    edit: impl FnOnce(&BootFiles<'_, R>) -> Result<T, ImageError>,
) -> Result<(T, Vec<Change>), ImageError> {
    let mut overlay = Overlay::new(disk, partition);
    fat::check(&mut overlay)?;
    overlay.rewind().during("read its boot partition")?;
    let result = {
        let files = FileSystem::new(&mut overlay, FsOptions::new()).during("read its boot partition")?;
        let boot = BootFiles { files };
        let result = edit(&boot)?;
        boot.files.unmount().during("write its boot partition")?;
        result
    };
    Ok((result, overlay.changes().during("read its boot partition")?))
}

impl<R: Read + Seek> BootFiles<'_, R> {
    /// The name of the partition.
    pub fn label(&self) -> String {
        String::from_utf8_lossy(self.files.volume_label_as_bytes()).trim().to_owned()
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.files.root_dir().open_file(path).is_ok()
    }

    /// The text of a file, as [`bramble_files::text_of`] reads its bytes; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<String>, ImageError> {
        let Ok(file) = self.files.root_dir().open_file(path) else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MOST_TEXT + 1).read_to_end(&mut bytes).during("read a file of its boot partition")?;
        if bytes.len() as u64 > MOST_TEXT {
            return Err(ImageError::TooLarge(path.to_owned()));
        }
        Ok(Some(bramble_files::text_of(&bytes)))
    }

    /// Writes all files into a folder, those of its folders into folders.
    ///
    /// # Errors
    /// A name is none that a file of ours may have, or something cannot be read or written.
    pub fn extract(&self, to: &Path) -> Result<(), ImageError> {
        extract(&self.files.root_dir(), to).during("take its boot partition apart")
    }

    /// Writes a file whole, whether it was there or not; what stands for bytes that are no text becomes these again.
    pub fn write(&self, path: &str, text: &str) -> Result<(), ImageError> {
        let write = || {
            let mut file = self.files.root_dir().create_file(path)?;
            file.seek(SeekFrom::Start(0))?;
            file.truncate()?;
            file.write_all(&bramble_files::bytes_of(text))?;
            file.flush()
        };
        write().during("write a file of its boot partition")
    }
}

fn extract<D: fatfs::ReadWriteSeek>(from: &fatfs::Dir<'_, D>, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in from.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        // Long names are written by whoever made the image.
        if Path::new(&name).components().ne([Component::Normal(name.as_ref())]) {
            return Err(io::Error::other(format!("a file of it is called {name:?}")));
        }
        if entry.is_dir() {
            extract(&entry.to_dir(), &to.join(name))?;
        } else {
            io::copy(&mut entry.to_file(), &mut std::fs::File::create(to.join(name))?)?;
        }
    }
    Ok(())
}
