//! Every case once: its name, what it computes and moves, and how to run it.
//!
//! ```text
//! matmul/MxNxK                        2·M·N·K flops            C = X·Wᵀ, W (N, K) row-major, as a linear layer has it
//! matmul_packed/MxNxK                 2·M·N·K                  the same with W packed before
//! attention_forward/bBhNHtTdHS        2·B·NH·T²·HS             causal: the useful half of 4·B·NH·T²·HS
//! attention_forward_backward/…        3.5 times that           forward, and 2.5 times it backward
//! rowwise/OP/RxC                      see `rowwise`            an exponential counts as `EXP`
//! linear_cross_entropy/RxVxC          6·R·V·C                  logits and both gradients
//! adamw/N                             14·N                     28·N bytes: 4 streams read, 3 written
//! train_step/bBtT/f32                 `TrainStep::flops`       GPT-2 124M
//! ```
//!
//! Bytes: each tensor once. Names of matmul, causal attention and the training step are those of the PyTorch scripts
//! that they are paired with.

use crate::streams::Traffic;
use crate::train_step::TrainStep;
use longhand_gpt::model::Gpt;
use longhand_tensor::attention::{self, Attention, Mask, Seq};
use longhand_tensor::kernels::{self, AdamW, GeluKind, LinearCrossEntropyGrads};
use longhand_tensor::matmul::{Epilogue, Weight, matmul};
use longhand_tensor::random::{Philox, Site, SiteKind};
use longhand_tensor::{Accumulate::Store, Ctx, MatMut, MatRef};
use std::sync::Arc;

/// Something to run and time.
pub type Run = Box<dyn FnMut(&Ctx) + Send>;

/// A case of the table.
pub struct Case {
    /// `matmul/1024x1024x1024`.
    pub name: String,
    /// Floating-point operations of a run, the useful ones.
    pub flops: f64,
    /// Bytes that a run has to move: each tensor once.
    pub bytes: f64,
    /// The stream that moves bytes as this case does.
    pub traffic: Traffic,
    /// Whether its rate is quoted in flops or in bytes a second.
    pub quoted: Quoted,
    /// Allocates the tensors and returns what runs the case.
    pub build: Box<dyn Fn() -> Run + Send + Sync>,
}

/// What a rate is quoted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    /// GFLOP/s, a share of the peak.
    Flops,
    /// GB/s, a share of a stream.
    Bytes,
}

impl Case {
    /// A case whose measure is flops; what it moves are mostly reads.
    fn computes(name: String, flops: f64, bytes: f64, build: impl Fn() -> Run + Send + Sync + 'static) -> Self {
        Case { name, flops, bytes, traffic: Traffic::Read, quoted: Quoted::Flops, build: Box::new(build) }
    }
}

/// Floats as bytes.
fn f32s(n: usize) -> f64 {
    4.0 * n as f64
}

const MATMUL: [[usize; 3]; 11] = [
    [1024, 1024, 1024],
    [2048, 2048, 2048],
    [256, 768, 768],
    [256, 2304, 768],
    [256, 3072, 768],
    [256, 768, 3072],
    [4096, 3072, 768],
    [256, 50257, 768],
    [8, 3072, 768],
    [1, 3072, 768],
    [1, 50257, 768],
];

const ATTENTION: [[usize; 4]; 6] =
    [[4, 12, 64, 64], [1, 12, 128, 64], [1, 12, 512, 64], [1, 12, 1024, 64], [4, 12, 1024, 64], [1, 12, 2048, 64]];

/// Rows and columns of the row kernels: B·T = 256 tokens of GPT-2 124M, and enough to leave the caches.
const ROWS: [[usize; 2]; 2] = [[256, 768], [4096, 768]];

/// Flops of an exponential: 4 to reduce its argument, 6 multiply-adds of the polynomial, 2 to scale.
const EXP: f64 = 18.0;

/// Every case, the training step last.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for [m, n, k] in MATMUL {
        cases.push(linear(m, n, k, false));
    }
    for [m, n, k] in [[256, 768, 768], [8, 3072, 768], [1, 3072, 768], [1, 50257, 768]] {
        cases.push(linear(m, n, k, true));
    }
    for shape in ATTENTION {
        for fused in [true, false] {
            for backward in [false, true] {
                cases.push(causal_attention(shape, fused, backward));
            }
        }
    }
    for [r, c] in ROWS {
        cases.extend(rowwise(r, c));
    }
    cases.push(linear_cross_entropy(256, 50257, 768));
    cases.push(adamw(1 << 18));
    cases.push(adamw(1 << 25));
    cases.push(train_step(4, 64));
    cases
}

