//! Row kernels: X_forward and X_backward side by side, one file an op.

pub mod gelu;

pub use gelu::{GeluKind, gelu_backward, gelu_forward};

use crate::matrix::Accumulate;
use crate::simd::{LANES, Simd};

/// Elements of a block of an elementwise kernel: three streams of 64 KiB, a few microseconds of work. Smaller
/// work stays on one thread.
pub(crate) const ELEMENTS: usize = 16_384;

/// xs[i .. i + 16], the lanes past the end of `xs` being `fill`.
#[inline(always)]
pub(crate) fn fetch<S: Simd>(s: S, xs: &[f32], i: usize, fill: f32) -> S::V {
    let xs = &xs[i..];
    if xs.len() >= LANES { s.load(xs) } else { s.load_partial(xs, fill) }
}

/// out[i .. i + 16] = v or += v, without the lanes past the end of `out`.
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
