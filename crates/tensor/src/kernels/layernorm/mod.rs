//! Layer normalisation along rows, alone or of a residual sum.
//!
//! ```text
//! x̂ = (x − mean)·rstd,  mean = Σ x / C,  rstd = 1/√(Σ (x − mean)² / C + ε)
//! y = x̂·γ + β
//! g = dy·γ
//! dx = rstd·(g − Σ g / C − x̂·Σ g·x̂ / C)
//! dγ = Σ_rows dy·x̂,  dβ = Σ_rows dy
//! ```
//!
//! Rows go four at a time, so that the sums' additions need not wait for each other. dγ and dβ are summed in
//! f32 over blocks of 64 rows, whose results are added in f64 in order. Source: arXiv:1607.06450.

use super::{fetch, put, rows_of, rows_per_block};
use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// Rows whose dγ and dβ are summed in f32.
const BLOCK: usize = 64;
/// Columns of a task that adds the blocks.
const COLUMNS: usize = 256;

/// out[r,i] = (inp[r,i] − mean_r)·rstd_r·weight[i] + bias[i].
///
/// Shapes: out, inp (R, C) row-major; mean, rstd (R); weight, bias (C).
/// Saves: `mean` and `rstd` (1/√(variance + eps)) of each row, for the backward.
/// Cost: 3 passes over a row in L1, about 7 flops an element; no scratch.
/// Numerics: the variance is two-pass; x̂ within (C/16 + 12)·2⁻²⁴·(1 + rstd·max|x|) of `reference` (test).
/// Threads: rows in parallel; bitwise the same for any thread count.
/// Source: arXiv:1607.06450.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit R and C.
pub fn layernorm_forward(
    ctx: &Ctx,
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    inp: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) -> Result<()> {
    let _timed = ctx.time("layernorm_forward");
    expect_len("layernorm_forward", "inp length", inp.len(), out.len())?;
    forward("layernorm_forward", ctx, None, out, mean, rstd, (inp, inp), (weight, bias, eps))
}

/// sum = a + b and out = layernorm(sum), in one pass over memory.
///
/// Shapes: sum, out, a, b (R, C) row-major; mean, rstd (R); weight, bias (C). Writes `sum` and `out`.
/// Saves: `sum`, `mean` and `rstd`. Numerics: the bits of `residual_forward` then `layernorm_forward`.
/// Cost: 16 bytes and about 8 flops an element. Threads: as `layernorm_forward`.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit R and C.
pub fn residual_layernorm_forward(
    ctx: &Ctx,
    sum: &mut [f32],
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    a: &[f32],
    b: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) -> Result<()> {
    let op = "residual_layernorm_forward";
    let _timed = ctx.time(op);
    expect_len(op, "sum length", sum.len(), out.len())?;
    expect_len(op, "a length", a.len(), out.len())?;
    expect_len(op, "b length", b.len(), out.len())?;
    forward(op, ctx, Some(sum), out, mean, rstd, (a, b), (weight, bias, eps))
}

