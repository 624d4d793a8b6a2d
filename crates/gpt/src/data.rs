//! Text to batches: texts are read and split, encoded once into token files, and drawn as rows.
//!
//! Which rows a step takes depends on nothing but the seed and the step, so a resumed run sees the data of an
//! uninterrupted one, and a batch is the same whether it is drawn at once or in microbatches.

mod documents;
mod texts;
mod tokens;
mod windows;

pub use documents::Documents;
pub use texts::{STDIN, TEXT_EXTENSIONS, TRAIN, Text, Texts, VALIDATION};
pub use tokens::{Tokens, write_tokens};
pub use windows::Windows;

use longhand_tensor::random::Philox;
use std::ops::Range;

/// A target that counts in no loss.
pub use longhand_tensor::exec::IGNORE;

/// Rows of tokens with what follows each of them. The buffers are reused: once warm, filling allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows one after the other, without padding: Σ lens ids.
    pub tokens: Vec<u32>,
    /// For each token the id that follows it, or [`IGNORE`].
    pub targets: Vec<u32>,
    /// The length of each row.
    pub lens: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.targets.clear();
        self.lens.clear();
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.lens.len()
    }

    /// The number of targets that count.
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|&&t| t != IGNORE).count()
    }

    /// Adds a row of a sequence: its tokens but the last, each with the next as its target.
    pub(crate) fn push_sequence(&mut self, sequence: &[u32]) {
        if let Some((_, tokens)) = sequence.split_last() {
            self.tokens.extend_from_slice(tokens);
            self.targets.extend_from_slice(&sequence[1..]);
            self.lens.push(tokens.len());
        }
    }
}

/// 0..n in an order that `draws` gives: Fisher and Yates's shuffle. Keeps the memory of `order`.
pub(crate) fn shuffle(n: usize, draws: &Philox, order: &mut Vec<u32>) {
    order.clear();
    order.extend(0..n as u32);
    for last in (1..n).rev() {
        order.swap(last, draws.below(last as u64, last as u32 + 1) as usize);
    }
}

/// Rows to train on and rows to evaluate on.
pub trait Rows {
    /// Fills `batch` with rows `rows` of the `rows_per_step` rows that `step` trains on.
    ///
    /// A row depends on the seed, the step and its number alone: 0..8 holds the same rows as 0..4 and 4..8.
    fn draw(&mut self, step: u64, rows_per_step: usize, rows: Range<usize>, batch: &mut Batch);

    /// The number of rows that hold every target once, for evaluation.
    fn rows(&self) -> usize;

    /// Fills `batch` with rows `rows` (clipped to [`Rows::rows`]) in their order.
    fn in_order(&mut self, rows: Range<usize>, batch: &mut Batch);

    /// The most tokens that a row has.
    fn longest_row(&self) -> usize;
}
