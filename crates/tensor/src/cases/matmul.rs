//! Matmul in all transpositions, with its epilogues, and the gradient of a bias.

use super::{Op, Tensors, noise, unset, zeros};
use crate::kernels::{GeluKind, gelu_backward};
use crate::matmul::{Epilogue, bias_backward, matmul};
use crate::reference::{self, Arith, Real};
use crate::{Accumulate, Ctx, MatMut, MatRef, Result};

const STORE: Accumulate = Accumulate::Store;

/// out = gelu?(A·B + bias?).
#[derive(Clone, Copy, Debug)]
pub struct MatmulCase {
    /// The variant.
    pub name: &'static str,
    /// Whether a is stored as (K, M), and b as (N, K).
    pub transposed: (bool, bool),
    /// With a bias.
    pub bias: bool,
    /// With an activation.
    pub gelu: Option<GeluKind>,
    /// M, N, K.
    pub dims: (usize, usize, usize),
}

/// (rows, cols) of a matrix that is stored row-major, or transposed.
fn mat<T>(data: &[T], rows: usize, cols: usize, transposed: bool) -> MatRef<'_, T> {
    let stored = if transposed { MatRef::new(data, cols, rows) } else { MatRef::new(data, rows, cols) };
    let stored = stored.expect("the case's own sizes");
    if transposed { stored.t() } else { stored }
}

impl MatmulCase {
    fn operands<'a, T>(&self, inp: &'a [Vec<T>]) -> (MatRef<'a, T>, MatRef<'a, T>) {
        let ((m, n, k), (ta, tb)) = (self.dims, self.transposed);
        (mat(&inp[0], m, k, ta), mat(&inp[1], k, n, tb))
    }

    /// The products (left, right) whose results are dA and dB as they are stored.
    fn products<'a, T>(&self, inp: &'a [Vec<T>], dc: MatRef<'a, T>) -> [(MatRef<'a, T>, MatRef<'a, T>); 2]
    where
        T: Copy,
    {
        let ((a, b), (ta, tb)) = (self.operands(inp), self.transposed);
        [if ta { (b, dc.t()) } else { (dc, b.t()) }, if tb { (dc.t(), a) } else { (a.t(), dc) }]
    }
}

impl Op for MatmulCase {
    fn name(&self) -> &'static str {
        self.name
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        MatmulCase { dims: (rows, cols, cols), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let (m, n, k) = self.dims;
        let mut inputs = vec![("a", noise(1, m * k)), ("b", noise(2, k * n))];
        if self.bias {
            inputs.push(("bias", noise(3, n)));
        }
        if self.gelu.is_some() {
            // Pre-activations near 1, where GELU bends.
            inputs[0].1.iter_mut().for_each(|x| *x *= 0.25);
        }
        inputs
    }
    fn outputs(&self) -> &'static [&'static str] {
        if self.gelu.is_some() { &["out", "pre_activation"] } else { &["out"] }
    }
    fn flops(&self) -> u64 {
        let (m, n, k) = self.dims;
        (2 * m * n * k) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let ((m, n, _), (a, b)) = (self.dims, self.operands(inp));
        let mut pre = zeros(m * n);
        reference::matmul::<A>(&mut pre, a, b, STORE, self.bias.then(|| &inp[2][..]));
        let Some(kind) = self.gelu else { return vec![pre] };
        let mut out = zeros(m * n);
        reference::gelu_forward::<A>(&mut out, &pre, kind);
        vec![out, pre]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let (m, n, _) = self.dims;
        let mut dy = dout[0].clone();
        if let Some(kind) = self.gelu {
            let pre = &self.reference_forward::<A>(inp)[1];
            reference::gelu_backward::<A>(&mut dy, &dout[0], pre, kind, STORE);
        }
        let mut grads: Tensors<A::T> = inp.iter().map(|x| zeros(x.len())).collect();
        for (grad, (left, right)) in grads.iter_mut().zip(self.products(inp, mat(&dy, m, n, false))) {
            reference::matmul::<A>(grad, left, right, STORE, None);
        }
        if self.bias {
            reference::bias_backward::<A>(&mut grads[2], &dy, STORE);
        }
        grads
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let ((m, n, _), (a, b)) = (self.dims, self.operands(inp));
        let (mut out, mut pre) = (unset(m * n), unset(m * n));
        let pre_activation = Some(MatMut::new(&mut pre, m, n)?);
        let epilogue =
            Epilogue { bias: self.bias.then(|| &inp[2][..]), gelu: self.gelu, residual: None, pre_activation };
        matmul(ctx, MatMut::new(&mut out, m, n)?, a, b, STORE, epilogue)?;
        Ok(if self.gelu.is_some() { vec![out, pre] } else { vec![out] })
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let (m, n, _) = self.dims;
        let mut dy = dout[0].clone();
        if let Some(kind) = self.gelu {
            gelu_backward(ctx, &mut dy, &dout[0], &out[1], kind, STORE)?;
        }
        let mut grads: Tensors<f32> = inp.iter().map(|x| unset(x.len())).collect();
        for (grad, (left, right)) in grads.iter_mut().zip(self.products(inp, mat(&dy, m, n, false))) {
            let c = MatMut::new(grad, left.rows(), right.cols())?;
            matmul(ctx, c, left, right, STORE, Epilogue::default())?;
        }
        if self.bias {
            bias_backward(ctx, &mut grads[2], &dy, STORE)?;
        }
        Ok(grads)
    }
}

/// out[r] = bias: a product without terms, and its epilogue.
#[derive(Clone, Copy, Debug)]
pub struct BiasCase {
    /// R.
    pub rows: usize,
    /// N.
    pub n: usize,
}

impl Op for BiasCase {
    fn name(&self) -> &'static str {
        "bias"
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        BiasCase { rows, n: cols }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        vec![("bias", noise(1, self.n))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out"]
    }
    fn flops(&self) -> u64 {
        (self.rows * self.n) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let (mut out, none) = (zeros(self.rows * self.n), Vec::new());
        let (a, b) = (mat::<A::T>(&none, self.rows, 0, false), mat(&none, 0, self.n, false));
        reference::matmul::<A>(&mut out, a, b, STORE, Some(&inp[0]));
        vec![out]
    }
    fn reference_backward<A: Arith>(&self, _: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut dbias = vec![A::T::ZERO; self.n];
        reference::bias_backward::<A>(&mut dbias, &dout[0], STORE);
        vec![dbias]
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut out = unset(self.rows * self.n);
        let (a, b) = (MatRef::new(&[], self.rows, 0)?, MatRef::new(&[], 0, self.n)?);
        let epilogue = Epilogue { bias: Some(&inp[0]), ..Epilogue::default() };
        matmul(ctx, MatMut::new(&mut out, self.rows, self.n)?, a, b, STORE, epilogue)?;
        Ok(vec![out])
    }
    fn backward(&self, ctx: &Ctx, _: &[Vec<f32>], _: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut dbias = unset(self.n);
        bias_backward(ctx, &mut dbias, &dout[0], STORE)?;
        Ok(vec![dbias])
    }
}
