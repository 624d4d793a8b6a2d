//! GPT-2's alphabet of bytes: each byte as one printable character, so that a vocabulary is readable text.
//!
//! The 188 printable characters of Latin-1 stand for themselves, the other bytes, in order, for U+0100 and on.

/// The character of a byte.
pub(super) fn char_of(byte: u8) -> char {
    if printable(byte) {
        return byte as char;
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character, if it is one of the alphabet.
#[cfg(any(test, feature = "text"))]
pub(super) fn byte_of(c: char) -> Option<u8> {
    match u8::try_from(c as u32) {
        Ok(byte) => Some(byte).filter(|&b| printable(b)),
        Err(_) => {
            let rank = (c as u32).checked_sub(256)? as usize;
            (0..=255u8).filter(|&b| !printable(b)).nth(rank)
        }
    }
}

/// The bytes that a token of this alphabet stands for; characters outside of it stand for themselves.
#[cfg(any(test, feature = "text"))]
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for c in token.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        for b in 0..=255u8 {
            assert_eq!(byte_of(char_of(b)), Some(b));
        }
        assert_eq!([char_of(b' '), char_of(b'\n'), char_of(0), char_of(0xAD)], ['Ġ', 'Ċ', 'Ā', 'Ń']);
        assert_eq!(byte_of(' '), None);
        assert_eq!(byte_of('\u{144}'), None);
        assert_eq!(bytes_of("Ġa→"), " a→".as_bytes());
    }
}
