//! Checkpoints that survive kill −9, a full disk and a flipped bit.
//!
//! A checkpoint is a folder `step-N` of safetensors and JSON files. It is written as `step-N.tmp`: every file, each
//! flushed, then `manifest.json` with the size and checksum of each, then the folder is flushed, renamed to `step-N`,
//! and its parent flushed. So a folder without `.tmp` is complete, and what the disk does to it later is found by the
//! checksums (see [`crate::hash`]). The last two stay; nothing is removed before its successor is on the disk. A step
//! that is saved again is set aside as `step-N.old` until then; where a crash left it alone, it is the checkpoint.
//!
//! ```text
//! step-200/model.safetensors      weights: also what transformers opens, with config.json beside them
//! step-200/optimizer.safetensors  first and second moments
//! step-200/config.json            the model
//! step-200/trainer.json           whatever the trainer needs to go on
//! step-200/manifest.json          step, seed, arithmetic, rounding class, sizes and checksums, its own checksum
//! ```

mod manifest;

use crate::error::{Error, Result};
use crate::fs::{sync_folder, write_atomic};
use crate::hash::Hasher;
use crate::json;
use crate::mmap::{self, Access};
use crate::safetensors_io::{self, NamedTensor, NonFinite, Tensor};
pub use manifest::check;
use manifest::{Manifest, Summing, check_size, check_sum, sealed};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const CONFIG: &str = "config.json";
const TRAINER: &str = "trainer.json";
const MANIFEST: &str = "manifest.json";
/// manifest.json names the checksum of `hash.rs` so.
const ALGORITHM: &str = "fnv1a-64-words";

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The weights, under the names that transformers uses.
    pub model: &'a [NamedTensor<'a>],
    /// The optimizer's moments.
    pub optimizer: &'a [NamedTensor<'a>],
    /// config.json's object.
    pub config: &'a Value,
    /// The trainer's state: step-dependent things that no tensor holds.
    pub trainer: &'a Value,
    /// The run's seed; every random number of the run follows from it and the step.
    pub seed: u64,
    /// Whether the arithmetic fuses multiply and add (`Isa::fused`): a run goes on bitwise only within its class.
    pub fused: bool,
    /// More files, by plain name: a tokenizer's, for one.
    pub files: &'a [(&'a str, &'a [u8])],
}

/// How much of a checkpoint is read; what is not is not looked at either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything that a run needs to go on.
    Whole,
    /// What a model needs to generate: all but the optimizer's moments, two thirds of the bytes.
    Model,
}

/// A checkpoint, checked and copied into memory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its folder.
    pub path: PathBuf,
    /// The optimizer steps done.
    pub step: u64,
    /// The weights, in the order they were saved.
    pub model: Vec<Tensor>,
    /// The optimizer's moments; none of [`Part::Model`].
    pub optimizer: Vec<Tensor>,
    /// config.json's object.
    pub config: Value,
    /// The trainer's state.
    pub trainer: Value,
    /// The run's seed.
    pub seed: u64,
    /// The rounding class that it was computed in: `Isa::fused`.
    pub fused: bool,
    /// Newer folders that could not be used: their names and why, one line each.
    pub skipped: Vec<String>,
}

