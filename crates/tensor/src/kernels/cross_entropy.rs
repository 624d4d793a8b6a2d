//! Cross-entropy of rows of logits against one target class a row.
//!
//! ```text
//! loss_r = ln Σ_j exp(x_j) − x_t = ln Σ_j exp(x_j − m) + (m − x_t),  m = max_j x_j
//! dx_j = weight_r·(exp(x_j − m)/Σ − [j = t])
//! ```
//!
//! `weight_r` is the weight of row r's loss in what is minimised: 1 / (counted targets of the whole optimizer step) for
//! a mean. A target of `IGNORE` gives loss 0 and gradient 0.

use super::{fetch, put, rows_of, rows_per_block, softmax::row_shift};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on, math};

/// The target of a row that does not count: it costs nothing and teaches nothing.
pub const IGNORE: u32 = u32::MAX;

/// The weight of each row's loss in what is minimised.
#[derive(Clone, Copy, Debug)]
pub enum LossWeights<'a> {
    /// One for all rows; for a mean, 1 / the counted targets of the whole optimizer step.
    Same(f32),
    /// One a row, (R).
    Each(&'a [f32]),
}

impl LossWeights<'_> {
    /// The weight of row `r`.
    #[inline(always)]
    fn of(&self, r: usize) -> f32 {
        match self {
            LossWeights::Same(weight) => *weight,
            LossWeights::Each(weights) => weights[r],
        }
    }

    /// The weights of some rows.
    pub(crate) fn part(self, rows: core::ops::Range<usize>) -> Self {
        match self {
            LossWeights::Same(_) => self,
            LossWeights::Each(weights) => LossWeights::Each(&weights[rows]),
        }
    }

    /// Whether there is one for each of `rows`.
    pub(crate) fn check(&self, op: &'static str, rows: usize) -> Result<()> {
        match self {
            LossWeights::Same(_) => Ok(()),
            LossWeights::Each(weights) => expect_len(op, "weights length", weights.len(), rows),
        }
    }
}

impl From<f32> for LossWeights<'_> {
    fn from(weight: f32) -> Self {
        LossWeights::Same(weight)
    }
}

impl<'a> From<&'a [f32]> for LossWeights<'a> {
    fn from(weights: &'a [f32]) -> Self {
        LossWeights::Each(weights)
    }
}

/// losses[r] = ln Σ_j exp(logits[r,j]) − logits[r, targets[r]].
///
/// Shapes: losses, targets (R); logits (R, V) row-major. Units: nats. Saves: nothing.
/// Cost: 2 passes over a row, 1 exp and 3 flops an element; no scratch. The scalar logarithm is in f64.
/// Numerics: within (V/16 + 12 + max |x − m|)·2⁻²⁴ of `reference`, absolute, and a rounding (test); NaN in a row makes
/// its loss NaN.
/// Threads: rows in parallel; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit R and V, `OutOfRange` for a target ≥ V that is not `IGNORE`.
pub fn cross_entropy_forward(ctx: &Ctx, losses: &mut [f32], logits: &[f32], targets: &[u32], v: usize) -> Result<()> {
    let _timed = ctx.time("cross_entropy_forward");
    check("cross_entropy_forward", losses.len(), logits.len(), targets, v)?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(losses, 1), targets.len(), rows_per_block(v), |first, losses| {
        let losses = losses.into_slice();
        dispatch_on(isa, Forward { losses, logits: &logits[first * v..], targets: &targets[first..], v });
    });
    Ok(())
}

