//! What heads are made of: runs, scores, pools and mixes.

use super::{Op, Tensors, noise, unset, zeros};
use crate::kernels::{self, IGNORE, Pool};
use crate::reference::{self, Arith, Real};
use crate::{Accumulate, Ctx, Result};

const STORE: Accumulate = Accumulate::Store;
/// The weight of a loss in what is minimised: one of 37, rounded.
const WEIGHT: f32 = 1.0 / 37.0;

/// Cross-entropy of runs of several lengths, one of which does not count.
#[derive(Clone, Copy, Debug)]
pub struct RunsCase {
    /// S.
    pub runs: usize,
    /// Elements of the longest run.
    pub longest: usize,
}

impl RunsCase {
    fn lens(&self) -> Vec<usize> {
        (0..self.runs).map(|s| self.longest.saturating_sub(s % 3).max(1)).collect()
    }
    fn targets(&self) -> Vec<u32> {
        let target = |(s, len): (usize, &usize)| if s % 5 == 2 { IGNORE } else { (s * 7 % len) as u32 };
        self.lens().iter().enumerate().map(target).collect()
    }
    fn all<A: Arith>(&self, inp: &[Vec<A::T>], weights: &[A::T]) -> [Vec<A::T>; 2] {
        let (mut losses, mut dinp) = (zeros(self.runs), zeros(inp[0].len()));
        let (lens, targets) = (self.lens(), self.targets());
        reference::cross_entropy_of_runs::<A>(&mut losses, &mut dinp, &inp[0], &lens, &targets, weights);
        [losses, dinp]
    }
    fn run(&self, ctx: &Ctx, inp: &[f32], weights: &[f32], dinp: Option<&mut [f32]>) -> Result<Vec<f32>> {
        let (mut losses, lens, targets) = (unset(self.runs), self.lens(), self.targets());
        let dinp = dinp.map(|d| (d, STORE));
        kernels::cross_entropy_of_runs(ctx, &mut losses, dinp, inp, &lens, &targets, weights)?;
        Ok(losses)
    }
}

impl Op for RunsCase {
    fn name(&self) -> &'static str {
        "cross_entropy_of_runs"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        RunsCase { runs: rows, longest: cols.max(1) }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.lens().iter().sum()))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["losses"]
    }
    fn upstream(&self, lens: &[usize]) -> Tensors<f32> {
        vec![vec![WEIGHT; lens[0]]]
    }
    fn flops(&self) -> u64 {
        4 * self.lens().iter().sum::<usize>() as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let [losses, _] = self.all::<A>(inp, &zeros(self.runs));
        vec![losses]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let [_, dinp] = self.all::<A>(inp, &dout[0]);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Ok(vec![self.run(ctx, &inp[0], &vec![0.0; self.runs], None)?])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut dinp = unset(inp[0].len());
        self.run(ctx, &inp[0], &dout[0], Some(&mut dinp))?;
        Ok(vec![dinp])
    }
}

/// Squared errors of scores; what they are compared with is an input without interest, and so fixed.
#[derive(Clone, Copy, Debug)]
pub struct SquaredErrorsCase {
    /// R.
    pub n: usize,
}

impl SquaredErrorsCase {
    fn targets(&self) -> Vec<f32> {
        noise(2, self.n)
    }
    fn all<A: Arith>(&self, inp: &[Vec<A::T>], weights: &[A::T]) -> [Vec<A::T>; 2] {
        let (mut losses, mut dinp) = (zeros(self.n), zeros(self.n));
        let targets: Vec<A::T> = self.targets().iter().map(|t| A::T::from_f64(*t as f64)).collect();
        reference::squared_errors::<A>(&mut losses, &mut dinp, &inp[0], &targets, weights);
        [losses, dinp]
    }
}

