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
use std::fs;
use std::io;
use std::path::Path;

/// In the new folder, where its files are until all of them are there. What an interrupted conversion left in it goes
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
    let created = !args.out.exists();
    let unfinished = args.out.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    fs::create_dir_all(&unfinished).map_err(at(&unfinished))?;
    let mut moved = Vec::new();
    let saved = hugging_face::save(&unfinished, &body.model, &body.params, tokenizer.as_ref(), dtype)
        .map_err(Failure::from)
        .and_then(|()| match interrupt.status() {
            Some(_) => Ok(()),
            None => move_up(&unfinished, &args.out, &mut moved),
        });
    let status = interrupt.status().filter(|_| moved.is_empty());
    if saved.is_err() || status.is_some() {
        // Whole or not at all.
        for name in moved {
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

fn at(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |e| Failure::new(format!("{path}: {e}"))
}

/// Moves the files of folder `from`, which then goes, to `to`, and says in `moved` which; `LAST` when all others are there.
fn move_up(from: &Path, to: &Path, moved: &mut Vec<OsString>) -> Result<(), Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(at(from))? {
        names.push(entry.map_err(at(from))?.file_name());
    }
    names.sort_by_key(|name| name == LAST);
    for name in names {
        fs::rename(from.join(&name), to.join(&name)).map_err(at(&to.join(&name)))?;
        moved.push(name);
    }
    fs::remove_dir(from).map_err(at(from))
}

/// Nothing that is there may be lost.
fn check_out(out: &Path) -> Result<(), Failure> {
    let filled = match fs::read_dir(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Failure::new(format!("{}: {e}", out.display()))),
        Ok(entries) => entries.flatten().any(|entry| entry.file_name() != UNFINISHED),
    };
    if filled {
        return Err(Failure::new(format!("{}: is not empty; give a folder that does not exist", out.display())));
    }
    Ok(())
}
