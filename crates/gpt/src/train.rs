//! The training step, without any policy of input or output: batches come in, reports go out.
//!
//! One optimiser step reads one or more microbatches. The loss is the mean over the counted tokens of *all* of
//! them, so 1 × 8 rows and 4 × 2 rows are the same step, however many targets are ignored in each.

use crate::data::Batch as Rows;
use crate::error::{Error, Result};
use crate::learner::Learner;
use crate::model::Gpt;
use crate::optim::OptimOptions;
use longhand_tensor::Ctx;
use longhand_tensor::exec::{Batch, IGNORE};
use longhand_tensor::kernels;
use longhand_tensor::parallel;
use longhand_tensor::params::Params;

/// What one optimiser step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step, counted from 0.
    pub step: u64,
    /// Mean loss before the update, nats a token.
    pub loss: f64,
    /// Tokens that counted.
    pub tokens: u64,
    /// The gradient's norm before clipping.
    pub grad_norm: f64,
    /// The rate of the update.
    pub lr: f32,
}

/// A sum of losses and the tokens it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Nats.
    pub nats: f64,
    /// Tokens.
    pub tokens: u64,
}

impl LossSum {
    /// Nats a token; NaN without tokens.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    fn add(&mut self, losses: &[f32], targets: &[u32]) {
        for (loss, target) in losses.iter().zip(targets) {
            if *target != IGNORE {
                self.nats += *loss as f64;
                self.tokens += 1;
            }
        }
    }
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    model: Gpt,
    learner: Learner,
    options: OptimOptions,
    batch: Batch,
    losses: Vec<f32>,
}

impl Trainer {
    /// Fresh weights from `seed`.
    /// # Errors
    /// Options out of range, or out of memory.
    pub fn new(ctx: Ctx, model: Gpt, options: OptimOptions, seed: u64) -> Result<Self> {
        let params = model.init(seed)?;
        Trainer::with_params(ctx, model, params, options, seed)
    }

    /// Given weights, whose layout is the model's; moments start at 0.
    /// # Errors
    /// Options out of range, or out of memory.
    pub fn with_params(ctx: Ctx, model: Gpt, params: Params, options: OptimOptions, seed: u64) -> Result<Self> {
        options.validate()?;
        let learner = Learner::new(ctx, params, seed)?;
        Ok(Trainer { model, learner, options, batch: Batch::default(), losses: Vec::new() })
    }

    /// The model.
    pub fn model(&self) -> &Gpt {
        &self.model
    }
    /// Weights, gradients and moments.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }
    /// Weights and moments, to be overwritten by a checkpoint's.
    pub fn learner_mut(&mut self) -> &mut Learner {
        &mut self.learner
    }
    /// The weights.
    pub fn params(&self) -> &Params {
        self.learner.params()
    }
    /// Optimiser steps done.
    pub fn steps_done(&self) -> u64 {
        self.learner.steps_done()
    }

    /// Gradients of the mean loss over all counted tokens of `microbatches`, without an update.
    /// # Errors
    /// Rows whose lengths are not those of the tokens and targets; ids out of range; a loss that is not finite (naming the
    /// microbatch and the first bad tensor).
    pub fn gradients(&mut self, microbatches: &[Rows]) -> Result<LossSum> {
        self.awake(|t| t.sum_gradients(microbatches))
    }

    /// Runs `work` with the pool's threads awake.
    fn awake<R: Send>(&mut self, work: impl FnOnce(&mut Self) -> R + Send) -> R {
        let ctx = self.learner.ctx().clone();
        parallel::enter(&ctx, || work(self))
    }

