//! Residual sum and layer norm, forward and backward, with sums in any order.
//!
//! ```text
//!              shipped                                        free
//! forward      sum and Σ x; Σ (x − mean)²; normalise           sum, Σ x and Σ x²; normalise: one pass less over a row
//! row sums     one vector of 16 lanes a row, 4 rows at once    some vectors a row, some rows at once: a setting
//! x̂·γ + β      sub, mul, fma                                   two fma
//! backward     Σ g and Σ g·x̂, x̂ by sub and mul                 Σ g and Σ g·x, put right once a row
//! dγ, dβ       f32 within 64 rows, blocks added in f64         f32 within a thread's rows, f32 between threads
//! ```
//!
//! The first norm of the model, which has no sum before it, is left out: 1 of 25.

use crate::contest::{Batch, C, Contest, LAYERS, numbers, sets};
use longhand_tensor::kernels::{residual_layernorm_backward, residual_layernorm_forward};
use longhand_tensor::parallel::{RowsMut, for_each_rows};
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use longhand_tensor::{Accumulate::Store, Ctx};

const EPS: f32 = 1e-5;

pub fn contests(batch: Batch) -> Vec<Box<dyn Contest>> {
    let tensors = || Tensors::of(batch.rows());
    vec![Box::new(ForwardContest(tensors())), Box::new(BackwardContest(tensors()))]
}

/// a, b, sum and out (R, C), mean and rstd (R) of each set; in the backward a is dout, b dsum, and out dsum_total.
struct Tensors {
    rows: usize,
    sets: Vec<[Vec<f32>; 6]>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

impl Tensors {
    fn of(rows: usize) -> Self {
        let n = rows * C;
        let (weight, bias) = (numbers(0, C), numbers(1, C));
        let set = |i: usize| {
            let (a, b) = (numbers(2 * i + 2, n), numbers(2 * i + 3, n));
            let (mut sum, mut out, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
            let ctx = Ctx::default().with_threads(1);
            residual_layernorm_forward(&ctx, &mut sum, &mut out, &mut mean, &mut rstd, &a, &b, &weight, &bias, EPS)
                .expect("shapes agree");
            [a, b, sum, out, mean, rstd]
        };
        let sets = (0..sets(16 * n, 2 * LAYERS)).map(set).collect();
        Tensors { rows, sets, weight, bias, dweight: vec![0.0; C], dbias: vec![0.0; C] }
    }
}

struct ForwardContest(Tensors);

impl Contest for ForwardContest {
    fn name(&self) -> String {
        "residual + layer norm forward".into()
    }

    fn calls(&self) -> usize {
        2 * LAYERS
    }

    fn sets(&self) -> usize {
        self.0.sets.len()
    }

    fn settings(&self) -> &'static [&'static str] {
        &["1 row, 2 vectors", "2 rows, 1 vector", "2 rows, 2 vectors", "4 rows, 1 vector"]
    }

    fn shipped(&mut self, ctx: &Ctx, set: usize) {
        let t = &mut self.0;
        let [a, b, sum, out, mean, rstd] = &mut t.sets[set];
        residual_layernorm_forward(ctx, sum, out, mean, rstd, a, b, &t.weight, &t.bias, EPS).expect("shapes agree");
    }

    fn variant(&mut self, ctx: &Ctx, set: usize, setting: usize) {
        let t = &mut self.0;
        let [a, b, sum, out, mean, rstd] = &mut t.sets[set];
        let (isa, weight, bias) = (ctx.isa(), &t.weight[..], &t.bias[..]);
        let parts = (RowsMut::new(sum, C), RowsMut::new(out, C), RowsMut::new(mean, 1), RowsMut::new(rstd, 1));
        for_each_rows(ctx, parts, t.rows, 20, |first, (sum, out, mean, rstd)| {
            let (sum, out, mean, rstd) = (sum.into_slice(), out.into_slice(), mean.into_slice(), rstd.into_slice());
            let here = first * C..first * C + out.len();
            let f = Forward { sum, out, mean, rstd, a: &a[here.clone()], b: &b[here], weight, bias };
            match setting {
                0 => dispatch_on(isa, ForwardBy::<1, 2>(f)),
                1 => dispatch_on(isa, ForwardBy::<2, 1>(f)),
                2 => dispatch_on(isa, ForwardBy::<2, 2>(f)),
                _ => dispatch_on(isa, ForwardBy::<4, 1>(f)),
            }
        });
    }

    fn outputs(&mut self, set: usize) -> Vec<&mut [f32]> {
        self.0.sets[set][2..].iter_mut().map(Vec::as_mut_slice).collect()
    }
}

struct Forward<'a> {
    sum: &'a mut [f32],
    out: &'a mut [f32],
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
    a: &'a [f32],
    b: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
}