/// dlogits[r,j] (+)= weight_r·(softmax(logits[r])[j] − [j = targets[r]]); 0 where the target is `IGNORE`.
///
/// Shapes: dlogits, logits (R, V) row-major; targets (R). Writes `dlogits` by `acc`.
/// Cost: 3 passes over a row, 2 exp an element. Numerics: within (V/16 + 15 + max |x − m|)·2⁻²⁴·weight of `reference`.
/// Threads: rows in parallel; bitwise the same for any thread count.
/// # Errors
/// As the forward.
pub fn cross_entropy_backward(
    ctx: &Ctx,
    dlogits: &mut [f32],
    logits: &[f32],
    targets: &[u32],
    v: usize,
    weights: LossWeights<'_>,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("cross_entropy_backward");
    expect_len("cross_entropy_backward", "dlogits length", dlogits.len(), logits.len())?;
    check("cross_entropy_backward", targets.len(), logits.len(), targets, v)?;
    weights.check("cross_entropy_backward", targets.len())?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(dlogits, v), targets.len(), rows_per_block(v), |first, dlogits| {
        let dlogits = dlogits.into_slice();
        let (logits, weights) = (&logits[first * v..], weights.part(first..targets.len()));
        let targets = &targets[first..];
        dispatch_on(isa, Backward { dlogits, logits, targets, v, weights, acc });
    });
    Ok(())
}

/// Forward and backward at once: losses as the forward's, and the logits replaced by their gradient.
///
/// Shapes: losses, targets (R); logits_to_dlogits (R, V) row-major.
/// Cost: 3 passes over a row, 1 exp an element. Numerics: the bits of the forward and the backward.
/// Threads: rows in parallel; bitwise the same for any thread count.
/// # Errors
/// As the forward.
pub fn cross_entropy_rows_in_place(
    ctx: &Ctx,
    losses: &mut [f32],
    logits_to_dlogits: &mut [f32],
    targets: &[u32],
    v: usize,
    weights: LossWeights<'_>,
) -> Result<()> {
    let _timed = ctx.time("cross_entropy_rows_in_place");
    check("cross_entropy_rows_in_place", losses.len(), logits_to_dlogits.len(), targets, v)?;
    weights.check("cross_entropy_rows_in_place", targets.len())?;
    let isa = ctx.isa();
    let parts = (RowsMut::new(losses, 1), RowsMut::new(logits_to_dlogits, v));
    for_each_rows(ctx, parts, targets.len(), rows_per_block(v), |first, (losses, logits)| {
        let (losses, logits) = (losses.into_slice(), logits.into_slice());
        let (targets, weights) = (&targets[first..], weights.part(first..targets.len()));
        dispatch_on(isa, InPlace { losses, logits, targets, v, weights });
    });
    Ok(())
}

pub(crate) fn check_targets(op: &'static str, targets: &[u32], v: usize) -> Result<()> {
    match targets.iter().find(|&&t| t != IGNORE && t as usize >= v) {
        Some(&t) => Err(Error::OutOfRange { op, what: "target", got: t as usize, limit: v }),
        None => Ok(()),
    }
}

fn check(op: &'static str, losses: usize, logits: usize, targets: &[u32], v: usize) -> Result<()> {
    expect_len(op, "targets length", targets.len(), rows_of(op, "logits length", logits, v)?)?;
    expect_len(op, "losses length", losses, targets.len())?;
    check_targets(op, targets, v)
}

/// ln(sum) + (shift − x_t), in f64 and rounded once.
#[inline(always)]
fn loss(sum: f32, shift: f32, logit: f32) -> f32 {
    (libm::log(sum as f64) + (shift as f64 - logit as f64)) as f32
}

/// Σ_j exp(x_j − shift).
#[inline(always)]
fn sum_exp<S: Simd>(s: S, xs: &[f32], shift: f32) -> f32 {
    let (mut sum, shift) = (s.zero(), s.splat(shift));
    for i in (0..xs.len()).step_by(LANES) {
        sum = s.add(sum, math::exp_low(s, s.sub(fetch(s, xs, i, f32::NEG_INFINITY), shift)));
    }
    s.reduce_add(sum)
}

struct Forward<'a> {
    losses: &'a mut [f32],
    logits: &'a [f32],
    targets: &'a [u32],
    v: usize,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.logits.chunks_exact(self.v.max(1)).zip(self.targets);
        for (out, (x, &target)) in self.losses.iter_mut().zip(rows) {
            *out = 0.0;
            if target != IGNORE {
                let shift = row_shift(s, x);
                *out = loss(sum_exp(s, x, shift), shift, x[target as usize]);
            }
        }
    }
}

