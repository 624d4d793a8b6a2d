//! The row kernels.

use super::{Op, Tensors, ids, noise, targets, unset, zeros};
use crate::kernels::{self, AdamW, GeluKind, LinearCrossEntropyGrads};
use crate::random::{Philox, Site, SiteKind};
use crate::reference::{self, Arith, Real};
use crate::{Accumulate, Ctx, Result};

const STORE: Accumulate = Accumulate::Store;
const EPS: f32 = 1e-5;

/// Softmax of rows of `n`.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCase {
    /// R.
    pub rows: usize,
    /// N.
    pub n: usize,
}

impl Op for SoftmaxCase {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        SoftmaxCase { rows, n: cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.rows * self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        (5 * self.rows * self.n) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(inp[0].len());
        reference::softmax_forward::<A>(&mut out, &inp[0], self.n);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let (out, mut dinp) = (self.reference_forward::<A>(inp), zeros(inp[0].len()));
        reference::softmax_backward::<A>(&mut dinp, &dout[0], &out[0], self.n, STORE);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(inp[0].len());
        kernels::softmax_forward(ctx, &mut out, &inp[0], self.n)?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut dinp = unset(inp[0].len());
        kernels::softmax_backward(ctx, &mut dinp, &dout[0], &out[0], self.n, STORE)?;
        Ok(vec![dinp])
    }
}

/// Layer norm, alone or of a residual sum, of which both the sum and the norm are used.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormCase {
    /// The variant.
    pub name: &'static str,
    /// Of a sum.
    pub residual: bool,
    /// R.
    pub rows: usize,
    /// C.
    pub c: usize,
}

impl Op for LayerNormCase {
    fn name(&self) -> &'static str {
        self.name
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        LayerNormCase { rows, c: cols.max(1), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let n = self.rows * self.c;
        let params = [("weight", noise(3, self.c)), ("bias", noise(4, self.c))];
        let mut inputs =
            if self.residual { vec![("a", noise(1, n)), ("b", noise(2, n))] } else { vec![("inp", noise(1, n))] };
        inputs.extend(params);
        inputs
    }
    fn outputs(&self) -> &'static [&'static str] {
        if self.residual { &["out", "sum", "mean", "rstd"] } else { &["out", "mean", "rstd"] }
    }
    fn upstream(&self, lens: &[usize]) -> Tensors<f32> {
        (0..1 + self.residual as usize).map(|i| noise(90 + i as u64, lens[i])).collect()
    }
    fn flops(&self) -> u64 {
        ((7 + self.residual as usize) * self.rows * self.c) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let (n, rows, eps) = (inp[0].len(), self.rows, A::T::from_f64(EPS as f64));
        let (mut out, mut sum, mut mean, mut rstd) = (zeros(n), zeros(n), zeros(rows), zeros(rows));
        match inp {
            [a, b, weight, bias] => reference::residual_layernorm_forward::<A>(
                &mut sum, &mut out, &mut mean, &mut rstd, a, b, weight, bias, eps,
            ),
            _ => reference::layernorm_forward::<A>(&mut out, &mut mean, &mut rstd, &inp[0], &inp[1], &inp[2], eps),
        }
        if self.residual { vec![out, sum, mean, rstd] } else { vec![out, mean, rstd] }
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let out = self.reference_forward::<A>(inp);
        let (mut dx, mut dw, mut db) = (zeros(inp[0].len()), zeros(self.c), zeros(self.c));
        if let [_, sum, mean, rstd] = &out[..] {
            let (dsum, weight) = (Some(&dout[1][..]), &inp[2]);
            reference::residual_layernorm_backward::<A>(
                &mut dx, &mut dw, &mut db, &dout[0], dsum, sum, mean, rstd, weight, STORE, STORE,
            );
            return vec![dx.clone(), dx, dw, db];
        }
        let (x, weight, mean, rstd) = (&inp[0], &inp[1], &out[1], &out[2]);
        reference::layernorm_backward::<A>(&mut dx, &mut dw, &mut db, &dout[0], x, mean, rstd, weight, STORE, STORE);
        vec![dx, dw, db]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (n, rows) = (inp[0].len(), self.rows);
        let (mut out, mut sum, mut mean, mut rstd) = (unset(n), unset(n), unset(rows), unset(rows));
        let saved = (&mut mean, &mut rstd);
        if let [a, b, weight, bias] = inp {
            kernels::residual_layernorm_forward(ctx, &mut sum, &mut out, saved.0, saved.1, a, b, weight, bias, EPS)?;
            return Ok(vec![out, sum, mean, rstd]);
        }
        kernels::layernorm_forward(ctx, &mut out, saved.0, saved.1, &inp[0], &inp[1], &inp[2], EPS)?;
        Ok(vec![out, mean, rstd])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut dx, mut dw, mut db) = (unset(inp[0].len()), unset(self.c), unset(self.c));
        if let [_, sum, mean, rstd] = out {
            let (dsum, weight) = (Some(&dout[1][..]), &inp[2]);
            kernels::residual_layernorm_backward(
                ctx, &mut dx, &mut dw, &mut db, &dout[0], dsum, sum, mean, rstd, weight, STORE, STORE,
            )?;
            return Ok(vec![dx.clone(), dx, dw, db]);
        }
        let (x, weight, mean, rstd) = (&inp[0], &inp[1], &out[1], &out[2]);
        kernels::layernorm_backward(ctx, &mut dx, &mut dw, &mut db, &dout[0], x, mean, rstd, weight, STORE, STORE)?;
        Ok(vec![dx, dw, db])
    }
}

