//! AdamW groups, learning-rate schedules, and clipping.

use crate::error::{Error, Result};
use longhand_tensor::kernels::{self, AdamW};
use longhand_tensor::params::{Grads, Params, Role};
use longhand_tensor::{Ctx, Result as TensorResult};

/// The learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Half a cosine from the peak to the minimum.
    Cosine,
    /// A line from the peak to the minimum.
    Linear,
    /// The peak throughout.
    Constant,
}

impl Schedule {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Schedule::Cosine => "cosine",
            Schedule::Linear => "linear",
            Schedule::Constant => "constant",
        }
    }

    /// The schedule of that name.
    pub fn from_name(name: &str) -> Option<Schedule> {
        [Schedule::Cosine, Schedule::Linear, Schedule::Constant].into_iter().find(|s| s.name() == name)
    }
}

/// What an optimiser does: AdamW with decoupled decay on tensors of two dims, after clipping by the global norm.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimOptions {
    /// Peak rate.
    pub learning_rate: f32,
    /// The rate that the schedule ends at.
    pub min_lr: f32,
    /// Steps of linear warm-up.
    pub warmup_iters: u64,
    /// The step at which the schedule reaches `min_lr`.
    pub lr_decay_iters: u64,
    /// The curve between.
    pub schedule: Schedule,
    /// Decay on tensors of two or more dims.
    pub weight_decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment; above 0, for a row that is never seen has a root of 0.
    pub eps: f32,
    /// The greatest gradient norm; 0 does not clip.
    pub grad_clip: f32,
}

impl OptimOptions {
    /// One rate for ever, no warm-up; nanoGPT's decay (0.1), β (0.9, 0.95) and clipping (1).
    pub fn constant(learning_rate: f32) -> Self {
        OptimOptions {
            learning_rate,
            min_lr: learning_rate,
            warmup_iters: 0,
            lr_decay_iters: 1,
            schedule: Schedule::Constant,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            grad_clip: 1.0,
        }
    }

    /// Checks every value's range.
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let finite = |field: &str, x: f32, low: f32, high: f32, limit: &str| {
            if x.is_finite() && x >= low && x < high { Ok(()) } else { Err(Error::config(field, x, limit)) }
        };
        finite("learning_rate", self.learning_rate, 0.0, f32::MAX, "a finite number, 0 or more")?;
        finite("min_lr", self.min_lr, 0.0, f32::MAX, "a finite number, 0 or more")?;
        finite("weight_decay", self.weight_decay, 0.0, f32::MAX, "a finite number, 0 or more")?;
        finite("beta1", self.beta1, 0.0, 1.0, "at least 0 and below 1")?;
        finite("beta2", self.beta2, 0.0, 1.0, "at least 0 and below 1")?;
        finite("eps", self.eps, f32::MIN_POSITIVE, 1.0, "above 0 and below 1")?;
        finite("grad_clip", self.grad_clip, 0.0, f32::MAX, "a finite number, 0 (no clipping) or more")
    }

    /// The rate of the update that follows `step` earlier ones, as nanoGPT has it: the first update of a warm-up
    /// already moves.
    pub fn rate(&self, step: u64) -> f32 {
        if step < self.warmup_iters {
            return (self.learning_rate as f64 * (step + 1) as f64 / (self.warmup_iters + 1) as f64) as f32;
        }
        if self.schedule == Schedule::Constant {
            return self.learning_rate;
        }
        if step >= self.lr_decay_iters {
            return self.min_lr;
        }
        let done = (step - self.warmup_iters) as f64 / (self.lr_decay_iters - self.warmup_iters) as f64;
        let left = match self.schedule {
            Schedule::Cosine => 0.5 * (1.0 + libm::cos(core::f64::consts::PI * done)),
            _ => 1.0 - done,
        };
        let (min, max) = (self.min_lr as f64, self.learning_rate as f64);
        (min + left * (max - min)) as f32
    }
}

