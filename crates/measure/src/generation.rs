//! A model that reads prompts and writes tokens: how long either takes, and the bytes that a token cannot do without.

use crate::cases::ids;
use longhand_gpt::error::Result;
use longhand_gpt::generate::Session;
use longhand_gpt::model::Gpt;
use longhand_gpt::sampling::greedy;
use longhand_tensor::Ctx;
use longhand_tensor::exec::{PackedParams, Weights};
use std::time::Instant;

/// Tokens of the prompt that a text is generated from: what `torch_gpt2.py` gives PyTorch.
pub const PROMPT: usize = 16;

/// One sequence over packed weights.
pub struct Generation<'a> {
    session: Session<'a>,
    vocab: usize,
}

impl<'a> Generation<'a> {
    /// # Errors
    /// Out of memory.
    pub fn new(ctx: &Ctx, model: &'a Gpt, weights: &'a PackedParams) -> Result<Self> {
        let session = Session::new(ctx, model, Weights::Packed(weights), 1)?;
        Ok(Generation { session, vocab: model.config().vocab_size })
    }

    /// Seconds to read a prompt of `tokens` random ids, up to the logits of the last.
    ///
    /// # Errors
    /// More than the context holds.
    pub fn prefill(&mut self, tokens: usize) -> Result<f64> {
        let prompt = ids(tokens, self.vocab);
        self.session.truncate(0, 0)?;
        let began = Instant::now();
        self.session.feed(&[(0, &prompt)])?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds to write `tokens` greedily behind a prompt of [`PROMPT`], which is read in that time.
    ///
    /// # Errors
    /// More than the context holds.
    pub fn generate(&mut self, tokens: usize) -> Result<f64> {
        let prompt = ids(PROMPT, self.vocab);
        self.session.truncate(0, 0)?;
        let began = Instant::now();
        let mut next = greedy(self.session.feed(&[(0, &prompt)])?).unwrap_or(0);
        for _ in 1..tokens {
            next = greedy(self.session.feed(&[(0, &[next])])?).unwrap_or(0);
        }
        Ok(began.elapsed().as_secs_f64())
    }
}
