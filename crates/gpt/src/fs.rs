//! Files written so that a reader finds the old one or the new one, and files read up to a limit.

use crate::error::{Error, Result, bytes};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Writes a file whole or not at all: into `NAME.tmp` beside it, flushed to the disk, then renamed over it.
pub fn write_atomic(path: &Path, contents: &[u8]) -> Result<()> {
    write_streamed(path, |out| out.write_all(contents))
}

/// As [`write_atomic`], for contents that `body` writes.
pub(crate) fn write_streamed(path: &Path, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let tmp = tmp_of(path);
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&tmp)?);
        body(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        fs::rename(&tmp, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&tmp);
    }
    written.map_err(Error::io(path))?;
    sync_folder(path.parent().unwrap_or(Path::new("")))
}

/// `NAME.tmp` beside a file: where its contents are until they are whole.
pub(crate) fn tmp_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Flushes a folder's entries to the disk, so that a rename in it survives a crash.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Only Unix opens folders as files; elsewhere the system orders its own metadata.
    if cfg!(unix) { File::open(path).and_then(|f| f.sync_all()).map_err(Error::io(path)) } else { Ok(()) }
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// `Io`, or `BadFile` for a folder, a pipe, a device, or a larger file.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let len = regular_file_len(path)?;
    if len > limit {
        return Err(Error::bad_file(path, "size", bytes(len), format!("must be at most {}", bytes(limit))));
    }
    let mut contents = Vec::with_capacity(len as usize);
    File::open(path).and_then(|f| f.take(limit).read_to_end(&mut contents)).map_err(Error::io(path))?;
    Ok(contents)
}

/// The size of a regular file; it is looked at before it is opened, because opening a pipe would wait for a writer.
pub(crate) fn regular_file_len(path: &Path) -> Result<u64> {
    let meta = fs::metadata(path).map_err(Error::io(path))?;
    if meta.is_file() {
        return Ok(meta.len());
    }
    let what = if meta.is_dir() { "a folder" } else { "a pipe or a device" };
    Err(Error::bad_file(path, "kind", what, "must be a regular file"))
}

/// What a file is by its first bytes, if it is what is often found in place of a model's: to be asked once it cannot be
/// read as what it should be.
pub(crate) fn stranger(file: &[u8]) -> Option<&'static str> {
    let start = file.trim_ascii_start();
    let page = |tag: &str| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag.as_bytes()));
    match file {
        [0xEF, 0xBB, 0xBF, ..] => Some("begins with a byte order mark: must be UTF-8 without one"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Some("is UTF-16: must be UTF-8"),
        [b'P', b'K', 3, 4, ..] => Some("is a zip archive, as pickled weights are"),
        _ if file.starts_with(b"version https://git-lfs") => {
            Some("is a git-lfs pointer, not the file itself: `git lfs pull` fetches it")
        }
        _ if page("<!doctype html") || page("<html") => Some("is a web page, not the file itself"),
        _ => None,
    }
}

/// A folder of a test's own, removed at its end.
#[cfg(test)]
pub(crate) struct TestDir(PathBuf);

#[cfg(test)]
impl TestDir {
    pub(crate) fn new(name: &str) -> TestDir {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("longhand-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        TestDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }
}

#[cfg(test)]
impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = TestDir::new("fs");
        let path = dir.write("a/x.json", "old");
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder in the way of the temporary file.
        fs::create_dir(dir.path().join("a/x.json.tmp")).unwrap();
        assert!(write_atomic(&path, b"newer").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(read_limited(&path, 3).unwrap(), b"new");
        let line = read_limited(&path, 2).unwrap_err().to_string();
        assert!(line.ends_with("x.json: size = 3 bytes: must be at most 2 bytes"), "{line}");
        let line = read_limited(dir.path(), 2).unwrap_err().to_string();
        assert!(line.ends_with("kind = a folder: must be a regular file"), "{line}");
    }
}
