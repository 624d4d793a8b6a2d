//! Text to token ids and back: single bytes, single characters, or byte-level BPE trained on the user's text.
//!
//! Each of these has an end-of-text token, `<|endoftext|>` (GPT-1's published vocabulary has none), and is kept as Hugging
//! Face's tokenizer.json, so that transformers reads it with the same ids. `bytes` and `chars` are complete here; `bpe` is
//! the tokenizers crate (feature `text`).

#[cfg(feature = "text")]
mod bpe;
mod bytelevel;
mod files;
pub(crate) mod pieces;
mod stream;
#[cfg(feature = "text")]
mod words;

pub use stream::StreamDecoder;

use crate::error::{Error, Result, shortened};
use std::collections::{BTreeSet, HashMap};

/// The text of the token that ends a text, and begins one.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// How text is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One token a byte; every text can be written.
    Bytes,
    /// One token a character of the training text; any other character is an error.
    Chars,
    /// Byte-level byte-pair encoding; every text can be written.
    Bpe,
    /// GPT-1's: byte-pair encoding of lower-case words. It is read, and never trained here.
    Words,
}

impl Kind {
    /// The name on the command line: `bytes`, `chars` or `bpe`; `words` in what is shown.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bytes => "bytes",
            Kind::Chars => "chars",
            Kind::Bpe => "bpe",
            Kind::Words => "words",
        }
    }

    /// The kind of that name, if there is one that can be trained.
    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::Bytes, Kind::Chars, Kind::Bpe].into_iter().find(|k| k.name() == name)
    }
}

/// What `<|endoftext|>` and the like mean when they stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// They are their token, as in transformers: for prompts.
    Parse,
    /// They are characters like any others: for data.
    Text,
}

/// A tokenizer: immutable, `Send + Sync`.
pub struct Tokenizer {
    kind: Kind,
    /// The vocabulary as tokenizer.json writes it, by id.
    tokens: Vec<String>,
    /// The bytes that each id stands for.
    bytes: Vec<Box<[u8]>>,
    /// Tokens that only `Special::Parse` finds in a text: content and id, the longest first.
    special: Vec<(String, u32)>,
    end: Option<u32>,
    /// Whether a prompt begins with the end token: `add_bos_token` of tokenizer_config.json.
    adds_bos: bool,
    model: Model,
}

/// What is needed to encode.
enum Model {
    Bytes,
    Chars(HashMap<char, u32>),
    #[cfg(feature = "text")]
    Bpe(Box<bpe::Bpe>),
    #[cfg(feature = "text")]
    Words(Box<words::Words>),
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, V = {})", self.kind.name(), self.vocab_size())
    }
}

/// Checks that every id is below `vocab`, of a tokenizer or of a model's table.
///
/// # Errors
/// `Tokenizer` naming the first that is not.
pub(crate) fn check_ids(ids: &[u32], vocab: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocab) {
        Some(at) => Err(unknown_id(ids[at], at, vocab)),
        None => Ok(()),
    }
}

fn unknown_id(id: u32, at: usize, vocab: usize) -> Error {
    Error::tokenizer(format!("token id {id} at position {at}: must be below V = {vocab}"))
}

impl Tokenizer {
    /// Bytes: id = byte, and 256 ends a text. V = 257.
    pub fn bytes() -> Tokenizer {
        let mut tokens: Vec<String> = (0..=255).map(|b| bytelevel::char_of(b).to_string()).collect();
        let mut bytes: Vec<Box<[u8]>> = (0..=255).map(|b| Box::from([b])).collect();
        tokens.push(END_OF_TEXT.to_string());
        bytes.push(END_OF_TEXT.as_bytes().into());
        let special = vec![(END_OF_TEXT.to_string(), 256)];
        Tokenizer { kind: Kind::Bytes, tokens, bytes, special, end: Some(256), adds_bos: false, model: Model::Bytes }
    }

    /// The characters of these texts in the order of their code points, and then the end of text.
    ///
    /// # Errors
    /// `Tokenizer` when there is no character at all.
    pub fn chars<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Tokenizer> {
        let mut ascii = [false; 128];
        let mut other = BTreeSet::new();
        for c in texts.into_iter().flat_map(str::chars) {
            match ascii.get_mut(c as usize) {
                Some(seen) => *seen = true,
                None => _ = other.insert(c),
            }
        }
        let ascii = (0..128u8).filter(|&b| ascii[b as usize]).map(char::from);
        let all: Vec<char> = ascii.chain(other).collect();
        if all.is_empty() {
            return Err(Error::tokenizer("the training text has no characters"));
        }
        Ok(Tokenizer::from_chars(all))
    }

