//! AdamW: Adam with decoupled weight decay, one pass over parameter, moments and gradient.
//!
//! ```text
//! g ← grad · grad_scale
//! p ← p − lr·wd·p
//! m ← β₁ m + (1 − β₁) g
//! v ← β₂ v + (1 − β₂) g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//! ```
//!
//! The order is PyTorch's. Source: arXiv:1711.05101, arXiv:1412.6980.

use super::{ELEMENTS, fetch, put};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f32,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// The step, counted from 1: the bias corrections' exponent.
    pub step: u64,
    /// Multiplies the gradient: 1, or less where the norm is clipped.
    pub grad_scale: f32,
}

/// The factors of an update, made in f64 from the step's numbers and rounded once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    /// 1 − lr·wd
    pub keep: f64,
    /// β₁, 1 − β₁
    pub first: (f64, f64),
    /// β₂, 1 − β₂
    pub second: (f64, f64),
    /// lr/(1 − β₁ᵗ)
    pub step_size: f64,
    /// 1/√(1 − β₂ᵗ)
    pub root_scale: f64,
    /// ε
    pub eps: f64,
    /// The gradient's factor.
    pub grad_scale: f64,
}

impl AdamW {
    pub(crate) fn factors(&self) -> Factors {
        let (lr, b1, b2) = (self.lr as f64, self.beta1 as f64, self.beta2 as f64);
        let t = self.step as f64;
        Factors {
            keep: 1.0 - lr * self.weight_decay as f64,
            first: (b1, 1.0 - b1),
            second: (b2, 1.0 - b2),
            step_size: lr / (1.0 - libm::pow(b1, t)),
            root_scale: 1.0 / (1.0 - libm::pow(b2, t)).sqrt(),
            eps: self.eps as f64,
            grad_scale: self.grad_scale as f64,
        }
    }
}

/// One step of AdamW on one parameter.
///
/// Shapes: param, m, v, grad of one length; m and v start as zeros. Writes param, m and v in place.
/// Cost: one pass, 28 bytes and about 15 flops an element.
/// Numerics: + − × ÷ √ only and no fused operation: equal to `reference` in f32, bit for bit, on every instruction
/// set. Bias corrections are computed in f64.
/// Threads: blocks of 16,384 elements; bitwise the same for any thread count.
/// Source: arXiv:1711.05101, in the order of PyTorch's `torch.optim.AdamW`.
/// # Errors
/// `ShapeMismatch` if the lengths differ; `InvalidValue` if `step` is 0 or a β lies outside [0, 1).
pub fn adamw_step(
    ctx: &Ctx,
    param: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    grad: &[f32],
    options: &AdamW,
) -> Result<()> {
    let op = "adamw_step";
    let _timed = ctx.time(op);
    let n = param.len();
    expect_len(op, "m length", m.len(), n)?;
    expect_len(op, "v length", v.len(), n)?;
    expect_len(op, "grad length", grad.len(), n)?;
    for (what, beta) in [("beta1", options.beta1), ("beta2", options.beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return Err(Error::InvalidValue { op, what, expected: "at least 0 and below 1", got: beta as f64 });
        }
    }
    if options.step == 0 {
        return Err(Error::InvalidValue { op, what: "step", expected: "at least 1", got: 0.0 });
    }
    let (isa, factors) = (ctx.isa(), options.factors());
    let parts = (RowsMut::new(param, 1), RowsMut::new(m, 1), RowsMut::new(v, 1));
    for_each_rows(ctx, parts, n, ELEMENTS, |first, (param, m, v)| {
        let (param, m, v) = (param.into_slice(), m.into_slice(), v.into_slice());
        let grad = &grad[first..first + param.len()];
        dispatch_on(isa, Step { param, m, v, grad, factors });
    });
    Ok(())
}

struct Step<'a> {
    param: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    grad: &'a [f32],
    factors: Factors,
}

