//! Images as they are published: compressed, each in its way. What is in a file tells how, not its name.

use std::io::{self, BufReader, Read};

use crate::error::{Context, ImageError};

/// How an image is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// xz.
    Xz,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// What the first bytes of a file say.
    pub fn of(head: &[u8]) -> Packing {
        match head {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// The bytes of an image, unpacked. xz is unpacked by `threads` threads where its blocks allow it.
pub fn decompress(mut packed: impl Read + Send + 'static, threads: u32) -> Result<Box<dyn Read + Send>, ImageError> {
    let mut head = Vec::new();
    packed.by_ref().take(6).read_to_end(&mut head).during("read the image")?;
    let packing = Packing::of(&head);
    let whole = BufReader::with_capacity(1 << 20, io::Cursor::new(head).chain(packed));
    Ok(match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Packing::Xz => {
            let stream = liblzma::stream::MtStreamBuilder::new()
                .threads(threads.max(1))
                .memlimit_threading(1 << 30)
                .memlimit_stop(u64::MAX)
                .decoder()
                .map_err(io::Error::from)
                .during("unpack the image")?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(whole, stream))
        }
        Packing::Zstd => Box::new(
            ruzstd::decoding::StreamingDecoder::new(whole)
                .map_err(|error| io::Error::other(error.to_string()))
                .during("unpack the image")?,
        ),
    })
}