    /// A `chars` tokenizer with these ids; the characters are distinct.
    fn from_chars(all: Vec<char>) -> Tokenizer {
        let end = all.len() as u32;
        let mut tokens: Vec<String> = all.iter().map(char::to_string).collect();
        tokens.push(END_OF_TEXT.to_string());
        let bytes = tokens.iter().map(|t| t.as_bytes().into()).collect();
        let ids = all.into_iter().zip(0..).collect();
        let special = vec![(END_OF_TEXT.to_string(), end)];
        Tokenizer {
            kind: Kind::Chars,
            tokens,
            bytes,
            special,
            end: Some(end),
            adds_bos: false,
            model: Model::Chars(ids),
        }
    }

    /// A tokenizer of that kind for these texts, the training part of the data. `vocab_size` is for `bpe` alone;
    /// `None` takes [`default_bpe_vocab`] of their bytes. The same texts give the same tokenizer.
    ///
    /// # Errors
    /// `Tokenizer` when the texts are empty, or for `bpe` without the feature `text`; `Config` for a vocabulary
    /// that cannot hold the bytes.
    pub fn train(kind: Kind, texts: &[&str], vocab_size: Option<usize>) -> Result<Tokenizer> {
        match kind {
            Kind::Bytes => Ok(Tokenizer::bytes()),
            Kind::Chars => Tokenizer::chars(texts.iter().copied()),
            #[cfg(feature = "text")]
            Kind::Bpe => {
                let bytes = texts.iter().map(|t| t.len() as u64).sum();
                bpe::train(texts, vocab_size.unwrap_or(default_bpe_vocab(bytes)))
            }
            #[cfg(not(feature = "text"))]
            Kind::Bpe => {
                let _ = vocab_size;
                Err(Error::tokenizer("bpe needs a build with the feature `text`; bytes and chars do not"))
            }
            Kind::Words => Err(Error::tokenizer("GPT-1's tokenizer of words is read from its files, not trained")),
        }
    }

    /// How it cuts text.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// V, the number of ids, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The id of the token that ends a text.
    pub fn end_id(&self) -> Option<u32> {
        self.end
    }

    /// The same tokenizer for a model that sees texts from their beginning only: its prompts begin with the end token. At
    /// other positions the model would read a prompt as something it never learnt.
    pub fn with_bos(mut self) -> Tokenizer {
        self.adds_bos = true;
        self
    }

    /// The ids that a model goes on from: those of `text`, behind the end token `with_bos` or where there are none.
    ///
    /// # Errors
    /// As `encode`; `Tokenizer` for an empty prompt where no token ends a text.
    pub fn encode_prompt(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let mut ids = self.encode(text, special)?;
        let begun = ids.first().is_some_and(|first| Some(*first) == self.end);
        if ids.is_empty() || (self.adds_bos && !begun) {
            let none = || Error::tokenizer("a prompt is empty, and this model has no token that begins a text");
            ids.insert(0, self.end.ok_or_else(none)?);
        }
        Ok(ids)
    }

