//! Pooling: one row from each run of rows, for a head that reads a whole sequence.
//!
//! ```text
//! mean   out[s] = Σ_{r in run s} inp[r] / len_s              dinp[r] (+)= dout[s] / len_s
//! max    out[s,j] = max_{r in run s} inp[r,j]                dinp[r,j] (+)= dout[s,j] at the first r that has it
//! ```
//!
//! Source: mean, max and the last state side by side are the "concat pooling" of Howard & Ruder, arXiv:1801.06146,
//! section 3.3.

use super::{fetch, put, rows_of};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// What becomes of a run of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// The mean of each column.
    Mean,
    /// The greatest of each column; NaN where there is one.
    Max,
}

/// out[s] = the mean, or the greatest, of the rows of run s; 0 for a run of no rows.
///
/// Shapes: out (S, C); inp (Σ lens, C); lens (S). Saves: nothing; the backward of `Max` reads `inp`.
/// Cost: one pass over `inp`; no scratch. Runs come one after the other: this is little beside what computed them.
/// Numerics: a column is one chain of additions in the order of the rows, divided once.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit, `SizeOverflow` if Σ lens or S·C overflows.
pub fn pool_forward(ctx: &Ctx, out: &mut [f32], inp: &[f32], lens: &[usize], c: usize, pool: Pool) -> Result<()> {
    let _timed = ctx.time("pool_forward");
    check("pool_forward", out.len(), inp.len(), lens, c)?;
    dispatch_on(ctx.isa(), Forward { out, inp, lens, c, pool });
    Ok(())
}

/// dinp of every row by `acc`, from the gradient of its run.
///
/// Shapes: dinp and inp (Σ lens, C); dout (S, C); lens (S). `inp` is read by `Max` alone.
/// Cost: one pass over `dinp`, with `Max` two over `inp` as well.
/// Numerics: mean: one division an element; max: exact.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit, `SizeOverflow` if Σ lens or S·C overflows.
pub fn pool_backward(
    ctx: &Ctx,
    dinp: &mut [f32],
    dout: &[f32],
    inp: &[f32],
    lens: &[usize],
    c: usize,
    pool: Pool,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("pool_backward");
    check("pool_backward", dout.len(), inp.len(), lens, c)?;
    expect_len("pool_backward", "dinp length", dinp.len(), inp.len())?;
    dispatch_on(ctx.isa(), Backward { dinp, dout, inp, lens, c, pool, acc });
    Ok(())
}

fn check(op: &'static str, out: usize, inp: usize, lens: &[usize], c: usize) -> Result<()> {
    let mut rows = 0usize;
    for &len in lens {
        rows = rows.checked_add(len).ok_or(Error::SizeOverflow { op, sizes: [rows, len, 1] })?;
    }
    expect_len(op, "lens, their sum", rows, rows_of(op, "inp length", inp, c)?)?;
    expect_len(op, "out length", out, crate::shape::product2(op, lens.len(), c)?)
}

struct Forward<'a> {
    out: &'a mut [f32],
    inp: &'a [f32],
    lens: &'a [usize],
    c: usize,
    pool: Pool,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (c, mut first) = (self.c, 0);
        for (out, &len) in self.out.chunks_exact_mut(c.max(1)).zip(self.lens) {
            let run = &self.inp[first * c..(first + len) * c];
            first += len;
            if len == 0 {
                out.fill(0.0);
                continue;
            }
            for i in (0..c).step_by(LANES) {
                let mut y = fetch(s, &run[..c], i, 0.0);
                for x in run.chunks_exact(c).skip(1) {
                    let x = fetch(s, x, i, 0.0);
                    y = match self.pool {
                        Pool::Mean => s.add(y, x),
                        // The vector maximum would lose a NaN in `y`.
                        Pool::Max => s.select(s.is_nan(y), y, s.select(s.gt(y, x), y, x)),
                    };
                }
                if self.pool == Pool::Mean {
                    y = s.div(y, s.splat(len as f32));
                }
                put(s, out, i, y, Accumulate::Store);
            }
        }
    }
}

struct Backward<'a> {
    dinp: &'a mut [f32],
    dout: &'a [f32],
    inp: &'a [f32],
    lens: &'a [usize],
    c: usize,
    pool: Pool,
    acc: Accumulate,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (c, mut first) = (self.c, 0);
        for (dout, &len) in self.dout.chunks_exact(c.max(1)).zip(self.lens) {
            let here = first * c..(first + len) * c;
            let (run, dinp) = (&self.inp[here.clone()], &mut self.dinp[here]);
            first += len;
            match self.pool {
                Pool::Mean => {
                    for dx in dinp.chunks_exact_mut(c.max(1)) {
                        for i in (0..c).step_by(LANES) {
                            let d = s.div(fetch(s, dout, i, 0.0), s.splat(len as f32));
                            put(s, dx, i, d, self.acc);
                        }
                    }
                }
                Pool::Max => {
                    if self.acc == Accumulate::Store {
                        dinp.fill(0.0);
                    }
                    for j in 0..if len == 0 { 0 } else { c } {
                        dinp[greatest(run, j, c) * c + j] += dout[j];
                    }
                }
            }
        }
    }
}