struct Backward<'a> {
    dlogits: &'a mut [f32],
    logits: &'a [f32],
    targets: &'a [u32],
    v: usize,
    weights: LossWeights<'a>,
    acc: Accumulate,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.logits.chunks_exact(self.v.max(1)).zip(self.targets);
        for (r, (dx, (x, &target))) in self.dlogits.chunks_exact_mut(self.v.max(1)).zip(rows).enumerate() {
            if target == IGNORE {
                if self.acc == Accumulate::Store {
                    dx.fill(0.0);
                }
                continue;
            }
            let (shift, weight) = (row_shift(s, x), self.weights.of(r));
            let factor = s.splat(weight / sum_exp(s, x, shift));
            let shift = s.splat(shift);
            for i in (0..x.len()).step_by(LANES) {
                let e = math::exp_low(s, s.sub(fetch(s, x, i, f32::NEG_INFINITY), shift));
                put(s, dx, i, s.mul(e, factor), self.acc);
            }
            dx[target as usize] -= weight;
        }
    }
}

struct InPlace<'a> {
    losses: &'a mut [f32],
    logits: &'a mut [f32],
    targets: &'a [u32],
    v: usize,
    weights: LossWeights<'a>,
}

impl Kernel for InPlace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.logits.chunks_exact_mut(self.v.max(1)).zip(self.targets);
        for (r, (out, (x, &target))) in self.losses.iter_mut().zip(rows).enumerate() {
            if target == IGNORE {
                *out = 0.0;
                x.fill(0.0);
                continue;
            }
            let (shift, logit, weight) = (row_shift(s, x), x[target as usize], self.weights.of(r));
            let (mut sum, shifts) = (s.zero(), s.splat(shift));
            for i in (0..x.len()).step_by(LANES) {
                let e = math::exp_low(s, s.sub(fetch(s, x, i, f32::NEG_INFINITY), shifts));
                sum = s.add(sum, e);
                put(s, x, i, e, Accumulate::Store);
            }
            let sum = s.reduce_add(sum);
            let factor = s.splat(weight / sum);
            for i in (0..x.len()).step_by(LANES) {
                put(s, x, i, s.mul(fetch(s, x, i, 0.0), factor), Accumulate::Store);
            }
            x[target as usize] -= weight;
            *out = loss(sum, shift, logit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64};
    use crate::testing::*;

    const STORE: Accumulate = Accumulate::Store;
    const SCALE: f32 = 0.3;

    /// A target for each row, every fifth ignored.
    fn targets(rows: usize, v: usize) -> Vec<u32> {
        (0..rows).map(|r| if r % 5 == 2 { IGNORE } else { ((r * 7 + 3) % v) as u32 }).collect()
    }

    #[test]
    fn agrees_with_the_reference() {
        for (rows, v) in (1..=65).map(|v| (6, v)).chain([(0, 3), (30, 1000), (3, 50_257)]) {
            let n = rows * v;
            let (x, old, t) = (numbers(1, n, 3.0), numbers(2, n, 1.0), targets(rows, v));
            let (mut l, mut dx) = (vec![0.0; rows], vec![0.0; n]);
            reference::cross_entropy_forward::<F64>(&mut l, &wide(&x), &t, v);
            reference::cross_entropy_backward::<F64>(&mut dx, &wide(&x), &t, v, SCALE as f64, STORE);
            // |x − m| < 36 here.
            let bound = gamma(v / 16 + 15 + 36);
            on_every_ctx(|ctx| {
                let (mut losses, mut d, mut more) = (vec![f32::NAN; rows], vec![f32::NAN; n], old.clone());
                cross_entropy_forward(ctx, &mut losses, &x, &t, v).unwrap();
                cross_entropy_backward(ctx, &mut d, &x, &t, v, SCALE.into(), STORE).unwrap();
                cross_entropy_backward(ctx, &mut more, &x, &t, v, SCALE.into(), Accumulate::Add).unwrap();
                assert_close("loss", &losses, &l, gamma(1), bound);
                assert_close("dlogits", &d, &dx, gamma(1), bound * SCALE as f64);
                assert_close("dlogits, added", &more, &plus(&dx, &old), gamma(2), bound * SCALE as f64 + gamma(1));
                let (mut again, mut in_place) = (vec![f32::NAN; rows], x.clone());
                cross_entropy_rows_in_place(ctx, &mut again, &mut in_place, &t, v, SCALE.into()).unwrap();
                assert_same_bits("loss in place", &again, &losses);
                assert_same_bits("dlogits in place", &in_place, &d);
                vec![losses, d, more]
            });
        }
    }

    #[test]
    fn a_row_has_its_own_weight() {
        // More rows than a block has.
        let (rows, v) = (3001, 11);
        let (x, t) = (numbers(1, rows * v, 3.0), targets(rows, v));
        let weights: Vec<f32> = (0..rows).map(|r| 0.25 * (r % 7) as f32).collect();
        on_every_ctx(|ctx| {
            let (mut d, mut losses, mut in_place) = (vec![f32::NAN; rows * v], vec![f32::NAN; rows], x.clone());
            cross_entropy_backward(ctx, &mut d, &x, &t, v, weights[..].into(), STORE).unwrap();
            cross_entropy_rows_in_place(ctx, &mut losses, &mut in_place, &t, v, weights[..].into()).unwrap();
            assert_same_bits("in place", &in_place, &d);
            for r in (0..rows).step_by(97) {
                let (row, mut alone) = (r * v..(r + 1) * v, [f32::NAN; 11]);
                let same = LossWeights::Same(weights[r]);
                cross_entropy_backward(ctx, &mut alone, &x[row.clone()], &t[r..=r], v, same, STORE).unwrap();
                assert_same_bits("alone", &d[row], &alone);
            }
            assert!(cross_entropy_backward(ctx, &mut d, &x, &t, v, weights[1..].into(), STORE).is_err());
            vec![d]
        });
    }

    #[test]
    fn special_rows() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        on_every_ctx(|ctx| {
            let run = |x: [f32; 3], target: u32| {
                let (mut l, mut d) = ([nan], x);
                cross_entropy_rows_in_place(ctx, &mut l, &mut d, &[target], 3, 1.0.into()).unwrap();
                (l[0], d)
            };
            assert_eq!(run([1e4, 0.0, -inf], 0), (0.0, [0.0, 0.0, 0.0]));
            assert_eq!(run([1e4, 0.0, -inf], 1), (1e4, [1.0, -1.0, 0.0]));
            assert_eq!(run([0.0, 0.0, -inf], 2).0, inf);
            assert!(run([nan, 0.0, 1.0], 1).0.is_nan());
            assert!(run([nan, 0.0, 1.0], 1).1.iter().all(|d| d.is_nan()));
            assert_eq!(run([nan, 0.0, 1.0], IGNORE), (0.0, [0.0; 3]));
            vec![]
        });
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let (v, t) = (5, targets(6, 5));
        let x = wide(&numbers(3, 30, 2.0));
        let mut dx = vec![0.0; 30];
        reference::cross_entropy_backward::<F64>(&mut dx, &x, &t, v, 0.25, STORE);
        central_difference("cross entropy", &x, &dx, |x| {
            let mut l = vec![0.0; 6];
            reference::cross_entropy_forward::<F64>(&mut l, x, &t, v);
            0.25 * reference::sum::<F64>(&l)
        });
    }

    #[test]
    fn targets_out_of_range_are_errors() {
        let ctx = Ctx::default();
        let error = cross_entropy_forward(&ctx, &mut [0.0; 2], &[0.0; 6], &[IGNORE, 3], 3).unwrap_err();
        assert_eq!(error, Error::OutOfRange { op: "cross_entropy_forward", what: "target", got: 3, limit: 3 });
        assert!(cross_entropy_forward(&ctx, &mut [0.0; 2], &[0.0; 7], &[0, 0], 3).is_err());
        assert!(cross_entropy_backward(&ctx, &mut [0.0; 3], &[0.0; 6], &[0, 0], 3, 1.0.into(), STORE).is_err());
    }
}