/// The cases whose names begin with one of `prefixes`.
pub fn named(prefixes: &[&str]) -> Vec<Case> {
    all().into_iter().filter(|c| prefixes.iter().any(|p| c.name.starts_with(p))).collect()
}

/// Uniform numbers in −1 .. 1, the same every time.
fn numbers(n: usize) -> Vec<f32> {
    let rng = Philox::new(1, Site::new(0, SiteKind::Shuffle), 0);
    (0..n as u64).map(|i| rng.uniform(i) * 2.0 - 1.0).collect()
}

/// Token ids below `below`, the same every time.
pub(crate) fn ids(n: usize, below: usize) -> Vec<u32> {
    let rng = Philox::new(2, Site::new(0, SiteKind::Shuffle), 0);
    (0..n as u64).map(|i| rng.below(i, below as u32)).collect()
}

/// A linear layer's product, C = X·Wᵀ, on inputs that are the same every time.
pub struct Linear {
    dims: [usize; 3],
    /// X (M, K).
    pub x: Arc<[f32]>,
    /// W (N, K).
    pub w: Arc<[f32]>,
    packed: Option<Weight>,
    /// C (M, N).
    pub out: Vec<f32>,
}

impl Linear {
    /// Of M, N and K, W packed before if `packed`.
    pub fn new(m: usize, n: usize, k: usize, packed: bool) -> Self {
        let (x, w) = (numbers(m * k).into(), numbers(n * k));
        let weight = MatRef::new(&w, n, k).expect("w is (N, K)").t();
        let packed = packed.then(|| Weight::pack(&Ctx::default(), weight).expect("w packs"));
        Linear { dims: [m, n, k], x, w: w.into(), packed, out: vec![0.0; m * n] }
    }

    /// Computes C.
    pub fn run(&mut self, ctx: &Ctx) {
        let [m, n, k] = self.dims;
        let a = MatRef::new(&self.x, m, k).expect("x is (M, K)");
        let c = MatMut::new(&mut self.out, m, n).expect("out is (M, N)");
        let done = match &self.packed {
            Some(b) => matmul(ctx, c, a, b, Store, Epilogue::default()),
            None => {
                let b = MatRef::new(&self.w, n, k).expect("w is (N, K)").t();
                matmul(ctx, c, a, b, Store, Epilogue::default())
            }
        };
        done.expect("shapes agree");
    }
}

/// A linear layer's product: `matmul/MxNxK`, or `matmul_packed/MxNxK`.
pub fn linear(m: usize, n: usize, k: usize, packed: bool) -> Case {
    let name = format!("matmul{}/{m}x{n}x{k}", if packed { "_packed" } else { "" });
    let flops = 2.0 * m as f64 * n as f64 * k as f64;
    Case::computes(name, flops, f32s(m * k + n * k + m * n), move || {
        let mut linear = Linear::new(m, n, k, packed);
        Box::new(move |ctx| linear.run(ctx))
    })
}

/// Causal attention on inputs that are the same every time.
pub struct CausalAttention {
    fused: bool,
    attention: Attention<'static>,
    seqs: Vec<Seq>,
    /// Queries, keys and values (B·T, 3·NH·HS).
    pub qkv: Arc<[f32]>,
    /// (B·T, NH·HS).
    pub out: Vec<f32>,
    /// (B·T, NH).
    lse: Vec<f32>,
}

impl CausalAttention {
    /// Of B, NH, T and HS.
    pub fn new([b, heads, t, head_size]: [usize; 4], fused: bool) -> Self {
        let (rows, c) = (b * t, heads * head_size);
        let scale = 1.0 / (head_size as f32).sqrt();
        CausalAttention {
            fused,
            attention: Attention { heads, head_size, mask: Mask::Causal, dropout: None, scale },
            seqs: vec![Seq { queries: t, keys: t }; b],
            qkv: numbers(rows * 3 * c).into(),
            out: vec![0.0; rows * c],
            lse: vec![0.0; rows * heads],
        }
    }

    /// Computes the output.
    pub fn forward(&mut self, ctx: &Ctx) {
        let forward = if self.fused { attention::attention_forward } else { attention::attention_naive_forward };
        forward(ctx, &mut self.out, &mut self.lse, &self.qkv, &self.seqs, &self.attention).expect("shapes agree");
    }

    fn backward(&self, ctx: &Ctx, dqkv: &mut [f32], dout: &[f32]) {
        let backward = if self.fused { attention::attention_backward } else { attention::attention_naive_backward };
        backward(ctx, dqkv, dout, &self.qkv, &self.out, &self.lse, &self.seqs, &self.attention, Store)
            .expect("shapes agree");
    }
}

