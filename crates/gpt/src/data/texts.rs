//! Texts from files, folders and standard input, and their split into training and validation.

use super::tokens::write_tokens;
use crate::error::{Error, Result};
use crate::tokenizer::{Kind, Tokenizer};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Files of a folder are read when their names end with one of these.
pub const TEXT_EXTENSIONS: &[&str] = &["txt", "text", "md"];

/// The name of standard input among the paths.
pub const STDIN: &str = "-";

/// The token file of the training part.
pub const TRAIN: &str = "train.tokens";
/// The token file of the validation part.
pub const VALIDATION: &str = "validation.tokens";

/// Folders in folders, at most: a limit against a loop in the file system.
const MAX_DEPTH: usize = 64;
/// How much is read between two checks.
const CHUNK: u64 = 1 << 20;

/// One text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The file; `<stdin>` for standard input.
    pub path: PathBuf,
    /// Its contents, without a byte-order mark.
    pub contents: String,
}

impl Text {
    /// The first 90% of the bytes, cut back to a whole character: what trains.
    pub fn train(&self) -> &str {
        &self.contents[..self.cut()]
    }

    /// The rest: what validates.
    pub fn validation(&self) -> &str {
        &self.contents[self.cut()..]
    }

    fn cut(&self) -> usize {
        let n = self.contents.len();
        let nine_tenths = n / 10 * 9 + n % 10 * 9 / 10;
        (0..=nine_tenths).rev().find(|&at| self.contents.is_char_boundary(at)).unwrap_or(0)
    }
}

/// All texts of a run, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    texts: Vec<Text>,
}

impl Texts {
    /// Reads files, folders (all of [`TEXT_EXTENSIONS`] in them and in their folders, by name; hidden ones and
    /// linked folders are left out), and standard input for `-`.
    ///
    /// # Errors
    /// `Io` for what is missing or unreadable, and `Data` for what is empty, is no text (with the first bad byte),
    /// or is a folder without texts.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Texts> {
        let mut texts = Vec::new();
        for path in paths.iter().map(AsRef::as_ref) {
            if path == Path::new(STDIN) {
                texts.push(read_text(Path::new("<stdin>"), io::stdin().lock())?);
                continue;
            }
            let meta = fs::metadata(path).map_err(Error::io(path))?;
            if !meta.is_dir() {
                texts.push(read_file(path)?);
                continue;
            }
            let mut files = Vec::new();
            walk(path, 0, &mut files)?;
            if files.is_empty() {
                let problem =
                    format!("a folder without texts: no file in it ends with .{}", TEXT_EXTENSIONS.join(", ."));
                return Err(data(path, None, problem));
            }
            for file in files {
                texts.push(read_file(&file)?);
            }
        }
        if texts.is_empty() {
            return Err(data(Path::new("<no text>"), None, "give a file, a folder, or - for standard input".into()));
        }
        Ok(Texts { texts })
    }

    /// Texts that are already in memory.
    ///
    /// # Errors
    /// `Data` when there is none, or one is empty or holds a NUL.
    pub fn from_texts(texts: Vec<Text>) -> Result<Texts> {
        if texts.is_empty() {
            return Err(data(Path::new("<no text>"), None, "there is no text".into()));
        }
        texts.iter().try_for_each(|t| check(&t.path, &t.contents))?;
        Ok(Texts { texts })
    }

    /// The texts, in the order that they were named.
    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// The training part of each text.
    pub fn train(&self) -> Vec<&str> {
        self.texts.iter().map(Text::train).collect()
    }

    /// The validation part of each text.
    pub fn validation(&self) -> Vec<&str> {
        self.texts.iter().map(Text::validation).collect()
    }

    /// Each text whole.
    pub fn whole(&self) -> Vec<&str> {
        self.texts.iter().map(|t| t.contents.as_str()).collect()
    }

    /// A tokenizer for these texts: `chars` knows every character of them, `bpe` is trained on the training part alone.
    ///
    /// # Errors
    /// As [`Tokenizer::train`].
    pub fn tokenizer(&self, kind: Kind, vocab_size: Option<usize>) -> Result<Tokenizer> {
        let texts = if kind == Kind::Bpe { self.train() } else { self.whole() };
        Tokenizer::train(kind, &texts, vocab_size)
    }

    /// Writes `train.tokens` and `validation.tokens` into a folder that exists.
    ///
    /// # Errors
    /// As [`write_tokens`].
    pub fn tokenize(&self, tokenizer: &Tokenizer, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        write_tokens(folder.join(TRAIN), tokenizer, &self.texts, Text::train)?;
        write_tokens(folder.join(VALIDATION), tokenizer, &self.texts, Text::validation)?;
        Ok(())
    }

    /// Bytes of all texts.
    pub fn bytes(&self) -> u64 {
        self.texts.iter().map(|t| t.contents.len() as u64).sum()
    }
}

