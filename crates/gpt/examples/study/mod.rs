//! What the studies of fine-tuning share.
//!
//! ```text
//! settings    the command line: two folders, and names with values
//! journal     results that are written as they come, and not computed again
//! corpus      texts as a net reads them
//! sentences   the phrases of some sentences held out
//! body        pre-training, once
//! tuning      a rate chosen on fifths of the labels, then all labels
//! figures     means, intervals, tables
//! ```

pub mod body;
pub mod corpus;
pub mod figures;
pub mod journal;
pub mod sentences;
pub mod settings;
pub mod tuning;

use longhand_tensor::Ctx;
use std::error::Error;

/// What a study says of its results, or why there are none.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Runs `work` in a pool of `threads`, and ends the process with one line where it fails.
pub fn main(threads: usize, work: impl FnOnce(Ctx) -> Outcome<()> + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let done = match pool {
        Ok(pool) => pool.install(|| Ctx::from_env().map_err(Into::into).and_then(|c| work(c.with_threads(threads)))),
        Err(e) => Err(e.into()),
    };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