impl Op for SquaredErrorsCase {
    fn name(&self) -> &'static str {
        "squared_errors"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        SquaredErrorsCase { n: rows * cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["losses"]
    }
    fn flops(&self) -> u64 {
        2 * self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let [losses, _] = self.all::<A>(inp, &zeros(self.n));
        vec![losses]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let [_, dinp] = self.all::<A>(inp, &dout[0]);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut losses, targets) = (unset(self.n), self.targets());
        kernels::squared_errors(ctx, &mut losses, None, &inp[0], &targets, &vec![0.0; self.n])?;
        Ok(vec![losses])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut losses, mut dinp, targets) = (unset(self.n), unset(self.n), self.targets());
        kernels::squared_errors(ctx, &mut losses, Some((&mut dinp, STORE)), &inp[0], &targets, &dout[0])?;
        Ok(vec![dinp])
    }
}

/// One row from each run of rows, one of which is empty.
#[derive(Clone, Copy, Debug)]
pub struct PoolCase {
    /// The variant.
    pub name: &'static str,
    /// Mean or greatest.
    pub pool: Pool,
    /// Rows of the first run; the others have fewer.
    pub rows: usize,
    /// C.
    pub c: usize,
}

impl PoolCase {
    fn lens(&self) -> [usize; 3] {
        [self.rows, 0, self.rows / 2]
    }
}

impl Op for PoolCase {
    fn name(&self) -> &'static str {
        self.name
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        PoolCase { rows, c: cols.max(1), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.lens().iter().sum::<usize>() * self.c))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        (self.lens().iter().sum::<usize>() * self.c) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(3 * self.c);
        reference::pool_forward::<A>(&mut out, &inp[0], &self.lens(), self.c, self.pool);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut dinp = zeros(inp[0].len());
        reference::pool_backward::<A>(&mut dinp, &dout[0], &inp[0], &self.lens(), self.c, self.pool, STORE);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(3 * self.c);
        kernels::pool_forward(ctx, &mut out, &inp[0], &self.lens(), self.c, self.pool)?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut dinp = unset(inp[0].len());
        kernels::pool_backward(ctx, &mut dinp, &dout[0], &inp[0], &self.lens(), self.c, self.pool, STORE)?;
        Ok(vec![dinp])
    }
}

/// A learned mean of three tensors.
#[derive(Clone, Copy, Debug)]
pub struct MixCase {
    /// Elements of a tensor.
    pub n: usize,
}

impl Op for MixCase {
    fn name(&self) -> &'static str {
        "mix"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        MixCase { n: rows * cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let [x, y, z] = [1, 2, 3].map(|i| noise(i, self.n));
        vec![("x_0", x), ("x_1", y), ("x_2", z), ("weights", vec![0.5, -0.75, 0.25, 1.5])]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        6 * self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(self.n);
        reference::mix_forward::<A>(&mut out, &[&inp[0], &inp[1], &inp[2]], &inp[3]);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let ([mut x, mut y, mut z], mut w) = ([0, 1, 2].map(|_| zeros(self.n)), zeros(4));
        let xs = [&inp[0][..], &inp[1], &inp[2]];
        reference::mix_backward::<A>(&mut [&mut x, &mut y, &mut z], &mut w, &dout[0], &xs, &inp[3]);
        vec![x, y, z, w]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (shares, mut out) = (kernels::mix_weights(&inp[3], 3)?, unset(self.n));
        for l in 0..3 {
            let acc = if l == 0 { STORE } else { Accumulate::Add };
            kernels::add_scaled(ctx, &mut out, &inp[l], shares.of(l), acc)?;
        }
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (shares, mut dots, mut all) = (kernels::mix_weights(&inp[3], 3)?, Vec::new(), Vec::new());
        for l in 0..3 {
            let mut d = unset(self.n);
            kernels::add_scaled(ctx, &mut d, &dout[0], shares.of(l), STORE)?;
            all.push(d);
            dots.push(kernels::dot(ctx, &dout[0], &inp[l])?);
        }
        let mut dweights = unset(4);
        shares.backward(&mut dweights, &dots, STORE);
        all.push(dweights);
        Ok(all)
    }
}
