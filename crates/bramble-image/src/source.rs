//! Images as they are published: compressed, each in its way. What is in a file tells how, not its name.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use liblzma::bufread::XzDecoder;
use liblzma::stream::MtStreamBuilder;

use crate::error::{Context, ImageError};
use crate::little_endian::u32_at;

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

/// How many bytes an image has, unpacked, as far as that is told without unpacking it. `packed` is its file.
pub fn unpacked_size(packed: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let length = packed.seek(SeekFrom::End(0))?;
    packed.rewind()?;
    let mut head = Vec::new();
    packed.by_ref().take(18).read_to_end(&mut head)?;
    match Packing::of(&head) {
        Packing::Plain => Ok(Some(length)),
        Packing::Xz => xz_size(packed, length),
        Packing::Zstd => Ok(zstd::zstd_safe::get_frame_content_size(&head).ok().flatten().filter(|size| *size > 0)),
        // It tells the size modulo 4 GiB.
        Packing::Gzip => Ok(None),
    }
}

/// More than the index of any image has.
const MOST_INDEX: u64 = 16 << 20;

/// The sum over the indexes of the streams (xz-file-format 1.2.1, 2.1.2 and 4), from the last one to the first.
fn xz_size(packed: &mut (impl Read + Seek), mut end: u64) -> io::Result<Option<u64>> {
    let mut size: u64 = 0;
    while end > 0 {
        let mut footer = [0; 12];
        let Some(at) = end.checked_sub(12) else { return Ok(None) };
        packed.seek(SeekFrom::Start(at))?;
        packed.read_exact(&mut footer)?;
        if footer[8..] == [0; 4] {
            end -= 4;
            continue;
        }
        let index = (u64::from(u32_at(&footer, 4)) + 1) * 4;
        if footer[10..] != *b"YZ" || index > MOST_INDEX.min(at) {
            return Ok(None);
        }
        packed.seek(SeekFrom::Start(at - index))?;
        let mut bytes = vec![0; index as usize];
        packed.read_exact(&mut bytes)?;
        let Some((blocks, unpacked)) = sums(&bytes) else { return Ok(None) };
        let Some(before) = (at - index).checked_sub(blocks).and_then(|rest| rest.checked_sub(12)) else {
            return Ok(None);
        };
        let Some(sum) = size.checked_add(unpacked) else { return Ok(None) };
        (end, size) = (before, sum);
    }
    Ok(Some(size))
}

/// What the blocks of an index take, and what they come to.
fn sums(index: &[u8]) -> Option<(u64, u64)> {
    let mut at = index.iter().copied();
    let mut number = || {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = at.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    };
    if number()? != 0 {
        return None;
    }
    let (mut blocks, mut unpacked) = (0_u64, 0_u64);
    for _ in 0..number()? {
        blocks = blocks.checked_add(number()?.checked_next_multiple_of(4)?)?;
        unpacked = unpacked.checked_add(number()?)?;
    }
    Some((blocks, unpacked))
}

/// The bytes of an image, unpacked. xz is unpacked by all processors where its blocks allow it.
pub fn decompress(mut packed: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>, ImageError> {
    let mut head = Vec::new();
    packed.by_ref().take(6).read_to_end(&mut head).during("read the image")?;
    if head.starts_with(b"PK\x03\x04") {
        return Err(ImageError::Zip);
    }
    let packing = Packing::of(&head);
    let whole = BufReader::with_capacity(1 << 20, io::Cursor::new(head).chain(packed));
    Ok(match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Packing::Xz => Box::new(XzStreams { decoder: Some(xz(whole).during("unpack the image")?) }),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole).during("unpack the image")?),
    })
}

fn xz<R: BufRead>(packed: R) -> io::Result<XzDecoder<R>> {
    let stream = MtStreamBuilder::new()
        .threads(std::thread::available_parallelism().map_or(1, |count| count.get() as u32))
        .memlimit_threading(1 << 30)
        .memlimit_stop(u64::MAX)
        .decoder()?;
    Ok(XzDecoder::new_stream(packed, stream))
}

/// One stream after the other, as a file may have them, with zeros in fours between and behind them (xz-file-format 1.2.1,
/// 2.2). liblzma's decoder with threads stops at the end of the first.
struct XzStreams<R: BufRead> {
    /// `None` at the end of the last one.
    decoder: Option<XzDecoder<R>>,
}

impl<R: BufRead> Read for XzStreams<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let Some(mut packed) = self.decoder.take().map(XzDecoder::into_inner) else { break };
            let mut padding = 0;
            let more = loop {
                let bytes = packed.fill_buf()?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                let more = zeros < bytes.len();
                if zeros == 0 {
                    break more;
                }
                padding += zeros;
                packed.consume(zeros);
            };
            if padding % 4 != 0 {
                let what =
                    "the zeros between or behind its xz streams are no multiple of four: it was cut, or joined wrongly";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if more {
                self.decoder = Some(xz(packed)?);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Cursor, Write};

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(text.as_bytes()).unwrap();
        xz.finish().unwrap()
    }

    /// What is read of two streams with zeros between and behind them, and what their indexes tell.
    fn read(between: usize, behind: usize) -> (io::Result<String>, Option<u64>) {
        let bytes = [packed("abc"), vec![0; between], packed("de"), vec![0; behind]].concat();
        let told = unpacked_size(&mut Cursor::new(&bytes)).unwrap();
        let mut text = String::new();
        (decompress(Cursor::new(bytes)).unwrap().read_to_string(&mut text).map(|_| text), told)
    }

    #[test]
    fn streams_with_padding_are_one_image() {
        for (between, behind) in [(0, 0), (4, 0), (0, 4), (8, 4096)] {
            let (text, told) = read(between, behind);
            assert_eq!((text.unwrap().as_str(), told), ("abcde", Some(5)), "{between} {behind}");
        }
    }

    /// Found by fuzzing: it was read, and its size was unknown.
    #[test]
    fn zeros_that_are_no_padding_are_refused() {
        for (between, behind) in [(1, 0), (0, 3), (6, 0), (4, 4095)] {
            let (text, told) = read(between, behind);
            assert!(text.unwrap_err().to_string().contains("multiple of four"), "{between} {behind}");
            assert_eq!(told, None, "{between} {behind}");
        }
    }
}