/// dinp (+)= the gradient of layer norm's input; dweight and dbias (+)= those of γ and β.
///
/// Shapes: dinp, dout, inp (R, C) row-major; dweight, dbias, weight (C); mean, rstd (R) as the forward saved them.
/// Writes `dinp` by `acc_inp`, `dweight` and `dbias` by `acc_params`.
/// Cost: 2 passes over a row in L1, about 14 flops an element; scratch of 2·C floats for each 64 rows.
/// Numerics: row sums by 16 lanes; dγ, dβ by blocks of 64 rows, the blocks added in f64.
/// Threads: blocks of 64 rows, then of 256 columns; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit R and C.
pub fn layernorm_backward(
    ctx: &Ctx,
    dinp: &mut [f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    dout: &[f32],
    inp: &[f32],
    mean: &[f32],
    rstd: &[f32],
    weight: &[f32],
    acc_inp: Accumulate,
    acc_params: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("layernorm_backward");
    let saved = Saved { x: inp, mean, rstd, weight };
    backward("layernorm_backward", ctx, dinp, (dweight, dbias), dout, None, saved, acc_inp, acc_params)
}

/// dsum_total (+)= dsum + the gradient of layer norm's input: the gradient of both a and b of the residual sum.
///
/// Shapes: dsum_total, dout, dsum, sum (R, C) row-major; dweight, dbias, weight (C); mean, rstd (R). `dsum` is what
/// reached the residual sum from elsewhere, if anything did.
/// Otherwise as `layernorm_backward`.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit R and C.
pub fn residual_layernorm_backward(
    ctx: &Ctx,
    dsum_total: &mut [f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    dout: &[f32],
    dsum: Option<&[f32]>,
    sum: &[f32],
    mean: &[f32],
    rstd: &[f32],
    weight: &[f32],
    acc_inp: Accumulate,
    acc_params: Accumulate,
) -> Result<()> {
    let op = "residual_layernorm_backward";
    let _timed = ctx.time(op);
    let saved = Saved { x: sum, mean, rstd, weight };
    backward(op, ctx, dsum_total, (dweight, dbias), dout, dsum, saved, acc_inp, acc_params)
}

/// Checks the shapes and cuts the rows. Without `sum` the input is `inputs.0` alone.
fn forward(
    op: &'static str,
    ctx: &Ctx,
    sum: Option<&mut [f32]>,
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
    inputs: (&[f32], &[f32]),
    (weight, bias, eps): (&[f32], &[f32], f32),
) -> Result<()> {
    let c = weight.len();
    expect_len(op, "bias length", bias.len(), c)?;
    let rows = rows_of(op, "out length", out.len(), c)?;
    expect_len(op, "mean length", mean.len(), rows)?;
    expect_len(op, "rstd length", rstd.len(), rows)?;
    let isa = ctx.isa();
    let parts =
        (RowsMut::new(out, c), RowsMut::new(mean, 1), RowsMut::new(rstd, 1), sum.map(|sum| RowsMut::new(sum, c)));
    for_each_rows(ctx, parts, rows, rows_per_block(c), |first, (out, mean, rstd, sum)| {
        let (out, mean, rstd) = (out.into_slice(), mean.into_slice(), rstd.into_slice());
        let here = first * c..first * c + out.len();
        let (a, b) = (&inputs.0[here.clone()], &inputs.1[here]);
        let sum = sum.map(RowsMut::into_slice);
        dispatch_on(isa, Forward { out, mean, rstd, sum, a, b, weight, bias, eps });
    });
    Ok(())
}

struct Forward<'a> {
    out: &'a mut [f32],
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
    sum: Option<&'a mut [f32]>,
    a: &'a [f32],
    b: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (rows, mut r) = (self.mean.len(), 0);
        while r + 4 <= rows {
            self.rows::<S, 4>(s, r);
            r += 4;
        }
        while r < rows {
            self.rows::<S, 1>(s, r);
            r += 1;
        }
    }
}

impl Forward<'_> {
    /// Rows first .. first + N.
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&mut self, s: S, first: usize) {
        let c = self.weight.len();
        let (a, out) = (cut::<N>(self.a, first, c), &mut self.out[first * c..(first + N) * c]);
        let mut total = [s.zero(); N];
        if let Some(sum) = self.sum.as_deref_mut() {
            let (b, sum) = (cut::<N>(self.b, first, c), &mut sum[first * c..(first + N) * c]);
            for i in (0..c).step_by(LANES) {
                for r in 0..N {
                    let x = s.add(fetch(s, a[r], i, 0.0), fetch(s, b[r], i, 0.0));
                    put(s, &mut sum[r * c..][..c], i, x, Accumulate::Store);
                    total[r] = s.add(total[r], x);
                }
            }
        } else {
            for i in (0..c).step_by(LANES) {
                for r in 0..N {
                    total[r] = s.add(total[r], fetch(s, a[r], i, 0.0));
                }
            }
        }
        let x = cut::<N>(self.sum.as_deref().unwrap_or(self.a), first, c);
        let mean = means(s, total, c);
        let mut squares = [s.zero(); N];
        for i in (0..c).step_by(LANES) {
            for r in 0..N {
                let d = s.sub(fetch(s, x[r], i, mean[r]), s.splat(mean[r]));
                squares[r] = s.mul_add(d, d, squares[r]);
            }
        }
        let mut rstd = means(s, squares, c);
        for variance in &mut rstd {
            *variance = 1.0 / (*variance + self.eps).sqrt();
        }
        for i in (0..c).step_by(LANES) {
            let (weight, bias) = (fetch(s, self.weight, i, 0.0), fetch(s, self.bias, i, 0.0));
            for r in 0..N {
                let xhat = normalised(s, x[r], i, mean[r], rstd[r]);
                put(s, &mut out[r * c..][..c], i, s.mul_add(xhat, weight, bias), Accumulate::Store);
            }
        }
        self.mean[first..first + N].copy_from_slice(&mean);
        self.rstd[first..first + N].copy_from_slice(&rstd);
    }
}

