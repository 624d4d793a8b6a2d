//! The training step, without any policy of input or output: batches come in, reports go out.
//!
//! One optimiser step reads one or more microbatches. The loss is the mean over the counted tokens of *all* of
//! them, so 1 × 8 rows and 4 × 2 rows are the same step, however many targets are ignored in each.

use crate::data::Batch as Rows;
use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::optim::{self, Moments, OptimOptions};
use longhand_autograd::{Draw, Tape, TapeMemory};
use longhand_tensor::Ctx;
use longhand_tensor::exec::{Batch, IGNORE, Infer, InferMemory, Weights};
use longhand_tensor::kernels;
use longhand_tensor::parallel;
use longhand_tensor::params::{Grads, Params};

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

/// A model in training: weights, moments, and the memory of a step.
#[derive(Debug)]
pub struct Trainer {
    ctx: Ctx,
    model: Gpt,
    params: Params,
    moments: Moments,
    grads: Grads,
    options: OptimOptions,
    seed: u64,
    step: u64,
    tape: TapeMemory,
    infer: InferMemory,
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
        Ok(Trainer {
            ctx,
            moments: Moments::zeroed(&params)?,
            grads: Grads::new(params.layout().clone())?,
            model,
            params,
            options,
            seed,
            step: 0,
            tape: TapeMemory::new()?,
            infer: InferMemory::new()?,
            batch: Batch::default(),
            losses: Vec::new(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Gpt {
        &self.model
    }
    /// The weights.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// The weights, to be overwritten by a checkpoint's.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }
    /// The optimiser's moments.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }
    /// The optimiser's moments, to be overwritten by a checkpoint's.
    pub fn moments_mut(&mut self) -> &mut Moments {
        &mut self.moments
    }
    /// Gradients of the last step, before clipping.
    pub fn grads(&self) -> &Grads {
        &self.grads
    }
    /// Optimiser steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }
    /// Goes on as after `step` steps; weights and moments are the caller's to restore.
    pub fn set_steps_done(&mut self, step: u64) {
        self.step = step;
    }
    /// The context of every kernel.
    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }
    /// Bytes of activations, saved values and gradients of activations.
    pub fn activation_bytes(&self) -> usize {
        self.tape.bytes()
    }

    /// Gradients of the mean loss over all counted tokens of `microbatches`, without an update.
    /// # Errors
    /// Ids out of range; a loss that is not finite (naming the microbatch and the first bad tensor).
    pub fn gradients(&mut self, microbatches: &[Rows]) -> Result<LossSum> {
        self.awake(|t| t.sum_gradients(microbatches))
    }

    /// Runs `work` with the pool's threads awake.
    fn awake<R: Send>(&mut self, work: impl FnOnce(&mut Self) -> R + Send) -> R {
        let ctx = self.ctx.clone();
        parallel::enter(&ctx, || work(self))
    }

    fn sum_gradients(&mut self, microbatches: &[Rows]) -> Result<LossSum> {
        let tokens: u64 = microbatches.iter().map(|rows| rows.counted() as u64).sum();
        if tokens == 0 {
            return Err(Error::config("batch", "no targets", "at least one token to predict"));
        }
        let scale = (1.0 / tokens as f64) as f32;
        let mut sum = LossSum::default();
        self.grads.begin_step();
        for (i, rows) in microbatches.iter().enumerate() {
            fill(&mut self.batch, rows);
            self.losses.resize(rows.targets.len(), 0.0);
            let counter = (self.step * microbatches.len() as u64 + i as u64) as u32;
            let draw = Draw { seed: self.seed, counter };
            let (ctx, params, grads) = (&self.ctx, &self.params, &mut self.grads);
            let mut tape = Tape::new(ctx, params, grads, &self.batch, draw, &mut self.tape);
            self.model.losses(&mut tape, &rows.targets, scale, &mut self.losses)?;
            tape.backward()?;
            sum.add(&self.losses, &rows.targets);
            if !sum.nats.is_finite() {
                return Err(self.not_finite(i as u64));
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
        let grad_norm = optim::gradient_norm(&self.ctx, &self.grads)?;
        if !grad_norm.is_finite() {
            return Err(self.not_finite(0));
        }
        let (params, moments, grads) = (&mut self.params, &mut self.moments, &self.grads);
        let lr = optim::update(&self.ctx, params, moments, grads, &self.options, grad_norm, self.step)?;
        let report = StepReport { step: self.step, loss: sum.mean(), tokens: sum.tokens, grad_norm, lr };
        self.step += 1;
        Ok(report)
    }

    /// The loss of `rows` under the present weights, without dropout; adds to `sum`.
    /// # Errors
    /// Ids out of range.
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
    /// Ids out of range.
    pub fn row_losses(&mut self, rows: &Rows) -> Result<&[f32]> {
        self.awake(|t| {
            fill(&mut t.batch, rows);
            t.losses.resize(rows.targets.len(), 0.0);
            let weights = Weights::Plain(&t.params);
            let mut infer = Infer::new(&t.ctx, weights, &t.batch, None, &mut t.infer);
            t.model.losses(&mut infer, &rows.targets, 1.0, &mut t.losses)
        })?;
        Ok(&self.losses)
    }

    /// The likeliest next token of each row of a batch, (R) ids.
    /// # Errors
    /// Ids out of range; logits that are all −∞ or NaN.
    pub fn row_greedy(&mut self, rows: &Rows, out: &mut Vec<u32>) -> Result<()> {
        self.awake(|t| t.likeliest(rows, out))
    }

    fn likeliest(&mut self, rows: &Rows, out: &mut Vec<u32>) -> Result<()> {
        fill(&mut self.batch, rows);
        let weights = Weights::Plain(&self.params);
        let mut infer = Infer::new(&self.ctx, weights, &self.batch, None, &mut self.infer);
        let logits = self.model.logits(&mut infer)?;
        let bad = || Error::Tokenizer { problem: "the model's logits are not numbers: no token follows".to_string() };
        let vocabulary = self.model.config().vocab_size;
        out.clear();
        for row in infer.values(logits).chunks_exact(vocabulary) {
            out.push(crate::sampling::greedy(row).ok_or_else(bad)?);
        }
        Ok(())
    }

    /// The first weight, else the first gradient, that is not finite.
    fn not_finite(&self, batch: u64) -> Error {
        let layout = self.params.layout();
        let bad = |xs: &[f32]| xs.iter().any(|x| !x.is_finite());
        let weight = layout.ids().find(|id| bad(self.params.get(*id)));
        let grad = layout.ids().find(|id| self.grads.is_written(*id) && bad(self.grads.get(*id)));
        let tensor = match (weight, grad) {
            (Some(id), _) => layout.spec(id).name.clone(),
            (None, Some(id)) => format!("the gradient of {}", layout.spec(id).name),
            (None, None) => "the loss".to_string(),
        };
        Error::NonFinite { step: self.step, batch, tensor }
    }
}

/// Copies rows into an executor's batch; keeps its memory.
fn fill(batch: &mut Batch, rows: &Rows) {
    batch.clear();
    let mut first = 0;
    for (slot, &len) in rows.lens.iter().enumerate() {
        batch.push(&rows.tokens[first..first + len], 0, slot);
        first += len;
    }
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
}
