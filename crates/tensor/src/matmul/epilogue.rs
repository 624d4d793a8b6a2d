//! What happens to an output after its last multiply-add.

use super::params::PANEL;
use crate::error::{Result, expect_len};
use crate::matrix::MatRef;
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

/// Steps after the last multiply-add, in this order and with one rounding each.
#[derive(Debug, Default)]
pub struct Epilogue<'a> {
    /// (N), added first.
    pub bias: Option<&'a [f32]>,
    /// (M, N), added last.
    pub residual: Option<MatRef<'a>>,
}

/// `Epilogue` with its shapes checked.
pub(super) struct RawEpilogue<'a> {
    bias: Option<&'a [f32]>,
    residual: Option<MatRef<'a>>,
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
        Ok(RawEpilogue { bias: e.bias, residual: e.residual })
    }

    /// Finishes rows i0 .. i0 + m and columns j0 .. j0 + cols of C, which begin at `c`.
    #[inline]
    pub fn run(&self, isa: Isa, c: *mut f32, ldc: usize, i0: usize, m: usize, j0: usize, cols: usize) {
        if self.bias.is_some() || self.residual.is_some() {
            dispatch_on(isa, MatmulEpilogue { parts: self, c, ldc, i0, m, j0, cols });
        }
    }
}

/// A strip of C, finished while it is still in L1.
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
            let n = (self.cols - j).min(PANEL);
            let column = self.j0 + j;
            let bias = self.parts.bias.map(|b| s.load_partial(&b[column..column + n], 0.0));
            for i in 0..self.m {
                // SAFETY: the caller's strip of C has m rows of `cols` columns; this vector's n end within them.
                let c = unsafe { core::slice::from_raw_parts_mut(self.c.add(i * self.ldc + j), n) };
                let mut x = s.load_partial(c, 0.0);
                if let Some(bias) = bias {
                    x = s.add(x, bias);
                }
                if let Some(r) = self.parts.residual {
                    x = s.add(x, residual(s, r, self.i0 + i, column, n));
                }
                s.store_partial(c, x);
            }
        }
    }
}

/// Columns j .. j + n of row i of the residual, n ≤ 16.
#[inline(always)]
fn residual<S: Simd>(s: S, r: MatRef<'_>, i: usize, j: usize, n: usize) -> S::V {
    let start = i * r.row_stride() + j * r.col_stride();
    if r.col_stride() == 1 {
        return s.load_partial(&r.data()[start..start + n], 0.0);
    }
    let mut row = [0.0; PANEL];
    for l in 0..n {
        row[l] = r.data()[start + l * r.col_stride()];
    }
    s.load(&row)
}
