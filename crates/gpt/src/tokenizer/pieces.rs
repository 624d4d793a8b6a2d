//! A long text in pieces that encode to the tokens of the whole.

/// Text is encoded in pieces of about this many bytes: the crate keeps some 100 bytes for each of them.
const PIECE: usize = 64 << 10;
/// A piece is cut here even inside a word; the word pattern's engine gives up at a million characters.
const LONGEST_PIECE: usize = 512 << 10;

/// Cuts a text where a word ends and white space begins: the word pattern never matches across that place, so the
/// tokens are those of the whole text.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(cut(rest));
        rest = after;
        Some(piece)
    })
}

/// Where the first piece of a text ends.
fn cut(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let start = (0..PIECE).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let mut before = text[..start].chars().next_back().unwrap_or(' ');
    for (at, c) in text[start..].char_indices() {
        if (c.is_whitespace() && !before.is_whitespace()) || start + at >= LONGEST_PIECE {
            return start + at;
        }
        before = c;
    }
    text.len()
}
