//! Windows of a long text: anywhere to train, side by side to evaluate.

use super::{Batch, Rows, Tokens};
use crate::error::{Error, Result};
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::ops::Range;

/// Rows cut from one sequence of tokens.
#[derive(Debug)]
pub struct Windows {
    tokens: Tokens,
    /// Tokens of a row; a window has one more, the last target.
    block: usize,
    seed: u64,
    window: Vec<u32>,
}

impl Windows {
    /// Windows of `block_size` tokens and their targets; which ones a step draws follows from `seed`.
    ///
    /// # Errors
    /// `Data` when there are fewer than `block_size` + 1 tokens.
    pub fn new(tokens: Tokens, block_size: usize, seed: u64) -> Result<Windows> {
        Windows::checked(tokens, block_size, seed, block_size.saturating_add(1))
    }

    /// Windows to evaluate on: the last one, or the only one, may be shorter than `block_size`.
    ///
    /// # Errors
    /// `Data` when there are fewer than two tokens.
    pub fn for_evaluation(tokens: Tokens, block_size: usize) -> Result<Windows> {
        Windows::checked(tokens, block_size, 0, 2)
    }

    fn checked(tokens: Tokens, block_size: usize, seed: u64, least: usize) -> Result<Windows> {
        if block_size == 0 {
            return Err(Error::config("block_size", 0, "must be at least 1"));
        }
        if tokens.len() < least {
            let problem = format!(
                "{} tokens are too few: a block size of {block_size} needs at least {least}; \
                 give more text or a smaller block size",
                tokens.len()
            );
            return Err(Error::Data { path: tokens.path().to_path_buf(), byte: None, problem });
        }
        let block = block_size.min(tokens.len() - 1);
        Ok(Windows { tokens, block, seed, window: Vec::with_capacity(block + 1) })
    }

    /// The tokens that the windows are cut from.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn push(&mut self, start: usize, len: usize, batch: &mut Batch) {
        self.window.resize(len, 0);
        self.tokens.copy_to(start, &mut self.window);
        batch.push_sequence(&self.window);
    }
}

impl Rows for Windows {
    fn draw(&mut self, step: u64, _rows_per_step: usize, rows: Range<usize>, batch: &mut Batch) {
        batch.clear();
        // The 64-bit step is split over the site's stream and the element, whose low half is the row.
        let draws = Philox::new(self.seed, Site::new(0, SiteKind::Shuffle), step as u32);
        let starts = (self.tokens.len() - self.block) as u64;
        for row in rows {
            let b = draws.block((step >> 32) << 32 | row as u64);
            let x = (b[0] as u64) << 32 | b[1] as u64;
            let start = ((x as u128 * starts as u128) >> 64) as usize;
            self.push(start, self.block + 1, batch);
        }
    }

    fn rows(&self) -> usize {
        (self.tokens.len() - 1).div_ceil(self.block)
    }

    fn in_order(&mut self, rows: Range<usize>, batch: &mut Batch) {
        batch.clear();
        for row in rows.start..rows.end.min(self.rows()) {
            let start = row * self.block;
            let len = (self.block + 1).min(self.tokens.len() - start);
            self.push(start, len, batch);
        }
    }

    fn longest_row(&self) -> usize {
        self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(n: u32, block: usize) -> Windows {
        Windows::new(Tokens::from_ids((0..n).collect()), block, 7).unwrap()
    }

    #[test]
    fn drawn_windows_depend_on_seed_step_and_row_alone() {
        let mut w = windows(1000, 8);
        let (mut all, mut part) = (Batch::new(), Batch::new());
        w.draw(5, 8, 0..8, &mut all);
        assert_eq!((all.rows(), all.tokens.len(), all.counted()), (8, 64, 64));
        assert!(all.tokens.iter().zip(&all.targets).all(|(t, next)| t + 1 == *next));
        for half in 0..2 {
            windows(1000, 8).draw(5, 8, half * 4..half * 4 + 4, &mut part);
            assert_eq!(part.tokens, all.tokens[half * 32..][..32]);
        }
        w.draw(6, 8, 0..8, &mut part);
        assert_ne!(part, all);
        w.draw(5 | 1 << 32, 8, 0..8, &mut part);
        assert_ne!(part, all);
        w.draw(5, 8, 0..8, &mut part);
        assert_eq!(part, all);
    }

    #[test]
    fn every_window_is_drawn_and_none_beyond_the_end() {
        let mut w = windows(12, 4);
        let mut seen = [0; 8];
        let mut batch = Batch::new();
        for step in 0..200 {
            w.draw(step, 4, 0..4, &mut batch);
            for row in 0..4 {
                seen[batch.tokens[row * 4] as usize] += 1;
                assert!(batch.targets[row * 4 + 3] < 12);
            }
        }
        assert!(seen.iter().all(|&n| n > 50), "{seen:?}");
    }

    #[test]
    fn evaluation_has_every_target_once() {
        for n in 2..40 {
            for block in 1..12 {
                let mut w = Windows::for_evaluation(Tokens::from_ids((0..n).collect()), block).unwrap();
                let mut batch = Batch::new();
                let mut targets = Vec::new();
                for row in (0..w.rows()).step_by(3) {
                    w.in_order(row..row + 3, &mut batch);
                    assert_eq!(batch.lens.iter().sum::<usize>(), batch.tokens.len());
                    targets.extend_from_slice(&batch.targets);
                }
                assert_eq!(targets, (1..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn too_few_tokens_are_refused() {
        let line = Windows::new(Tokens::from_ids(vec![1; 8]), 8, 0).unwrap_err().to_string();
        assert_eq!(
            line,
            "<tokens>: 8 tokens are too few: a block size of 8 needs at least 9; give more text or a smaller block size"
        );
        assert!(Windows::new(Tokens::from_ids(vec![1; 9]), 8, 0).is_ok());
        assert!(Windows::for_evaluation(Tokens::from_ids(vec![1]), 8).is_err());
        assert!(Windows::for_evaluation(Tokens::from_ids(vec![1, 2]), 0).is_err());
    }

    #[test]
    fn warm_batches_keep_their_buffers() {
        let mut w = windows(100, 8);
        let mut batch = Batch::new();
        w.draw(0, 4, 0..4, &mut batch);
        let (tokens, targets, lens) = (batch.tokens.as_ptr(), batch.targets.as_ptr(), batch.lens.as_ptr());
        for step in 1..50 {
            w.draw(step, 4, 0..4, &mut batch);
        }
        assert_eq!((tokens, targets, lens), (batch.tokens.as_ptr(), batch.targets.as_ptr(), batch.lens.as_ptr()));
    }
}
