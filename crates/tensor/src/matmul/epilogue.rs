//! What happens to an output after its last multiply-add.

use super::params::PANEL;
use crate::error::{Result, expect_len};
use crate::kernels::gelu::{GeluKind, gelu_vec};
use crate::matrix::{MatMut, MatRef};
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

/// Steps after the last multiply-add, in this order and with one rounding each: + bias, GELU, + residual.
#[derive(Debug, Default)]
pub struct Epilogue<'a> {
    /// (N), added first.
    pub bias: Option<&'a [f32]>,
    /// Then the activation.
    pub gelu: Option<GeluKind>,
    /// (M, N), added last; any strides.
    pub residual: Option<MatRef<'a>>,
    /// (M, N): receives what the GELU is applied to, for its backward. Left alone without a GELU.
    pub pre_activation: Option<MatMut<'a>>,
}

/// `Epilogue` with its shapes checked.
pub(super) struct RawEpilogue<'a> {
    bias: Option<&'a [f32]>,
    gelu: Option<GeluKind>,
    residual: Option<MatRef<'a>>,
    /// The pre-activation's first float and row stride; borrowed for 'a as the other parts are.
    pre_activation: Option<(*mut f32, usize)>,
}

impl<'a> RawEpilogue<'a> {
    /// The parts of `e`, which must be (N) and (M, N).
    pub fn check(e: Epilogue<'a>, m: usize, n: usize) -> Result<Self> {
        if let Some(bias) = e.bias {
            expect_len("matmul", "length of bias", bias.len(), n)?;
        }
        if let Some(r) = e.residual {
            expect_len("matmul", "rows of residual", r.rows(), m)?;
            expect_len("matmul", "columns of residual", r.cols(), n)?;
        }
        let mut pre_activation = None;
        if let Some(mut p) = e.pre_activation {
            expect_len("matmul", "rows of pre_activation", p.rows(), m)?;
            expect_len("matmul", "columns of pre_activation", p.cols(), n)?;
            let stride = p.row_stride();
            pre_activation = e.gelu.map(|_| (p.data_mut().as_mut_ptr(), stride));
        }
        Ok(RawEpilogue { bias: e.bias, gelu: e.gelu, residual: e.residual, pre_activation })
    }

    /// Finishes rows i0 .. i0 + m and columns j0 .. j0 + cols of C, which begin at `c`.
    ///
    /// # Safety
    /// These rows of C are readable and writable for `cols` floats and lie within the (M, N) that was checked;
    /// no other thread touches them or the same part of the pre-activation.
    #[inline]
    pub unsafe fn run(&self, isa: Isa, c: *mut f32, ldc: usize, i0: usize, m: usize, j0: usize, cols: usize) {
        if self.bias.is_some() || self.gelu.is_some() || self.residual.is_some() {
            dispatch_on(isa, MatmulEpilogue { parts: self, c, ldc, i0, m, j0, cols });
        }
    }
}

/// A strip of C, finished while it is still near.
struct MatmulEpilogue<'a> {
    parts: &'a RawEpilogue<'a>,
    c: *mut f32,
    ldc: usize,
    i0: usize,
    m: usize,
    j0: usize,
    cols: usize,
}

impl Kernel for MatmulEpilogue<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.cols).step_by(PANEL) {
            match self.parts.gelu {
                None => self.vectors(s, j, None),
                Some(GeluKind::Tanh) => self.vectors(s, j, Some(GeluKind::Tanh)),
                Some(GeluKind::Erf) => self.vectors(s, j, Some(GeluKind::Erf)),
            }
        }
    }
}

impl MatmulEpilogue<'_> {
    /// Columns j .. j + 16 of the strip, all rows.
    #[inline(always)]
    #[allow(clippy::manual_map, reason = "see below")]
    fn vectors<S: Simd>(&self, s: S, j: usize, gelu: Option<GeluKind>) {
        let n = (self.cols - j).min(PANEL);
        let column = self.j0 + j;
        // Not `map`: a closure would be compiled without the ISA's instructions.
        let bias = match self.parts.bias {
            Some(b) => Some(load(s, &b[column..column + n])),
            None => None,
        };
        for i in 0..self.m {
            // SAFETY: `run`'s caller vouches for m rows of `cols` floats; this vector's n end within them.
            let c = unsafe { core::slice::from_raw_parts_mut(self.c.add(i * self.ldc + j), n) };
            let mut x = load(s, c);
            if let Some(bias) = bias {
                x = s.add(x, bias);
            }
            if let Some(kind) = gelu {
                if let Some((pre, ld)) = self.parts.pre_activation {
                    // SAFETY: the pre-activation is (M, N) as C is, and this part of it is this task's alone.
                    let pre = unsafe { core::slice::from_raw_parts_mut(pre.add((self.i0 + i) * ld + column), n) };
                    store(s, pre, x);
                }
                x = gelu_vec(s, kind, x);
            }
            if let Some(r) = self.parts.residual {
                x = s.add(x, residual(s, r, self.i0 + i, column, n));
            }
            store(s, c, x);
        }
    }
}

/// 1 to 16 floats.
#[inline(always)]
fn load<S: Simd>(s: S, xs: &[f32]) -> S::V {
    if xs.len() == PANEL { s.load(xs) } else { s.load_partial(xs, 0.0) }
}

/// 1 to 16 floats.
#[inline(always)]
fn store<S: Simd>(s: S, out: &mut [f32], x: S::V) {
    if out.len() == PANEL { s.store(out, x) } else { s.store_partial(out, x) }
}

/// Columns j .. j + n of row i of the residual, n ≤ 16.
#[inline(always)]
fn residual<S: Simd>(s: S, r: MatRef<'_>, i: usize, j: usize, n: usize) -> S::V {
    let start = i * r.row_stride() + j * r.col_stride();
    if r.col_stride() == 1 {
        return load(s, &r.data()[start..start + n]);
    }
    let mut row = [0.0; PANEL];
    for l in 0..n {
        row[l] = r.data()[start + l * r.col_stride()];
    }
    s.load(&row)
}