    fn sum_gradients(&mut self, microbatches: &[Rows]) -> Result<LossSum> {
        let tokens: u64 = microbatches.iter().map(|rows| rows.counted() as u64).sum();
        if tokens == 0 {
            return Err(Error::config("batch", "no targets", "at least one token to predict"));
        }
        let scale = (1.0 / tokens as f64) as f32;
        let (mut sum, n) = (LossSum::default(), microbatches.len() as u64);
        self.learner.begin_step();
        for (i, rows) in microbatches.iter().enumerate() {
            fill(&mut self.batch, rows)?;
            self.losses.resize(rows.targets.len(), 0.0);
            let (model, losses) = (&self.model, &mut self.losses);
            self.learner.pass((i as u64, n), &self.batch, |tape| model.losses(tape, &rows.targets, scale, losses))?;
            sum.add(&self.losses, &rows.targets);
            if !sum.nats.is_finite() {
                return Err(self.learner.not_finite(i as u64));
            }
        }
        Ok(sum)
    }

    /// One optimiser step. Allocates nothing once its largest batch has been seen, but for rayon's list of its threads.
    /// # Errors
    /// As `gradients`; nothing is updated then.
    pub fn step(&mut self, microbatches: &[Rows]) -> Result<StepReport> {
        self.awake(|t| t.update(microbatches))
    }

    fn update(&mut self, microbatches: &[Rows]) -> Result<StepReport> {
        let sum = self.sum_gradients(microbatches)?;
        let step = self.learner.steps_done();
        let (grad_norm, lr) = self.learner.update(|step, norm| self.options.at(step, norm))?;
        Ok(StepReport { step, loss: sum.mean(), tokens: sum.tokens, grad_norm, lr })
    }

    /// The loss of `rows` under the present weights, without dropout; adds to `sum`.
    /// # Errors
    /// Rows whose lengths are not those of the tokens and targets; ids out of range.
    pub fn evaluate(&mut self, rows: &Rows, sum: &mut LossSum) -> Result<()> {
        let losses = self.row_losses(rows)?;
        let mut part = LossSum::default();
        part.add(losses, &rows.targets);
        sum.nats += part.nats;
        sum.tokens += part.tokens;
        Ok(())
    }

    /// The loss of each row of a batch, (R) nats; 0 where the target is ignored.
    /// # Errors
    /// Rows whose lengths are not those of the tokens and targets; ids out of range.
    pub fn row_losses(&mut self, rows: &Rows) -> Result<&[f32]> {
        self.awake(|t| {
            fill(&mut t.batch, rows)?;
            t.losses.resize(rows.targets.len(), 0.0);
            let (model, losses) = (&t.model, &mut t.losses);
            t.learner.infer(&t.batch, |infer| model.losses(infer, &rows.targets, 1.0, losses))
        })?;
        Ok(&self.losses)
    }

    /// The likeliest next token of each row of a batch, (R) ids.
    /// # Errors
    /// Rows whose lengths are not those of the tokens and targets; ids out of range; logits that are all −∞ or NaN.
    pub fn row_greedy(&mut self, rows: &Rows, out: &mut Vec<u32>) -> Result<()> {
        self.awake(|t| t.likeliest(rows, out))
    }

    fn likeliest(&mut self, rows: &Rows, out: &mut Vec<u32>) -> Result<()> {
        fill(&mut self.batch, rows)?;
        let model = &self.model;
        let bad = || Error::Tokenizer { problem: "the model's logits are not numbers: no token follows".to_string() };
        let vocabulary = model.config().vocab_size;
        out.clear();
        self.learner.infer(&self.batch, |infer| {
            let logits = model.logits(infer)?;
            for row in infer.values(logits).chunks_exact(vocabulary) {
                out.push(crate::sampling::greedy(row).ok_or_else(bad)?);
            }
            Ok(())
        })
    }
}

/// Copies rows into an executor's batch; keeps its memory.
/// # Errors
/// Rows whose lengths are not those of the tokens and targets.
fn fill(batch: &mut Batch, rows: &Rows) -> Result<()> {
    let (tokens, targets) = (rows.tokens.len(), rows.targets.len());
    let whole = rows.lens.iter().try_fold(0usize, |sum, len| sum.checked_add(*len));
    if whole != Some(tokens) || targets != tokens {
        let value = format!("{tokens} tokens and {targets} targets");
        return Err(Error::config("batch", value, "as many of each as its rows are long"));
    }
    batch.clear();
    let mut first = 0;
    for (slot, &len) in rows.lens.iter().enumerate() {
        batch.push(&rows.tokens[first..first + len], 0, slot);
        first += len;
    }
    Ok(())
}

