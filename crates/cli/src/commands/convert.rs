//! `longhand convert`: any model that can be read, as a Hugging Face folder.

use crate::args::{ConvertArgs, access};
use crate::commands::{model_folder, note_skipped};
use crate::failure::Failure;
use crate::progress::{note, print_line};
use longhand_gpt::hugging_face;
use longhand_gpt::safetensors_io::Dtype;
use longhand_gpt::snapshot;
use longhand_gpt::tokenizer::Tokenizer;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    // Whole or not at all: written beside it, then moved.
    let mut beside = args.out.clone().into_os_string();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| Failure::new(format!("{path}: {e}"))
    };
    check_out(&beside)?;
    fs::create_dir_all(&beside).map_err(at(&beside))?;
    let saved = hugging_face::save(&beside, &body.model, &body.params, tokenizer.as_ref(), dtype)
        .map_err(Failure::from)
        .and_then(|()| match fs::remove_dir(&args.out) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&args.out)(e)),
            _ => fs::rename(&beside, &args.out).map_err(at(&args.out)),
        });
    if saved.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    saved?;
    print_line(&args.out.display().to_string());
    Ok(0)
}

/// Nothing that is there may be lost.
fn check_out(out: &Path) -> Result<(), Failure> {
    let filled = match fs::read_dir(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Failure::new(format!("{}: {e}", out.display()))),
        Ok(mut entries) => entries.next().is_some(),
    };
    if filled {
        return Err(Failure::new(format!("{}: is not empty; give a folder that does not exist", out.display())));
    }
    Ok(())
}
