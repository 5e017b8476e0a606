//! Images as they are published: compressed, each in its way. What is in a file tells how, not its name.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::GzDecoder;
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

/// What an image may be packed in that is not unpacked here, by what such files begin with, and the program that does it.
const OTHERS: [(&[u8], &str, &str); 17] = [
    (b"PK\x03\x04", "a zip file", "unzip"),
    (b"PK\x05\x06", "an empty zip file", "unzip"),
    (b"PK\x07\x08", "a part of a zip file", "unzip"),
    (b"\x1f\x9d", "packed by compress", "uncompress"),
    (b"\x89LZO", "packed by lzop", "lzop -d"),
    (b"\x02\x21\x4c\x18", "packed by an old lz4", "unlz4"),
    (b"KDMV", "a disk of VMware (VMDK)", "qemu-img convert -O raw"),
    (b"vhdxfile", "a disk of Hyper-V (VHDX)", "qemu-img convert -O raw"),
    (b"<<< ", "a disk of VirtualBox (VDI)", "qemu-img convert -O raw"),
    (b"\x3a\xff\x26\xed", "a sparse image of Android", "simg2img"),
    (b"BZh", "packed by bzip2", "bunzip2"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x"),
    (b"Rar!\x1a\x07", "a RAR archive", "unrar"),
    (b"\x04\x22\x4d\x18", "packed by lz4", "unlz4"),
    (b"\x5d\x00\x00", "packed by lzma", "unlzma"),
    (b"LZIP", "packed by lzip", "lzip -d"),
    (b"QFI\xfb", "a disk of QEMU (qcow2)", "qemu-img convert -O raw"),
];

/// How many bytes tell the packing of a file.
const HEAD: u64 = 8;

impl Packing {
    /// What the first bytes of a file say.
    pub fn of(head: &[u8]) -> Packing {
        match head {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            [0x1f, 0x8b, ..] => Packing::Gzip,
            // A frame, or one that is to be skipped (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// How many bytes an image has, unpacked, as far as that is told without unpacking it. `packed` is its file.
pub fn unpacked_size(packed: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let length = packed.seek(SeekFrom::End(0))?;
    packed.rewind()?;
    let mut head = Vec::new();
    packed.by_ref().take(HEAD).read_to_end(&mut head)?;
    match Packing::of(&head) {
        Packing::Plain => Ok(Some(length)),
        Packing::Xz => xz_size(packed, length),
        Packing::Zstd => zstd_size(packed, length),
        // It tells the size modulo 4 GiB.
        Packing::Gzip => Ok(None),
    }
}

/// The sum over the frames, whose blocks tell where the next one begins (RFC 8878, 3.1).
fn zstd_size(packed: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let (mut at, mut size) = (0_u64, 0_u64);
    while at < length {
        let mut head = Vec::new();
        packed.seek(SeekFrom::Start(at))?;
        packed.by_ref().take(18).read_to_end(&mut head)?;
        if head.iter().all(|byte| *byte == 0) {
            // Padding, as behind other packings.
            at += head.len() as u64;
            continue;
        }
        if Packing::of(&head) != Packing::Zstd {
            return Ok(None);
        }
        if head[0] != 0x28 {
            let Some(length) = head.get(4..8) else { return Ok(None) };
            at += 8 + length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            continue;
        }
        let Some(content) = zstd::zstd_safe::get_frame_content_size(&head).ok().flatten() else { return Ok(None) };
        let Some(sum) = size.checked_add(content) else { return Ok(None) };
        let Some(flags) = head.get(4) else { return Ok(None) };
        let single = flags & 0x20 != 0;
        let window = u64::from(!single);
        let dictionary = [0, 1, 2, 4][usize::from(flags & 3)];
        let told = [u64::from(single), 2, 4, 8][usize::from(flags >> 6)];
        at += 5 + window + dictionary + told;
        loop {
            let mut block = [0; 3];
            packed.seek(SeekFrom::Start(at))?;
            if packed.read_exact(&mut block).is_err() {
                return Ok(None);
            }
            let header = u32::from_le_bytes([block[0], block[1], block[2], 0]);
            // One byte that is repeated has the number of times for its size.
            let one = header >> 1 & 3 == 1;
            at += 3 + if one { 1 } else { u64::from(header >> 3) };
            if header & 1 != 0 {
                break;
            }
        }
        at += if flags & 0x04 != 0 { 4 } else { 0 };
        size = sum;
    }
    Ok(Some(size).filter(|size| *size > 0))
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
///
/// # Errors
/// It is packed in a way that is known and not unpacked here, or cannot be read.
pub fn decompress(mut packed: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>, ImageError> {
    let mut head = Vec::new();
    packed.by_ref().take(HEAD).read_to_end(&mut head).during("read the image")?;
    if let Some((_, what, program)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(ImageError::OtherPacking { what, program });
    }
    if head.is_empty() {
        return Err(ImageError::Empty);
    }
    let packing = Packing::of(&head);
    let whole = BufReader::with_capacity(1 << 20, io::Cursor::new(head).chain(packed));
    if packing == Packing::Plain {
        return Ok(Box::new(whole));
    }
    let stream = Stream::new(packing, whole).during("unpack the image")?;
    Ok(Box::new(Streams { packing, stream: Some(stream) }))
}

/// One stream of packed bytes.
enum Stream<R: BufRead> {
    Xz(XzDecoder<R>),
    Gzip(GzDecoder<R>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
}

impl<R: BufRead> Stream<R> {
    fn new(packing: Packing, packed: R) -> io::Result<Self> {
        Ok(match packing {
            Packing::Gzip => Stream::Gzip(GzDecoder::new(packed)),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
                // As far as `zstd --long=31` goes.
                decoder.window_log_max(31)?;
                Stream::Zstd(decoder)
            }
            Packing::Xz | Packing::Plain => Stream::Xz(xz(packed)?),
        })
    }

    fn into_inner(self) -> R {
        match self {
            Stream::Xz(decoder) => decoder.into_inner(),
            Stream::Gzip(decoder) => decoder.into_inner(),
            Stream::Zstd(decoder) => decoder.finish(),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Xz(decoder) => decoder.read(into),
            Stream::Gzip(decoder) => decoder.read(into),
            Stream::Zstd(decoder) => decoder.read(into),
        }
    }
}

fn xz<R: BufRead>(packed: R) -> io::Result<XzDecoder<R>> {
    let stream = MtStreamBuilder::new()
        .threads(std::thread::available_parallelism().map_or(1, |count| count.get() as u32))
        .memlimit_threading(1 << 30)
        .memlimit_stop(u64::MAX)
        .decoder()?;
    Ok(XzDecoder::new_stream(packed, stream))
}

/// One stream after the other, as a file may have them, with zeros between and behind them: those of xz come in fours
/// (xz-file-format 1.2.1, 2.2), and gzip's program ignores those that stand behind its members.
struct Streams<R: BufRead> {
    packing: Packing,
    /// `None` at the end of the last one.
    stream: Option<Stream<R>>,
}

impl<R: BufRead> Read for Streams<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(stream) = &mut self.stream {
            let count = stream.read(into).map_err(damaged)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let Some(mut packed) = self.stream.take().map(Stream::into_inner) else { break };
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
            if self.packing == Packing::Xz && padding % 4 != 0 {
                let what =
                    "the zeros between or behind its xz streams are no multiple of four: it was cut, or joined wrongly";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            // As far as the beginning of the next one is here; what is wrong with the rest the decoder says.
            let next = packed.fill_buf()?;
            if more && next.len() >= 6 && Packing::of(next) != self.packing {
                let what = "something else stands behind its end: was it joined with another file? Fetch it again";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if more {
                self.stream = Some(Stream::new(self.packing, packed)?);
            }
        }
        Ok(0)
    }
}

/// What a library says of packed bytes, in our words and with what to do.
fn damaged(error: io::Error) -> io::Error {
    // What the system says of the file is no word of a library's.
    if error.raw_os_error().is_some() {
        return error;
    }
    let what = format!("it is damaged, or broke off: fetch it again ({error})");
    io::Error::new(error.kind(), what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Cursor, Write};

    use super::*;

    fn packed(packing: Packing, text: &str) -> Vec<u8> {
        match packing {
            Packing::Plain => text.into(),
            Packing::Xz => {
                let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
                xz.write_all(text.as_bytes()).unwrap();
                xz.finish().unwrap()
            }
            Packing::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(text.as_bytes()).unwrap();
                gzip.finish().unwrap()
            }
            Packing::Zstd => {
                let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
                zstd.include_checksum(text.len().is_multiple_of(2)).unwrap();
                zstd.set_pledged_src_size(Some(text.len() as u64)).unwrap();
                zstd.write_all(text.as_bytes()).unwrap();
                zstd.finish().unwrap()
            }
        }
    }

    /// What is read of these parts, one behind the other, and what is told before.
    fn read(parts: &[Vec<u8>]) -> (io::Result<String>, Option<u64>) {
        let bytes = parts.concat();
        let told = unpacked_size(&mut Cursor::new(&bytes)).unwrap();
        let mut text = String::new();
        (decompress(Cursor::new(bytes)).unwrap().read_to_string(&mut text).map(|_| text), told)
    }

    #[test]
    fn streams_with_padding_are_one_image() {
        for packing in [Packing::Xz, Packing::Gzip, Packing::Zstd] {
            for (between, behind) in [(0, 0), (4, 0), (0, 4), (8, 4096), (0, 3 << 20)] {
                let long = "de".repeat(200_000);
                let parts = [packed(packing, "abc"), vec![0; between], packed(packing, &long), vec![0; behind]];
                let (text, told) = read(&parts);
                assert_eq!(text.unwrap(), format!("abc{long}"), "{packing:?} {between} {behind}");
                // Only xz has padding by its own rules.
                let known = packing == Packing::Xz || packing == Packing::Zstd && between == 0;
                let size = known.then_some(400_003);
                assert_eq!(told, size, "{packing:?} {between} {behind}");
            }
        }
    }

    #[test]
    fn frames_that_are_to_be_skipped_are_skipped() {
        let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
        let frame = packed(Packing::Zstd, "abc");
        for parts in [[skipped.clone(), frame.clone()], [frame.clone(), skipped.clone()]] {
            let (text, told) = read(&parts);
            assert_eq!((text.unwrap().as_str(), told), ("abc", Some(3)));
        }
    }

    /// Found by fuzzing: it was read, and its size was unknown.
    #[test]
    fn zeros_that_are_no_padding_are_refused() {
        for (between, behind) in [(1, 0), (0, 3), (6, 0), (4, 4095)] {
            let parts = [packed(Packing::Xz, "abc"), vec![0; between], packed(Packing::Xz, "de"), vec![0; behind]];
            let (text, told) = read(&parts);
            assert!(text.unwrap_err().to_string().contains("multiple of four"), "{between} {behind}");
            assert_eq!(told, None, "{between} {behind}");
        }
    }

    #[test]
    fn what_is_packed_otherwise_is_named() {
        for (magic, what, program) in OTHERS {
            let file = [magic, b"and more of it"].concat();
            let said = decompress(Cursor::new(file)).err().unwrap().to_string();
            assert!(said.contains(what) && said.contains(program), "{said}");
        }
    }

    #[test]
    fn a_file_that_was_cut_is_no_image() {
        for packing in [Packing::Xz, Packing::Gzip, Packing::Zstd] {
            let whole = packed(packing, &"de".repeat(200_000));
            let (text, _) = read(&[whole[..whole.len() - 9].to_vec()]);
            assert!(text.is_err(), "{packing:?}");
            let (text, _) = read(&[whole, b"something else".to_vec()]);
            assert!(text.is_err(), "{packing:?}");
        }
    }
}