/// Saves a checkpoint as `folder/step-N` and removes all older ones but the newest of them. Returns its path.
///
/// A folder that is not there is made, but none around it: that of a run that was moved or removed is not brought back
/// in part. On an error nothing that was there is gone. Cost: the files are written and flushed once.
///
/// # Errors
/// `NonFinite` naming the first tensor with a NaN or an infinite number; `Io`; `BadFile` for an extra file's name.
pub fn save(folder: impl AsRef<Path>, step: u64, contents: &Contents<'_>) -> Result<PathBuf> {
    let folder = folder.as_ref();
    let bad = |t: &&NamedTensor<'_>| t.data.iter().any(|x| !x.is_finite());
    if let Some(t) = contents.model.iter().chain(contents.optimizer).find(bad) {
        return Err(Error::NonFinite { step, batch: 0, tensor: t.name.to_string() });
    }
    match fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => (),
        made => made.map_err(Error::io(folder))?,
    }
    let done = folder.join(format!("step-{step}"));
    let tmp = folder.join(format!("step-{step}.tmp"));
    remove(&tmp)?;
    let saved = write_folder(&tmp, step, contents).and_then(|()| publish(folder, &tmp, &done));
    if saved.is_err() {
        let _ = fs::remove_dir_all(&tmp);
    }
    saved?;
    // The new one is safe; what cannot be removed now is removed after the next.
    let _ = prune(folder, step);
    Ok(done)
}

/// Puts the finished folder in place, on the disk too; one that is there already is set aside until then.
fn publish(folder: &Path, tmp: &Path, done: &Path) -> Result<()> {
    let old = done.with_file_name(format!("{}.old", shown_name(done)));
    if done.exists() {
        remove(&old)?;
        fs::rename(done, &old).map_err(Error::io(done))?;
    }
    fs::rename(tmp, done).map_err(Error::io(done))?;
    sync_folder(folder)?;
    let _ = fs::remove_dir_all(&old);
    Ok(())
}

/// Removes a folder of an earlier attempt, if there is one.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Io { path: path.into(), source: e }),
        _ => Ok(()),
    }
}

fn write_folder(tmp: &Path, step: u64, contents: &Contents<'_>) -> Result<()> {
    fs::create_dir(tmp).map_err(Error::io(tmp))?;
    let mut files = Map::new();
    let mut put = |name: &str, body: &dyn Fn(&mut dyn Write) -> io::Result<()>| -> Result<()> {
        let plain =
            !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != ".." && name != "." && name != MANIFEST;
        if !plain || files.contains_key(name) {
            return Err(Error::bad_file(tmp, "file name", name, "must be a plain name of its own"));
        }
        let path = tmp.join(name);
        let (size, sum) = write_file(&path, body).map_err(Error::io(&path))?;
        files.insert(name.to_string(), json!({"size": size, "checksum": format!("{sum:016x}")}));
        Ok(())
    };
    put(MODEL, &|out| safetensors_io::write(out, contents.model))?;
    put(OPTIMIZER, &|out| safetensors_io::write(out, contents.optimizer))?;
    put(CONFIG, &|out| writeln!(out, "{:#}", contents.config))?;
    put(TRAINER, &|out| writeln!(out, "{:#}", contents.trainer))?;
    for (name, bytes) in contents.files {
        put(name, &|out| out.write_all(bytes))?;
    }
    let manifest = json!({
        "format": "longhand-checkpoint", "version": 1, "step": step, "seed": contents.seed, "arithmetic": "f32",
        "rounding_class": if contents.fused { "F" } else { "U" }, "checksum_algorithm": ALGORITHM, "files": files,
    });
    let path = tmp.join(MANIFEST);
    let text = sealed(manifest);
    write_file(&path, &|out| out.write_all(text.as_bytes())).map_err(Error::io(&path))?;
    sync_folder(tmp)
}