/// N rows at once, U vectors for each of their sums.
struct ForwardBy<'a, const N: usize, const U: usize>(Forward<'a>);

impl<const N: usize, const U: usize> Kernel for ForwardBy<'_, N, U> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (rows, mut r) = (self.0.mean.len(), 0);
        while r + N <= rows {
            self.0.rows::<S, N, U>(s, r);
            r += N;
        }
        while r < rows {
            self.0.rows::<S, 1, U>(s, r);
            r += 1;
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize, const U: usize>(&mut self, s: S, first: usize) {
        let at = |r: usize| (first + r) * C..(first + r + 1) * C;
        let (mut total, mut squares) = ([[s.zero(); U]; N], [[s.zero(); U]; N]);
        for i in (0..C).step_by(U * LANES) {
            for r in 0..N {
                let (a, b) = (&self.a[at(r)][i..i + U * LANES], &self.b[at(r)][i..i + U * LANES]);
                let sum = &mut self.sum[at(r)][i..i + U * LANES];
                for u in 0..U {
                    let x = s.add(s.load(&a[u * LANES..]), s.load(&b[u * LANES..]));
                    s.store(&mut sum[u * LANES..], x);
                    total[r][u] = s.add(total[r][u], x);
                    squares[r][u] = s.mul_add(x, x, squares[r][u]);
                }
            }
        }
        // x̂ = x·rstd + shift
        let (mut scale, mut shift) = ([s.zero(); N], [s.zero(); N]);
        for r in 0..N {
            let (mut t, mut q) = (total[r][0], squares[r][0]);
            for u in 1..U {
                (t, q) = (s.add(t, total[r][u]), s.add(q, squares[r][u]));
            }
            let mean = s.reduce_add(t) / C as f32;
            let rstd = 1.0 / (s.reduce_add(q) / C as f32 - mean * mean + EPS).sqrt();
            (self.mean[first + r], self.rstd[first + r]) = (mean, rstd);
            (scale[r], shift[r]) = (s.splat(rstd), s.splat(-mean * rstd));
        }
        for i in (0..C).step_by(LANES) {
            let (weight, bias) = (s.load(&self.weight[i..]), s.load(&self.bias[i..]));
            for r in 0..N {
                let xhat = s.mul_add(s.load(&self.sum[at(r)][i..]), scale[r], shift[r]);
                s.store(&mut self.out[at(r)][i..], s.mul_add(xhat, weight, bias));
            }
        }
    }
}

struct BackwardContest(Tensors);

impl Contest for BackwardContest {
    fn name(&self) -> String {
        "residual + layer norm backward".into()
    }

    fn calls(&self) -> usize {
        2 * LAYERS
    }

    fn sets(&self) -> usize {
        self.0.sets.len()
    }

    fn settings(&self) -> &'static [&'static str] {
        &["2 rows, 2 vectors", "4 rows, 1 vector", "8 rows, 1 vector"]
    }

    fn shipped(&mut self, ctx: &Ctx, set: usize) {
        let t = &mut self.0;
        let [dout, dsum, sum, total, mean, rstd] = &mut t.sets[set];
        let (dw, db, dsum) = (&mut t.dweight, &mut t.dbias, Some(&dsum[..]));
        residual_layernorm_backward(ctx, total, dw, db, dout, dsum, sum, mean, rstd, &t.weight, Store, Store)
            .expect("shapes agree");
    }

    fn variant(&mut self, ctx: &Ctx, set: usize, setting: usize) {
        let t = &mut self.0;
        let [dout, dsum, x, total, mean, rstd] = &mut t.sets[set];
        let (isa, weight) = (ctx.isa(), &t.weight[..]);
        // Four blocks a thread, so that none waits long for the other; of whole groups of rows.
        let block = t.rows.div_ceil(4 * ctx.threads()).next_multiple_of(8);
        let blocks = t.rows.div_ceil(block);
        let mut partial = ctx.scratch(blocks * 2 * C);
        let parts = (RowsMut::new(total, block * C), RowsMut::new(&mut partial, 2 * C));
        for_each_rows(ctx, parts, blocks, 1, |i, (total, partial)| {
            let (total, (dweight, dbias)) = (total.into_slice(), partial.into_slice().split_at_mut(C));
            let here = i * block * C..i * block * C + total.len();
            let (mean, rstd) = (&mean[i * block..], &rstd[i * block..]);
            let (dout, dsum, x) = (&dout[here.clone()], &dsum[here.clone()], &x[here]);
            let b = Backward { total, dweight, dbias, dout, dsum, x, mean, rstd, weight };
            match setting {
                0 => dispatch_on(isa, BackwardBy::<2, 2>(b)),
                1 => dispatch_on(isa, BackwardBy::<4, 1>(b)),
                _ => dispatch_on(isa, BackwardBy::<8, 1>(b)),
            }
        });
        dispatch_on(isa, AddPartials { dweight: &mut t.dweight, dbias: &mut t.dbias, partial: &partial });
    }

    fn outputs(&mut self, set: usize) -> Vec<&mut [f32]> {
        vec![&mut self.0.sets[set][3], &mut self.0.dweight, &mut self.0.dbias]
    }
}

