//! Weight: a right-hand side packed once.

use super::pack::PackB;
use super::params::PANEL;
use crate::ctx::{Ctx, Line};
use crate::error::{Error, Result, expect_len};
use crate::matrix::MatRef;
use crate::shape;
use crate::simd::dispatch_on;

/// A (K, N) matrix in panels of 16 columns, [N/16][K][16], the last one padded with zeros: what every
/// instruction set reads, so a packed weight belongs to no machine.
///
/// A tied embedding table (V, C) packed as its transpose, `Weight::pack(ctx, wte.t())`, multiplies as the head and
/// serves rows of the table as `copy_col`.
#[derive(Clone)]
pub struct Weight {
    /// A row of a panel each.
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
}

impl Weight {
    /// Packs a copy of `b` (K, N), any strides, on this thread: the same bits for every `ctx`.
    ///
    /// Cost: reads K·N floats, writes K·N rounded up to whole panels.
    /// # Errors
    /// `SizeOverflow` or `OutOfMemory` when the copy does not fit.
    pub fn pack(ctx: &Ctx, b: MatRef<'_>) -> Result<Weight> {
        let _timed = ctx.time("Weight::pack");
        let (k, n) = (b.rows(), b.cols());
        let lines = shape::product2("Weight::pack", k, n.div_ceil(PANEL))?;
        let bytes = shape::product2("Weight::pack", lines, size_of::<Line>())?;
        let mut packed: Vec<Line> = Vec::new();
        packed.try_reserve_exact(lines).map_err(|_| Error::OutOfMemory { what: "a packed weight", bytes })?;
        packed.resize(lines, Line([0.0; PANEL]));
        let (rs, cs) = (b.row_stride(), b.col_stride());
        for (p, panel) in packed.chunks_exact_mut(k.max(1)).enumerate() {
            // The panel's k·16 floats are writable, and columns 16·p .. of b exist for every row: PackB's terms.
            let src = b.data().as_ptr().wrapping_add(p * PANEL * cs);
            let cols = (n - p * PANEL).min(PANEL);
            dispatch_on(ctx.isa(), PackB { dst: panel.as_mut_ptr().cast(), src, rs, cs, kc: k, cols });
        }
        Ok(Weight { lines: packed, rows: k, cols: n })
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
        self.lines.len() * size_of::<Line>()
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
        let panel = &self.lines[j / PANEL * self.rows..][..self.rows];
        for (x, line) in out.iter_mut().zip(panel) {
            *x = line.0[j % PANEL];
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
            part.copy_from_slice(&self.lines[p * self.rows + k].0[..part.len()]);
        }
        Ok(())
    }

    /// The first float of panel p, whose K·16 floats are readable from there.
    pub(super) fn panel(&self, p: usize) -> *const f32 {
        assert!(p * PANEL < self.cols, "panel {p} of {} columns", self.cols);
        self.lines[p * self.rows..].as_ptr().cast()
    }
}

impl core::fmt::Debug for Weight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Weight({}, {})", self.rows, self.cols)
    }
}