impl Kernel for Step<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.factors;
        let (b1, c1) = (s.splat(f.first.0 as f32), s.splat(f.first.1 as f32));
        let (b2, c2) = (s.splat(f.second.0 as f32), s.splat(f.second.1 as f32));
        let (keep, step_size) = (s.splat(f.keep as f32), s.splat(f.step_size as f32));
        let (root_scale, eps) = (s.splat(f.root_scale as f32), s.splat(f.eps as f32));
        let grad_scale = s.splat(f.grad_scale as f32);
        let store = Accumulate::Store;
        // One length for all: one test a block, not one an access.
        let n = self.grad.len();
        let (param, m, v) = (&mut self.param[..n], &mut self.m[..n], &mut self.v[..n]);
        for i in (0..n).step_by(LANES) {
            let g = s.mul(fetch(s, self.grad, i, 0.0), grad_scale);
            let first = s.add(s.mul(b1, fetch(s, m, i, 0.0)), s.mul(c1, g));
            let second = s.add(s.mul(b2, fetch(s, v, i, 0.0)), s.mul(c2, s.mul(g, g)));
            let p = s.mul(fetch(s, param, i, 0.0), keep);
            let root = s.add(s.mul(s.sqrt(second), root_scale), eps);
            let p = s.sub(p, s.div(s.mul(step_size, first), root));
            put(s, m, i, first, store);
            put(s, v, i, second, store);
            put(s, param, i, p, store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64, Unfused32};
    use crate::testing::{assert_close, assert_same_bits, gamma, numbers, on_every_ctx, wide};

    const OPTIONS: AdamW =
        AdamW { lr: 3e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 0.7 };

    #[test]
    fn equals_the_reference_on_every_isa() {
        for n in (0..=65).chain([40_000]) {
            let start = numbers(1, n, 1.0);
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            let (mut p64, mut m64, mut v64) = (wide(&start), vec![0.0; n], vec![0.0; n]);
            for step in 1..=3 {
                let (grad, options) = (numbers(1 + step, n, 1.0), AdamW { step, ..OPTIONS });
                reference::adamw_step::<Unfused32>(&mut p, &mut m, &mut v, &grad, &options);
                reference::adamw_step::<F64>(&mut p64, &mut m64, &mut v64, &wide(&grad), &options);
            }
            // Four roundings a step on the parameter, and the update's on lr.
            assert_close("parameter", &p, &p64, gamma(12), 1e-8);
            on_every_ctx(|ctx| {
                let (mut a, mut b, mut c) = (start.clone(), vec![0.0; n], vec![0.0; n]);
                for step in 1..=3 {
                    let grad = numbers(1 + step, n, 1.0);
                    adamw_step(ctx, &mut a, &mut b, &mut c, &grad, &AdamW { step, ..OPTIONS }).unwrap();
                }
                assert_same_bits(&format!("parameter on {}", ctx.isa()), &a, &p);
                assert_same_bits("first moment", &b, &m);
                assert_same_bits("second moment", &c, &v);
                vec![]
            });
        }
    }

    /// One number, three steps, worked out by the paper's formulas in another order.
    #[test]
    fn follows_the_papers_formulas() {
        let grads = [0.5f64, -1.25, 2.0];
        let (lr, b1, b2) = (OPTIONS.lr as f64, OPTIONS.beta1 as f64, OPTIONS.beta2 as f64);
        let (mut p, mut expected) = ([0.75f32], 0.75f64);
        let (mut m, mut v) = ([0.0], [0.0]);
        for t in 1..=3usize {
            let g = |i: usize| grads[i] * OPTIONS.grad_scale as f64;
            let weigh = |beta: f64, power: i32| {
                let (mut sum, mut weights) = (0.0, 0.0);
                for i in 0..t {
                    let w = libm::pow(beta, (t - 1 - i) as f64);
                    sum += w * libm::pow(g(i), power as f64);
                    weights += w;
                }
                sum / weights
            };
            let update = weigh(b1, 1) / (weigh(b2, 2).sqrt() + OPTIONS.eps as f64);
            expected -= lr * (OPTIONS.weight_decay as f64 * expected + update);
            let options = AdamW { step: t as u64, ..OPTIONS };
            adamw_step(&Ctx::default(), &mut p, &mut m, &mut v, &[grads[t - 1] as f32], &options).unwrap();
        }
        assert!((p[0] as f64 - expected).abs() < 5e-7, "{} against {expected}", p[0]);
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        let ctx = Ctx::default();
        let step = |options: AdamW| adamw_step(&ctx, &mut [0.0], &mut [0.0], &mut [0.0], &[0.0], &options);
        assert!(step(OPTIONS).is_ok());
        assert!(step(AdamW { step: 0, ..OPTIONS }).is_err());
        assert!(step(AdamW { beta1: 1.0, ..OPTIONS }).is_err());
        assert!(step(AdamW { beta2: f32::NAN, ..OPTIONS }).is_err());
        assert!(adamw_step(&ctx, &mut [0.0], &mut [0.0; 2], &mut [0.0], &[0.0], &OPTIONS).is_err());
    }
}