    /// The vocabulary's entry for an id: printable for bytes (a space is `Ġ`); `None` beyond V.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The id of a vocabulary entry. Cost: a walk over V.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokens.iter().position(|t| t == token).map(|i| i as u32)
    }

    /// The bytes that an id stands for, perhaps a part of a character; `None` beyond V.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize).map(|b| &b[..])
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// `Tokenizer` naming the first character that is not in the vocabulary, and where it stands.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, special, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of a text to `ids`; on an error `ids` is as before.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_into(&self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<()> {
        let before = ids.len();
        let result = match special {
            Special::Text => self.encode_plain(text, 0, text, ids),
            Special::Parse => self.encode_parsed(text, ids),
        };
        if result.is_err() {
            ids.truncate(before);
        }
        result
    }

    /// Cuts the text at special tokens, the leftmost and there the longest first.
    fn encode_parsed(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut start = 0;
        let mut at = 0;
        let firsts: Vec<u8> = self.special.iter().filter_map(|(s, _)| s.bytes().next()).collect();
        while let Some(step) = text.as_bytes()[at..].iter().position(|b| firsts.contains(b)) {
            at += step;
            match self.special.iter().find(|(s, _)| text.as_bytes()[at..].starts_with(s.as_bytes())) {
                Some((content, id)) => {
                    self.encode_plain(&text[start..at], start, text, ids)?;
                    ids.push(*id);
                    at += content.len();
                    start = at;
                }
                None => at += 1,
            }
        }
        self.encode_plain(&text[start..], start, text, ids)
    }

    /// Encodes `part`, which begins at byte `offset` of `whole`, without looking for special tokens.
    fn encode_plain(&self, part: &str, offset: usize, whole: &str, ids: &mut Vec<u32>) -> Result<()> {
        match &self.model {
            Model::Bytes => ids.extend(part.bytes().map(u32::from)),
            Model::Chars(map) => {
                ids.reserve(part.len());
                for (at, c) in part.char_indices() {
                    match map.get(&c) {
                        Some(&id) => ids.push(id),
                        None => return Err(unknown_char(c, offset + at, whole, map.len())),
                    }
                }
            }
            #[cfg(feature = "text")]
            Model::Bpe(bpe) => bpe.encode(part, ids)?,
            #[cfg(feature = "text")]
            Model::Words(words) => words.encode(part, ids)?,
        }
        Ok(())
    }

    /// The text of these ids. Bytes that are no character become U+FFFD, as everywhere.
    ///
    /// # Errors
    /// `Tokenizer` naming the first id that is not below V.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut bytes = Vec::with_capacity(ids.len());
        for (at, &id) in ids.iter().enumerate() {
            bytes.extend_from_slice(self.token_bytes(id).ok_or_else(|| unknown_id(id, at, self.vocab_size()))?);
        }
        if ids.last().is_some_and(|&id| self.ends_word(id)) {
            bytes.pop();
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    /// Whether the last byte of an id is the space that a word's end reads as, which no text ends with.
    fn ends_word(&self, id: u32) -> bool {
        self.kind == Kind::Words && self.token_bytes(id).is_some_and(|b| b.ends_with(b" "))
    }

    /// Checks that every id is below V.
    ///
    /// # Errors
    /// `Tokenizer` naming the first that is not.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        check_ids(ids, self.vocab_size())
    }

    /// A decoder for ids that arrive one by one.
    pub fn stream(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self, false)
    }

    /// A decoder for ids that arrive one by one behind those of `before`, whose text is known: its pieces are what
    /// `decode` gives for all of them, less what it gives for `before`.
    pub fn stream_after(&self, before: &[u32]) -> StreamDecoder<'_> {
        StreamDecoder::new(self, before.last().is_some_and(|&id| self.ends_word(id)))
    }

    /// A prompt as it stands in front of its continuation: of words without the white space at its end, which is no
    /// token; the continuation brings its own.
    pub fn shown_prompt<'a>(&self, prompt: &'a str) -> &'a str {
        if self.kind == Kind::Words { prompt.trim_end() } else { prompt }
    }
}

/// The error for a character at byte `at` of `text`.
fn unknown_char(c: char, at: usize, text: &str, known: usize) -> Error {
    let position = text[..at].chars().count();
    let line = text[..at].matches('\n').count() + 1;
    Error::tokenizer(format!(
        "the character {c:?} (U+{:04X}) at position {position} (line {line}, byte {at}) is not among the {known} \
         characters of the training text",
        c as u32
    ))
}

/// The default size of a BPE vocabulary: the power of two nearest to bytes/1,000, from 512 to 8,192.
pub fn default_bpe_vocab(bytes: u64) -> usize {
    let target = bytes / 1000;
    let nearest = [512u64, 1024, 2048, 4096, 8192].into_iter().min_by_key(|p| p.abs_diff(target));
    nearest.unwrap_or(512) as usize
}

