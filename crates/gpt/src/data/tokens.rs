//! Tokens on disk: a header of 64 bytes, then ids of 16 or 32 bits; in memory as they are on disk.
//!
//! All numbers are little-endian.
//!
//! ```text
//! 0   8  "LHTOKENS"
//! 8   4  version, 1
//! 12  4  bytes an id, 2 (V ≤ 65,536) or 4
//! 16  8  V
//! 24  8  number of ids
//! 32  8  bytes of the text that they encode
//! 40  8  checksum of the ids' bytes (see `hash`)
//! 48  8  checksum of bytes 0 to 47
//! 56  8  zero
//! ```

use super::texts::Text;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::mmap::{self, Access};
use crate::tokenizer::{Special, Tokenizer, pieces::pieces};
use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LHTOKENS";
const VERSION: u32 = 1;
const HEADER: usize = 64;

/// A sequence of token ids, in memory.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    storage: Storage,
    len: usize,
    text_bytes: u64,
}

#[derive(Debug)]
enum Storage {
    Ids(Vec<u32>),
    /// A whole token file and the bytes of an id.
    File(Vec<u8>, usize),
}

impl Tokens {
    /// Ids in memory, of no known text.
    pub fn from_ids(ids: Vec<u32>) -> Tokens {
        Tokens { path: "<tokens>".into(), len: ids.len(), storage: Storage::Ids(ids), text_bytes: 0 }
    }

