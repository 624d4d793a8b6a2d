//! One file a command; and the run that a command means where none is named.

pub mod bench;
pub mod demo;
pub mod doctor;
pub mod evaluate;
pub mod finetune;
pub mod generate;
pub mod gradcheck;
pub mod predict;
pub mod roofline;
pub mod train;

use crate::failure::Failure;
use crate::progress::note;
use longhand_gpt::finetune::tuned::is_tuned;
use longhand_gpt::run_dir::{self, RUNS};
use std::path::PathBuf;

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
