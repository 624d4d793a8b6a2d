//! Every op once, as a case: deterministic inputs, its reference in any arithmetic, its kernels, its cost. Tests,
//! gradient checks and benches read the list.
//!
//! A case is a struct that implements `Op`, and a line in `all()`. Its error bound is not written down: it is the
//! op's own reference, run in the arithmetic of `bounded`, element by element.

mod attention;
mod heads;
mod matmul;
mod rows;

pub use attention::AttentionCase;
pub use heads::{MixCase, PoolCase, RunsCase, SquaredErrorsCase};
pub use matmul::{BiasCase, MatmulCase};
pub use rows::{
    AdamWCase, CrossEntropyCase, DropoutCase, EmbeddingCase, GatherCase, GeluCase, LayerNormCase,
    LinearCrossEntropyCase, ResidualCase, SoftmaxCase, SumOfSquaresCase,
};

use crate::attention::Mask;
use crate::bounded::{Bounded, Bounds};
use crate::kernels::{GeluKind, Pool};
use crate::random::{Philox, Site, SiteKind};
use crate::reference::{Arith, F64, Real};
use crate::{Ctx, Result};

/// Tensors of a case, in its order: inputs, outputs or gradients.
pub type Tensors<T> = Vec<Vec<T>>;

/// One op: what it reads and writes, its plain loops and its kernels.
pub trait Op: Send + Sync {
    /// The op's name, and its variant's.
    fn name(&self) -> &'static str;
    /// The same op on `rows` rows of `cols` elements; of one, where it takes no empty rows.
    fn resized(&self, rows: usize, cols: usize) -> Self
    where
        Self: Sized;
    /// What the forward reads, by name. Every one of them has a gradient, unless the op has none at all.
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)>;
    /// What the forward writes. Those with a gradient from above come first.
    fn outputs(&self) -> &'static [&'static str];
    /// Whether the op has a backward; an optimiser's step has none.
    fn differentiable(&self) -> bool {
        true
    }
    /// dL/d(output) for the first outputs, given each output's length; as a rule noise for the first one.
    fn upstream(&self, lens: &[usize]) -> Tensors<f32> {
        vec![noise(99, lens[0])]
    }
    /// Floating-point operations of the forward, a multiply-add being two and any function one.
    fn flops(&self) -> u64;

    /// The outputs, by plain loops.
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T>;
    /// The gradients of all inputs, by plain loops.
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T>;
    /// The outputs, by the kernels.
    /// # Errors
    /// The kernels'.
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>>;
    /// The gradients of all inputs, by the kernels, which read what `out`, the kernels' forward, saved. They overwrite
    /// what was NaN.
    /// # Errors
    /// The kernels'.
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>>;
}

/// `Op` with its arithmetics named, so that cases of all ops stand in one list.
trait AnyOp: Send + Sync {
    fn resized(&self, rows: usize, cols: usize) -> Case;
    fn f64_forward(&self, inp: &[Vec<f64>]) -> Tensors<f64>;
    fn f64_backward(&self, inp: &[Vec<f64>], dout: &[Vec<f64>]) -> Tensors<f64>;
    fn bounded_forward(&self, inp: &[Vec<Bounded>]) -> Tensors<Bounded>;
    fn bounded_backward(&self, inp: &[Vec<Bounded>], dout: &[Vec<Bounded>]) -> Tensors<Bounded>;
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>>;
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>>;
}

impl<O: Op + 'static> AnyOp for O {
    fn resized(&self, rows: usize, cols: usize) -> Case {
        Case::new(Op::resized(self, rows, cols))
    }
    fn f64_forward(&self, inp: &[Vec<f64>]) -> Tensors<f64> {
        self.reference_forward::<F64>(inp)
    }
    fn f64_backward(&self, inp: &[Vec<f64>], dout: &[Vec<f64>]) -> Tensors<f64> {
        self.reference_backward::<F64>(inp, dout)
    }
    fn bounded_forward(&self, inp: &[Vec<Bounded>]) -> Tensors<Bounded> {
        self.reference_forward::<Bounds>(inp)
    }
    fn bounded_backward(&self, inp: &[Vec<Bounded>], dout: &[Vec<Bounded>]) -> Tensors<Bounded> {
        self.reference_backward::<Bounds>(inp, dout)
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Op::forward(self, ctx, inp)
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        Op::backward(self, ctx, inp, out, dout)
    }
}

/// The outputs and the gradients of a case.
#[derive(Clone, Debug)]
pub struct Results<T> {
    /// As `Case::outputs` names them.
    pub outputs: Tensors<T>,
    /// One of each input, or none for an op without a backward.
    pub gradients: Tensors<T>,
}