/// GELU in one of its forms.
#[derive(Clone, Copy, Debug)]
pub struct GeluCase {
    /// The variant.
    pub name: &'static str,
    /// The form.
    pub kind: GeluKind,
    /// Elements.
    pub n: usize,
}

impl Op for GeluCase {
    fn name(&self) -> &'static str {
        self.name
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        GeluCase { n: rows * cols, ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.n).iter().map(|x| 2.0 * x).collect())]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        8 * self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(self.n);
        reference::gelu_forward::<A>(&mut out, &inp[0], self.kind);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut dinp = zeros(self.n);
        reference::gelu_backward::<A>(&mut dinp, &dout[0], &inp[0], self.kind, STORE);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(self.n);
        kernels::gelu_forward(ctx, &mut out, &inp[0], self.kind)?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut dinp = unset(self.n);
        kernels::gelu_backward(ctx, &mut dinp, &dout[0], &inp[0], self.kind, STORE)?;
        Ok(vec![dinp])
    }
}

/// out = a + b.
#[derive(Clone, Copy, Debug)]
pub struct ResidualCase {
    /// Elements.
    pub n: usize,
}

impl Op for ResidualCase {
    fn name(&self) -> &'static str {
        "residual"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        ResidualCase { n: rows * cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("a", noise(1, self.n)), ("b", noise(2, self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(self.n);
        reference::residual_forward::<A>(&mut out, &inp[0], &inp[1]);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, _: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut d = zeros(self.n);
        reference::residual_backward::<A>(&mut d, &dout[0], STORE);
        vec![d.clone(), d]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(self.n);
        kernels::residual_forward(ctx, &mut out, &inp[0], &inp[1])?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, _: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut d = unset(self.n);
        kernels::residual_backward(ctx, &mut d, &dout[0], STORE)?;
        Ok(vec![d.clone(), d])
    }
}

/// Rows of a token table plus rows of a position table of as many rows.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingCase {
    /// R.
    pub rows: usize,
    /// Rows of either table.
    pub v: usize,
    /// C.
    pub c: usize,
}

impl EmbeddingCase {
    fn ids(&self) -> [Vec<u32>; 2] {
        [ids(5, self.rows, self.v), ids(6, self.rows, self.v)]
    }
}

impl Op for EmbeddingCase {
    fn name(&self) -> &'static str {
        "embedding"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        EmbeddingCase { rows, c: cols.max(1), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("wte", noise(1, self.v * self.c)), ("wpe", noise(2, self.v * self.c))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        (self.rows * self.c) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let (mut out, [tokens, positions]) = (zeros(self.rows * self.c), self.ids());
        reference::embedding_forward::<A>(&mut out, &tokens, &positions, &inp[0], &inp[1], self.c);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let (mut te, mut pe, [tokens, positions]) = (zeros(inp[0].len()), zeros(inp[1].len()), self.ids());
        reference::embedding_backward::<A>(&mut te, &mut pe, &dout[0], &tokens, &positions, self.c, STORE, STORE);
        vec![te, pe]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut out, [tokens, positions]) = (unset(self.rows * self.c), self.ids());
        kernels::embedding_forward(ctx, &mut out, &tokens, &positions, &inp[0], &inp[1])?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut te, mut pe, [tokens, positions]) = (unset(inp[0].len()), unset(inp[1].len()), self.ids());
        kernels::embedding_backward(ctx, &mut te, &mut pe, &dout[0], &tokens, &positions, self.c, STORE, STORE)?;
        Ok(vec![te, pe])
    }
}