/// Writes and flushes a new file; its size and checksum.
fn write_file(path: &Path, body: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<(u64, u64)> {
    let mut out = Summing::new(BufWriter::with_capacity(1 << 20, File::create_new(path)?));
    body(&mut out)?;
    out.flush()?;
    out.out.get_ref().sync_all()?;
    Ok((out.size, out.hash.finish()))
}

/// Reads one checkpoint folder: manifest, then of every file of `part` the size, the checksum and the contents.
///
/// Memory: what the tensors take and, while it is read, the largest file.
///
/// # Errors
/// `Io`, `Memory`, or `BadFile` naming the file, the field, its value and what it must be.
pub fn load(path: impl AsRef<Path>, part: Part, access: Access) -> Result<Loaded> {
    let folder = path.as_ref();
    let Manifest { step, seed, fused, files } = Manifest::read(folder)?;
    let mut loaded = Loaded {
        path: folder.to_path_buf(),
        step,
        model: Vec::new(),
        optimizer: Vec::new(),
        config: Value::Null,
        trainer: Value::Null,
        seed,
        fused,
        skipped: Vec::new(),
    };
    for (name, size, sum) in &files {
        if part == Part::Model && name == OPTIMIZER {
            continue;
        }
        let file = folder.join(name);
        check_size(&file, *size)?;
        let bytes = mmap::read(&file, access)?;
        let mut hash = Hasher::new();
        hash.bytes(&bytes);
        check_sum(&file, &hash, sum)?;
        match name.as_str() {
            MODEL => loaded.model = safetensors_io::read_bytes(&bytes, &file, NonFinite::Refuse)?,
            OPTIMIZER => loaded.optimizer = safetensors_io::read_bytes(&bytes, &file, NonFinite::Refuse)?,
            CONFIG => loaded.config = json::parse(&bytes, &file)?,
            TRAINER => loaded.trainer = json::parse(&bytes, &file)?,
            _ => (),
        }
    }
    Ok(loaded)
}

/// Reads `part` of the newest checkpoint of a folder of which that part is whole; [`Loaded::skipped`] says which
/// were not, and why.
///
/// # Errors
/// `Checkpoint` when there is none, with the reason for each that was tried; `Io` for the folder itself.
pub fn load_newest(folder: impl AsRef<Path>, part: Part, access: Access) -> Result<Loaded> {
    let read = |path: &Path| load(path, part, access).map(|loaded| (loaded.step, loaded));
    let (loaded, skipped) = newest_that(folder.as_ref(), read)?;
    Ok(Loaded { skipped, ..loaded })
}

/// The folder of the checkpoint that [`load_newest`] would read, and what it would skip: files are read and none is kept.
///
/// # Errors
/// As [`load_newest`].
pub fn find_newest(folder: impl AsRef<Path>, part: Part) -> Result<(PathBuf, Vec<String>)> {
    newest_that(folder.as_ref(), |path| Ok((check(path, part)?, path.to_path_buf())))
}

/// What `read` makes of the newest checkpoint that it can read, which holds the step that it says; and which it could not.
fn newest_that<T>(folder: &Path, read: impl Fn(&Path) -> Result<(u64, T)>) -> Result<(T, Vec<String>)> {
    let mut skipped = Vec::new();
    for found in list(folder)? {
        if found.state == State::Unfinished {
            skipped.push(format!("{}: was never finished", shown_name(&found.path)));
            continue;
        }
        match read(&found.path) {
            Ok((step, read)) if step == found.step => return Ok((read, skipped)),
            Ok((step, _)) => skipped.push(format!("{}: holds step {step}", shown_name(&found.path))),
            Err(e) => skipped.push(e.to_string()),
        }
    }
    let problem = if skipped.is_empty() {
        "no checkpoint here".to_string()
    } else {
        format!("no whole checkpoint here: {}", skipped.join("; "))
    };
    Err(Error::Checkpoint { path: folder.to_path_buf(), problem })
}

/// Whether a folder is a checkpoint's.
pub fn is_checkpoint(path: impl AsRef<Path>) -> bool {
    path.as_ref().join(MANIFEST).exists()
}

/// The steps of a folder's finished checkpoints, the newest first. Contents are looked at only where a crash left a
/// checkpoint set aside and nothing in its place: it counts if it is whole.
///
/// # Errors
/// `Io`.
pub fn steps(folder: impl AsRef<Path>) -> Result<Vec<u64>> {
    Ok(finished(folder.as_ref())?.into_iter().map(|f| f.step).collect())
}

/// The folder of the newest of [`steps`], if there is one.
///
/// # Errors
/// `Io`.
pub fn newest(folder: impl AsRef<Path>) -> Result<Option<PathBuf>> {
    Ok(finished(folder.as_ref())?.into_iter().next().map(|f| f.path))
}

/// The folder of the newest of [`steps`] before `step`, if there is one.
///
/// # Errors
/// `Io`.
pub fn newest_before(folder: impl AsRef<Path>, step: u64) -> Result<Option<PathBuf>> {
    Ok(finished(folder.as_ref())?.into_iter().find(|f| f.step < step).map(|f| f.path))
}

/// The checkpoints of [`steps`], one a step.
fn finished(folder: &Path) -> Result<Vec<Found>> {
    let mut all: Vec<Found> = Vec::new();
    for found in list(folder)? {
        let counts = match found.state {
            State::Finished => true,
            State::Old => all.last().is_none_or(|f| f.step != found.step) && check(&found.path, Part::Whole).is_ok(),
            State::Unfinished => false,
        };
        if counts {
            all.push(found);
        }
    }
    Ok(all)
}

fn shown_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// `step-N`.
    Finished,
    /// `step-N.old`: set aside, and its successor not in place.
    Old,
    /// `step-N.tmp`.
    Unfinished,
}