fn data(path: &Path, byte: Option<u64>, problem: String) -> Error {
    Error::Data { path: path.to_path_buf(), byte, problem }
}

/// The text files below a folder, by name.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(data(folder, None, format!("more than {MAX_DEPTH} folders deep")));
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        entries.push(entry.map_err(Error::io(folder))?.path());
    }
    entries.sort();
    for path in entries {
        if path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let link = fs::symlink_metadata(&path).map_err(Error::io(&path))?;
        if link.is_dir() {
            walk(&path, depth + 1, files)?;
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let named = extension.is_some_and(|e| TEXT_EXTENSIONS.contains(&e.as_str()));
        if named && fs::metadata(&path).map_err(Error::io(&path))?.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Text> {
    read_text(path, File::open(path).map_err(Error::io(path))?)
}

/// Reads to the end, and stops at the first NUL: a device of zeros or a large binary file is refused at once.
fn read_text(path: &Path, mut input: impl Read) -> Result<Text> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        bytes.try_reserve(CHUNK as usize).map_err(|_| out_of_memory(path, before))?;
        let n = input.by_ref().take(CHUNK).read_to_end(&mut bytes).map_err(Error::io(path))?;
        if let Some(at) = bytes[before..].iter().position(|&b| b == 0) {
            return Err(binary(path, before + at, "a NUL byte"));
        }
        if n == 0 {
            break;
        }
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(binary(path, 0, "the mark of UTF-16; convert it to UTF-8"));
    }
    let mut contents = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        binary(path, at, &format!("the byte 0x{:02X} is not UTF-8", e.as_bytes()[at]))
    })?;
    if contents.starts_with('\u{FEFF}') {
        contents.drain(..'\u{FEFF}'.len_utf8());
    }
    check(path, &contents)?;
    Ok(Text { path: path.to_path_buf(), contents })
}

fn check(path: &Path, contents: &str) -> Result<()> {
    if contents.is_empty() {
        return Err(data(path, None, "the text is empty".into()));
    }
    match contents.bytes().position(|b| b == 0) {
        Some(at) => Err(binary(path, at, "a NUL byte")),
        None => Ok(()),
    }
}

fn binary(path: &Path, at: usize, what: &str) -> Error {
    data(path, Some(at as u64), format!("not a text file: {what}"))
}