/// What the forward saw: input (R, C), mean and rstd (R), γ (C).
#[derive(Clone, Copy)]
struct Saved<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    weight: &'a [f32],
}

/// Checks the shapes, runs blocks of 64 rows, and adds their dγ and dβ.
fn backward(
    op: &'static str,
    ctx: &Ctx,
    dinp: &mut [f32],
    (dweight, dbias): (&mut [f32], &mut [f32]),
    dout: &[f32],
    dsum: Option<&[f32]>,
    saved: Saved<'_>,
    acc_inp: Accumulate,
    acc_params: Accumulate,
) -> Result<()> {
    let c = saved.weight.len();
    expect_len(op, "dweight length", dweight.len(), c)?;
    expect_len(op, "dbias length", dbias.len(), c)?;
    let rows = rows_of(op, "dinp length", dinp.len(), c)?;
    expect_len(op, "dout length", dout.len(), dinp.len())?;
    expect_len(op, "dsum length", dsum.map_or(dinp.len(), <[f32]>::len), dinp.len())?;
    expect_len(op, "inp length", saved.x.len(), dinp.len())?;
    expect_len(op, "mean length", saved.mean.len(), rows)?;
    expect_len(op, "rstd length", saved.rstd.len(), rows)?;
    let (isa, blocks) = (ctx.isa(), rows.div_ceil(BLOCK));
    // dγ and dβ of each block, side by side: (blocks, 2C)
    let mut partial = ctx.scratch(crate::shape::product3(op, blocks, 2, c)?);
    let parts = (RowsMut::new(dinp, BLOCK * c), RowsMut::new(&mut partial, 2 * c));
    for_each_rows(ctx, parts, blocks, 1, |block, (dinp, partial)| {
        let (dinp, first) = (dinp.into_slice(), block * BLOCK);
        let elements = first * c..first * c + dinp.len();
        let here = first..rows.min(first + BLOCK);
        let (dweight, dbias) = partial.into_slice().split_at_mut(c);
        let x = &saved.x[elements.clone()];
        let saved = Saved { x, mean: &saved.mean[here.clone()], rstd: &saved.rstd[here], ..saved };
        let dsum = dsum.map(|dsum| &dsum[elements.clone()]);
        dispatch_on(isa, Backward { dinp, dweight, dbias, dout: &dout[elements], dsum, saved, acc: acc_inp });
    });
    for_each_rows(ctx, (RowsMut::new(dweight, 1), RowsMut::new(dbias, 1)), c, COLUMNS, |first, (dweight, dbias)| {
        let (dweight, dbias) = (dweight.into_slice(), dbias.into_slice());
        dispatch_on(isa, AddBlocks { out: dweight, partial: &partial, first, width: 2 * c, acc: acc_params });
        dispatch_on(isa, AddBlocks { out: dbias, partial: &partial, first: c + first, width: 2 * c, acc: acc_params });
    });
    Ok(())
}

/// At most 64 rows: their dinp, and their share of dγ and dβ (overwritten).
struct Backward<'a> {
    dinp: &'a mut [f32],
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
    dout: &'a [f32],
    dsum: Option<&'a [f32]>,
    saved: Saved<'a>,
    acc: Accumulate,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.dweight.fill(0.0);
        self.dbias.fill(0.0);
        let (rows, mut r) = (self.saved.mean.len(), 0);
        while r + 4 <= rows {
            self.rows::<S, 4>(s, r);
            r += 4;
        }
        while r < rows {
            self.rows::<S, 1>(s, r);
            r += 1;
        }
    }
}

