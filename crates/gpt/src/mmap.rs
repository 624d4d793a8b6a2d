//! Whole files into memory, and the one place that maps them.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How a file's bytes come into memory. The bytes are the same, and are the caller's own, either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Mapped until everything is copied; on Unix the numbers of safetensors files are read from the file all the same,
    /// without entering a mapping's pages one by one. Whoever shortens the file before that may end this process with
    /// SIGBUS.
    #[default]
    Map,
    /// Read. Nothing that others do to the file can end this process.
    Read,
}

/// A regular file's bytes, held as [`Access`] says; or bytes that the caller has.
pub(crate) struct Source<'a> {
    path: PathBuf,
    len: u64,
    /// When the file was last written, where the system says.
    modified: Option<SystemTime>,
    held: Held<'a>,
}

enum Held<'a> {
    Map {
        map: Mmap,
        #[cfg(unix)]
        file: File,
    },
    Read(Vec<u8>),
    Given(&'a [u8]),
}

impl<'a> Source<'a> {
    /// Bytes that are in memory; `name` is for the errors.
    pub(crate) fn given(bytes: &'a [u8], name: &Path) -> Source<'a> {
        Source { path: name.to_path_buf(), len: bytes.len() as u64, modified: None, held: Held::Given(bytes) }
    }

    /// Maps or reads a file.
    ///
    /// # Errors
    /// `Io`, `Memory`, or `BadFile` for what is no regular file or changes its length meanwhile.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Source<'a>> {
        let len = crate::fs::regular_file_len(path)?;
        let modified = modified(path);
        let file = File::open(path).map_err(Error::io(path))?;
        let held = match access {
            Access::Read => {
                let mut bytes = Vec::new();
                reserve(&mut bytes, path, len)?;
                file.take(len).read_to_end(&mut bytes).map_err(Error::io(path))?;
                Held::Read(bytes)
            }
            Access::Map => Held::Map {
                // SAFETY: the mapping is read-only. Headers are copied before they are looked at; all other bytes are
                // numbers, of which any are valid, and are copied too. Another process that writes to the file at this
                // moment may have either see old or new numbers, which is the same as reading beside it (`unchanged` then
                // tells where the file's time moved); one that shortens it can end this process with SIGBUS, as
                // `Access::Map` says.
                map: unsafe { Mmap::map(&file) }.map_err(Error::io(path))?,
                #[cfg(unix)]
                file,
            },
        };
        let source = Source { path: path.to_path_buf(), len, modified, held };
        source.unchanged()?;
        Ok(source)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Map { map, .. } => map,
            Held::Read(bytes) => bytes,
            Held::Given(bytes) => bytes,
        }
    }

    /// Copies the bytes from `at` on into all of `out`. Panics where they reach beyond the end.
    ///
    /// # Errors
    /// `BadFile` for a file that has become shorter; `Io`.
    pub(crate) fn read_at(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let bytes = &self.bytes()[at..at + out.len()];
        #[cfg(unix)]
        if let Held::Map { file, .. } = &self.held {
            use std::os::unix::fs::FileExt;
            let read = file.read_exact_at(out, at as u64);
            return read.or_else(|e| self.unchanged().and(Err(Error::io(&self.path)(e))));
        }
        out.copy_from_slice(bytes);
        Ok(())
    }

    /// Checks that nobody has written to the file, by its length and its time, to be asked once everything is copied.
    ///
    /// # Errors
    /// `BadFile` for a file that changed; `Io`.
    pub(crate) fn unchanged(&self) -> Result<()> {
        if let Held::Given(_) = self.held {
            return Ok(());
        }
        let now = crate::fs::regular_file_len(&self.path)?;
        if self.bytes().len() as u64 == self.len && now == self.len && modified(&self.path) == self.modified {
            return Ok(());
        }
        let limit = format!("was {} bytes before: the file changed while it was read", self.len);
        Err(Error::bad_file(&self.path, "size", format!("{now} bytes"), limit))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn reserve(bytes: &mut Vec<u8>, path: &Path, len: u64) -> Result<()> {
    let refused = |_| Error::Memory { what: path.display().to_string(), needed: len, available: 0 };
    bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX)).map_err(refused)
}

/// The bytes of a regular file, whose length is the same before and after.
///
/// What is returned belongs to the caller: a file that changes later changes nothing here.
///
/// # Errors
/// As [`Source::open`].
pub(crate) fn read(path: &Path, access: Access) -> Result<Vec<u8>> {
    let source = Source::open(path, access)?;
    let bytes = match source.held {
        Held::Read(bytes) => return Ok(bytes),
        _ => {
            let mut bytes = Vec::new();
            reserve(&mut bytes, path, source.len)?;
            bytes.extend_from_slice(source.bytes());
            bytes
        }
    };
    source.unchanged()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::TestDir;

    #[test]
    fn both_ways_give_the_same_bytes() {
        let dir = TestDir::new("access");
        for len in [0, 1, 4096, 10_000] {
            let contents: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let path = dir.write("x", &contents);
            for access in [Access::Map, Access::Read] {
                assert_eq!(read(&path, access).unwrap(), contents);
            }
        }
        for access in [Access::Map, Access::Read] {
            let line = read(dir.path(), access).unwrap_err().to_string();
            assert!(line.ends_with("kind = a folder: must be a regular file"), "{line}");
            assert!(read(&dir.path().join("none"), access).is_err());
        }
    }
}