/// An op on its inputs and upstream gradient.
pub struct Case {
    op: Box<dyn AnyOp>,
    name: &'static str,
    input_names: Vec<&'static str>,
    inputs: Tensors<f32>,
    outputs: &'static [&'static str],
    upstream: Tensors<f32>,
    differentiable: bool,
    flops: u64,
    bytes: u64,
}

impl Case {
    /// The case of `op`. Runs its reference once, to know the sizes of its outputs.
    pub fn new(op: impl Op + 'static) -> Case {
        let (input_names, inputs): (Vec<_>, Vec<_>) = op.inputs().into_iter().unzip();
        let lens: Vec<usize> = op.reference_forward::<F64>(&real::<f64>(&inputs)).iter().map(Vec::len).collect();
        let upstream = if op.differentiable() { op.upstream(&lens) } else { Vec::new() };
        let floats = inputs.iter().map(Vec::len).chain(lens).sum::<usize>();
        Case {
            name: op.name(),
            input_names,
            inputs,
            outputs: op.outputs(),
            upstream,
            differentiable: op.differentiable(),
            flops: op.flops(),
            bytes: 4 * floats as u64,
            op: Box::new(op),
        }
    }

    /// The same op on `rows` rows of `cols` elements.
    pub fn resized(&self, rows: usize, cols: usize) -> Case {
        self.op.resized(rows, cols)
    }

    /// The op, and its variant.
    pub fn name(&self) -> &'static str {
        self.name
    }
    /// The inputs' names.
    pub fn input_names(&self) -> &[&'static str] {
        &self.input_names
    }
    /// The inputs' values.
    pub fn inputs(&self) -> &[Vec<f32>] {
        &self.inputs
    }
    /// The outputs' names; the first `upstream().len()` have a gradient from above.
    pub fn outputs(&self) -> &'static [&'static str] {
        self.outputs
    }
    /// dL/d(output) of the first outputs.
    pub fn upstream(&self) -> &[Vec<f32>] {
        &self.upstream
    }
    /// Whether the op has a backward.
    pub fn differentiable(&self) -> bool {
        self.differentiable
    }
    /// Floating-point operations of the forward.
    pub fn flops(&self) -> u64 {
        self.flops
    }
    /// Bytes that the forward reads and writes, each float once.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The outputs on any inputs, by plain loops in f64.
    pub fn reference_forward(&self, inputs: &[Vec<f64>]) -> Tensors<f64> {
        self.op.f64_forward(inputs)
    }

    /// The gradients on the case's inputs, by plain loops in f64.
    pub fn reference_backward(&self) -> Tensors<f64> {
        if !self.differentiable {
            return Vec::new();
        }
        self.op.f64_backward(&real(&self.inputs), &real(&self.upstream))
    }

    /// By plain loops: f64's values, each with the bound of an f32 kernel's error.
    pub fn expected(&self) -> Results<Bounded> {
        let (inputs, upstream) = (real(&self.inputs), real(&self.upstream));
        let gradients = if self.differentiable { self.op.bounded_backward(&inputs, &upstream) } else { Vec::new() };
        Results { outputs: self.op.bounded_forward(&inputs), gradients }
    }

    /// By the kernels.
    /// # Errors
    /// The kernels'.
    pub fn run(&self, ctx: &Ctx) -> Result<Results<f32>> {
        let outputs = self.op.forward(ctx, &self.inputs)?;
        let gradients = if self.differentiable {
            self.op.backward(ctx, &self.inputs, &outputs, &self.upstream)?
        } else {
            Vec::new()
        };
        Ok(Results { outputs, gradients })
    }
}

