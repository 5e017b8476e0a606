//! The image, unpacked once for all boards: packed anew in a way that costs a board no time, and its boot partition beside it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bramble_image::{Change, Identity, board, boot_partition, decompress};

use crate::NetbootError;

/// What is read at once.
const PIECE: usize = 1 << 20;
/// Zstandard's fastest: a board unpacks it as fast as its network brings it.
const LEVEL: i32 = 1;

/// An image that boards can have.
#[derive(Debug)]
pub struct Prepared {
    /// The file that boards get.
    packed: PathBuf,
    /// The size of the image in bytes, unpacked.
    pub bytes: u64,
    /// The image, of which only what lies before the end of the boot partition is there.
    beginning: File,
}

impl Prepared {
    /// Unpacks an image into a folder, which has room for what it is packed.
    ///
    /// # Errors
    /// The image cannot be read or has no boot partition; the folder cannot be written.
    pub fn new(image: &Path, folder: &Path) -> Result<Prepared, NetbootError> {
        let cannot = |what: &'static str| move |source| NetbootError::Io { what, source };
        let mut plain = decompress(File::open(image).map_err(cannot("read the image"))?)?;
        let packed = folder.join("image.zst");
        let file = File::create(&packed).map_err(cannot("write the image that boards get"))?;
        let mut encoder = zstd::Encoder::new(file, LEVEL).map_err(cannot("pack the image"))?;
        // A board that is given other bytes than were sent notices it.
        encoder.include_checksum(true).map_err(cannot("pack the image"))?;
        let mut beginning = tempfile::tempfile_in(folder).map_err(cannot("write the image's boot partition"))?;
        let mut piece = Vec::with_capacity(PIECE);
        let (mut bytes, mut ends) = (0_u64, None);
        loop {
            piece.clear();
            plain.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(cannot("unpack the image"))?;
            if piece.is_empty() {
                break;
            }
            encoder.write_all(&piece).map_err(cannot("write the image that boards get"))?;
            if ends.is_none_or(|ends| bytes < ends) {
                beginning.write_all(&piece).map_err(cannot("write the image's boot partition"))?;
            }
            bytes += piece.len() as u64;
            if ends.is_none() {
                ends = Some(end_of_boot(&mut beginning)?);
            }
        }
        encoder.finish().map_err(cannot("write the image that boards get"))?;
        beginning.set_len(bytes).map_err(cannot("write the image's boot partition"))?;
        Ok(Prepared { packed, bytes, beginning })
    }

    /// The file that boards get: the image, packed with Zstandard.
    pub fn packed(&self) -> &Path {
        &self.packed
    }

    /// The image, as far as its boot partition needs it.
    pub(crate) fn beginning(&self) -> &File {
        &self.beginning
    }

    /// What makes it the image of a board.
    ///
    /// # Errors
    /// As [`board`].
    pub fn changes(&self, identity: &Identity) -> Result<Vec<Change>, NetbootError> {
        Ok(board(&mut &self.beginning, identity)?.1)
    }
}

/// Where the boot partition ends, by the table that the first piece has.
fn end_of_boot(beginning: &mut File) -> Result<u64, NetbootError> {
    let io = |source| NetbootError::Io { what: "read the image's partition table", source };
    let at = beginning.stream_position().map_err(io)?;
    // The table may name places behind the first piece, which is all that there is yet.
    beginning.set_len(u64::MAX >> 24).map_err(io)?;
    let found = boot_partition(beginning)?;
    beginning.set_len(at).map_err(io)?;
    beginning.seek(SeekFrom::Start(at)).map_err(io)?;
    Ok(found.start + found.length)
}
