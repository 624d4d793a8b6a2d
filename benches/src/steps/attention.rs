//! Causal attention of one sequence, forward in five steps and backward in three.

use super::Step;
use longhand_tensor::attention::{self, Attention, Mask, Seq};
use longhand_tensor::kernels::softmax_forward;
use longhand_tensor::matmul::{Epilogue, matmul};
use longhand_tensor::simd::{Kernel, Simd, dispatch_on};
use longhand_tensor::{Accumulate::Store, Ctx, MatMut, MatRef};

/// T tokens, NH heads of HS channels; rows q | k | v of 3·C floats, C = NH·HS.
#[derive(Clone, Copy)]
pub struct Shape {
    /// T.
    pub t: usize,
    /// NH.
    pub heads: usize,
    /// HS.
    pub hs: usize,
}

impl Shape {
    fn c(self) -> usize {
        self.heads * self.hs
    }

    fn scale(self) -> f32 {
        1.0 / (self.hs as f32).sqrt()
    }
}

/// 1 and 2: the equations as loops. T × T scores, softmax, P·V, for the first `heads` heads. `CLIPPED` loops go to the
/// diagonal; the others compute all and mask.
pub struct Loops<'a, const CLIPPED: bool> {
    /// (T, C).
    pub out: &'a mut [f32],
    /// (T, 3C).
    pub qkv: &'a [f32],
    /// T × T.
    pub scores: &'a mut [f32],
    /// The whole layer's.
    pub shape: Shape,
    /// Heads to compute.
    pub heads: usize,
}

impl<const CLIPPED: bool> Kernel for Loops<'_, CLIPPED> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Loops { out, qkv, scores, shape, heads } = self;
        let (t, hs, c, scale) = (shape.t, shape.hs, shape.c(), shape.scale());
        for h in 0..heads {
            for i in 0..t {
                let (keys, q) = (if CLIPPED { i + 1 } else { t }, &qkv[i * 3 * c + h * hs..][..hs]);
                for j in 0..keys {
                    let k = &qkv[j * 3 * c + c + h * hs..][..hs];
                    let mut sum = 0.0f32;
                    for d in 0..hs {
                        sum = q[d].mul_add(k[d], sum);
                    }
                    scores[i * t + j] = if j <= i { sum * scale } else { f32::NEG_INFINITY };
                }
            }
            for i in 0..t {
                let row = &mut scores[i * t..][..if CLIPPED { i + 1 } else { t }];
                let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
                for s in &*row {
                    max = if *s > max { *s } else { max };
                }
                for s in &mut *row {
                    *s = libm::expf(*s - max);
                    sum += *s;
                }
                for s in row {
                    *s /= sum;
                }
            }
            for i in 0..t {
                let o = &mut out[i * c + h * hs..][..hs];
                o.fill(0.0);
                for j in 0..if CLIPPED { i + 1 } else { t } {
                    let (p, v) = (scores[i * t + j], &qkv[j * 3 * c + 2 * c + h * hs..][..hs]);
                    for d in 0..hs {
                        o[d] = p.mul_add(v[d], o[d]);
                    }
                }
            }
        }
    }
}

/// Rows of head `h` in part `part` (q, k or v) of the rows of 3·C floats.
fn part(qkv: &[f32], x: Shape, part: usize, h: usize) -> MatRef<'_> {
    MatRef::strided(&qkv[part * x.c() + h * x.hs..], x.t, x.hs, 3 * x.c(), 1).expect("qkv is (T, 3C)")
}

/// The same part of a gradient.
fn part_mut(dqkv: &mut [f32], x: Shape, part: usize, h: usize) -> MatMut<'_> {
    MatMut::strided(&mut dqkv[part * x.c() + h * x.hs..], x.t, x.hs, 3 * x.c()).expect("dqkv is (T, 3C)")
}

/// A T × T matrix.
fn square(x: &[f32], t: usize) -> MatRef<'_> {
    MatRef::new(x, t, t).expect("T × T floats")
}

fn product(ctx: &Ctx, c: MatMut, a: MatRef, b: MatRef) {
    matmul(ctx, c, a, b, Store, Epilogue::default()).expect("shapes agree");
}

