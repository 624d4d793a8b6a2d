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
        let at = |r: usize| (first + r) * c..(first + r + 1) * c;
        let mut total = [s.zero(); N];
        if let Some(sum) = self.sum.as_deref_mut() {
            for i in (0..c).step_by(LANES) {
                for r in 0..N {
                    let x = s.add(fetch(s, &self.a[at(r)], i, 0.0), fetch(s, &self.b[at(r)], i, 0.0));
                    put(s, &mut sum[at(r)], i, x, Accumulate::Store);
                    total[r] = s.add(total[r], x);
                }
            }
        } else {
            for i in (0..c).step_by(LANES) {
                for r in 0..N {
                    total[r] = s.add(total[r], fetch(s, &self.a[at(r)], i, 0.0));
                }
            }
        }
        let x = self.sum.as_deref().unwrap_or(self.a);
        let x: [&[f32]; N] = core::array::from_fn(|r| &x[at(r)]);
        let mean: [f32; N] = core::array::from_fn(|r| s.reduce_add(total[r]) / c as f32);
        let mut squares = [s.zero(); N];
        for i in (0..c).step_by(LANES) {
            for r in 0..N {
                let d = s.sub(fetch(s, x[r], i, mean[r]), s.splat(mean[r]));
                squares[r] = s.mul_add(d, d, squares[r]);
            }
        }
        let rstd: [f32; N] = core::array::from_fn(|r| 1.0 / (s.reduce_add(squares[r]) / c as f32 + self.eps).sqrt());
        for i in (0..c).step_by(LANES) {
            let (weight, bias) = (fetch(s, self.weight, i, 0.0), fetch(s, self.bias, i, 0.0));
            for r in 0..N {
                let xhat = s.mul(s.sub(fetch(s, x[r], i, 0.0), s.splat(mean[r])), s.splat(rstd[r]));
                put(s, &mut self.out[at(r)], i, s.mul_add(xhat, weight, bias), Accumulate::Store);
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
        let dout: [&[f32]; N] = core::array::from_fn(|r| &self.dout[at(r)]);
        let x: [&[f32]; N] = core::array::from_fn(|r| &x[at(r)]);
        let (mean, rstd) = (&mean[first..first + N], &rstd[first..first + N]);
        let xhat = |r: usize, i: usize| s.mul(s.sub(fetch(s, x[r], i, mean[r]), s.splat(mean[r])), s.splat(rstd[r]));
        // Σ g and Σ g·x̂
        let (mut sum_g, mut sum_gx) = ([s.zero(); N], [s.zero(); N]);
        for i in (0..c).step_by(LANES) {
            let weight = fetch(s, weight, i, 0.0);
            for r in 0..N {
                let g = s.mul(fetch(s, dout[r], i, 0.0), weight);
                sum_g[r] = s.add(sum_g[r], g);
                sum_gx[r] = s.mul_add(g, xhat(r, i), sum_gx[r]);
            }
        }
        let mean_g: [S::V; N] = core::array::from_fn(|r| s.splat(s.reduce_add(sum_g[r]) / c as f32));
        let mean_gx: [S::V; N] = core::array::from_fn(|r| s.splat(-(s.reduce_add(sum_gx[r]) / c as f32)));
        for i in (0..c).step_by(LANES) {
            let weight = fetch(s, weight, i, 0.0);
            let mut dweight = fetch(s, self.dweight, i, 0.0);
            let mut dbias = fetch(s, self.dbias, i, 0.0);
            for r in 0..N {
                let (dy, xhat) = (fetch(s, dout[r], i, 0.0), xhat(r, i));
                dweight = s.mul_add(dy, xhat, dweight);
                dbias = s.add(dbias, dy);
                let centred = s.sub(s.mul(dy, weight), mean_g[r]);
                let mut dx = s.mul(s.mul_add(xhat, mean_gx[r], centred), s.splat(rstd[r]));
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
mod tests {
    use super::*;
    use crate::kernels::residual_forward;
    use crate::reference::{self, F64};
    use crate::testing::*;

    const EPS: f32 = 1e-5;
    const STORE: Accumulate = Accumulate::Store;
    const ADD: Accumulate = Accumulate::Add;
    const NAN: f32 = f32::NAN;

    /// (rows, columns) of the tests: every length to 65, more blocks than one, rows of a real model.
    fn shapes() -> impl Iterator<Item = (usize, usize)> {
        (1..=65).map(|c| (1 + c % 7, c)).chain([(0, 5), (64, 8), (65, 33), (150, 20), (9, 768)])
    }

    #[test]
    fn forward_agrees_with_the_reference() {
        for (rows, c) in shapes() {
            let n = rows * c;
            let (a, b) = (numbers(1, n, 1.0), numbers(2, n, 1.0));
            let (w, bias) = (numbers(3, c, 1.0), numbers(4, c, 1.0));
            // The sum rounded as the kernel rounds it: the bound is layer norm's own.
            let x: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            let (mut y, mut m, mut rs) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
            reference::layernorm_forward::<F64>(
                &mut y,
                &mut m,
                &mut rs,
                &wide(&x),
                &wide(&w),
                &wide(&bias),
                EPS as f64,
            );
            // x − mean is off by gamma·max|x|, x̂ by that times rstd; rstd, relative, by as much.
            let amplify = 1.0 + greatest(&x) * rs.iter().copied().fold(0.0, f64::max);
            let bound = gamma(c / 16 + 12) * amplify;
            on_every_ctx(|ctx| {
                let (mut out, mut mean, mut rstd) = (vec![NAN; n], vec![NAN; rows], vec![NAN; rows]);
                layernorm_forward(ctx, &mut out, &mut mean, &mut rstd, &x, &w, &bias, EPS).unwrap();
                assert_close("mean", &mean, &m, 0.0, bound);
                assert_close("rstd", &rstd, &rs, bound, 0.0);
                assert_close("out", &out, &y, bound, (greatest(&w) * amplify + greatest(&bias)) * bound);

                let mut s = [vec![NAN; n], vec![NAN; n], vec![NAN; rows], vec![NAN; rows]];
                let [sum, out2, mean2, rstd2] = &mut s;
                residual_layernorm_forward(ctx, sum, out2, mean2, rstd2, &a, &b, &w, &bias, EPS).unwrap();
                let mut total = vec![NAN; n];
                residual_forward(ctx, &mut total, &a, &b).unwrap();
                for (what, got, expected) in
                    [("sum", &s[0], &total), ("out", &s[1], &out), ("mean", &s[2], &mean), ("rstd", &s[3], &rstd)]
                {
                    assert_same_bits(what, got, expected);
                }
                vec![out, mean, rstd]
            });
        }
    }

    #[test]
    fn backward_agrees_with_the_reference() {
        for (rows, c) in shapes() {
            let n = rows * c;
            let (x, w, dy, ds) = (numbers(1, n, 1.0), numbers(3, c, 1.0), numbers(5, n, 1.0), numbers(6, n, 1.0));
            let (old, old_w, old_b) = (numbers(7, n, 1.0), numbers(8, c, 1.0), numbers(9, c, 1.0));
            let (mut y, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
            let ctx = Ctx::new(crate::Isa::SCALAR);
            layernorm_forward(&ctx, &mut y, &mut mean, &mut rstd, &x, &w, &vec![0.0; c], EPS).unwrap();
            let (mut dx, mut dw, mut db) = (vec![0.0; n], vec![0.0; c], vec![0.0; c]);
            let (x64, m64, r64) = (wide(&x), wide(&mean), wide(&rstd));
            reference::layernorm_backward::<F64>(
                &mut dx,
                &mut dw,
                &mut db,
                &wide(&dy),
                &x64,
                &m64,
                &r64,
                &wide(&w),
                STORE,
                STORE,
            );
            // Mean and rstd are given, so x̂ is off by 3 roundings of a value below `largest`.
            let (largest, scale) = (1.0 + greatest(&x) * 2.0 * greatest(&rstd), greatest(&dy) * greatest(&w));
            let atol = gamma(c / 16 + 16) * greatest(&rstd) * scale * (1.0 + largest * largest);
            let atol_params = gamma(64 + 8) * rows as f64 * greatest(&dy) * largest;
            on_every_ctx(|ctx| {
                let (mut g, mut gw, mut gb) = (vec![NAN; n], vec![NAN; c], vec![NAN; c]);
                layernorm_backward(ctx, &mut g, &mut gw, &mut gb, &dy, &x, &mean, &rstd, &w, STORE, STORE).unwrap();
                assert_close("dinp", &g, &dx, 0.0, atol);
                assert_close("dweight", &gw, &dw, 0.0, atol_params);
                assert_close("dbias", &gb, &db, 0.0, atol_params);

                let (mut h, mut hw, mut hb) = (old.clone(), old_w.clone(), old_b.clone());
                residual_layernorm_backward(
                    ctx,
                    &mut h,
                    &mut hw,
                    &mut hb,
                    &dy,
                    Some(&ds),
                    &x,
                    &mean,
                    &rstd,
                    &w,
                    ADD,
                    ADD,
                )
                .unwrap();
                for i in 0..n {
                    assert_eq!(h[i], old[i] + (ds[i] + g[i]), "dsum_total[{i}]");
                }
                for i in 0..c {
                    assert_eq!((hw[i], hb[i]), (old_w[i] + gw[i], old_b[i] + gb[i]), "parameters at {i}");
                }
                let (mut k, mut kw, mut kb) = (vec![NAN; n], vec![NAN; c], vec![NAN; c]);
                residual_layernorm_backward(
                    ctx, &mut k, &mut kw, &mut kb, &dy, None, &x, &mean, &rstd, &w, STORE, STORE,
                )
                .unwrap();
                assert_same_bits("without dsum", &k, &g);
                vec![g, gw, gb, h]
            });
        }
    }

    #[test]
    fn a_nan_stays_in_its_row() {
        let c = 21;
        let mut x = numbers(1, 6 * c, 1.0);
        x[2 * c + 20] = NAN;
        x[4 * c] = f32::INFINITY;
        on_every_ctx(|ctx| {
            let (mut y, mut mean, mut rstd) = (vec![7.0; 6 * c], [0.0; 6], [0.0; 6]);
            layernorm_forward(ctx, &mut y, &mut mean, &mut rstd, &x, &vec![1.0; c], &vec![0.0; c], EPS).unwrap();
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), i / c == 2 || i / c == 4, "element {i}: {y}");
            }
            vec![y]
        });
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let (rows, c, eps) = (3, 7, 1e-5);
        let n = rows * c;
        let (x, w, b, d) = (
            wide(&numbers(1, n, 1.0)),
            wide(&numbers(2, c, 1.0)),
            wide(&numbers(3, c, 1.0)),
            wide(&numbers(4, n, 1.0)),
        );
        let loss = |x: &[f64], w: &[f64], b: &[f64]| {
            let (mut y, mut m, mut r) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
            reference::layernorm_forward::<F64>(&mut y, &mut m, &mut r, x, w, b, eps);
            (dot(&y, &d), m, r)
        };
        let (_, m, r) = loss(&x, &w, &b);
        let (mut dx, mut dw, mut db) = (vec![0.0; n], vec![0.0; c], vec![0.0; c]);
        reference::layernorm_backward::<F64>(&mut dx, &mut dw, &mut db, &d, &x, &m, &r, &w, STORE, STORE);
        central_difference("dinp", &x, &dx, |x| loss(x, &w, &b).0);
        central_difference("dweight", &w, &dw, |w| loss(&x, w, &b).0);
        central_difference("dbias", &b, &db, |b| loss(&x, &w, b).0);
    }

    #[test]
    fn shapes_are_checked() {
        let ctx = Ctx::default();
        let run = |n: usize, rows: usize, c: usize| {
            let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
            let x = vec![1.0; n];
            layernorm_forward(&ctx, &mut vec![0.0; n], &mut mean, &mut rstd, &x, &vec![1.0; c], &vec![1.0; c], EPS)
        };
        assert!(run(6, 2, 3).is_ok() && run(0, 0, 3).is_ok());
        assert!(run(7, 2, 3).is_err() && run(6, 3, 3).is_err() && run(6, 2, 0).is_err());
    }
}
