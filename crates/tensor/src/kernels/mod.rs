//! Row kernels: X_forward and X_backward side by side, one file an op.
//!
//! ```text
//! file                  equation
//! softmax               y = exp(x − max x) / Σ exp(x − max x)
//! layernorm             y = (x − mean)/√(var + ε)·γ + β, alone or on a + b
//! gelu                  y = x·Φ(x), by tanh or by erf
//! residual              y = a + b
//! embedding             y = wte[token] + wpe[position]; gather_rows: y = x[rows]
//! dropout               y = x·keep/(1 − p), keep from Philox
//! cross_entropy         loss = ln Σ exp(x) − x[target]
//! linear_cross_entropy  the same of x·Wᵀ, with both gradients, in chunks of rows
//! runs                  cross_entropy where each row has as many classes as it has
//! squared_error         loss = (x − target)²
//! pool                  y = the mean or the greatest of a run of rows
//! mix                   y = γ·Σ softmax(w)_l·x_l over tensors of one shape
//! adamw                 one step of AdamW on one parameter
//! reduce                Σ x, Σ x², Σ x·y over whole tensors
//! ```
//!
//! A sum along a row has 16 partial sums, element i in lane i mod 16, and ends with the tree 8-4-2-1. A sum
//! longer than a row goes by blocks fixed by shape, whose results are added in f64 in order. Work is cut by
//! shape; a tensor of one block stays on the calling thread.

pub mod adamw;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod layernorm;
pub mod linear_cross_entropy;
pub mod mix;
pub mod pool;
pub mod reduce;
pub mod residual;
pub mod runs;
pub mod softmax;
pub mod squared_error;

pub use adamw::{AdamW, adamw_step};
pub use cross_entropy::{
    IGNORE, LossWeights, cross_entropy_backward, cross_entropy_forward, cross_entropy_rows_in_place,
};
pub use dropout::{dropout_backward, dropout_forward};
pub use embedding::{embedding_backward, embedding_forward, gather_rows, scatter_rows_add};
pub use gelu::{GeluKind, gelu_backward, gelu_forward};
pub use layernorm::{layernorm_backward, layernorm_forward, residual_layernorm_backward, residual_layernorm_forward};
pub use linear_cross_entropy::{LinearCrossEntropyGrads, chunk_rows, linear_cross_entropy};
pub use mix::{MixWeights, add_scaled, mix_weights};
pub use pool::{Pool, pool_backward, pool_forward};
pub use reduce::{dot, sum, sum_of_squares};
pub use residual::{residual_backward, residual_forward};
pub use runs::cross_entropy_of_runs;
pub use softmax::{softmax_backward, softmax_forward};
pub use squared_error::squared_errors;

use crate::error::{Error, Result};
use crate::matrix::Accumulate;
use crate::simd::{LANES, Simd};

/// Elements of a block of an elementwise kernel: three streams of 64 KiB, a few microseconds of work. Smaller
/// work stays on one thread.
pub(crate) const ELEMENTS: usize = 16_384;

/// Rows of a block of a row kernel: about `ELEMENTS` elements, a multiple of 4 where rows are short.
pub(crate) fn rows_per_block(cols: usize) -> usize {
    let rows = ELEMENTS / cols.max(1);
    if rows >= 4 { rows / 4 * 4 } else { rows.max(1) }
}

/// The rows of `cols` elements in a tensor of `len` elements.
pub(crate) fn rows_of(op: &'static str, what: &'static str, len: usize, cols: usize) -> Result<usize> {
    match len.checked_div(cols) {
        Some(rows) if rows * cols == len => Ok(rows),
        None if len == 0 => Ok(0),
        rows => Err(Error::ShapeMismatch { op, what, expected: rows.unwrap_or(0) * cols, got: len }),
    }
}

/// `xs[i .. i + 16]`, the lanes past the end of `xs` being `fill`.
#[inline(always)]
pub(crate) fn fetch<S: Simd>(s: S, xs: &[f32], i: usize, fill: f32) -> S::V {
    let xs = &xs[i..];
    if xs.len() >= LANES { s.load(xs) } else { s.load_partial(xs, fill) }
}

/// `out[i .. i + 16]` = v or += v, without the lanes past the end of `out`.
#[inline(always)]
pub(crate) fn put<S: Simd>(s: S, out: &mut [f32], i: usize, v: S::V, acc: Accumulate) {
    let out = &mut out[i..];
    if out.len() >= LANES {
        let v = if acc == Accumulate::Add { s.add(s.load(out), v) } else { v };
        s.store(out, v);
    } else {
        let v = if acc == Accumulate::Add { s.add(s.load_partial(out, 0.0), v) } else { v };
        s.store_partial(out, v);
    }
}
