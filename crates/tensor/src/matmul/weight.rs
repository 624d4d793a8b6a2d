//! Weight: a right-hand side packed once.

use super::pack::PackB;
use super::params::PANEL;
use crate::bf16;
use crate::ctx::{Ctx, Line};
use crate::error::{Error, Result, expect_len};
use crate::matrix::MatRef;
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
#[derive(Clone)]
pub struct Weight {
    /// A row of a panel each.
    lines: Lines,
    rows: usize,
    cols: usize,
}

#[derive(Clone)]
enum Lines {
    F32(Vec<Line>),
    Bf16(Vec<HalfLine>),
}

/// Sixteen bfloat16 on a 32-byte boundary.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct HalfLine([u16; PANEL]);

/// The first element of a panel, whose K·16 elements are readable from there.
pub(super) enum Panel {
    F32(*const f32),
    Bf16(*const u16),
}

impl Weight {
    /// Packs a copy of `b` (K, N), any strides, on this thread: the same bits for every `ctx`.
    ///
    /// Cost: reads K·N floats, writes K·N rounded up to whole panels.
    /// # Errors
    /// `SizeOverflow` or `OutOfMemory` when the copy does not fit.
    pub fn pack(ctx: &Ctx, b: MatRef<'_>) -> Result<Weight> {
        Weight::pack_as(ctx, b, WeightType::F32)
    }

    /// As [`Weight::pack`], with the numbers kept as `kind`.
    /// # Errors
    /// As [`Weight::pack`].
    pub fn pack_as(ctx: &Ctx, b: MatRef<'_>, kind: WeightType) -> Result<Weight> {
        let _timed = ctx.time("Weight::pack");
        let (k, n) = (b.rows(), b.cols());
        let count = shape::product2("Weight::pack", k, n.div_ceil(PANEL))?;
        let (rs, cs) = (b.row_stride(), b.col_stride());
        let pack = |p: usize, panel: &mut [Line]| {
            assert_eq!(panel.len(), k);
            // The panel's k·16 floats are writable, and columns 16·p .. of b exist for every row: PackB's terms.
            let src = b.data().as_ptr().wrapping_add(p * PANEL * cs);
            let cols = (n - p * PANEL).min(PANEL);
            dispatch_on(ctx.isa(), PackB { dst: panel.as_mut_ptr().cast(), src, rs, cs, kc: k, cols });
        };
        let lines = match kind {
            WeightType::F32 => {
                let mut packed = reserved(count, Line([0.0; PANEL]))?;
                for (p, panel) in packed.chunks_exact_mut(k.max(1)).enumerate() {
                    pack(p, panel);
                }
                Lines::F32(packed)
            }
            WeightType::Bf16 => {
                let mut packed = reserved(count, HalfLine([0; PANEL]))?;
                let mut one = reserved(k, Line([0.0; PANEL]))?;
                for (p, panel) in packed.chunks_exact_mut(k.max(1)).enumerate() {
                    pack(p, &mut one);
                    for (half, line) in panel.iter_mut().zip(&one) {
                        half.0 = line.0.map(bf16::round);
                    }
                }
                Lines::Bf16(packed)
            }
        };
        Ok(Weight { lines, rows: k, cols: n })
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
        match &self.lines {
            Lines::F32(lines) => size_of_val(&lines[..]),
            Lines::Bf16(lines) => size_of_val(&lines[..]),
        }
    }

    /// Row k of panel p.
    fn line(&self, p: usize, k: usize) -> [f32; PANEL] {
        match &self.lines {
            Lines::F32(lines) => lines[p * self.rows + k].0,
            Lines::Bf16(lines) => lines[p * self.rows + k].0.map(bf16::widen),
        }
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
        matches!(self.lines, Lines::Bf16(_))
    }

    /// Panel p.
    pub(super) fn panel(&self, p: usize) -> Panel {
        assert!(p * PANEL < self.cols, "panel {p} of {} columns", self.cols);
        match &self.lines {
            Lines::F32(lines) => Panel::F32(lines[p * self.rows..].as_ptr().cast()),
            Lines::Bf16(lines) => Panel::Bf16(lines[p * self.rows..].as_ptr().cast()),
        }
    }
}

impl core::fmt::Debug for Weight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = if self.is_bf16() { ", bf16" } else { "" };
        write!(f, "Weight({}, {}{kind})", self.rows, self.cols)
    }
}

/// `count` copies of `empty`.
fn reserved<T: Copy>(count: usize, empty: T) -> Result<Vec<T>> {
    let bytes = shape::product2("Weight::pack", count, size_of::<T>())?;
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { what: "a packed weight", bytes })?;
    all.resize(count, empty);
    Ok(all)
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
