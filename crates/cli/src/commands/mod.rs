//! One file a command; and the run that a command means where none is named.

pub mod bench;
pub mod convert;
pub mod demo;
pub mod doctor;
pub mod eval;
pub mod evaluate;
pub mod finetune;
pub mod generate;
pub mod gradcheck;
pub mod inspect;
pub mod predict;
pub mod roofline;
pub mod score;
pub mod train;

use crate::failure::Failure;
use crate::machine::{available_memory, human_bytes};
use crate::pool::Workers;
use crate::progress::note;
use longhand_gpt::config::Config;
use longhand_gpt::error::Error;
use longhand_gpt::finetune::tuned::is_tuned;
use longhand_gpt::run_dir::{self, Existing, RUNS, RunDir};
use longhand_gpt::tokenizer::Tokenizer;
use longhand_tensor::matmul::WeightType;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest text file read whole into memory: far beyond every context, and hours of evaluation.
const MOST_TEXT: u64 = 1 << 30;

/// The newest run of a pre-trained model, or of a net `tuned` for a task; says what is done with it.
///
/// # Errors
/// No such run.
fn newest_run(tuned: bool, done: &str) -> Result<PathBuf, Failure> {
    let problem = if tuned {
        "no run here is of a net tuned for a task: longhand finetune makes one"
    } else {
        "no run here has a checkpoint; train one first"
    };
    let newest = run_dir::newest_of(RUNS, |checkpoint| is_tuned(checkpoint) == tuned, problem)?;
    note(&format!("{done} {}, the newest run", newest.display()));
    Ok(newest)
}

/// The folder that was named, or the newest run of a pre-trained model.
///
/// # Errors
/// No such run.
fn model_folder(named: &Option<PathBuf>) -> Result<PathBuf, Failure> {
    named.clone().map_or_else(|| newest_run(false, "using"), Ok)
}

/// A whole text file of at most `most` bytes, without the byte order mark that it may begin with: positions in it count from
/// behind the mark, as in texts for training.
///
/// # Errors
/// One line naming the file and what is wrong with it.
fn read_text(path: &Path, most: u64) -> Result<String, Failure> {
    let at = |problem: String| Failure::new(format!("{}: {problem}", path.display()));
    let meta = fs::metadata(path).map_err(|e| at(e.to_string()))?;
    if !meta.is_file() {
        return Err(at("is a folder, a pipe or a device; give a file".into()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|e| at(e.to_string()))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| at(e.to_string()))?;
    if bytes.len() as u64 > most {
        let (has, limit) = (human_bytes(meta.len()), human_bytes(most));
        return Err(at(format!("has {has}, and must have at most {limit}")));
    }
    let mut text =
        String::from_utf8(bytes).map_err(|e| at(format!("is not UTF-8: byte {}", e.utf8_error().valid_up_to())))?;
    if text.starts_with('\u{FEFF}') {
        text.drain(..'\u{FEFF}'.len_utf8());
    }
    Ok(text)
}

/// Refuses more sequences than fit the memory, with `positions` tokens each and three rows of logits.
///
/// # Errors
/// How much they need, and how much there is.
fn check_sequences(config: &Config, sequences: usize, positions: usize) -> Result<(), Failure> {
    let product = |sizes: &[usize]| sizes.iter().fold(1u64, |n, &x| n.saturating_mul(x as u64));
    let cache = product(&[config.n_layer, 2, config.n_embd, positions, size_of::<f32>(), sequences]);
    let needed = cache.saturating_add(product(&[3, config.vocab_size, size_of::<f32>(), sequences]));
    check_memory(format!("generating {sequences} sequences of up to {positions} tokens"), needed)
}

/// Refuses what needs more memory than there is, where the system says how much that is.
///
/// # Errors
/// `Memory`.
fn check_memory(what: String, needed: u64) -> Result<(), Failure> {
    match available_memory() {
        Some(available) if needed > available => Err(Error::Memory { what, needed, available }.into()),
        _ => Ok(()),
    }
}

/// The weights' type of that name, which the command line has checked.
fn weight_type(name: &str) -> WeightType {
    if name == "bf16" { WeightType::Bf16 } else { WeightType::F32 }
}

/// Refuses to overwrite the folder that holds `model`, with which a run is to begin.
///
/// # Errors
/// As said.
fn check_overwritten(out_dir: Option<&Path>, overwrite: bool, model: &Path) -> Result<(), Failure> {
    let whole = |path: &Path| path.canonicalize().ok();
    match out_dir.filter(|_| overwrite) {
        Some(path) if whole(path).zip(whole(model)).is_some_and(|(folder, model)| model.starts_with(folder)) => {
            let problem = "holds the model that is to be tuned: choose another folder";
            Err(Failure::usage(format!("--overwrite: {} {problem}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Fills the folder of a new run: `out_dir`, or one of that name in runs/. A folder that was not there before goes away
/// when filling it fails.
///
/// # Errors
/// A folder that is there and is not to be overwritten; what `fill` says.
fn in_new_folder<T>(
    out_dir: Option<&Path>,
    overwrite: bool,
    name: &str,
    fill: impl FnOnce(RunDir) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (dir, created) = match out_dir {
        Some(path) => {
            let existed = path.exists();
            let existing = if overwrite { Existing::Overwrite } else { Existing::Refuse };
            (RunDir::named(path, existing)?, !existed)
        }
        None => (RunDir::fresh(RUNS, name)?, true),
    };
    let folder = dir.path().to_path_buf();
    let filled = fill(dir);
    if filled.is_err() && created {
        let _ = fs::remove_dir_all(&folder);
    }
    filled
}

/// A path as a run keeps it.
fn whole_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// A path to compare with one that a run has kept, also when nothing is there any more: then the folder around it, and
/// its name.
fn kept_path(path: &Path) -> PathBuf {
    let whole = path.canonicalize().or_else(|gone| match (path.parent(), path.file_name()) {
        (Some(around), Some(name)) => {
            let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
            Ok(around.canonicalize()?.join(name))
        }
        _ => Err(gone),
    });
    whole.or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
}

/// Has `workers` multiply bf16 where `--activations` asks for it.
///
/// # Errors
/// Weights of which none are bf16, or a CPU that does not.
fn set_activations(workers: &mut Workers, activations: &str, weights: &[String]) -> Result<(), Failure> {
    if activations != "bf16" {
        return Ok(());
    }
    if !weights.iter().any(|kind| kind == "bf16") {
        return Err(Failure::usage("activations = bf16: needs --weights bf16"));
    }
    let isa = workers.ctx.isa();
    if !isa.dots_bf16() {
        return Err(Failure::usage(format!("activations = bf16: {isa} has no products of bf16 on this CPU")));
    }
    workers.ctx = workers.ctx.clone().with_bf16_activations(true);
    Ok(())
}

/// Says what of a folder was not used, and why.
fn note_skipped(skipped: &[String]) {
    for skipped in skipped {
        note(&format!("not used: {skipped}"));
    }
}

/// A token's bytes as text, quoted; its number where the tokenizer has none such.
fn quoted_token(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.token_bytes(id).map_or(id.to_string(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)))
}
