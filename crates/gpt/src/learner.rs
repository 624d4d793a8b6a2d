//! Weights in training: what pre-training and fine-tuning share. An objective gives it passes; it keeps gradients,
//! moments, the step's number and all memory.

use crate::error::{Error, Result};
use crate::optim::{self, Moments};
use longhand_autograd::{Draw, Tape, TapeMemory};
use longhand_tensor::Ctx;
use longhand_tensor::exec::{Batch, Infer, InferMemory, Weights};
use longhand_tensor::kernels::AdamW;
use longhand_tensor::params::{Grads, Params};
use std::ops::Range;

/// Weights, their gradients and moments, and the memory of a step.
#[derive(Debug)]
pub struct Learner {
    ctx: Ctx,
    params: Params,
    moments: Moments,
    grads: Grads,
    seed: u64,
    step: u64,
    tape: TapeMemory,
    infer: InferMemory,
}

impl Learner {
    /// Given weights, all of which train; moments start at 0.
    /// # Errors
    /// Out of memory.
    pub fn new(ctx: Ctx, params: Params, seed: u64) -> Result<Self> {
        let grads = Grads::new(params.layout().clone())?;
        Learner::with_grads(ctx, params, grads, seed)
    }

    /// Given weights, of which those elements train.
    /// # Errors
    /// Out of memory.
    pub fn of(ctx: Ctx, params: Params, trained: Vec<Range<usize>>, seed: u64) -> Result<Self> {
        let grads = Grads::of(params.layout().clone(), trained)?;
        Learner::with_grads(ctx, params, grads, seed)
    }

    fn with_grads(ctx: Ctx, params: Params, grads: Grads, seed: u64) -> Result<Self> {
        let moments = Moments::zeroed(&params)?;
        let (tape, infer) = (TapeMemory::new()?, InferMemory::new()?);
        Ok(Learner { ctx, params, moments, grads, seed, step: 0, tape, infer })
    }

    /// The weights.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// The weights, to be overwritten by a checkpoint's.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }
    /// The weights alone, at the end of training.
    pub fn into_params(self) -> Params {
        self.params
    }
    /// The optimiser's moments.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }
    /// The optimiser's moments, to be overwritten by a checkpoint's.
    pub fn moments_mut(&mut self) -> &mut Moments {
        &mut self.moments
    }
    /// Gradients of the last step, before clipping, and what trains.
    pub fn grads(&self) -> &Grads {
        &self.grads
    }
    /// The seed of dropout and order.
    pub fn seed(&self) -> u64 {
        self.seed
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

    /// Begins an optimiser step: the next gradients overwrite.
    pub fn begin_step(&mut self) {
        self.grads.begin_step();
    }

    /// Adds the gradients of microbatch `i` of `n`: `forward` runs the model to its losses, then every op's backward.
    /// # Errors
    /// What `forward` says; out of memory.
    pub fn pass(
        &mut self,
        (i, n): (u64, u64),
        batch: &Batch,
        forward: impl FnOnce(&mut Tape<'_>) -> Result<()>,
    ) -> Result<()> {
        let draw = Draw { seed: self.seed, counter: (self.step * n + i) as u32 };
        let mut tape = Tape::new(&self.ctx, &self.params, &mut self.grads, batch, draw, &mut self.tape);
        forward(&mut tape)?;
        Ok(tape.backward()?)
    }

    /// Ends an optimiser step: one update as `hyper`, given the step and the gradients' norm, says. Returns the norm
    /// before clipping and the rate.
    /// # Errors
    /// `NonFinite` gradients; nothing is updated then.
    pub fn update(&mut self, hyper: impl FnOnce(u64, f64) -> AdamW) -> Result<(f64, f32)> {
        let norm = optim::gradient_norm(&self.ctx, &self.grads)?;
        if !norm.is_finite() {
            return Err(self.not_finite(0));
        }
        let hyper = hyper(self.step, norm);
        optim::update(&self.ctx, &mut self.params, &mut self.moments, &self.grads, &hyper)?;
        self.step += 1;
        Ok((norm, hyper.lr))
    }

    /// Runs the model without a tape, on the weights as they are.
    /// # Errors
    /// What `forward` says.
    pub fn infer<R>(&mut self, batch: &Batch, forward: impl FnOnce(&mut Infer<'_>) -> Result<R>) -> Result<R> {
        forward(&mut Infer::new(&self.ctx, Weights::Plain(&self.params), batch, None, &mut self.infer))
    }

    /// The first weight, else the first gradient, that is not finite, as an error of microbatch `batch`.
    pub fn not_finite(&self, batch: u64) -> Error {
        let layout = self.params.layout();
        let bad = |xs: &[f32]| xs.iter().any(|x| !x.is_finite());
        let weight = layout.ids().find(|id| bad(self.params.get(*id)));
        let grad = layout.ids().find(|id| self.grads.is_written(*id) && bad(self.grads.get_trained(*id)));
        let tensor = match (weight, grad) {
            (Some(id), _) => layout.spec(id).name.clone(),
            (None, Some(id)) => format!("the gradient of {}", layout.spec(id).name),
            (None, None) => "the loss".to_string(),
        };
        Error::NonFinite { step: self.step, batch, tensor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arch, Config};
    use crate::model::Gpt;
    use crate::optim::OptimOptions;

    #[test]
    fn a_refused_pass_leaves_the_step_as_it_was() {
        let mut config = Config::new(Arch::Gpt2, 11, 8);
        (config.n_layer, config.n_embd, config.n_head) = (1, 8, 2);
        let model = Gpt::new(&config).unwrap();
        let mut batch = Batch::default();
        batch.push(&[1, 2, 3], 0, 0);
        let run = |refused: bool| {
            let mut learner = Learner::new(Ctx::default(), model.init(1).unwrap(), 1).unwrap();
            let pass = |learner: &mut Learner, targets: &[u32]| {
                learner.pass((0, 1), &batch, |tape| model.losses(tape, targets, 0.3, &mut [0.0; 3]))
            };
            for _ in 0..2 {
                learner.begin_step();
                if refused {
                    assert!(pass(&mut learner, &[2, 3, 11]).is_err());
                    assert!(learner.params.layout().ids().all(|id| !learner.grads.is_written(id)));
                }
                pass(&mut learner, &[2, 3, 4]).unwrap();
                learner.update(|step, norm| OptimOptions::constant(0.1).at(step, norm)).unwrap();
            }
            learner.into_params()
        };
        assert_eq!(run(true).flat(), run(false).flat());
    }
}
