//! Dropout: each element is kept with probability 1 − p and then divided by it.
//!
//! ```text
//! y_i = x_i / (1 − p) where uniform_i ≥ p, else 0
//! ```
//!
//! uniform_i is Philox at (seed, site, step, element), so the backward draws the same numbers again and nothing
//! is saved; the element counts from `first_element`, so a batch may be cut anywhere.
//! Source: Srivastava et al., JMLR 15 (2014).

use super::{ELEMENTS, put};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::random::Philox;
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// out[i] = inp[i]/(1 − p) where `rng.uniform(first_element + i) ≥ p`, else 0.
///
/// Shapes: out, inp of one length. Saves: nothing. With p = 0 it copies and draws nothing.
/// Cost: 1 pass; a quarter of a Philox block an element, 16 blocks at a time.
/// Numerics: one product with 1/(1 − p), rounded once from f64; equal to `reference` in f32, bit for bit.
/// Threads: blocks of 16,384 elements; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths differ, `InvalidValue` if p lies outside [0, 1).
pub fn dropout_forward(
    ctx: &Ctx,
    out: &mut [f32],
    inp: &[f32],
    p: f32,
    rng: &Philox,
    first_element: u64,
) -> Result<()> {
    let _timed = ctx.time("dropout_forward");
    run("dropout_forward", ctx, out, inp, p, rng, first_element, Accumulate::Store)
}

/// dinp[i] (+)= dout[i]/(1 − p) where the forward kept element i, else 0.
///
/// Shapes: dinp, dout of one length; p, rng and first_element as in the forward. Writes `dinp` by `acc`.
/// Cost, numerics, threads: as the forward.
/// # Errors
/// As the forward.
pub fn dropout_backward(
    ctx: &Ctx,
    dinp: &mut [f32],
    dout: &[f32],
    p: f32,
    rng: &Philox,
    first_element: u64,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("dropout_backward");
    run("dropout_backward", ctx, dinp, dout, p, rng, first_element, acc)
}

/// 2⁻²⁴·(a draw's upper 24 bits) ≥ p exactly where those bits, as an integer, are at least this.
pub(crate) fn threshold(p: f32) -> u32 {
    (p as f64 * 16_777_216.0).ceil() as u32
}

/// 1/(1 − p), rounded once.
pub(crate) fn keep_scale(p: f32) -> f32 {
    (1.0 / (1.0 - p as f64)) as f32
}

/// The forward on inp, which on dout is the backward.
fn run(
    op: &'static str,
    ctx: &Ctx,
    out: &mut [f32],
    inp: &[f32],
    p: f32,
    rng: &Philox,
    first_element: u64,
    acc: Accumulate,
) -> Result<()> {
    let n = out.len();
    expect_len(op, "input length", inp.len(), n)?;
    if !(0.0..1.0).contains(&p) {
        return Err(Error::InvalidValue { op, what: "p", expected: "at least 0 and below 1", got: p as f64 });
    }
    if p == 0.0 {
        return super::residual_backward(ctx, out, inp, acc);
    }
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(out, 1), n, ELEMENTS, |first, out| {
        let out = out.into_slice();
        let inp = &inp[first..first + out.len()];
        dispatch_on(isa, Apply { out, inp, p, rng: *rng, first_element: first_element + first as u64, acc });
    });
    Ok(())
}

/// Elements drawn at a time: 16 blocks of Philox, four vectors.
const DRAWS: usize = 4 * LANES;