/// The first row whose element `j` is the greatest, or NaN.
fn greatest(run: &[f32], j: usize, c: usize) -> usize {
    let (mut row, mut best) = (0, run[j]);
    for (r, x) in run.chunks_exact(c).enumerate() {
        if x[j] > best || (x[j].is_nan() && !best.is_nan()) {
            (row, best) = (r, x[j]);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64};
    use crate::testing::*;

    const POOLS: [Pool; 2] = [Pool::Mean, Pool::Max];

    #[test]
    fn agrees_with_the_reference() {
        let lens = [3, 1, 0, 17, 40];
        let rows = 61;
        for (c, pool) in (1..=65).flat_map(|c| POOLS.map(|pool| (c, pool))) {
            let (x, dout, old) = (numbers(1, rows * c, 3.0), numbers(2, 5 * c, 1.0), numbers(3, rows * c, 1.0));
            let (mut y, mut dx) = (vec![0.0; 5 * c], vec![0.0; rows * c]);
            reference::pool_forward::<F64>(&mut y, &wide(&x), &lens, c, pool);
            let store = Accumulate::Store;
            reference::pool_backward::<F64>(&mut dx, &wide(&dout), &wide(&x), &lens, c, pool, store);
            on_every_ctx(|ctx| {
                let (mut out, mut d, mut more) = (vec![f32::NAN; 5 * c], vec![f32::NAN; rows * c], old.clone());
                pool_forward(ctx, &mut out, &x, &lens, c, pool).unwrap();
                pool_backward(ctx, &mut d, &dout, &x, &lens, c, pool, store).unwrap();
                pool_backward(ctx, &mut more, &dout, &x, &lens, c, pool, Accumulate::Add).unwrap();
                // A mean is a chain of up to 40 additions of numbers below 18, and a division.
                assert_close("out", &out, &y, gamma(1), gamma(40) * 18.0);
                assert_close("dinp", &d, &dx, gamma(1), 0.0);
                assert_close("dinp, added", &more, &plus(&dx, &old), gamma(2), gamma(2));
                vec![out, d, more]
            });
        }
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let (lens, c) = ([4, 0, 1, 3], 3);
        let (x, dout) = (wide(&numbers(4, 24, 1.0)), wide(&numbers(5, 12, 1.0)));
        for pool in POOLS {
            let mut dx = vec![0.0; 24];
            reference::pool_backward::<F64>(&mut dx, &dout, &x, &lens, c, pool, Accumulate::Store);
            central_difference("pool", &x, &dx, |x| {
                let mut y = vec![0.0; 12];
                reference::pool_forward::<F64>(&mut y, x, &lens, c, pool);
                y.iter().zip(&dout).fold(0.0, |sum, (y, d)| sum + y * d)
            });
        }
    }

    #[test]
    fn a_nan_is_the_greatest_and_the_first_of_equals_has_the_gradient() {
        let (ctx, nan) = (Ctx::default(), f32::NAN);
        let mut out = [0.0; 2];
        let inp = [1.0, 5.0, nan, 5.0, 9.0, 2.0];
        pool_forward(&ctx, &mut out, &inp, &[3], 2, Pool::Max).unwrap();
        assert!(out[0].is_nan() && out[1] == 5.0);
        let mut d = [nan; 6];
        pool_backward(&ctx, &mut d, &[7.0, 8.0], &inp, &[3], 2, Pool::Max, Accumulate::Store).unwrap();
        assert_eq!(d, [0.0, 8.0, 7.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let ctx = Ctx::default();
        let run = |out: usize, inp: usize, lens: &[usize]| {
            pool_forward(&ctx, &mut vec![0.0; out], &vec![0.0; inp], lens, 2, Pool::Mean)
        };
        assert!(run(4, 6, &[1, 2]).is_ok() && run(0, 0, &[]).is_ok());
        assert!(run(4, 6, &[1, 1]).is_err() && run(2, 6, &[1, 2]).is_err() && run(4, 5, &[1, 2]).is_err());
        assert!(run(4, 6, &[usize::MAX, 4]).is_err());
    }
}
