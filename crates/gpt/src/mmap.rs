//! Whole files into memory, and the one place that maps them.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How a file's bytes come into memory. The bytes are the same, and are the caller's own, either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Mapped while they are copied. Whoever shortens the file in that moment ends this process with SIGBUS.
    #[default]
    Map,
    /// Read. Nothing that others do to the file can end this process.
    Read,
}

/// The bytes of a regular file, whose length is the same before and after.
///
/// What is returned belongs to the caller: a file that changes later changes nothing here.
///
/// # Errors
/// `Io`, `Memory`, or `BadFile` for what is no regular file or changes its length meanwhile.
pub(crate) fn read(path: &Path, access: Access) -> Result<Vec<u8>> {
    let len = crate::fs::regular_file_len(path)?;
    let file = File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    let refused = |_| Error::Memory { what: path.display().to_string(), needed: len, available: 0 };
    bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX)).map_err(refused)?;
    match access {
        Access::Read => {
            file.take(len).read_to_end(&mut bytes).map_err(Error::io(path))?;
        }
        Access::Map => {
            // SAFETY: the mapping is read-only, and lives for the one copy below, which asks nothing of the bytes:
            // any values are valid, and they are looked at only in the copy. Another process that writes to the file
            // at this moment may have the copy hold old or new bytes, which is the same as reading beside it; one
            // that shortens it can end this process with SIGBUS, as `Access::Map` says.
            let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
            bytes.extend_from_slice(&map[..map.len().min(bytes.capacity())]);
        }
    }
    let now = crate::fs::regular_file_len(path)?;
    if bytes.len() as u64 == len && now == len {
        return Ok(bytes);
    }
    let limit = format!("was {len} bytes before: the file changed while it was read");
    Err(Error::bad_file(path, "size", format!("{now} bytes"), limit))
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