struct Backward<'a> {
    total: &'a mut [f32],
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
    dout: &'a [f32],
    dsum: &'a [f32],
    x: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    weight: &'a [f32],
}

/// N rows at once, U vectors for each of their sums.
struct BackwardBy<'a, const N: usize, const U: usize>(Backward<'a>);

impl<const N: usize, const U: usize> Kernel for BackwardBy<'_, N, U> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.0.dweight.fill(0.0);
        self.0.dbias.fill(0.0);
        let (rows, mut r) = (self.0.total.len() / C, 0);
        while r + N <= rows {
            self.0.rows::<S, N, U>(s, r);
            r += N;
        }
        while r < rows {
            self.0.rows::<S, 1, U>(s, r);
            r += 1;
        }
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn rows<S: Simd, const N: usize, const U: usize>(&mut self, s: S, first: usize) {
        let at = |r: usize| (first + r) * C..(first + r + 1) * C;
        let (mut sum_g, mut sum_gx) = ([[s.zero(); U]; N], [[s.zero(); U]; N]);
        for i in (0..C).step_by(U * LANES) {
            for r in 0..N {
                let (dout, x) = (&self.dout[at(r)][i..i + U * LANES], &self.x[at(r)][i..i + U * LANES]);
                for u in 0..U {
                    let g = s.mul(s.load(&dout[u * LANES..]), s.load(&self.weight[i + u * LANES..]));
                    sum_g[r][u] = s.add(sum_g[r][u], g);
                    sum_gx[r][u] = s.mul_add(g, s.load(&x[u * LANES..]), sum_gx[r][u]);
                }
            }
        }
        // x̂ = x·rstd + shift, dx = g·rstd + x·slope + offset
        let (mut scale, mut shift) = ([s.zero(); N], [s.zero(); N]);
        let (mut slope, mut offset) = ([s.zero(); N], [s.zero(); N]);
        for r in 0..N {
            let (mut g, mut gx) = (sum_g[r][0], sum_gx[r][0]);
            for u in 1..U {
                (g, gx) = (s.add(g, sum_g[r][u]), s.add(gx, sum_gx[r][u]));
            }
            let (mean, rstd) = (self.mean[first + r], self.rstd[first + r]);
            let (g, gx) = (s.reduce_add(g), s.reduce_add(gx));
            let (mean_g, mean_gx) = (g / C as f32, rstd * (gx - mean * g) / C as f32);
            let by_x = -rstd * rstd * mean_gx;
            (scale[r], shift[r]) = (s.splat(rstd), s.splat(-mean * rstd));
            (slope[r], offset[r]) = (s.splat(by_x), s.splat(-mean * by_x - rstd * mean_g));
        }
        for i in (0..C).step_by(LANES) {
            let weight = s.load(&self.weight[i..]);
            let (mut dweight, mut dbias) = (s.load(&self.dweight[i..]), s.load(&self.dbias[i..]));
            for r in 0..N {
                let (dy, x) = (s.load(&self.dout[at(r)][i..]), s.load(&self.x[at(r)][i..]));
                dweight = s.mul_add(dy, s.mul_add(x, scale[r], shift[r]), dweight);
                dbias = s.add(dbias, dy);
                let rest = s.add(s.load(&self.dsum[at(r)][i..]), s.mul_add(x, slope[r], offset[r]));
                s.store(&mut self.total[at(r)][i..], s.mul_add(s.mul(dy, weight), scale[r], rest));
            }
            s.store(&mut self.dweight[i..], dweight);
            s.store(&mut self.dbias[i..], dbias);
        }
    }
}

/// dγ and dβ from those of the blocks, (blocks, 2C).
struct AddPartials<'a> {
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
    partial: &'a [f32],
}

impl Kernel for AddPartials<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (out, first) in [(self.dweight, 0), (self.dbias, C)] {
            for i in (0..C).step_by(LANES) {
                let mut sum = s.zero();
                for block in self.partial.chunks_exact(2 * C) {
                    sum = s.add(sum, s.load(&block[first + i..]));
                }
                s.store(&mut out[i..], sum);
            }
        }
    }
}
