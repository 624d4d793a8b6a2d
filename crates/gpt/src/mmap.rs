//! The one place that maps files into memory.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps a regular file for reading, and checks that its length is still `expected`.
///
/// Whoever shortens the file while it is mapped ends this process with SIGBUS: map what this program wrote itself,
/// or map only while loading.
///
/// # Errors
/// `Io`, or `BadFile` for what is no regular file or has another length.
pub(crate) fn map(path: &Path, expected: Option<u64>) -> Result<Mmap> {
    crate::fs::regular_file_len(path)?;
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the mapping is read-only and private to this process, and is used only as bytes that are checked where
    // they are read; no reference outlives the returned value, which owns the mapping. Another process that changes
    // the file can make these bytes change, which no code here relies against: everything read is copied first.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
    match expected {
        Some(len) if map.len() as u64 != len => {
            let limit = format!("must be {len} bytes; the file changed while it was opened");
            Err(Error::bad_file(path, "size", format!("{} bytes", map.len()), limit))
        }
        _ => Ok(map),
    }
}
