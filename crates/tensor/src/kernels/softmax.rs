//! Softmax along rows, with the row's maximum subtracted so that no exponential overflows.
//!
//! ```text
//! y_i = exp(x_i − m) / Σ_j exp(x_j − m),  m = max_j x_j
//! dx_i = y_i (dy_i − Σ_j dy_j y_j)
//! ```

use super::{fetch, put, rows_of, rows_per_block};
use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on, math};

/// Row-wise softmax: out[r,i] = exp(inp[r,i] − m_r) / Σ_j exp(inp[r,j] − m_r).
///
/// Shapes: inp, out (R, N) row-major. Units: logits in nats to probabilities.
/// Saves: nothing; the backward reads `out`.
/// Cost: 3 passes, about 4 flops and 1 exp an element; no scratch.
/// Numerics: within (N/16 + 12 + max |x − m|)·2⁻²⁴·out of `reference`, or 2⁻¹²⁶ (test); NaN in a row makes all of it
/// NaN, a row of −∞ gives zeros.
/// Threads: rows in parallel; bitwise the same for any thread count.
/// Source: arXiv:2001.04438.
/// # Errors
/// `ShapeMismatch` if `out.len() != inp.len()` or `n` does not divide it.
pub fn softmax_forward(ctx: &Ctx, out: &mut [f32], inp: &[f32], n: usize) -> Result<()> {
    let _timed = ctx.time("softmax_forward");
    expect_len("softmax_forward", "out length", out.len(), inp.len())?;
    let rows = rows_of("softmax_forward", "inp length", inp.len(), n)?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(out, n), rows, rows_per_block(n), |first, out| {
        let out = out.into_slice();
        dispatch_on(isa, Forward { inp: &inp[first * n..first * n + out.len()], out, n });
    });
    Ok(())
}

/// dinp[r,i] (+)= out[r,i] · (dout[r,i] − Σ_j dout[r,j]·out[r,j]).
///
/// Shapes: dinp, dout, out (R, N) row-major, `out` being the forward's. Writes `dinp` by `acc`.
/// Cost: 2 passes, 4 flops an element; no scratch.
/// Threads: rows in parallel; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths differ or `n` does not divide them.
pub fn softmax_backward(
    ctx: &Ctx,
    dinp: &mut [f32],
    dout: &[f32],
    out: &[f32],
    n: usize,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("softmax_backward");
    expect_len("softmax_backward", "dinp length", dinp.len(), out.len())?;
    expect_len("softmax_backward", "dout length", dout.len(), out.len())?;
    let rows = rows_of("softmax_backward", "out length", out.len(), n)?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(dinp, n), rows, rows_per_block(n), |first, dinp| {
        let dinp = dinp.into_slice();
        let here = first * n..first * n + dinp.len();
        dispatch_on(isa, Backward { dout: &dout[here.clone()], out: &out[here], dinp, n, acc });
    });
    Ok(())
}

/// The greatest of a row, −∞ when it is empty; unspecified when it holds a NaN.
#[inline(always)]
pub(crate) fn row_max<S: Simd>(s: S, xs: &[f32]) -> f32 {
    // The order of a maximum changes nothing: four of them hide the latency.
    let mut m = [s.splat(f32::NEG_INFINITY); 4];
    let mut i = 0;
    while i + 4 * LANES <= xs.len() {
        for (j, m) in m.iter_mut().enumerate() {
            *m = s.max(*m, s.load(&xs[i + j * LANES..]));
        }
        i += 4 * LANES;
    }
    while i < xs.len() {
        m[0] = s.max(m[0], fetch(s, xs, i, f32::NEG_INFINITY));
        i += LANES;
    }
    s.reduce_max(s.max(s.max(m[0], m[1]), s.max(m[2], m[3])))
}

/// What is subtracted from a row before its exponentials: its maximum, but 0 for a row of −∞.
#[inline(always)]
pub(crate) fn row_shift<S: Simd>(s: S, xs: &[f32]) -> f32 {
    let m = row_max(s, xs);
    if m == f32::NEG_INFINITY { 0.0 } else { m }
}

struct Forward<'a> {
    out: &'a mut [f32],
    inp: &'a [f32],
    n: usize,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (out, inp) in self.out.chunks_exact_mut(self.n.max(1)).zip(self.inp.chunks_exact(self.n.max(1))) {
            let shift = s.splat(row_shift(s, inp));
            let mut sum = s.zero();
            for i in (0..inp.len()).step_by(LANES) {
                let e = math::exp_low(s, s.sub(fetch(s, inp, i, f32::NEG_INFINITY), shift));
                put(s, out, i, e, Accumulate::Store);
                sum = s.add(sum, e);
            }
            let sum = s.reduce_add(sum);
            let factor = s.splat(if sum == 0.0 { 0.0 } else { 1.0 / sum });
            for i in (0..inp.len()).step_by(LANES) {
                let y = s.mul(fetch(s, out, i, 0.0), factor);
                put(s, out, i, y, Accumulate::Store);
            }
        }
    }
}