struct Found {
    path: PathBuf,
    step: u64,
    state: State,
}

/// The checkpoints of a folder, the newest first.
fn list(folder: &Path) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = shown_name(&path);
        let Some(rest) = name.strip_prefix("step-") else { continue };
        let (digits, state) = match rest.split_once('.') {
            None => (rest, State::Finished),
            Some((digits, "old")) => (digits, State::Old),
            Some((digits, "tmp")) => (digits, State::Unfinished),
            Some(_) => continue,
        };
        if let Ok(step) = digits.parse::<u64>()
            && step.to_string() == digits
        {
            all.push(Found { path, step, state });
        }
    }
    all.sort_by_key(|f| (std::cmp::Reverse(f.step), f.state));
    Ok(all)
}

/// After step `newest` is in place: keeps it and the newest whole one before it, removes what is older, what was
/// never finished, and what was set aside and has its successor.
fn prune(folder: &Path, newest: u64) -> Result<()> {
    let mut kept = 0;
    for found in list(folder)? {
        let keep = match found.state {
            State::Unfinished => false,
            // One that cannot be read does not count as the one before.
            _ if found.step < newest => kept == 0 && check(&found.path, Part::Whole).is_ok(),
            State::Finished => true,
            State::Old => found.step > newest && check(&found.path, Part::Whole).is_ok(),
        };
        kept += (keep && found.step < newest) as u32;
        if !keep {
            fs::remove_dir_all(&found.path).map_err(Error::io(&found.path))?;
        }
    }
    Ok(())
}

/// Finds out before the first step whether `bytes` (at most 256 MiB are tried) can be written in a folder.
///
/// # Errors
/// `Io` or `Folder` saying why not: no folder, read-only, no space.
pub fn probe(folder: impl AsRef<Path>, bytes: u64) -> Result<()> {
    let folder = folder.as_ref();
    if let Ok(meta) = fs::metadata(folder)
        && !meta.is_dir()
    {
        let problem = if meta.is_file() { "is a file, not a folder" } else { "is a pipe or a device, not a folder" };
        return Err(Error::Folder { path: folder.into(), problem: problem.into() });
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let path = folder.join(format!(".probe-{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&path)?;
        // Zeros are written, not only asked for: a file's length alone takes no space.
        let zeros = vec![0; 1 << 20];
        let mut left = bytes.min(256 << 20);
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            file.write_all(&zeros[..n as usize])?;
            left -= n;
        }
        file.sync_all()
    })();
    let _ = fs::remove_file(&path);
    written.map_err(Error::io(folder))?;
    // Renames must work too.
    let path = folder.join(".probe");
    write_atomic(&path, b"")?;
    fs::remove_file(&path).map_err(Error::io(&path))
}

#[cfg(test)]
mod tests;
