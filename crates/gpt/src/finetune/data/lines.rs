//! Lines of a file, none of them longer than a limit, each with its number; and what is wrong with one.

use crate::error::{Error, Result, bytes};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes of a line, and of a CSV record over several lines, at most: a file without line ends is refused, not swallowed.
pub const MAX_LINE: usize = 1 << 20;

/// A piece of a row and where it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub text: String,
    pub at: At,
}

/// A place: the line and the byte in it, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    pub line: u64,
    pub column: u64,
}

impl At {
    pub fn problem(self, message: impl Into<String>) -> Problem {
        Problem { at: self, message: message.into() }
    }
}

/// What is wrong with a row; the rows behind it can still be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub at: At,
    pub message: String,
}

impl Problem {
    pub fn in_file(self, path: &Path) -> Error {
        Error::Row { path: path.to_path_buf(), line: self.at.line, column: self.at.column, problem: self.message }
    }
}

/// A row, or what is wrong with it.
pub(super) type Row<T> = std::result::Result<T, Problem>;

/// One line without its end.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub number: u64,
    pub text: String,
}

/// Reads a file line by line. A mark of UTF-8 at its start and the `\r` of `\r\n` are dropped.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    path: PathBuf,
    number: u64,
    /// The rest of a line that was too long is still to be passed over.
    inside: bool,
}

impl<R: Read> Lines<R> {
    pub fn new(input: R, path: &Path) -> Lines<R> {
        Lines { input: BufReader::with_capacity(1 << 16, input), path: path.to_path_buf(), number: 0, inside: false }
    }

    /// The next line; none at the end of the file.
    ///
    /// # Errors
    /// `Io`, and `Data` for a file that is no text: a NUL byte or the mark of UTF-16. What is wrong with the line
    /// alone, its length or its encoding, is its `Problem`.
    pub fn next(&mut self) -> Result<Option<Row<Line>>> {
        let mut line = Vec::new();
        while self.inside {
            line.clear();
            self.piece(&mut line)?;
            self.inside = !(line.is_empty() || line.ends_with(b"\n"));
        }
        line.clear();
        self.piece(&mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let at = At { line: self.number, column: 1 };
        if self.number == 1 {
            if line.starts_with(&[0xFF, 0xFE]) || line.starts_with(&[0xFE, 0xFF]) {
                return Err(self.no_text("the mark of UTF-16; convert it to UTF-8"));
            }
            if line.starts_with("\u{FEFF}".as_bytes()) {
                line.drain(..3);
            }
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() > MAX_LINE {
            self.inside = true;
        }
        if line.len() > MAX_LINE {
            return Ok(Some(Err(at.problem(format!("the line is longer than {}", bytes(MAX_LINE as u64))))));
        }
        Ok(Some(match String::from_utf8(line) {
            Ok(text) => Ok(Line { number: self.number, text }),
            Err(e) => {
                let bad = e.utf8_error().valid_up_to();
                let at = At { line: self.number, column: bad as u64 + 1 };
                Err(at.problem(format!("the byte 0x{:02X} is not UTF-8", e.as_bytes()[bad])))
            }
        }))
    }

    /// Up to the end of the line, but little more than the limit.
    fn piece(&mut self, line: &mut Vec<u8>) -> Result<()> {
        let limit = MAX_LINE as u64 + 8;
        self.input.by_ref().take(limit).read_until(b'\n', line).map_err(Error::io(&self.path))?;
        if line.contains(&0) { Err(self.no_text("a NUL byte")) } else { Ok(()) }
    }

    fn no_text(&self, what: &str) -> Error {
        let problem = format!("not a text file: {what}");
        Error::Data { path: self.path.clone(), byte: None, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<std::result::Result<String, String>> {
        let mut lines = Lines::new(bytes, Path::new("f"));
        let mut out = Vec::new();
        loop {
            match lines.next() {
                Ok(None) => return out,
                Ok(Some(line)) => out.push(line.map(|l| l.text).map_err(|p| p.in_file(Path::new("f")).to_string())),
                Err(e) => {
                    out.push(Err(e.to_string()));
                    return out;
                }
            }
        }
    }

    #[test]
    fn line_ends_and_marks() {
        let ok = |text: &str| lines(text.as_bytes()).into_iter().map(|l| l.unwrap()).collect::<Vec<_>>();
        assert_eq!(ok(""), [""; 0]);
        assert_eq!(ok("\u{FEFF}a\r\nb\n\nc\rd"), ["a", "b", "", "c\rd"]);
        assert_eq!(lines(b"a\0"), [Err("f: not a text file: a NUL byte".into())]);
        let utf16 = "f: not a text file: the mark of UTF-16; convert it to UTF-8";
        assert_eq!(lines(&[0xFF, 0xFE, 0x41, 0x26]), [Err(utf16.into())]);
    }

    #[test]
    fn a_bad_line_has_its_place_and_the_next_one_is_read() {
        let bad = "f:1:4: the byte 0xE9 is not UTF-8";
        assert_eq!(lines(b"caf\xE9\nx"), [Err(bad.into()), Ok("x".into())]);
        for extra in [1, 8, 9, 10, MAX_LINE, 3 * MAX_LINE] {
            let mut long = vec![b'x'; MAX_LINE + extra];
            long.extend(b"\r\nnext\n");
            let bad = "f:1:1: the line is longer than 1.0 MiB (1048576 bytes)";
            assert_eq!(lines(&long), [Err(bad.into()), Ok("next".into())], "{extra}");
        }
        let mut just = vec![b'x'; MAX_LINE];
        just.extend(b"\r\n");
        assert_eq!(lines(&just)[0].as_ref().map(String::len), Ok(MAX_LINE));
    }

    /// A gigabyte without an end, of which no more than the limit is asked for.
    #[test]
    fn an_endless_line_is_not_read_to_its_end() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                out.fill(b'x');
                self.0 += out.len();
                assert!(self.0 < 2 * MAX_LINE, "read on");
                Ok(out.len())
            }
        }
        assert!(Lines::new(Endless(0), Path::new("f")).next().unwrap().unwrap().is_err());
    }
}
