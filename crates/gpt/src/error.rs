//! What can go wrong, each as one clear line: the file, the field, its value, and the limit it broke.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that this crate reports. `Display` is one line without control characters, made to be shown as it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value of a configuration is outside its range.
    Config {
        /// The field, under its name in config.json.
        field: String,
        /// The value given.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// A file is not what it has to be.
    BadFile {
        /// The file.
        path: PathBuf,
        /// The part of it that is wrong.
        field: String,
        /// The value found there; may be empty.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// A text cannot be used as data.
    Data {
        /// The file or folder; `<stdin>` for standard input.
        path: PathBuf,
        /// The first bad byte, counted from 0, where there is one.
        byte: Option<u64>,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A row of a data file cannot be used.
    Row {
        /// The file; `<stdin>` for standard input.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The first byte of the field that is wrong, counted from 1 in its line.
        column: u64,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A text or an id is outside the tokenizer's vocabulary, or a tokenizer cannot be built.
    Tokenizer {
        /// What is wrong and what would be right.
        problem: String,
    },
    /// No checkpoint of a run can be used.
    Checkpoint {
        /// The checkpoint, or the folder that holds them.
        path: PathBuf,
        /// What is wrong, and with which of them.
        problem: String,
    },
    /// The tensors of a file are not those that the model needs; all of them are listed.
    Tensors {
        /// The file.
        path: PathBuf,
        /// One entry for each tensor that is missing, unknown or of another shape.
        problems: Vec<String>,
    },
    /// A folder for a run is in use.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What it holds or who uses it, and what can be done.
        problem: String,
    },
    /// A plan needs more memory than there is.
    Memory {
        /// What is planned.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes available to this process.
        available: u64,
    },
    /// A loss or a tensor is NaN or infinite.
    NonFinite {
        /// The optimizer step, counted from 0.
        step: u64,
        /// The microbatch within the step.
        batch: u64,
        /// The first bad tensor.
        tensor: String,
    },
    /// A kernel refused its arguments.
    Tensor(longhand_tensor::Error),
}

impl From<longhand_tensor::Error> for Error {
    fn from(e: longhand_tensor::Error) -> Error {
        Error::Tensor(e)
    }
}

impl Error {
    /// An [`Error::Io`] at `path`; meant for `map_err(Error::io(path))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// An [`Error::Config`].
    pub fn config(field: impl Into<String>, value: impl fmt::Display, limit: impl Into<String>) -> Error {
        Error::Config { field: field.into(), value: value.to_string(), limit: limit.into() }
    }

    /// An [`Error::BadFile`].
    pub fn bad_file(
        path: impl AsRef<Path>,
        field: impl Into<String>,
        value: impl fmt::Display,
        limit: impl Into<String>,
    ) -> Error {
        Error::BadFile {
            path: path.as_ref().to_path_buf(),
            field: field.into(),
            value: value.to_string(),
            limit: limit.into(),
        }
    }

    /// An [`Error::Tokenizer`].
    pub fn tokenizer(problem: impl Into<String>) -> Error {
        Error::Tokenizer { problem: problem.into() }
    }

    /// A configuration error read from `path` becomes an error of that file; any other stays.
    pub fn in_file(self, path: impl AsRef<Path>) -> Error {
        match self {
            Error::Config { field, value, limit } => {
                Error::BadFile { path: path.as_ref().to_path_buf(), field, value, limit }
            }
            Error::Tokenizer { problem } => Error::bad_file(path, "tokenizer", "", problem),
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            Error::Io { path, source } => format!("{}: {source}", path.display()),
            Error::Config { field, value, limit } => located(field, value, limit),
            Error::BadFile { path, field, value, limit } => {
                format!("{}: {}", path.display(), located(field, value, limit))
            }
            Error::Data { path, byte: Some(byte), problem } => format!("{}:byte {byte}: {problem}", path.display()),
            Error::Data { path, byte: None, problem } => format!("{}: {problem}", path.display()),
            Error::Row { path, line, column, problem } => format!("{}:{line}:{column}: {problem}", path.display()),
            Error::Tokenizer { problem } => problem.clone(),
            Error::Checkpoint { path, problem } | Error::Folder { path, problem } => {
                format!("{}: {problem}", path.display())
            }
            Error::Tensors { path, problems } => format!("{}: {}", path.display(), listed(problems)),
            Error::Memory { what, needed, available } => {
                format!("{what} needs {}, {} available", bytes(*needed), bytes(*available))
            }
            Error::NonFinite { step, batch, tensor } => {
                format!("step {step}, batch {batch}: {tensor} is not finite")
            }
            Error::Tensor(e) => e.to_string(),
        };
        write!(f, "{}", Escaped(&line))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Tensor(e) => Some(e),
            _ => None,
        }
    }
}

/// `field = value: limit`, or `field: limit` where there is no value to show.
fn located(field: &str, value: &str, limit: &str) -> String {
    let value = shortened(value);
    if value.is_empty() { format!("{field}: {limit}") } else { format!("{field} = {value}: {limit}") }
}

/// As many entries as a reader can use, and the number of the rest.
fn listed(entries: &[String]) -> String {
    const SHOWN: usize = 40;
    let mut line = entries.iter().take(SHOWN).map(|e| shortened(e)).collect::<Vec<_>>().join("; ");
    if entries.len() > SHOWN {
        line.push_str(&format!("; and {} more", entries.len() - SHOWN));
    }
    line
}

/// The start of a text, when it is long: a file may hold a megabyte where a name belongs.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 120;
    match text.char_indices().nth(SHOWN) {
        None => text.to_string(),
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}

/// A number of bytes for people: `1.5 GiB (1610612736 bytes)`.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut size = n as f64;
    let mut unit = None;
    for name in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = Some(name);
    }
    match unit {
        None => format!("{n} bytes"),
        Some(unit) => format!("{size:.1} {unit} ({n} bytes)"),
    }
}

