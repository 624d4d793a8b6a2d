//! manifest.json: what a checkpoint is, and the size and checksum of each of its files and of itself.

use super::{ALGORITHM, CONFIG, MANIFEST, MODEL, OPTIMIZER, Part, TRAINER};
use crate::error::{Error, Result, shortened};
use crate::hash::Hasher;
use crate::json;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// manifest.json's text: the object with the checksum of itself. Its keys are in ascending order, so that every
/// build writes the same text for the same manifest and reads what every other one wrote.
pub(super) fn sealed(manifest: Value) -> String {
    let mut manifest = json::sorted(manifest);
    let mut hash = Hasher::new();
    hash.bytes(manifest.to_string().as_bytes());
    manifest["checksum"] = format!("{:016x}", hash.finish()).into();
    format!("{:#}\n", json::sorted(manifest))
}

/// What a checkpoint's manifest says.
pub(super) struct Manifest {
    pub(super) step: u64,
    pub(super) seed: u64,
    /// `Isa::fused`: the rounding class.
    pub(super) fused: bool,
    /// Name, size in bytes, checksum.
    pub(super) files: Vec<(String, u64, String)>,
}

impl Manifest {
    /// Reads and checks manifest.json; the files that it names are not looked at.
    pub(super) fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(MANIFEST);
        let text = crate::fs::read_limited(&path, 1 << 20)?;
        let manifest = json::parse(&text, &path)?;
        let mut unsealed = manifest.clone();
        if let Some(object) = unsealed.as_object_mut() {
            object.remove("checksum");
        }
        let bad =
            |field: &str, limit: &str| Error::bad_file(&path, field, json::shown(json::get(&manifest, field)), limit);
        if json::get(&manifest, "format") != "longhand-checkpoint" {
            return Err(bad("format", "is not the manifest of a checkpoint"));
        }
        if json::get(&manifest, "version") != 1 {
            return Err(bad("version", "must be 1"));
        }
        // Comparing whole texts finds even a changed blank.
        if sealed(unsealed).as_bytes() != text {
            return Err(bad("checksum", "does not fit the manifest: it was changed after it was written"));
        }
        if json::get(&manifest, "checksum_algorithm") != ALGORITHM {
            return Err(bad("checksum_algorithm", &format!("must be {ALGORITHM}")));
        }
        if json::get(&manifest, "arithmetic") != "f32" {
            return Err(bad("arithmetic", "must be f32"));
        }
        let number =
            |field: &str| json::get(&manifest, field).as_u64().ok_or_else(|| bad(field, "must be a whole number"));
        let (step, seed) = (number("step")?, number("seed")?);
        let fused = match json::get(&manifest, "rounding_class").as_str() {
            Some("F") => true,
            Some("U") => false,
            _ => return Err(bad("rounding_class", "must be F or U")),
        };
        let Some(files) = json::get(&manifest, "files").as_object() else {
            return Err(bad("files", "must be an object"));
        };
        for name in [MODEL, OPTIMIZER, CONFIG, TRAINER] {
            if !files.contains_key(name) {
                return Err(bad("files", &format!("must have {name}")));
            }
        }
        let mut checked = Vec::with_capacity(files.len());
        for (name, entry) in files {
            if name.contains(['/', '\\']) || name == ".." {
                return Err(Error::bad_file(&path, "files", name, "must be a plain name"));
            }
            let field = |field: &str| format!("files, {}, {field}", shortened(name));
            let (size, sum) = (json::get(entry, "size"), json::get(entry, "checksum"));
            let Some(size) = size.as_u64() else {
                return Err(Error::bad_file(&path, field("size"), json::shown(size), "must be a whole number"));
            };
            let Some(sum) = sum.as_str() else {
                return Err(Error::bad_file(&path, field("checksum"), json::shown(sum), "must be a text"));
            };
            checked.push((name.clone(), size, sum.to_string()));
        }
        Ok(Manifest { step, seed, fused, files: checked })
    }
}

/// Checks that a file has the manifest's size, before anything of it is read.
pub(super) fn check_size(file: &Path, size: u64) -> Result<()> {
    let found = crate::fs::regular_file_len(file)?;
    if found == size {
        return Ok(());
    }
    Err(Error::bad_file(file, "size", format!("{found} bytes"), format!("must be {size} as in {MANIFEST}")))
}

/// Checks that a file's bytes have the manifest's checksum.
pub(super) fn check_sum(file: &Path, hash: &Hasher, sum: &str) -> Result<()> {
    let found = format!("{:016x}", hash.finish());
    if found == sum {
        return Ok(());
    }
    Err(Error::bad_file(file, "checksum", found, format!("must be {} as in {MANIFEST}", shortened(sum))))
}

/// Checks that every file of `part` of a checkpoint is there and has its checksum. Files are read in pieces and none is
/// kept. Returns the step.
///
/// # Errors
/// As [`super::load`], without a look at what the files hold.
pub fn check(folder: impl AsRef<Path>, part: Part) -> Result<u64> {
    let folder = folder.as_ref();
    let manifest = Manifest::read(folder)?;
    for (name, size, sum) in manifest.files {
        if part == Part::Model && name == OPTIMIZER {
            continue;
        }
        let file = folder.join(name);
        check_size(&file, size)?;
        let mut summing = Summing::new(io::sink());
        File::open(&file).and_then(|mut f| io::copy(&mut f, &mut summing)).map_err(Error::io(&file))?;
        check_sum(&file, &summing.hash, &sum)?;
    }
    Ok(manifest.step)
}

/// Sums what is written through it.
pub(super) struct Summing<W> {
    pub(super) out: W,
    pub(super) hash: Hasher,
    pub(super) size: u64,
}

impl<W: Write> Summing<W> {
    pub(super) fn new(out: W) -> Summing<W> {
        Summing { out, hash: Hasher::new(), size: 0 }
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.bytes(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
