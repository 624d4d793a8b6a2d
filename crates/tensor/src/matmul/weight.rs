//! Weight: a right-hand side packed once.

use super::pack::PackB;
use super::params::PANEL;
use crate::arena::Block;
use crate::bf16;
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::MatRef;
use crate::parallel::{self, RowsMut};
use crate::shape;
use crate::simd::{Kernel, Simd, dispatch_on};

/// How a packed weight's numbers are kept. Arithmetic is that of f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// As they are.
    F32,
    /// As bfloat16, the upper half of an f32, rounded to nearest with ties to even: half the bytes.
    Bf16,
}

/// A (K, N) matrix in panels of 16 columns, [N/16][K][16], the last one padded with zeros: what every
/// instruction set reads, so a packed weight belongs to no machine.
///
/// A tied embedding table (V, C) packed as its transpose, `Weight::pack(ctx, wte.t())`, multiplies as the head and
/// serves rows of the table as `copy_col`.
pub struct Weight {
    /// The panels' numbers; of bfloat16 two in the place of a float.
    data: Block,
    kind: WeightType,
    rows: usize,
    cols: usize,
}

/// The first element of a panel, whose K·16 elements are readable from there.
pub(super) enum Panel {
    F32(*const f32),
    Bf16(*const u16),
}

/// Panels that a task packs.
const PANELS: usize = 8;

impl Weight {
    /// Packs a copy of `b` (K, N), any strides: the same bits for every `ctx`.
    ///
    /// Cost: reads K·N floats, writes K·N rounded up to whole panels, on all threads of `ctx`.
    /// # Errors
    /// `SizeOverflow` or `OutOfMemory` when the copy does not fit.
    pub fn pack(ctx: &Ctx, b: MatRef<'_>) -> Result<Weight> {
        Weight::pack_as(ctx, b, WeightType::F32)
    }

    /// As [`Weight::pack`], with the numbers kept as `kind`.
    /// # Errors
    /// As [`Weight::pack`].
    pub fn pack_as(ctx: &Ctx, b: MatRef<'_>, kind: WeightType) -> Result<Weight> {
        let op = "Weight::pack";
        let _timed = ctx.time(op);
        let (k, n) = (b.rows(), b.cols());
        let panels = n.div_ceil(PANEL);
        let width = shape::product2(op, k, PANEL)?;
        let numbers = shape::product2(op, width, panels)?;
        let mut data = Block::zeroed(if kind == WeightType::F32 { numbers } else { numbers / 2 })?;
        let (rs, cs) = (b.row_stride(), b.col_stride());
        let pack = |p: usize, panel: &mut [f32]| {
            assert_eq!(panel.len(), width);
            // The panel's k·16 floats are writable, and columns 16·p .. of b exist for every row: PackB's terms.
            let src = b.data().as_ptr().wrapping_add(p * PANEL * cs);
            let cols = (n - p * PANEL).min(PANEL);
            dispatch_on(ctx.isa(), PackB { dst: panel.as_mut_ptr(), src, rs, cs, kc: k, cols });
        };
        match kind {
            _ if width == 0 => (),
            WeightType::F32 => {
                parallel::for_each_rows(ctx, RowsMut::new(&mut data, width), panels, PANELS, |first, some| {
                    for (i, panel) in some.into_slice().chunks_exact_mut(width).enumerate() {
                        pack(first + i, panel);
                    }
                });
            }
            WeightType::Bf16 => {
                let halves: &mut [u16] = bytemuck::cast_slice_mut(&mut data);
                parallel::for_each_rows(ctx, RowsMut::new(halves, width), panels, PANELS, |first, some| {
                    let mut one = ctx.scratch(width);
                    for (i, panel) in some.into_slice().chunks_exact_mut(width).enumerate() {
                        pack(first + i, &mut one);
                        for (half, x) in panel.iter_mut().zip(one.iter()) {
                            *half = bf16::round(*x);
                        }
                    }
                });
            }
        }
        Ok(Weight { data, kind, rows: k, cols: n })
    }

    /// K.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// N.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Bytes of memory, padding included.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.data[..])
    }

    /// Row k of panel p.
    fn line(&self, p: usize, k: usize) -> [f32; PANEL] {
        let at = (p * self.rows + k) * PANEL;
        match self.kind {
            WeightType::F32 => core::array::from_fn(|l| self.data[at + l]),
            WeightType::Bf16 => core::array::from_fn(|l| bf16::widen(self.halves()[at + l])),
        }
    }

    fn halves(&self) -> &[u16] {
        bytemuck::cast_slice(&self.data)
    }

    /// Copies column j into `out` (K).
    /// # Errors
    /// `OutOfRange` if j ≥ N, `ShapeMismatch` if `out.len() != K`.
    pub fn copy_col(&self, j: usize, out: &mut [f32]) -> Result<()> {
        let op = "Weight::copy_col";
        if j >= self.cols {
            return Err(Error::OutOfRange { op, what: "column", got: j, limit: self.cols });
        }
        expect_len(op, "length of out", out.len(), self.rows)?;
        for (k, x) in out.iter_mut().enumerate() {
            *x = self.line(j / PANEL, k)[j % PANEL];
        }
        Ok(())
    }

    /// Copies row k into `out` (N).
    /// # Errors
    /// `OutOfRange` if k ≥ K, `ShapeMismatch` if `out.len() != N`.
    pub fn copy_row(&self, k: usize, out: &mut [f32]) -> Result<()> {
        let op = "Weight::copy_row";
        if k >= self.rows {
            return Err(Error::OutOfRange { op, what: "row", got: k, limit: self.rows });
        }
        expect_len(op, "length of out", out.len(), self.cols)?;
        for (p, part) in out.chunks_mut(PANEL).enumerate() {
            part.copy_from_slice(&self.line(p, k)[..part.len()]);
        }
        Ok(())
    }

    pub(super) fn is_bf16(&self) -> bool {
        self.kind == WeightType::Bf16
    }

    /// Panel p.
    pub(super) fn panel(&self, p: usize) -> Panel {
        assert!(p * PANEL < self.cols, "panel {p} of {} columns", self.cols);
        let at = p * self.rows * PANEL;
        match self.kind {
            WeightType::F32 => Panel::F32(self.data[at..].as_ptr()),
            WeightType::Bf16 => Panel::Bf16(self.halves()[at..].as_ptr()),
        }
    }
}

impl core::fmt::Debug for Weight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = if self.is_bf16() { ", bf16" } else { "" };
        write!(f, "Weight({}, {}{kind})", self.rows, self.cols)
    }
}

/// Panels of bfloat16 as panels of f32, `lines` steps of k of each.
pub(super) struct Widen {
    /// panels · lines · 16 floats to write.
    pub dst: *mut f32,
    /// Row k of panel p stands at `src + p·apart + k·16`.
    pub src: *const u16,
    pub apart: usize,
    pub lines: usize,
    pub panels: usize,
}

impl Kernel for Widen {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for p in 0..self.panels {
            for k in 0..self.lines {
                // SAFETY: whoever fills the struct vouches for every row of every panel at both ends.
                unsafe {
                    let row = s.load_bf16(self.src.add(p * self.apart + k * PANEL));
                    s.store_ptr(self.dst.add((p * self.lines + k) * PANEL), row);
                }
            }
        }
    }
}