struct Backward<'a> {
    dinp: &'a mut [f32],
    dout: &'a [f32],
    out: &'a [f32],
    n: usize,
    acc: Accumulate,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.dout.chunks_exact(self.n.max(1)).zip(self.out.chunks_exact(self.n.max(1)));
        for (dinp, (dout, out)) in self.dinp.chunks_exact_mut(self.n.max(1)).zip(rows) {
            let mut sum = s.zero();
            for i in (0..out.len()).step_by(LANES) {
                sum = s.mul_add(fetch(s, dout, i, 0.0), fetch(s, out, i, 0.0), sum);
            }
            let sum = s.splat(s.reduce_add(sum));
            for i in (0..out.len()).step_by(LANES) {
                let dx = s.mul(fetch(s, out, i, 0.0), s.sub(fetch(s, dout, i, 0.0), sum));
                put(s, dinp, i, dx, self.acc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64};
    use crate::testing::{assert_close, central_difference, dot, gamma, numbers, on_every_ctx, plus, wide};

    #[test]
    fn agrees_with_the_reference() {
        for (rows, n) in (0..=65).map(|n| (5, n)).chain([(40, 1000)]) {
            let len = rows * n;
            let (x, d, old) = (numbers(1, len, 4.0), numbers(2, len, 1.0), numbers(3, len, 1.0));
            let (mut y, mut dx) = (vec![0.0; len], vec![0.0; len]);
            reference::softmax_forward::<F64>(&mut y, &wide(&x), n);
            on_every_ctx(|ctx| {
                let mut out = vec![f32::NAN; len];
                softmax_forward(ctx, &mut out, &x, n).unwrap();
                // The exponential (2), the difference before it (|x − m| < 40 ulps of 2⁻²⁴ each), the sum, the
                // quotient.
                assert_close("softmax", &out, &y, gamma(n / 16 + 12 + 40), f32::MIN_POSITIVE as f64);
                vec![out]
            });
            let y = wide(&y.iter().map(|&y| y as f32).collect::<Vec<_>>());
            let y32: Vec<f32> = y.iter().map(|&y| y as f32).collect();
            reference::softmax_backward::<F64>(&mut dx, &wide(&d), &y, n, Accumulate::Store);
            on_every_ctx(|ctx| {
                let (mut dinp, mut more) = (vec![f32::NAN; len], old.clone());
                softmax_backward(ctx, &mut dinp, &d, &y32, n, Accumulate::Store).unwrap();
                softmax_backward(ctx, &mut more, &d, &y32, n, Accumulate::Add).unwrap();
                // |dout| < 6 and Σ y = 1.
                assert_close("dsoftmax", &dinp, &dx, gamma(3), 6.0 * gamma(n / 16 + 8));
                assert_close("dsoftmax, added", &more, &plus(&dx, &old), gamma(3), 6.0 * gamma(n / 16 + 10));
                vec![dinp, more]
            });
        }
    }

    #[test]
    fn special_rows() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for n in [1, 3, 16, 40, 100] {
            on_every_ctx(|ctx| {
                let row = |x: &[f32]| {
                    let mut out = vec![nan; n];
                    softmax_forward(ctx, &mut out, x, n).unwrap();
                    out
                };
                assert_eq!(row(&vec![-inf; n]), vec![0.0; n]);
                for (special, rest) in [(nan, 1.0), (inf, 1.0), (nan, -inf)] {
                    for at in [0, n / 2, n - 1] {
                        let mut x = vec![rest; n];
                        x[at] = special;
                        assert!(row(&x).iter().all(|y| y.is_nan()), "{special} at {at} of {n}");
                    }
                }
                let mut x = vec![-inf; n];
                x[n / 2] = -3e38;
                let y = row(&x);
                assert!((0..n).all(|i| y[i] == (i == n / 2) as u32 as f32));
                vec![row(&vec![3e38; n])]
            });
        }
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let (n, x, d) = (7, wide(&numbers(4, 21, 2.0)), wide(&numbers(5, 21, 1.0)));
        let (mut y, mut dx) = (vec![0.0; 21], vec![0.0; 21]);
        reference::softmax_forward::<F64>(&mut y, &x, n);
        reference::softmax_backward::<F64>(&mut dx, &d, &y, n, Accumulate::Store);
        central_difference("softmax", &x, &dx, |x| {
            reference::softmax_forward::<F64>(&mut y, x, n);
            dot(&y, &d)
        });
    }

    #[test]
    fn n_must_divide() {
        let ctx = Ctx::default();
        assert!(softmax_forward(&ctx, &mut [0.0; 5], &[0.0; 5], 2).is_err());
        assert!(softmax_forward(&ctx, &mut [0.0; 5], &[0.0; 5], 0).is_err());
        assert!(softmax_backward(&ctx, &mut [0.0; 4], &[0.0; 5], &[0.0; 5], 5, Accumulate::Store).is_err());
    }
}