/// Rows picked from a tensor, whose backward scatters.
#[derive(Clone, Copy, Debug)]
pub struct GatherCase {
    /// Rows picked; some more than once.
    pub rows: usize,
    /// Rows to pick from.
    pub from: usize,
    /// C.
    pub c: usize,
}

impl GatherCase {
    fn picked(&self) -> Vec<usize> {
        ids(5, self.rows, self.from).iter().map(|&r| r as usize).collect()
    }
}

impl Op for GatherCase {
    fn name(&self) -> &'static str {
        "gather_rows"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        GatherCase { rows, c: cols.max(1), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.from * self.c))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        0
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(self.rows * self.c);
        reference::gather_rows::<A>(&mut out, &inp[0], &self.picked(), self.c);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut dinp = zeros(inp[0].len());
        reference::scatter_rows_add::<A>(&mut dinp, &dout[0], &self.picked(), self.c);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(self.rows * self.c);
        kernels::gather_rows(ctx, &mut out, &inp[0], &self.picked(), self.c)?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        // The scatter adds to what is there.
        let mut dinp = vec![0.0; inp[0].len()];
        kernels::scatter_rows_add(ctx, &mut dinp, &dout[0], &self.picked(), self.c)?;
        Ok(vec![dinp])
    }
}

/// Dropout in training.
#[derive(Clone, Copy, Debug)]
pub struct DropoutCase {
    /// Elements.
    pub n: usize,
    /// The share that is dropped.
    pub p: f32,
}

impl DropoutCase {
    /// Where the elements' draws begin.
    const FIRST: u64 = 77;

    fn rng(&self) -> Philox {
        Philox::new(3, Site::new(1, SiteKind::MlpResidualDropout), 2)
    }
}

impl Op for DropoutCase {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        DropoutCase { n: rows * cols, ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut out = zeros(self.n);
        reference::dropout_forward::<A>(&mut out, &inp[0], self.p, &self.rng(), Self::FIRST);
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, _: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut dinp = zeros(self.n);
        reference::dropout_backward::<A>(&mut dinp, &dout[0], self.p, &self.rng(), Self::FIRST, STORE);
        vec![dinp]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(self.n);
        kernels::dropout_forward(ctx, &mut out, &inp[0], self.p, &self.rng(), Self::FIRST)?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, _: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut dinp = unset(self.n);
        kernels::dropout_backward(ctx, &mut dinp, &dout[0], self.p, &self.rng(), Self::FIRST, STORE)?;
        Ok(vec![dinp])
    }
}

/// The weight of a row in what is minimised: one of 37 counted targets, rounded.
const SCALE: f32 = 1.0 / 37.0;

/// Cross-entropy of rows of logits, some targets ignored.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropyCase {
    /// R.
    pub rows: usize,
    /// V.
    pub v: usize,
}

impl Op for CrossEntropyCase {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        CrossEntropyCase { rows, v: cols.max(1) }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("logits", noise(1, self.rows * self.v))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["losses"]
    }
    fn upstream(&self, lens: &[usize]) -> Tensors<f32> {
        vec![vec![SCALE; lens[0]]]
    }
    fn flops(&self) -> u64 {
        (4 * self.rows * self.v) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut losses = zeros(self.rows);
        reference::cross_entropy_forward::<A>(&mut losses, &inp[0], &targets(self.rows, self.v), self.v);
        vec![losses]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let (mut d, targets) = (zeros(inp[0].len()), targets(self.rows, self.v));
        reference::cross_entropy_backward::<A>(&mut d, &inp[0], &targets, self.v, dout[0][0], STORE);
        vec![d]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut losses = unset(self.rows);
        kernels::cross_entropy_forward(ctx, &mut losses, &inp[0], &targets(self.rows, self.v), self.v)?;
        Ok(vec![losses])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut d, targets) = (unset(inp[0].len()), targets(self.rows, self.v));
        kernels::cross_entropy_backward(ctx, &mut d, &inp[0], &targets, self.v, dout[0][0].into(), STORE)?;
        Ok(vec![d])
    }
}

/// The output layer and its loss, whose gradients are made in the forward.
#[derive(Clone, Copy, Debug)]
pub struct LinearCrossEntropyCase {
    /// R.
    pub rows: usize,
    /// V.
    pub v: usize,
    /// C.
    pub c: usize,
}