impl OptimOptions {
    /// The update that follows `step` earlier ones, for gradients of norm `norm`.
    pub fn at(&self, step: u64, norm: f64) -> AdamW {
        AdamW {
            lr: self.rate(step),
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            step: step + 1,
            grad_scale: clipping(self.grad_clip, norm),
        }
    }
}

/// First and second moments, shaped as the parameters.
#[derive(Debug)]
pub struct Moments {
    /// Running mean of gradients.
    pub m: Params,
    /// Running mean of squared gradients.
    pub v: Params,
}

impl Moments {
    /// Zeros.
    /// # Errors
    /// Out of memory.
    pub fn zeroed(params: &Params) -> TensorResult<Self> {
        Ok(Moments { m: Params::zeroed(params.layout().clone())?, v: Params::zeroed(params.layout().clone())? })
    }
}

/// The norm of all gradients of this step together: f32 squares in blocks, blocks added in f64 in order.
/// # Errors
/// None today; the kernel's signature allows them.
pub fn gradient_norm(ctx: &Ctx, grads: &Grads) -> TensorResult<f64> {
    let mut total = 0.0;
    for id in grads.layout().ids() {
        if grads.is_written(id) && grads.trains(id) {
            total += kernels::sum_of_squares(ctx, grads.get_trained(id))?;
        }
    }
    Ok(total.sqrt())
}

/// One update of every parameter that trains and has a gradient; decay falls on tensors of two dims.
/// # Errors
/// As the kernel.
pub fn update(ctx: &Ctx, params: &mut Params, moments: &mut Moments, grads: &Grads, hyper: &AdamW) -> TensorResult<()> {
    let layout = params.layout().clone();
    for id in layout.ids() {
        let part = grads.trained(id);
        if part.is_empty() || !grads.is_written(id) {
            continue;
        }
        let weight_decay = if layout.spec(id).role == Role::Vector { 0.0 } else { hyper.weight_decay };
        let hyper = AdamW { weight_decay, ..*hyper };
        let (m, v) = (&mut moments.m.get_mut(id)[part.clone()], &mut moments.v.get_mut(id)[part.clone()]);
        kernels::adamw_step(ctx, &mut params.get_mut(id)[part], m, v, grads.get_trained(id), &hyper)?;
    }
    Ok(())
}

/// The factor that brings gradients of norm `norm` down to `clip`; 1 where they are below, or `clip` is 0.
pub fn clipping(clip: f32, norm: f64) -> f32 {
    // PyTorch's clip_grad_norm_ adds 1e-6 to the norm.
    if clip > 0.0 { (clip as f64 / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> OptimOptions {
        OptimOptions {
            learning_rate: 1e-3,
            min_lr: 1e-4,
            warmup_iters: 10,
            lr_decay_iters: 110,
            schedule: Schedule::Cosine,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            grad_clip: 1.0,
        }
    }

    #[test]
    fn schedules_reach_their_ends() {
        let mut o = options();
        assert!((o.rate(0) - 1e-3 / 11.0).abs() < 1e-9);
        assert_eq!(o.rate(10), 1e-3);
        assert!((o.rate(60) - 5.5e-4).abs() < 1e-9);
        assert_eq!(o.rate(110), 1e-4);
        o.schedule = Schedule::Linear;
        assert!((o.rate(35) - (1e-3 - 0.25 * 9e-4)).abs() < 1e-9);
        o.schedule = Schedule::Constant;
        assert_eq!(o.rate(5000), 1e-3);
        o.warmup_iters = 200; // beyond the decay: never divides by zero
        o.schedule = Schedule::Cosine;
        assert!(o.rate(200) == 1e-4 && o.rate(150) < 1e-3);
    }

    #[test]
    fn values_out_of_range_name_their_field() {
        let bad = OptimOptions { beta2: 1.0, ..options() };
        assert_eq!(bad.validate().unwrap_err().to_string(), "beta2 = 1: at least 0 and below 1");
        assert!(OptimOptions { learning_rate: f32::NAN, ..options() }.validate().is_err());
        assert!(options().validate().is_ok());
    }
}