impl Backward<'_> {
    /// Rows first .. first + N.
    #[inline(always)]
    fn rows<S: Simd, const N: usize>(&mut self, s: S, first: usize) {
        let Saved { x, mean, rstd, weight } = self.saved;
        let c = weight.len();
        let at = |r: usize| (first + r) * c..(first + r + 1) * c;
        let (dout, x) = (cut::<N>(self.dout, first, c), cut::<N>(x, first, c));
        let (mean, rstd) = (&mean[first..first + N], &rstd[first..first + N]);
        // Σ g and Σ g·x̂
        let (mut sum_g, mut sum_gx) = ([s.zero(); N], [s.zero(); N]);
        for i in (0..c).step_by(LANES) {
            let weight = fetch(s, weight, i, 0.0);
            for r in 0..N {
                let g = s.mul(fetch(s, dout[r], i, 0.0), weight);
                sum_g[r] = s.add(sum_g[r], g);
                sum_gx[r] = s.mul_add(g, normalised(s, x[r], i, mean[r], rstd[r]), sum_gx[r]);
            }
        }
        let (mean_g, mean_gx) = (means(s, sum_g, c), means(s, sum_gx, c));
        for i in (0..c).step_by(LANES) {
            let weight = fetch(s, weight, i, 0.0);
            let mut dweight = fetch(s, self.dweight, i, 0.0);
            let mut dbias = fetch(s, self.dbias, i, 0.0);
            for r in 0..N {
                let (dy, xhat) = (fetch(s, dout[r], i, 0.0), normalised(s, x[r], i, mean[r], rstd[r]));
                dweight = s.mul_add(dy, xhat, dweight);
                dbias = s.add(dbias, dy);
                let centred = s.sub(s.mul(dy, weight), s.splat(mean_g[r]));
                let mut dx = s.mul(s.mul_add(xhat, s.splat(-mean_gx[r]), centred), s.splat(rstd[r]));
                if let Some(dsum) = self.dsum {
                    dx = s.add(fetch(s, &dsum[at(r)], i, 0.0), dx);
                }
                put(s, &mut self.dinp[at(r)], i, dx, self.acc);
            }
            put(s, self.dweight, i, dweight, Accumulate::Store);
            put(s, self.dbias, i, dbias, Accumulate::Store);
        }
    }
}

/// Rows first .. first + N of a matrix of `c` columns.
#[inline(always)]
fn cut<const N: usize>(xs: &[f32], first: usize, c: usize) -> [&[f32]; N] {
    let mut rows = [xs; N];
    for r in 0..N {
        rows[r] = &xs[(first + r) * c..(first + r + 1) * c];
    }
    rows
}

/// Each row's sum, divided by C. Loops and no closures: a closure is compiled for the ISA only where it is inlined.
#[inline(always)]
fn means<S: Simd, const N: usize>(s: S, sums: [S::V; N], c: usize) -> [f32; N] {
    let mut means = [0.0; N];
    for r in 0..N {
        means[r] = s.reduce_add(sums[r]) / c as f32;
    }
    means
}

/// x̂ of `x[i .. i + 16]`, 0 in the lanes past the row's end.
#[inline(always)]
fn normalised<S: Simd>(s: S, x: &[f32], i: usize, mean: f32, rstd: f32) -> S::V {
    s.mul(s.sub(fetch(s, x, i, mean), s.splat(mean)), s.splat(rstd))
}

/// out[j] (+)= Σ_blocks partial[block, first + j], in f64 and in order; at most `COLUMNS` columns.
struct AddBlocks<'a> {
    out: &'a mut [f32],
    partial: &'a [f32],
    first: usize,
    width: usize,
    acc: Accumulate,
}

impl Kernel for AddBlocks<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut sums = [0.0f64; COLUMNS];
        let sums = &mut sums[..self.out.len()];
        for block in self.partial.chunks_exact(self.width) {
            for (sum, &x) in sums.iter_mut().zip(&block[self.first..self.first + self.out.len()]) {
                *sum += x as f64;
            }
        }
        for (out, &sum) in self.out.iter_mut().zip(sums.iter()) {
            *out = if self.acc == Accumulate::Add { *out + sum as f32 } else { sum as f32 };
        }
    }
}

#[cfg(test)]
mod tests;
