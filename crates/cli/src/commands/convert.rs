//! `longhand convert`: any model that can be read, as a Hugging Face folder.

use crate::args::{ConvertArgs, access};
use crate::commands::{model_folder, note_skipped};
use crate::failure::Failure;
use crate::progress::{note, print_line};
use crate::signals::Interrupt;
use longhand_gpt::hugging_face;
use longhand_gpt::safetensors_io::Dtype;
use longhand_gpt::snapshot;
use longhand_gpt::tokenizer::Tokenizer;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// In the new folder, where its files are until all of them are there. Left behind by a conversion that was killed, it goes
/// when the next one begins.
const UNFINISHED: &str = ".unfinished-conversion";

/// The file that makes a folder a model: the last one to come.
const LAST: &str = "config.json";

/// Converts; the exit status.
pub fn run(args: &ConvertArgs) -> Result<u8, Failure> {
    let dtype = Dtype::from_name(&args.dtype).ok_or_else(|| Failure::usage(format!("--dtype {}", args.dtype)))?;
    check_out(&args.out)?;
    let folder = model_folder(&args.model)?;
    let body = snapshot::open_body(&folder, access(args.no_mmap))?;
    note_skipped(&body.skipped);
    // A folder without a tokenizer gives one without; a tokenizer that cannot be read is an error.
    let tokenizer = Tokenizer::of_folder_if_any(&body.path, body.model.config().arch)?;
    match &tokenizer {
        Some(tokenizer) => snapshot::check_tokenizer(&body.path, body.model.config(), tokenizer)?,
        None => note(&format!("{} has no tokenizer: the new folder has none either", body.path.display())),
    }
    let interrupt = Interrupt::install()?;
    let unfinished = args.out.join(UNFINISHED);
    let whole = |path: &Path| path.canonicalize().ok();
    if whole(&body.path).zip(whole(&unfinished)).is_some_and(|(model, unfinished)| model.starts_with(unfinished)) {
        let problem = "is what an interrupted conversion left, and goes when this one begins: move it away first";
        return Err(Failure::usage(format!("{}: {problem}", body.path.display())));
    }
    let created = !args.out.exists();
    fs::create_dir_all(&args.out).map_err(at(&args.out))?;
    let _lock = lock(&args.out)?;
    // Again, now that nobody else converts into it.
    check_out(&args.out)?;
    if unfinished.symlink_metadata().is_ok() {
        fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    fs::create_dir(&unfinished).map_err(at(&unfinished))?;
    let mut moved = Vec::new();
    let saved = hugging_face::save(&unfinished, &body.model, &body.params, tokenizer.as_ref(), dtype)
        .map_err(Failure::from)
        .and_then(|()| match interrupt.status() {
            Some(_) => Ok(()),
            None => move_up(&unfinished, &args.out, &mut moved),
        });
    let status = interrupt.status().filter(|_| moved.is_empty());
    if saved.is_err() || status.is_some() {
        // Whole or not at all; what makes it a model goes first.
        for name in moved.iter().rev() {
            let _ = fs::remove_file(args.out.join(name));
        }
        let _ = fs::remove_dir_all(&unfinished);
        if created {
            let _ = fs::remove_dir(&args.out);
        }
    }
    saved?;
    if let Some(status) = status {
        note(&format!("stopped: {} is as it was", args.out.display()));
        return Ok(status);
    }
    print_line(&args.out.display().to_string());
    Ok(0)
}

/// Locks the new folder for this process, with which the lock goes. Where a folder cannot be opened, or locked, nothing
/// guards it.
fn lock(out: &Path) -> Result<Option<File>, Failure> {
    let Ok(folder) = File::open(out) else { return Ok(None) };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(format!("{}: is in use by another conversion; choose another folder", out.display())))
        }
        _ => Ok(Some(folder)),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |e| Failure::new(format!("{path}: {e}"))
}

/// Moves the files of folder `from`, which then goes, to `to`, where nothing may be but `from`, and says in `moved` which;
/// `LAST` when all others are there.
fn move_up(from: &Path, to: &Path, moved: &mut Vec<OsString>) -> Result<(), Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(at(from))? {
        names.push(entry.map_err(at(from))?.file_name());
    }
    names.sort_by_key(|name| name == LAST);
    check_out(to)?;
    for name in names {
        fs::rename(from.join(&name), to.join(&name)).map_err(at(&to.join(&name)))?;
        moved.push(name);
    }
    // The model is whole, whatever somebody put there.
    let _ = fs::remove_dir(from);
    Ok(())
}

/// Nothing that is there may be lost.
fn check_out(out: &Path) -> Result<(), Failure> {
    let filled = match fs::read_dir(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Failure::new(format!("{}: {e}", out.display()))),
        Ok(entries) => entries.into_iter().any(|entry| entry.map_or(true, |e| e.file_name() != UNFINISHED)),
    };
    if filled {
        return Err(Failure::new(format!("{}: is not empty; give a folder that does not exist", out.display())));
    }
    Ok(())
}