struct Apply<'a> {
    out: &'a mut [f32],
    inp: &'a [f32],
    p: f32,
    rng: Philox,
    first_element: u64,
    acc: Accumulate,
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, threshold, scale) = (self.inp.len(), threshold(self.p), keep_scale(self.p));
        // Blocks begin at multiples of 4 elements; the first may be entered in its middle.
        let skip = (self.first_element % 4) as usize;
        let mut done = 0;
        while done < n {
            let start = if done == 0 { skip } else { 0 };
            let block = (self.first_element + done as u64) / 4;
            let draws = self.rng.blocks_16(block);
            let mut factors = [0.0f32; DRAWS];
            for i in 0..LANES {
                for word in 0..4 {
                    factors[4 * i + word] = if draws[word][i] >> 8 >= threshold { scale } else { 0.0 };
                }
            }
            let factors = &factors[start..];
            let len = factors.len().min(n - done);
            let (inp, out) = (&self.inp[done..done + len], &mut self.out[done..done + len]);
            for i in (0..len).step_by(LANES) {
                let factor = super::fetch(s, factors, i, 0.0);
                // A dropped element is 0, whatever it was.
                let y = s.mul(super::fetch(s, inp, i, 0.0), factor);
                put(s, out, i, s.select(s.gt(factor, s.zero()), y, s.zero()), self.acc);
            }
            done += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Site, SiteKind};
    use crate::reference::{self, Fused32};
    use crate::testing::{assert_same_bits, numbers, on_every_ctx};

    fn rng() -> Philox {
        Philox::new(7, Site::new(3, SiteKind::MlpResidualDropout), 11)
    }

    #[test]
    fn equals_the_reference() {
        for n in (0..=65).chain([130, 40_000]) {
            for (p, first) in [(0.1, 0), (0.5, 3), (0.0, 1), (0.9, (1 << 34) + 2)] {
                let (mut x, old) = (numbers(1, n, 1.0), numbers(2, n, 1.0));
                if n > 20 {
                    (x[3], x[9], x[20]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
                }
                let (mut y, mut sum) = (vec![0.0; n], old.clone());
                reference::dropout_forward::<Fused32>(&mut y, &x, p, &rng(), first);
                reference::dropout_backward::<Fused32>(&mut sum, &x, p, &rng(), first, Accumulate::Add);
                on_every_ctx(|ctx| {
                    let (mut out, mut dx, mut more) = (vec![f32::NAN; n], vec![f32::NAN; n], old.clone());
                    dropout_forward(ctx, &mut out, &x, p, &rng(), first).unwrap();
                    dropout_backward(ctx, &mut dx, &x, p, &rng(), first, Accumulate::Store).unwrap();
                    dropout_backward(ctx, &mut more, &x, p, &rng(), first, Accumulate::Add).unwrap();
                    assert_same_bits("out", &out, &y);
                    assert_same_bits("dinp", &dx, &y);
                    assert_same_bits("added", &more, &sum);
                    vec![]
                });
            }
        }
    }

    #[test]
    fn a_batch_may_be_cut_anywhere() {
        let (ctx, n) = (Ctx::default(), 1000);
        let x = vec![1.0; n];
        let mut whole = vec![0.0; n];
        dropout_forward(&ctx, &mut whole, &x, 0.3, &rng(), 5).unwrap();
        for cut in [1, 2, 63, 500, 999] {
            let mut parts = vec![0.0; n];
            let (a, b) = parts.split_at_mut(cut);
            dropout_forward(&ctx, a, &x[..cut], 0.3, &rng(), 5).unwrap();
            dropout_forward(&ctx, b, &x[cut..], 0.3, &rng(), 5 + cut as u64).unwrap();
            assert_eq!(parts, whole);
        }
        let kept = whole.iter().filter(|&&y| y > 0.0).count();
        // 1000 draws of probability 0.7: 5 standard deviations are 72.
        assert!((628..=772).contains(&kept), "{kept} kept");
    }

    #[test]
    fn keeping_is_decided_as_by_uniform() {
        for p in [0.1f32, 0.25, 1.0 / 3.0, 0.999_999_9, 1e-9, 5.960_464_5e-8] {
            let t = threshold(p);
            let uniform = |bits: u32| bits as f32 * (1.0 / 16_777_216.0);
            assert!(uniform(t) >= p && uniform(t - 1) < p, "{p}");
        }
    }

    #[test]
    fn p_is_a_probability_below_1() {
        for p in [1.0, -0.1, f32::NAN, 2.0] {
            assert!(dropout_forward(&Ctx::default(), &mut [0.0], &[0.0], p, &rng(), 0).is_err());
        }
    }
}
