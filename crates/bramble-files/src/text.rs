//! Bytes as a text, and the same bytes again: files of others are edited where it is meant, and nowhere else.

use std::borrow::Cow;

/// A byte of a file that is no UTF-8 stands in a text as the character with this number and its own added (from U+10FF80 on, in
/// a plane for private use).
const BASE: u32 = 0x10_FF00;

fn stands_for(letter: char) -> Option<u8> {
    u32::from(letter).checked_sub(BASE).and_then(|number| u8::try_from(number).ok()).filter(|byte| *byte >= 0x80)
}

/// Tells whether bytes begin as a text in UTF-16 does, which some editors and shells of Windows write.
pub fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// Reads the text that somebody wrote for bramble.
///
/// # Errors
/// What they are instead, from which line on, and what to do.
pub fn utf8(bytes: &[u8]) -> Result<&str, String> {
    if is_utf16(bytes) {
        return Err("it is written in UTF-16: save it as plain text (UTF-8)".to_owned());
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        format!("line {line} has bytes that are no UTF-8: save it as plain text (UTF-8)")
    })
}

/// Reads any bytes as a text, of which [`bytes_of`] makes the same bytes.
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().filter_map(|byte| char::from_u32(BASE + u32::from(*byte))));
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match stands_for(letter) {
                None => text.push(letter),
                // What already looks so must come back, too.
                Some(_) => escape(&mut text, letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// Gives the bytes of a text that [`text_of`] read, edited or not.
pub fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match stands_for(letter) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Shows a text that [`text_of`] read to a person: a byte that is no UTF-8 as `\\xE4`.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(|letter| stands_for(letter).is_some()) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match stands_for(letter) {
            Some(byte) => shown.push_str(&format!("\\x{byte:02X}")),
            None => shown.push(letter),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_back() {
        let mut all: Vec<u8> = (0..=255).collect();
        all.extend("Küche \u{10ff80}\u{10ffff}\u{feff}".as_bytes());
        all.extend([0xf4, 0x8f, 0xbf, 0xe4, b'\n', 0]);
        assert_eq!(bytes_of(&text_of(&all)), all);
        for end in 0..all.len() {
            assert_eq!(bytes_of(&text_of(&all[..end])), all[..end]);
        }
    }

    #[test]
    fn words_of_a_text_are_found_beside_other_bytes() {
        let text = text_of(b"# K\xfcche\r\n127.0.0.1 localhost\r\n");
        assert!(text.ends_with("che\r\n127.0.0.1 localhost\r\n"));
        assert_eq!(shown(&text), "# K\\xFCche\r\n127.0.0.1 localhost\r\n");
        assert_eq!(shown("Küche"), "Küche");
    }
}