/// A text with its control, direction and line characters written as `\n`, `\u{1b}` …: a name in a file must not
/// move a terminal's cursor or end the line.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            let hidden =
                matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if c.is_control() || hidden {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_with_its_parts() {
        let e = Error::config("n_embd", 100, "must be divisible by n_head = 3");
        assert_eq!(e.to_string(), "n_embd = 100: must be divisible by n_head = 3");
        assert_eq!(
            e.in_file("dir/config.json").to_string(),
            "dir/config.json: n_embd = 100: must be divisible by n_head = 3"
        );
        let e = Error::Memory { what: "the model".into(), needed: 3 << 30, available: 1000 };
        assert_eq!(e.to_string(), "the model needs 3.0 GiB (3221225472 bytes), 1000 bytes available");
        let e = Error::io("a\nb")(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(e.to_string(), "a\\nb: entity not found");
        let e = Error::Data { path: "t.txt".into(), byte: Some(7), problem: "a NUL byte".into() };
        assert_eq!(e.to_string(), "t.txt:byte 7: a NUL byte");
        let e = Error::Row { path: "t.csv".into(), line: 3, column: 7, problem: "no label\tx".into() };
        assert_eq!(e.to_string(), "t.csv:3:7: no label\\tx");
        let e = Error::NonFinite { step: 3, batch: 1, tensor: "h.0.ln_1.weight".into() };
        assert_eq!(e.to_string(), "step 3, batch 1: h.0.ln_1.weight is not finite");
    }

    #[test]
    fn what_comes_from_a_file_cannot_move_the_cursor_or_flood_the_screen() {
        let e = Error::bad_file("m", "tensor", "x\u{1b}[2J\r\n\u{202e}", "unknown");
        assert_eq!(e.to_string(), "m: tensor = x\\u{1b}[2J\\r\\n\\u{202e}: unknown");
        let e = Error::bad_file("m", "tensor", "é".repeat(1 << 20), "unknown");
        assert!(e.to_string().chars().count() < 200);
        let e = Error::Tensors { path: "m".into(), problems: (0..100).map(|i| format!("missing {i}")).collect() };
        assert!(e.to_string().ends_with("; missing 39; and 60 more"));
    }
}