/// `attention_forward/bBhNHtTdHS` of B, NH, T and HS.
pub fn attention_name([b, heads, t, head_size]: [usize; 4], fused: bool, backward: bool) -> String {
    let kind = if fused { "attention" } else { "attention_naive" };
    let pass = if backward { "forward_backward" } else { "forward" };
    format!("{kind}_{pass}/b{b}h{heads}t{t}d{head_size}")
}

fn causal_attention(shape: [usize; 4], fused: bool, backward: bool) -> Case {
    let [b, heads, t, head_size] = shape;
    let flops = (2 * b * heads * t * t * head_size) as f64 * if backward { 3.5 } else { 1.0 };
    let (rows, c) = (b * t, heads * head_size);
    // qkv and out; backward qkv, out, dout and dqkv.
    let tensors = if backward { 4 + 8 } else { 4 };
    Case::computes(attention_name(shape, fused, backward), flops, f32s(tensors * rows * c), move || {
        let (dout, mut dqkv) = (numbers(rows * c), vec![0.0; rows * 3 * c]);
        let mut attention = CausalAttention::new(shape, fused);
        Box::new(move |ctx| {
            attention.forward(ctx);
            if backward {
                attention.backward(ctx, &mut dqkv, &dout);
            }
        })
    })
}

fn rowwise(r: usize, c: usize) -> Vec<Case> {
    let n = r * c;
    // Flops an element, tensors moved, and how.
    let case = |op: &str, flops: f64, tensors: usize, build: Box<dyn Fn() -> Run + Send + Sync>| Case {
        name: format!("rowwise/{op}/{r}x{c}"),
        flops: flops * n as f64,
        bytes: f32s(tensors * n),
        traffic: match tensors {
            2 => Traffic::Copy,
            3 => Traffic::Add,
            _ => Traffic::AddTwice,
        },
        quoted: Quoted::Bytes,
        build,
    };
    vec![
        case(
            "softmax_forward",
            4.0 + EXP,
            2,
            Box::new(move || {
                let (x, mut y) = (numbers(n), vec![0.0; n]);
                Box::new(move |ctx| kernels::softmax_forward(ctx, &mut y, &x, c).expect("shapes agree"))
            }),
        ),
        case(
            "softmax_backward",
            4.0,
            3,
            Box::new(move || {
                let (dy, y, mut dx) = (numbers(n), numbers(n), vec![0.0; n]);
                Box::new(move |ctx| kernels::softmax_backward(ctx, &mut dx, &dy, &y, c, Store).expect("shapes agree"))
            }),
        ),
        case(
            "layernorm_forward",
            8.0,
            2,
            Box::new(move || {
                let (x, w, b, mut y) = (numbers(n), numbers(c), numbers(c), vec![0.0; n]);
                let (mut mean, mut rstd) = (vec![0.0; r], vec![0.0; r]);
                Box::new(move |ctx| {
                    kernels::layernorm_forward(ctx, &mut y, &mut mean, &mut rstd, &x, &w, &b, 1e-5)
                        .expect("shapes agree")
                })
            }),
        ),
        case(
            "layernorm_backward",
            14.0,
            3,
            Box::new(move || {
                let (dy, x, w, mut dx) = (numbers(n), numbers(n), numbers(c), vec![0.0; n]);
                let (mean, rstd, mut dw, mut db) = (vec![0.0; r], vec![1.7; r], vec![0.0; c], vec![0.0; c]);
                Box::new(move |ctx| {
                    kernels::layernorm_backward(ctx, &mut dx, &mut dw, &mut db, &dy, &x, &mean, &rstd, &w, Store, Store)
                        .expect("shapes agree")
                })
            }),
        ),
        case(
            "residual_layernorm_forward",
            9.0,
            4,
            Box::new(move || {
                let (a, b, w, bias) = (numbers(n), numbers(n), numbers(c), numbers(c));
                let (mut sum, mut y, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; n], vec![0.0; r], vec![0.0; r]);
                Box::new(move |ctx| {
                    kernels::residual_layernorm_forward(
                        ctx, &mut sum, &mut y, &mut mean, &mut rstd, &a, &b, &w, &bias, 1e-5,
                    )
                    .expect("shapes agree")
                })
            }),
        ),
        case(
            "gelu_forward",
            10.0 + EXP,
            2,
            Box::new(move || {
                let (x, mut y) = (numbers(n), vec![0.0; n]);
                Box::new(move |ctx| kernels::gelu_forward(ctx, &mut y, &x, GeluKind::Tanh).expect("shapes agree"))
            }),
        ),
        case(
            "gelu_backward",
            20.0 + EXP,
            3,
            Box::new(move || {
                let (x, dy, mut dx) = (numbers(n), numbers(n), vec![0.0; n]);
                Box::new(move |ctx| {
                    kernels::gelu_backward(ctx, &mut dx, &dy, &x, GeluKind::Tanh, Store).expect("shapes agree")
                })
            }),
        ),
        case(
            "residual_forward",
            1.0,
            3,
            Box::new(move || {
                let (a, b, mut y) = (numbers(n), numbers(n), vec![0.0; n]);
                Box::new(move |ctx| kernels::residual_forward(ctx, &mut y, &a, &b).expect("shapes agree"))
            }),
        ),
        case(
            "embedding_forward",
            1.0,
            3,
            Box::new(move || {
                let (wte, wpe, tokens) = (numbers(1024 * c), numbers(1024 * c), ids(r, 1024));
                let (positions, mut y) = ((0..r as u32).map(|i| i % 1024).collect::<Vec<_>>(), vec![0.0; n]);
                Box::new(move |ctx| {
                    kernels::embedding_forward(ctx, &mut y, &tokens, &positions, &wte, &wpe).expect("shapes agree")
                })
            }),
        ),
        case(
            "cross_entropy_forward_backward",
            6.0 + 2.0 * EXP,
            2,
            Box::new(move || {
                let (logits, targets) = (numbers(n), ids(r, c));
                let (mut losses, mut dx) = (vec![0.0; r], vec![0.0; n]);
                Box::new(move |ctx| {
                    kernels::cross_entropy_forward(ctx, &mut losses, &logits, &targets, c).expect("shapes agree");
                    kernels::cross_entropy_backward(ctx, &mut dx, &logits, &targets, c, 1.0.into(), Store)
                        .expect("shapes agree")
                })
            }),
        ),
    ]
}