/// P of head `h`: S = Q·Kᵀ whole, scaled and masked, and the softmax of its rows.
fn probabilities(ctx: &Ctx, p: &mut [f32], s: &mut [f32], qkv: &[f32], x: Shape, h: usize) {
    product(ctx, MatMut::new(s, x.t, x.t).expect("T × T"), part(qkv, x, 0, h), part(qkv, x, 1, h).t());
    for (i, row) in s.chunks_exact_mut(x.t).enumerate() {
        row[..=i].iter_mut().for_each(|s| *s *= x.scale());
        row[i + 1..].fill(f32::NEG_INFINITY);
    }
    softmax_forward(ctx, p, s, x.t).expect("shapes agree");
}

/// 3: both products by `matmul`, on whole T × T squares.
pub fn squares(ctx: &Ctx, out: &mut [f32], qkv: &[f32], x: Shape, [s, p]: [&mut [f32]; 2]) {
    for h in 0..x.heads {
        probabilities(ctx, p, s, qkv, x, h);
        let o = MatMut::strided(&mut out[h * x.hs..], x.t, x.hs, x.c()).expect("out is (T, C)");
        product(ctx, o, square(p, x.t), part(qkv, x, 2, h));
    }
}

/// The backward with `matmul` on whole squares: the five products as the equations have them.
pub fn squares_backward(
    ctx: &Ctx,
    dqkv: &mut [f32],
    dout: &[f32],
    out: &[f32],
    qkv: &[f32],
    x: Shape,
    [s, p]: [&mut [f32]; 2],
) {
    let (t, hs, c) = (x.t, x.hs, x.c());
    for h in 0..x.heads {
        let (q, k, v) = (part(qkv, x, 0, h), part(qkv, x, 1, h), part(qkv, x, 2, h));
        let do_ = MatRef::strided(&dout[h * hs..], t, hs, c, 1).expect("dout is (T, C)");
        probabilities(ctx, p, s, qkv, x, h);
        product(ctx, part_mut(dqkv, x, 2, h), square(p, t).t(), do_); // dV = Pᵀ·dO
        product(ctx, MatMut::new(s, t, t).expect("T × T"), do_, v.t()); // dP = dO·Vᵀ
        for i in 0..t {
            let (p, ds, mut d) = (&p[i * t..][..t], &mut s[i * t..][..t], 0.0f32);
            for (x, y) in dout[i * c + h * hs..][..hs].iter().zip(&out[i * c + h * hs..][..hs]) {
                d += x * y;
            }
            for j in 0..t {
                ds[j] = x.scale() * p[j] * (ds[j] - d); // scale·dS = scale·P∘(dP − D); masked: P = 0
            }
        }
        product(ctx, part_mut(dqkv, x, 0, h), square(s, t), k); // dQ = scale·dS·K
        product(ctx, part_mut(dqkv, x, 1, h), square(s, t).t(), q); // dK = scale·dSᵀ·Q
    }
}

/// The operands and the results of the steps.
pub struct Bench {
    shape: Shape,
    qkv: Vec<f32>,
    dout: Vec<f32>,
    out: [Vec<f32>; 5],
    lse: [Vec<f32>; 2],
    dqkv: [Vec<f32>; 3],
    seqs: [Seq; 1],
}

impl Bench {
    /// Numbers for a layer of that shape.
    pub fn new(shape: Shape) -> Self {
        let (t, c) = (shape.t, shape.c());
        Bench {
            shape,
            qkv: super::numbers(1, t * 3 * c),
            dout: super::numbers(2, t * c),
            out: core::array::from_fn(|_| vec![0.0; t * c]),
            lse: core::array::from_fn(|_| vec![0.0; t * shape.heads]),
            dqkv: core::array::from_fn(|_| vec![0.0; t * 3 * c]),
            seqs: [Seq { queries: t, keys: t }],
        }
    }

    /// The useful half of the two products: 2·NH·T²·HS. The backward has 2.5 times as many.
    pub fn flops(&self) -> f64 {
        (2 * self.shape.heads * self.shape.t * self.shape.t * self.shape.hs) as f64
    }