fn out_of_memory(path: &Path, so_far: usize) -> Error {
    let needed = so_far as u64 + CHUNK;
    Error::Memory { what: format!("the text {}", path.display()), needed, available: so_far as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Tokens;
    use crate::fs::TestDir;
    use crate::mmap::Access;

    fn text(contents: &str) -> Text {
        Text { path: "t".into(), contents: contents.into() }
    }

    #[test]
    fn the_last_tenth_of_each_text_validates() {
        let t = text("0123456789abcdefghij");
        assert_eq!((t.train(), t.validation()), ("0123456789abcdefgh", "ij"));
        // Byte 9 of 10 lies inside the last character.
        let t = text("abcdefg👩");
        assert_eq!((t.train(), t.validation()), ("abcdefg", "👩"));
        assert_eq!((text("a").train(), text("a").validation()), ("", "a"));
        assert_eq!(text(&"x".repeat(1_115_394)).train().len(), 1_003_854);
    }

    #[test]
    fn files_and_folders_are_read_in_the_order_of_their_names() {
        let dir = TestDir::new("texts");
        for (name, contents) in [
            ("b.txt", "B"),
            ("a/z.md", "Z"),
            ("a/k/c.TXT", "C"),
            ("a/skip.rs", "no"),
            (".hidden.txt", "no"),
            ("bom.text", "\u{FEFF}X\r\n"),
        ] {
            dir.write(name, contents);
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        let read = |paths: &[PathBuf]| Texts::read(paths).unwrap().whole().concat();
        assert_eq!(read(&[dir.path().to_path_buf()]), "CZBX\r\n");
        assert_eq!(read(&[dir.path().join("b.txt"), dir.path().join("a/skip.rs")]), "Bno");
        let texts = Texts::read(&[dir.path().join("b.txt")]).unwrap();
        assert_eq!((texts.bytes(), texts.texts()[0].path.clone()), (1, dir.path().join("b.txt")));
    }

    #[test]
    fn texts_become_two_token_files() {
        let dir = TestDir::new("tokenize");
        let texts = Texts::from_texts(vec![text("0123456789"), text("abcdefghijé")]).unwrap();
        let chars = texts.tokenizer(Kind::Chars, None).unwrap();
        texts.tokenize(&chars, dir.path()).unwrap();
        let open = |name: &str| Tokens::open(dir.path().join(name), chars.vocab_size(), Access::Map).unwrap();
        let (train, validation) = (open(TRAIN), open(VALIDATION));
        let end = chars.end_id().unwrap();
        let expected = chars.encode("012345678<|endoftext|>abcdefghij", crate::tokenizer::Special::Parse).unwrap();
        assert_eq!(train.to_vec(), expected);
        assert_eq!(validation.to_vec(), [9, end, end - 1]);
        assert_eq!((train.text_bytes(), validation.text_bytes()), (19, 3));
        assert_eq!(train.path(), dir.path().join(TRAIN));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let dir = TestDir::new("bad-texts");
        let line = |name: &str, contents: &[u8]| {
            let path = dir.write(name, contents);
            let line = Texts::read(&[&path]).unwrap_err().to_string();
            line.strip_prefix(&path.display().to_string()).unwrap().to_string()
        };
        assert_eq!(line("empty.txt", b""), ": the text is empty");
        assert_eq!(line("bom.txt", "\u{FEFF}".as_bytes()), ": the text is empty");
        assert_eq!(line("nul.txt", b"ab\0c"), ":byte 2: not a text file: a NUL byte");
        assert_eq!(line("latin.txt", b"caf\xE9 noir"), ":byte 3: not a text file: the byte 0xE9 is not UTF-8");
        assert_eq!(line("cut.txt", b"caf\xC3"), ":byte 3: not a text file: the byte 0xC3 is not UTF-8");
        assert_eq!(
            line("utf16.txt", &[0xFF, 0xFE, 0x41, 0x26]),
            ":byte 0: not a text file: the mark of UTF-16; convert it to UTF-8"
        );
        let late = [vec![b'a'; 3 << 20], vec![0]].concat();
        assert_eq!(line("late.txt", &late), ":byte 3145728: not a text file: a NUL byte");

        let missing = dir.path().join("missing.txt");
        let line = Texts::read(&[&missing]).unwrap_err().to_string();
        assert_eq!(line, format!("{}: No such file or directory (os error 2)", missing.display()));
        fs::create_dir(dir.path().join("none")).unwrap();
        let line = Texts::read(&[dir.path().join("none")]).unwrap_err().to_string();
        assert!(line.ends_with(": a folder without texts: no file in it ends with .txt, .text, .md"), "{line}");
        let line = Texts::read::<&str>(&[]).unwrap_err().to_string();
        assert_eq!(line, "<no text>: give a file, a folder, or - for standard input");
        assert!(Texts::from_texts(vec![text("a\0")]).is_err());
        #[cfg(target_os = "linux")]
        {
            let line = Texts::read(&["/dev/zero"]).unwrap_err().to_string();
            assert_eq!(line, "/dev/zero:byte 0: not a text file: a NUL byte");
        }
    }
}