    /// Copies a token file into memory and checks all of it: header, size, checksum, every id below `vocab_size`.
    /// What becomes of the file afterwards does not matter.
    ///
    /// # Errors
    /// `Io`, `Memory`, or `BadFile` with the field, its value and what it must be.
    pub fn open(path: impl AsRef<Path>, vocab_size: usize, access: Access) -> Result<Tokens> {
        let path = path.as_ref();
        let bytes = mmap::read(path, access)?;
        let (len, width, text_bytes) = check(path, &bytes, vocab_size)?;
        Ok(Tokens { path: path.into(), storage: Storage::File(bytes, width), len, text_bytes })
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the text that the tokens encode, for bits a byte; 0 when it is not known.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Where the tokens are; `<tokens>` in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the ids `start..start + out.len()`, which must lie within `0..len`.
    pub fn copy_to(&self, start: usize, out: &mut [u32]) {
        assert!(start <= self.len && out.len() <= self.len - start, "tokens {start} + {} of {}", out.len(), self.len);
        match &self.storage {
            Storage::Ids(ids) => out.copy_from_slice(&ids[start..start + out.len()]),
            Storage::File(bytes, width) => copy_ids(bytes, *width, start, out),
        }
    }

    /// All ids.
    pub fn to_vec(&self) -> Vec<u32> {
        let mut ids = vec![0; self.len];
        self.copy_to(0, &mut ids);
        ids
    }
}

fn copy_ids(file: &[u8], width: usize, start: usize, out: &mut [u32]) {
    let bytes = &file[HEADER + start * width..][..out.len() * width];
    if width == 2 {
        for (id, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *id = u16::from_le_bytes([b[0], b[1]]) as u32;
        }
    } else {
        for (id, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *id = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
    }
}

/// Checks a whole token file: the number of ids, the bytes of one, the bytes of text.
fn check(path: &Path, file: &[u8], vocab_size: usize) -> Result<(usize, usize, u64)> {
    let bad = |field: &str, value: String, limit: String| Err(Error::bad_file(path, field, value, limit));
    if file.len() < HEADER {
        return bad("size", format!("{} bytes", file.len()), format!("must be at least {HEADER}"));
    }
    if &file[..8] != MAGIC {
        return bad("magic", String::new(), "is not a token file".into());
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| file[at + i]));
    let (version, width) = (word(8) as u32, (word(8) >> 32) as usize);
    if version != VERSION {
        return bad("version", version.to_string(), format!("must be {VERSION}"));
    }
    let mut hash = Hasher::new();
    hash.bytes(&file[..48]);
    if hash.finish() != word(48) || word(56) != 0 {
        return bad("header checksum", format!("{:016x}", hash.finish()), format!("must be {:016x}", word(48)));
    }
    let [vocab, count, text_bytes, sum] = [word(16), word(24), word(32), word(40)];
    if vocab != vocab_size as u64 {
        return bad("V", vocab.to_string(), format!("must be the tokenizer's {vocab_size}"));
    }
    if width != width_of(vocab_size) {
        return bad("bytes an id", width.to_string(), format!("must be {}", width_of(vocab_size)));
    }
    let size = count.checked_mul(width as u64).and_then(|n| n.checked_add(HEADER as u64));
    if size != Some(file.len() as u64) {
        return bad("size", format!("{} bytes", file.len()), format!("must be {HEADER} + {count} ids × {width}"));
    }
    let mut hash = Hasher::new();
    hash.bytes(&file[HEADER..]);
    if hash.finish() != sum {
        return bad("checksum", format!("{:016x}", hash.finish()), format!("must be {sum:016x}"));
    }
    let count = count as usize;
    let mut ids = [0; 1024];
    for start in (0..count).step_by(ids.len()) {
        let ids = &mut ids[..1024.min(count - start)];
        copy_ids(file, width, start, ids);
        if let Some(at) = ids.iter().position(|&id| id as usize >= vocab_size) {
            return bad(
                &format!("token {}", start + at),
                ids[at].to_string(),
                format!("must be below V = {vocab_size}"),
            );
        }
    }
    Ok((count, width, text_bytes))
}

/// 16 bits where every id fits.
fn width_of(vocab_size: usize) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// Encodes texts into a token file, an end of text between two of them, and returns the number of tokens.
///
/// `part` chooses what of each text: [`Text::train`], [`Text::validation`] or all of it. Special strings in a text
/// are text. The file appears whole or not at all. Memory: one piece of the text.
///
/// # Errors
/// `Io`, or `Data` naming file and byte of a character that the tokenizer does not have.
pub fn write_tokens(
    path: impl AsRef<Path>,
    tokenizer: &Tokenizer,
    texts: &[Text],
    part: fn(&Text) -> &str,
) -> Result<u64> {
    let path = path.as_ref();
    let tmp = crate::fs::tmp_of(path);
    let written = write_into(&tmp, tokenizer, texts, part).and_then(|count| {
        fs::rename(&tmp, path).map_err(Error::io(path))?;
        Ok(count)
    });
    if written.is_err() {
        let _ = fs::remove_file(&tmp);
    }
    written
}

fn write_into(tmp: &Path, tokenizer: &Tokenizer, texts: &[Text], part: fn(&Text) -> &str) -> Result<u64> {
    let width = width_of(tokenizer.vocab_size());
    let file = File::create(tmp).map_err(Error::io(tmp))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&[0; HEADER]).map_err(Error::io(tmp))?;
    let (mut count, mut text_bytes, mut sum) = (0u64, 0u64, Hasher::new());
    let (mut ids, mut bytes) = (Vec::new(), Vec::new());
    let mut put = |ids: &[u32], out: &mut BufWriter<File>| {
        bytes.clear();
        for id in ids {
            bytes.extend_from_slice(&id.to_le_bytes()[..width]);
        }
        sum.bytes(&bytes);
        count += ids.len() as u64;
        out.write_all(&bytes).map_err(Error::io(tmp))
    };
    for (index, text) in texts.iter().enumerate() {
        if index > 0
            && let Some(end) = tokenizer.end_id()
        {
            put(&[end], &mut out)?;
        }
        let whole = part(text);
        for piece in pieces(whole) {
            ids.clear();
            tokenizer.encode_into(piece, Special::Text, &mut ids).map_err(|e| {
                // Encoding all of it again finds the place in the file rather than in the piece.
                let e = tokenizer.encode(&text.contents, Special::Text).err().unwrap_or(e);
                Error::Data { path: text.path.clone(), byte: None, problem: e.to_string() }
            })?;
            put(&ids, &mut out)?;
        }
        text_bytes += whole.len() as u64;
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(width as u32).to_le_bytes());
    for word in [tokenizer.vocab_size() as u64, count, text_bytes, sum.finish()] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    let mut of_header = Hasher::new();
    of_header.bytes(&header);
    header.extend_from_slice(&of_header.finish().to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    let finished = out
        .seek(SeekFrom::Start(0))
        .and_then(|_| out.write_all(&header))
        .and_then(|_| out.flush())
        .and_then(|_| out.get_ref().sync_all());
    finished.map_err(Error::io(tmp))?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::TestDir;

    fn text(contents: &str) -> Text {
        Text { path: "t.txt".into(), contents: contents.into() }
    }

    fn whole(text: &Text) -> &str {
        &text.contents
    }

    #[test]
    fn written_tokens_come_back_mapped_and_read() {
        let dir = TestDir::new("tokens");
        let path = dir.path().join("train.tokens");
        let tokenizer = Tokenizer::bytes();
        let texts = [text(&"héllo wörld ".repeat(20_000)), text("ende")];
        let count = write_tokens(&path, &tokenizer, &texts, whole).unwrap();
        let mut expected = tokenizer.encode(&texts[0].contents, Special::Text).unwrap();
        expected.push(256);
        expected.extend(b"ende".map(u32::from));
        for access in [Access::Map, Access::Read] {
            let tokens = Tokens::open(&path, 257, access).unwrap();
            assert_eq!(tokens.len() as u64, count);
            assert_eq!(tokens.to_vec(), expected);
            assert_eq!(tokens.text_bytes(), texts.iter().map(|t| t.contents.len() as u64).sum::<u64>());
            let mut some = [0; 3];
            tokens.copy_to(5, &mut some);
            assert_eq!(some, expected[5..8]);
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 + 2 * count);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// With the file mapped, reading it after this would end the process with SIGBUS.
    #[test]
    fn a_file_shortened_after_it_was_opened_does_not_matter() {
        let dir = TestDir::new("shortened");
        let path = dir.path().join("x.tokens");
        let contents = "some text ".repeat(5000);
        write_tokens(&path, &Tokenizer::bytes(), &[text(&contents)], whole).unwrap();
        for access in [Access::Map, Access::Read] {
            let tokens = Tokens::open(&path, 257, access).unwrap();
            let good = fs::read(&path).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            assert!(tokens.to_vec().iter().copied().eq(contents.bytes().map(u32::from)));
            fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn large_vocabularies_take_four_bytes() {
        let dir = TestDir::new("tokens32");
        let path = dir.path().join("x.tokens");
        let all: String = ('\u{1}'..).take(70_000).collect();
        let tokenizer = Tokenizer::chars([&all[..]]).unwrap();
        write_tokens(&path, &tokenizer, &[text(&all)], Text::validation).unwrap();
        let tokens = Tokens::open(&path, tokenizer.vocab_size(), Access::Map).unwrap();
        assert_eq!(*tokens.to_vec().last().unwrap(), 69_999);
        let line = Tokens::open(&path, 70_000, Access::Map).unwrap_err().to_string();
        assert!(line.ends_with("x.tokens: V = 70001: must be the tokenizer's 70000"), "{line}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let dir = TestDir::new("flips");
        let path = dir.path().join("x.tokens");
        write_tokens(&path, &Tokenizer::bytes(), &[text("some text")], whole).unwrap();
        let good = fs::read(&path).unwrap();
        let access = |i: usize| if i.is_multiple_of(2) { Access::Map } else { Access::Read };
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            assert!(Tokens::open(&path, 257, access(at)).is_err(), "bit {at}");
        }
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(Tokens::open(&path, 257, access(len)).is_err(), "{len} bytes");
        }
        fs::write(&path, b"GIF89a...".repeat(20)).unwrap();
        let line = Tokens::open(&path, 257, Access::Map).unwrap_err().to_string();
        assert!(line.ends_with("x.tokens: magic: is not a token file"), "{line}");
        let line = Tokens::open(dir.path(), 257, Access::Map).unwrap_err().to_string();
        assert!(line.ends_with("kind = a folder: must be a regular file"), "{line}");
    }

    #[test]
    fn an_unknown_character_leaves_no_file() {
        let dir = TestDir::new("unknown");
        let path = dir.path().join("x.tokens");
        let tokenizer = Tokenizer::chars(["abcdefghi"]).unwrap();
        let line = write_tokens(&path, &tokenizer, &[text("abcdefghix")], Text::validation).unwrap_err().to_string();
        assert_eq!(
            line,
            "t.txt: the character 'x' (U+0078) at position 9 (line 1, byte 9) is not among the 9 characters of the \
             training text"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