/// Every op. Sizes leave a tail in each vector, more rows than a block sums, more queries than a block holds.
pub fn all() -> Vec<Case> {
    let matmul = |name, transposed| MatmulCase { name, transposed, bias: false, gelu: None, dims: (19, 37, 23) };
    let linear = |name, gelu| MatmulCase { bias: true, gelu, ..matmul(name, (false, false)) };
    let norm = |name, residual| LayerNormCase { name, residual, rows: 67, c: 21 };
    let attention = |name, mask| AttentionCase { name, mask, p: 0.0, separate: false, queries: 53, head_size: 9 };
    vec![
        Case::new(matmul("matmul", (false, false))),
        Case::new(matmul("matmul a^T", (true, false))),
        Case::new(matmul("matmul b^T", (false, true))),
        Case::new(matmul("matmul a^T b^T", (true, true))),
        Case::new(linear("matmul + bias", None)),
        Case::new(linear("matmul + bias, gelu tanh", Some(GeluKind::Tanh))),
        Case::new(linear("matmul + bias, gelu erf", Some(GeluKind::Erf))),
        Case::new(BiasCase { rows: 67, n: 83 }),
        Case::new(SoftmaxCase { rows: 11, n: 37 }),
        Case::new(norm("layernorm", false)),
        Case::new(norm("residual_layernorm", true)),
        Case::new(GeluCase { name: "gelu tanh", kind: GeluKind::Tanh, n: 333 }),
        Case::new(GeluCase { name: "gelu erf", kind: GeluKind::Erf, n: 333 }),
        Case::new(ResidualCase { n: 333 }),
        Case::new(EmbeddingCase { rows: 29, v: 11, c: 37 }),
        Case::new(GatherCase { rows: 29, from: 13, c: 21 }),
        Case::new(DropoutCase { n: 333, p: 0.25 }),
        Case::new(CrossEntropyCase { rows: 13, v: 53 }),
        Case::new(LinearCrossEntropyCase { rows: 23, v: 41, c: 19 }),
        Case::new(RunsCase { runs: 13, longest: 37 }),
        Case::new(SquaredErrorsCase { n: 29 }),
        Case::new(PoolCase { name: "pool mean", pool: Pool::Mean, rows: 19, c: 21 }),
        Case::new(PoolCase { name: "pool max", pool: Pool::Max, rows: 19, c: 21 }),
        Case::new(MixCase { n: 29 }),
        Case::new(attention("attention causal", Mask::Causal)),
        Case::new(attention("attention unmasked", Mask::None)),
        Case::new(attention("attention banded", Mask::Banded(7))),
        Case::new(AttentionCase { p: 0.25, ..attention("attention causal, dropout", Mask::Causal) }),
        Case::new(AttentionCase { separate: true, ..attention("attention, keys ≠ queries", Mask::Causal) }),
        Case::new(AdamWCase { n: 333 }),
        Case::new(SumOfSquaresCase { n: 9001 }),
    ]
}

/// `n` normal numbers; `stream` tells one tensor from another.
pub fn noise(stream: u64, n: usize) -> Vec<f32> {
    let rng = Philox::new(stream, Site::new(1, SiteKind::Init), 0);
    (0..n as u64).map(|i| rng.normal(i)).collect()
}

/// `n` ids below `limit`; some repeat.
fn ids(stream: u64, n: usize, limit: usize) -> Vec<u32> {
    let rng = Philox::new(stream, Site::new(2, SiteKind::Init), 0);
    (0..n as u64).map(|i| rng.below(i, limit as u32)).collect()
}

/// `n` targets below `limit`, every fifth of them ignored.
fn targets(n: usize, limit: usize) -> Vec<u32> {
    let mut targets = ids(7, n, limit);
    targets.iter_mut().skip(2).step_by(5).for_each(|t| *t = crate::exec::IGNORE);
    targets
}

/// f32 values in another arithmetic, where they are exact.
fn real<T: Real>(xs: &[Vec<f32>]) -> Tensors<T> {
    xs.iter().map(|x| x.iter().map(|&x| T::from_f64(x as f64)).collect()).collect()
}

/// What plain loops write to.
fn zeros<T: Real>(n: usize) -> Vec<T> {
    vec![T::ZERO; n]
}

/// What kernels write to: a value that is left over, or read, shows.
fn unset(n: usize) -> Vec<f32> {
    vec![f32::NAN; n]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_complete_and_each_name_stands_once() {
        let cases = all();
        for (i, case) in cases.iter().enumerate() {
            let name = case.name();
            assert!(cases[..i].iter().all(|c| c.name() != name), "{name} stands twice");
            assert!(case.flops() > 0 || name == "gather_rows", "{name}: flops");
            let expected = case.expected();
            assert_eq!(expected.outputs.len(), case.outputs().len(), "{name}: outputs");
            let gradients = if case.differentiable() { case.inputs().len() } else { 0 };
            assert_eq!(expected.gradients.len(), gradients, "{name}: gradients");
            for (g, x) in expected.gradients.iter().zip(case.inputs()) {
                assert_eq!(g.len(), x.len(), "{name}: a gradient's length");
            }
            for (d, out) in case.upstream().iter().zip(&expected.outputs) {
                assert_eq!(d.len(), out.len(), "{name}: upstream");
            }
            // The lse of a query without keys is ∞, and must be.
            let mut finite =
                expected.outputs.iter().chain(&expected.gradients).flatten().filter(|x| x.value().is_finite());
            assert!(finite.all(|x| x.bound() < 1e-3 * (1.0 + x.value().abs())), "{name}: a bound that says nothing");
        }
    }
}