fn linear_cross_entropy(r: usize, v: usize, c: usize) -> Case {
    let (name, flops) = (format!("linear_cross_entropy/{r}x{v}x{c}"), 6.0 * r as f64 * v as f64 * c as f64);
    // The weight once for the logits and once for dX, its gradient, X and dX.
    Case::computes(name, flops, f32s(3 * v * c + 2 * r * c), move || {
        let (x, w, targets) = (numbers(r * c), numbers(v * c), ids(r, v));
        let (mut losses, mut dinp, mut dweight) = (vec![0.0; r], vec![0.0; r * c], vec![0.0; v * c]);
        let scale = 1.0 / r as f32;
        Box::new(move |ctx| {
            let (dinp, dweight) = (&mut dinp[..], &mut dweight[..]);
            let grads =
                LinearCrossEntropyGrads { dinp, dweight, acc_inp: Store, acc_weight: Store, weights: scale.into() };
            kernels::linear_cross_entropy(ctx, &mut losses, Some(grads), &x, &w, &targets, v, c).expect("shapes agree")
        })
    })
}

fn adamw(n: usize) -> Case {
    let build = move || -> Run {
        let (grad, mut p, mut m, mut v) = (numbers(n), numbers(n), vec![0.0; n], vec![0.0; n]);
        let mut step = 0;
        Box::new(move |ctx| {
            step += 1;
            let (lr, weight_decay, grad_scale) = (1e-4, 0.1, 0.5);
            let options = AdamW { lr, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay, step, grad_scale };
            kernels::adamw_step(ctx, &mut p, &mut m, &mut v, &grad, &options).expect("shapes agree")
        })
    };
    Case {
        name: format!("adamw/{n}"),
        flops: 14.0 * n as f64,
        bytes: f32s(7 * n),
        traffic: Traffic::Update,
        quoted: Quoted::Bytes,
        build: Box::new(build),
    }
}

/// The training step of GPT-2 124M: `train_step/bBtT/f32`.
pub fn train_step(b: usize, t: usize) -> Case {
    let step = TrainStep::new("gpt2", b, t).expect("the preset holds so many tokens");
    let (flops, bytes) = (step.flops(), step.bytes());
    Case::computes(step.name(), flops, bytes, move || {
        let (step, mut running) = (step.clone(), None);
        Box::new(move |ctx| {
            let start = || step.start(ctx, Gpt::new(&step.config()).expect("the preset is sound"));
            running.get_or_insert_with(|| start().expect("the options are sound")).step();
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_case_has_a_measure() {
        let cases = all();
        let mut names: Vec<_> = cases.iter().map(|c| &c.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(cases.iter().all(|c| c.flops > 0.0 && c.bytes > 0.0));
        assert_eq!(named(&["matmul/1024x1024x1024"])[0].flops, 2.0 * 1024.0 * 1024.0 * 1024.0);
    }
}
