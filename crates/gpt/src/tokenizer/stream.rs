//! Text from ids that arrive one by one, without ever splitting a character.

use super::Tokenizer;

/// Holds back the bytes of a character until it is complete.
///
/// The pieces of `push` and `finish` together are exactly what [`Tokenizer::decode`] gives for all ids.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// The beginning of a character, at most three bytes between calls.
    pending: Vec<u8>,
    /// A word has ended: a space, unless nothing follows.
    space: bool,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, space: bool) -> Self {
        StreamDecoder { tokenizer, pending: Vec::new(), space }
    }

    /// The characters that this id completes; often none for a part of one. An id beyond V reads as U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        let bytes = self.tokenizer.token_bytes(id).unwrap_or("\u{FFFD}".as_bytes());
        let ends = self.tokenizer.ends_word(id);
        let mut text = String::from(if std::mem::replace(&mut self.space, ends) { " " } else { "" });
        self.pending.extend_from_slice(if ends { &bytes[..bytes.len() - 1] } else { bytes });
        let mut rest = &self.pending[..];
        let kept = loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break 0;
                }
                Err(e) => {
                    let (valid, bad) = rest.split_at(e.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match e.error_len() {
                        // The input ends inside a character that may still become valid.
                        None => break bad.len(),
                        Some(n) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &bad[n..];
                        }
                    }
                }
            }
        };
        self.pending.drain(..self.pending.len() - kept);
        text
    }

    /// What is left at the end: U+FFFD for a character that was never completed.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn emoji_arrive_whole() {
        let t = Tokenizer::bytes();
        let mut stream = t.stream();
        let pieces: Vec<String> = "a👩é".bytes().map(|b| stream.push(b as u32)).collect();
        assert_eq!(pieces, ["a", "", "", "", "👩", "", "é"]);
        assert_eq!(stream.finish(), "");
        let mut stream = t.stream();
        assert_eq!(stream.push(0xF0) + &stream.push(0x9F), "");
        assert_eq!(stream.push(65), "\u{FFFD}A");
        assert_eq!(stream.push(99_999), "\u{FFFD}");
        stream.push(0xC3);
        assert_eq!(stream.finish(), "\u{FFFD}");
    }

    #[cfg(feature = "text")]
    #[test]
    fn a_continuation_of_words_begins_with_their_space() {
        let dir = crate::fs::TestDir::new("stream-words");
        dir.write("vocab.json", r#"{"<unk>": 0, "a": 1, "a</w>": 2, "b": 3, "b</w>": 4, "ab</w>": 5}"#);
        dir.write("merges.txt", "#version: 0.2\na b</w>\n");
        let t = Tokenizer::of_folder(dir.path(), crate::config::Arch::Gpt1).unwrap();
        let all = [5, 1, 4, 2];
        for cut in 0..=all.len() {
            let (before, after) = all.split_at(cut);
            let mut stream = t.stream_after(before);
            let text: String = after.iter().map(|&id| stream.push(id)).collect::<String>() + &stream.finish();
            assert_eq!(t.decode(before).unwrap() + &text, "ab ab a", "{cut}");
        }
        assert_eq!((t.shown_prompt(" ab \n"), Tokenizer::bytes().shown_prompt("ab ")), (" ab", "ab "));
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_decoded_text(ids in proptest::collection::vec(0u32..257, 0..40)) {
            let t = Tokenizer::bytes();
            let mut stream = t.stream();
            let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
            text.push_str(&stream.finish());
            prop_assert_eq!(text, t.decode(&ids).unwrap());
        }
    }
}