    /// What the shipped kernels call such a layer.
    fn layer(&self) -> Attention<'static> {
        let Shape { heads, hs, .. } = self.shape;
        Attention { heads, head_size: hs, mask: Mask::Causal, dropout: None, scale: self.shape.scale() }
    }

    /// The steps of the forward, from `first` (0 ..= 4) on; the plain loops do one head of all.
    pub fn forward<'a>(&'a mut self, ctx: &'a Ctx, first: usize) -> Vec<Step<'a>> {
        let (att, isa) = (self.layer(), ctx.isa());
        let Bench { shape, ref qkv, ref mut out, ref mut lse, ref seqs, .. } = *self;
        let ([o1, o2, o3, o4, o5], [l4, l5]) = (out, lse);
        let square = || vec![0.0; shape.t * shape.t];
        let (mut s1, mut s2, mut s3, mut p3) = (square(), square(), square(), square());
        let part = 1.0 / shape.heads as f64;
        let mut steps = vec![
            Step::new("1 plain loops, all keys, then the mask", move || {
                dispatch_on(isa, Loops::<false> { out: o1, qkv, scores: &mut s1, shape, heads: 1 });
            })
            .of(part),
            Step::new("2 plain loops to the diagonal", move || {
                dispatch_on(isa, Loops::<true> { out: o2, qkv, scores: &mut s2, shape, heads: 1 });
            })
            .of(part),
            Step::new("3 matmul on whole squares", move || squares(ctx, o3, qkv, shape, [&mut s3, &mut p3])),
            Step::new("4 naive: by rows, to the diagonal", move || {
                attention::attention_naive_forward(ctx, o4, l4, qkv, seqs, &att).expect("shapes agree");
            }),
            Step::new("5 fused: by tiles, to the diagonal", move || {
                attention::attention_forward(ctx, o5, l5, qkv, seqs, &att).expect("shapes agree");
            }),
        ];
        steps.split_off(first)
    }

    /// The steps of the backward, which read what the fused forward wrote.
    pub fn backward<'a>(&'a mut self, ctx: &'a Ctx) -> Vec<Step<'a>> {
        let att = self.layer();
        let Bench { shape, ref qkv, ref dout, ref out, ref lse, ref mut dqkv, ref seqs } = *self;
        let ([d1, d2, d3], out, lse) = (dqkv, &out[4], &lse[1]);
        let (mut s, mut p) = (vec![0.0; shape.t * shape.t], vec![0.0; shape.t * shape.t]);
        vec![
            Step::new("1 matmul on whole squares", move || {
                squares_backward(ctx, d1, dout, out, qkv, shape, [&mut s, &mut p]);
            }),
            Step::new("2 naive: by rows, to the diagonal", move || {
                let done = attention::attention_naive_backward(ctx, d2, dout, qkv, out, lse, seqs, &att, Store);
                done.expect("shapes agree");
            }),
            Step::new("3 fused: by tiles, to the diagonal", move || {
                attention::attention_backward(ctx, d3, dout, qkv, out, lse, seqs, &att, Store).expect("shapes agree");
            }),
        ]
    }

    /// Panics where a step's outputs, from step `first` on, or gradients differ from the shipped kernel's: naive in one
    /// bit, the others, whose exponential is another one, by more than rounding.
    pub fn check(&self, first: usize) {
        let (c, hs) = (self.shape.c(), self.shape.hs);
        for (step, out) in self.out.iter().enumerate().skip(first) {
            let len = if step < 2 { hs } else { c };
            for (got, want) in out.chunks_exact(c).zip(self.out[4].chunks_exact(c)) {
                super::agree(&got[..len], &want[..len], if step < 3 { 1e-5 } else { 0.0 }, step + 1);
            }
        }
        for (step, dqkv) in self.dqkv.iter().enumerate() {
            super::agree(dqkv, &self.dqkv[2], if step < 1 { 1e-4 } else { 0.0 }, step + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_tensor::Isa;

    #[test]
    fn every_step_gives_the_same_attention() {
        for isa in Isa::available() {
            let ctx = Ctx::new(isa).with_threads(1);
            for t in [1, 50, 129] {
                let mut bench = Bench::new(Shape { t, heads: 2, hs: 24 });
                bench.forward(&ctx, 0).into_iter().for_each(|mut s| (s.run)());
                bench.backward(&ctx).into_iter().for_each(|mut s| (s.run)());
                bench.check(0);
            }
        }
    }
}