/// Bytes that training `model` takes on batches of `rows` tokens: weights, gradients and both moments, the activations
/// of one microbatch, and one chunk of its logits. Kernels' packed blocks, the data and what an evaluation keeps beside
/// (its activations; the logits' memory is the training's) are not counted.
pub fn planned_bytes(model: &Gpt, rows: usize) -> u64 {
    // In u128: a batch that no machine can hold must be refused by its size, not by an overflow.
    let config = model.config();
    let (c, heads, layers) = (config.n_embd as u128, config.n_head as u128, config.n_layer as u128);
    // qkv 3, heads 1, sum 1, norm 1, MLP before its activation 4, sum 1, norm 1.
    let layer = 12 * c + heads + 4;
    // What the backward of the last block holds beside them: two gradients of C, the activation again and its gradient.
    let dropped = if config.embd_pdrop > 0.0 { c } else { 0 };
    let activations = rows as u128 * (layers * layer + c + dropped + 10 * c);
    let logits = rows.min(kernels::chunk_rows(config.vocab_size)) as u128 * config.vocab_size as u128;
    let floats = 4 * model.layout().len() as u128 + activations + logits;
    u64::try_from(4 * floats).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arch, Config};

    #[test]
    fn logits_are_planned_by_the_chunk_that_the_kernel_takes() {
        let v = 50_000;
        let mut config = Config::new(Arch::Gpt2, v, 64);
        (config.n_layer, config.n_embd, config.n_head) = (1, 8, 2);
        let model = Gpt::new(&config).unwrap();
        let (chunk, row_of_logits) = (kernels::chunk_rows(v), 4 * v as u64);
        assert!(chunk > 256);
        let row = |rows: usize| planned_bytes(&model, rows + 1) - planned_bytes(&model, rows);
        assert!(row(0) > row_of_logits && row(chunk - 1) > row_of_logits && row(chunk) < row_of_logits);
        // And they are most of what a step of so wide a table takes beside the parameters.
        let planned = planned_bytes(&model, 2 * chunk);
        assert!(planned > 16 * model.layout().len() as u64 + chunk as u64 * row_of_logits);
        assert_eq!(planned_bytes(&model, usize::MAX), u64::MAX);
    }

    #[test]
    fn rows_of_other_lengths_are_refused() {
        let mut config = Config::new(Arch::Gpt2, 11, 8);
        (config.n_layer, config.n_embd, config.n_head) = (1, 8, 2);
        let options = OptimOptions::constant(0.1);
        let mut trainer = Trainer::new(Ctx::default(), Gpt::new(&config).unwrap(), options, 1).unwrap();
        let good = Rows { tokens: vec![1, 2, 3], targets: vec![2, 3, 4], lens: vec![2, 1] };
        assert!(trainer.evaluate(&good, &mut LossSum::default()).is_ok());
        for wrong in [
            Rows { lens: vec![2, 2], ..good.clone() },
            Rows { lens: vec![2], ..good.clone() },
            Rows { lens: vec![usize::MAX, 4], ..good.clone() },
            Rows { targets: vec![2, 3], ..good.clone() },
            Rows { tokens: vec![1, 2, 3, 4], ..good.clone() },
        ] {
            assert!(trainer.step(&[good.clone(), wrong.clone()]).is_err(), "{wrong:?}");
            assert!(trainer.evaluate(&wrong, &mut LossSum::default()).is_err(), "{wrong:?}");
            assert!(trainer.row_greedy(&wrong, &mut Vec::new()).is_err(), "{wrong:?}");
        }
        assert_eq!(trainer.steps_done(), 0);
    }
}