/// A token for a message: quoted, escaped, and cut where it is long.
fn quoted(token: &str) -> String {
    format!("{:?}", shortened(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Anna gibt Otto einen Apfel.\nÄpfel: 🍎🍏 👩‍👩‍👧 e\u{301}\n\t\u{0}!";

    #[test]
    fn bytes_write_every_text() {
        let t = Tokenizer::bytes();
        assert_eq!((t.vocab_size(), t.end_id()), (257, Some(256)));
        let ids = t.encode(TEXT, Special::Text).unwrap();
        assert_eq!(ids, TEXT.bytes().map(u32::from).collect::<Vec<_>>());
        assert_eq!(t.decode(&ids).unwrap(), TEXT);
        assert_eq!(t.id_to_token(32), Some("Ġ"));
        assert_eq!(t.id_to_token(256), Some(END_OF_TEXT));
        assert_eq!(t.id_to_token(257), None);
        assert!(t.encode("", Special::Parse).unwrap().is_empty());
    }

    #[test]
    fn chars_are_those_of_the_text_in_order() {
        let t = Tokenizer::chars(["cab", "ä\n"]).unwrap();
        let tokens: Vec<_> = (0..t.vocab_size() as u32).map(|i| t.id_to_token(i).unwrap()).collect();
        assert_eq!(tokens, ["\n", "a", "b", "c", "ä", END_OF_TEXT]);
        assert_eq!(t.encode("bä", Special::Parse).unwrap(), [2, 4]);
        let mut ids = vec![9];
        let line = t.encode_into("ab\nax\u{7}", Special::Parse, &mut ids).unwrap_err().to_string();
        assert_eq!(
            line,
            "the character 'x' (U+0078) at position 4 (line 2, byte 4) is not among the 5 characters of the training text"
        );
        assert_eq!(ids, [9]);
        let line = t.encode("ä\u{7}", Special::Parse).unwrap_err().to_string();
        assert!(line.starts_with("the character '\\u{7}' (U+0007) at position 1 (line 1, byte 2)"), "{line}");
        assert!(Tokenizer::chars([""]).is_err());
        assert_eq!(t.decode(&[1, 6]).unwrap_err().to_string(), "token id 6 at position 1: must be below V = 6");
        assert!(t.check_ids(&[5]).is_ok() && t.check_ids(&[6]).is_err());
    }

    #[test]
    fn special_strings_are_tokens_or_text_as_asked() {
        let t = Tokenizer::bytes();
        let text = "<<|endoftext|>a<|endoftext|><|endoftext";
        let ids = t.encode(text, Special::Parse).unwrap();
        let mut expected = vec![60, 256, 97, 256];
        expected.extend("<|endoftext".bytes().map(u32::from));
        assert_eq!(ids, expected);
        assert_eq!(t.decode(&ids).unwrap(), text);
        assert_eq!(t.encode(text, Special::Text).unwrap().len(), text.len());
        let t = Tokenizer::chars(["ab"]).unwrap();
        assert_eq!(t.encode("a<|endoftext|>b", Special::Parse).unwrap(), [0, 2, 1]);
        let line = t.encode("a<|endoftext|>bé", Special::Parse).unwrap_err().to_string();
        assert!(line.contains("at position 15 (line 1, byte 15)"), "{line}");
    }

    #[test]
    fn prompts_begin_where_the_model_s_texts_do() {
        let prompt = |t: &Tokenizer, text: &str| t.encode_prompt(text, Special::Parse).unwrap();
        let windows = Tokenizer::bytes();
        assert_eq!((prompt(&windows, "ab"), prompt(&windows, "")), (vec![97, 98], vec![256]));
        let dir = crate::fs::TestDir::new("prompts");
        windows.with_bos().save(dir.path(), 8).unwrap();
        let texts = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(prompt(&texts, "ab"), [256, 97, 98]);
        assert_eq!(prompt(&texts, "<|endoftext|>ab"), [256, 97, 98]);
        assert_eq!((prompt(&texts, ""), texts.encode("ab", Special::Parse).unwrap()), (vec![256], vec![97, 98]));
        let config = dir.path().join("tokenizer_config.json");
        std::fs::write(&config, r#"{"add_bos_token": 1}"#).unwrap();
        let line = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(line.ends_with("tokenizer_config.json: add_bos_token = 1: must be true or false"), "{line}");
    }

    #[test]
    fn default_vocabulary_follows_the_size() {
        assert_eq!(default_bpe_vocab(0), 512);
        assert_eq!(default_bpe_vocab(1_003_854), 1024);
        assert_eq!(default_bpe_vocab(1_600_000), 2048);
        assert_eq!(default_bpe_vocab(u64::MAX), 8192);
    }

    #[cfg(not(feature = "text"))]
    #[test]
    fn bpe_says_what_it_needs() {
        let line = Tokenizer::train(Kind::Bpe, &["a"], None).unwrap_err().to_string();
        assert_eq!(line, "bpe needs a build with the feature `text`; bytes and chars do not");
    }
}