impl LinearCrossEntropyCase {
    /// losses, dinp, dweight.
    fn all<A: Arith>(&self, inp: &[Vec<A::T>], scale: A::T) -> [Vec<A::T>; 3] {
        let (mut losses, mut dinp, mut dweight) = (zeros(self.rows), zeros(inp[0].len()), zeros(inp[1].len()));
        let (targets, v, c) = (targets(self.rows, self.v), self.v, self.c);
        let (x, w) = (&inp[0], &inp[1]);
        reference::linear_cross_entropy::<A>(&mut losses, &mut dinp, &mut dweight, x, w, &targets, v, c, scale);
        [losses, dinp, dweight]
    }
}

impl Op for LinearCrossEntropyCase {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        LinearCrossEntropyCase { rows, v: cols.max(1), c: cols.max(1) }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let x = noise(1, self.rows * self.c).iter().map(|x| 0.5 * x).collect();
        vec![("inp", x), ("weight", noise(2, self.v * self.c))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["losses"]
    }
    fn upstream(&self, lens: &[usize]) -> Tensors<f32> {
        vec![vec![SCALE; lens[0]]]
    }
    fn flops(&self) -> u64 {
        (self.rows * self.v * (2 * self.c + 4)) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let [losses, ..] = self.all::<A>(inp, A::T::ONE);
        vec![losses]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let [_, dinp, dweight] = self.all::<A>(inp, dout[0][0]);
        vec![dinp, dweight]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut losses, targets) = (unset(self.rows), targets(self.rows, self.v));
        kernels::linear_cross_entropy(ctx, &mut losses, None, &inp[0], &inp[1], &targets, self.v, self.c)?;
        Ok(vec![losses])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut dinp, mut dweight) = (unset(inp[0].len()), unset(inp[1].len()));
        let (mut losses, targets) = (unset(self.rows), targets(self.rows, self.v));
        let (acc_inp, acc_weight, weights) = (STORE, STORE, dout[0][0].into());
        let grads = LinearCrossEntropyGrads { dinp: &mut dinp, dweight: &mut dweight, acc_inp, acc_weight, weights };
        kernels::linear_cross_entropy(ctx, &mut losses, Some(grads), &inp[0], &inp[1], &targets, self.v, self.c)?;
        Ok(vec![dinp, dweight])
    }
}

/// One step of AdamW, the third.
#[derive(Clone, Copy, Debug)]
pub struct AdamWCase {
    /// Elements.
    pub n: usize,
}

impl AdamWCase {
    const OPTIONS: AdamW =
        AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 3, grad_scale: 0.7 };
}

impl Op for AdamWCase {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        AdamWCase { n: rows * cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let v = noise(3, self.n).iter().map(|x| x * x).collect();
        vec![("param", noise(1, self.n)), ("m", noise(2, self.n)), ("v", v), ("grad", noise(4, self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["param", "m", "v"]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn flops(&self) -> u64 {
        15 * self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let (mut param, mut m, mut v) = (inp[0].clone(), inp[1].clone(), inp[2].clone());
        reference::adamw_step::<A>(&mut param, &mut m, &mut v, &inp[3], &Self::OPTIONS);
        vec![param, m, v]
    }
    fn reference_backward<A: Arith>(&self, _: &[Vec<A::T>], _: &[Vec<A::T>]) -> Tensors<A::T> {
        Vec::new()
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (mut param, mut m, mut v) = (inp[0].clone(), inp[1].clone(), inp[2].clone());
        kernels::adamw_step(ctx, &mut param, &mut m, &mut v, &inp[3], &Self::OPTIONS)?;
        Ok(vec![param, m, v])
    }
    fn backward(&self, _: &Ctx, _: &[Vec<f32>], _: &[Vec<f32>], _: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Ok(Vec::new())
    }
}

/// The square of a gradient's norm.
#[derive(Clone, Copy, Debug)]
pub struct SumOfSquaresCase {
    /// Elements.
    pub n: usize,
}

impl Op for SumOfSquaresCase {
    fn name(&self) -> &'static str {
        "sum_of_squares"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        SumOfSquaresCase { n: rows * cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("inp", noise(1, self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["sum"]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn flops(&self) -> u64 {
        2 * self.n as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        vec![vec![reference::sum_of_squares::<A>(&inp[0])]]
    }
    fn reference_backward<A: Arith>(&self, _: &[Vec<A::T>], _: &[Vec<A::T>]) -> Tensors<A::T> {
        Vec::new()
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Ok(vec![vec![kernels::sum_of_squares(ctx, &inp[0])? as f32]])
    }
    fn backward(&self, _: &Ctx, _: &[Vec<f32>], _: &[Vec<f32>], _: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Ok(Vec::new())
    }
}
