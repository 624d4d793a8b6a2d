//! Matrix multiplication: five loops, packed panels, one microkernel.
//!
//! C[i, j] = epilogue(c), where c starts at +0 (`Store`) or at the old C[i, j] (`Add`) and c ← fma(a[i, k], b[k, j], c)
//! for k = 0, 1, …, K−1 in order; then, once, + bias[j], then GELU, then + residual[i, j], one rounding each.
//! That chain is the promise: no block size, shape, stride, packing, instruction set of one rounding class or
//! number of threads can move a bit, and dW accumulated over microbatches equals dW of the whole batch.
//!
//! ```text
//! task        a chunk of C: at most MC rows × some panels of columns    `params::cut`, by shape alone
//!   LOOP 1    k in blocks of KC; A's block packed [tile][kc][mr]        stays in L2
//!     LOOP 2  B's panels, NV at a time; packed [kc][16] when not yet    stays in L1
//!       LOOP 3  tiles of MR rows
//!         LOOP 4, 5  the microkernel: k, then MR × NV multiply-adds     C in registers
//!       epilogue over the strip of C just finished
//! ```
//!
//! Source of the blocking: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS
//! 34(3), 2008, with one change: as a B panel is used for MC rows and then done with, it is packed when its turn
//! comes, and no block of B is kept.

mod bias;
mod epilogue;
pub(crate) mod microkernel;
mod pack;
mod params;
mod weight;

pub use bias::bias_backward;
pub use epilogue::Epilogue;
pub use weight::Weight;

use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::{Accumulate, MatMut, MatRef};
use crate::parallel;
use crate::simd::dispatch_on;
use epilogue::RawEpilogue;
use microkernel::{Tile, TileShape, run_tile};
use pack::{PackA, PackB, SLACK, Tiles};
use params::{KC, PANEL, SMALL_M};

/// The right-hand side of a matmul: a strided matrix, or a weight packed once for many products.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// (K, N), any strides; packed as it streams in.
    Mat(MatRef<'a>),
    /// (K, N), packed.
    Packed(&'a Weight),
}

impl<'a> From<MatRef<'a>> for Operand<'a> {
    fn from(b: MatRef<'a>) -> Self {
        Operand::Mat(b)
    }
}
impl<'a> From<&'a Weight> for Operand<'a> {
    fn from(b: &'a Weight) -> Self {
        Operand::Packed(b)
    }
}

impl Operand<'_> {
    /// K.
    pub fn rows(&self) -> usize {
        match self {
            Operand::Mat(b) => b.rows(),
            Operand::Packed(b) => b.rows(),
        }
    }
    /// N.
    pub fn cols(&self) -> usize {
        match self {
            Operand::Mat(b) => b.cols(),
            Operand::Packed(b) => b.cols(),
        }
    }
}

/// C = epilogue(A·B) or C = epilogue(C + A·B).
///
/// Shapes: c (M, N) with adjacent columns, a (M, K) and b (K, N) with any strides; a transposition is `.t()`.
/// Backward, each a matmul: dA = dC·Bᵀ is `matmul(da, dc, b.t())`, dB = Aᵀ·dC is `matmul(db, a.t(), dc)`.
/// Writes: c, and `epilogue.pre_activation` when there is a GELU. `Store` does not read c.
/// Cost: 2·M·N·K flops. B is packed once for every 264 rows of C, A once a task; scratch at most 0.4 MiB a task.
/// Numerics: the chain in the module's text, bit for bit; K = 0 leaves +0 or the old C to the epilogue.
/// Threads: chunks of C in parallel; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the sizes of a, b, c or of the epilogue's parts disagree.
pub fn matmul<'b>(
    ctx: &Ctx,
    mut c: MatMut<'_>,
    a: MatRef<'_>,
    b: impl Into<Operand<'b>>,
    acc: Accumulate,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let b = b.into();
    let (m, n, k) = (c.rows(), c.cols(), a.cols());
    expect_len("matmul", "rows of a", a.rows(), m)?;
    expect_len("matmul", "rows of b", b.rows(), k)?;
    expect_len("matmul", "columns of b", b.cols(), n)?;
    let epilogue = RawEpilogue::check(epilogue, m, n)?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let cut = params::cut(m, n, k);
    let product = Product {
        ctx,
        shape: TileShape::of(ctx.isa()),
        k,
        a,
        b,
        ldc: c.row_stride(),
        c: c.data_mut().as_mut_ptr(),
        load_c: acc == Accumulate::Add,
        epilogue,
    };
    parallel::for_each_block(ctx, cut.rows * cut.cols, |task| {
        // Neighbouring tasks share B's columns.
        let (i, j) = (task % cut.rows * cut.tm, task / cut.rows * cut.tn);
        product.chunk(i, cut.tm.min(m - i), j, cut.tn.min(n - j));
    });
    Ok(())
}

/// The operands, for tasks to share.
struct Product<'a> {
    ctx: &'a Ctx,
    shape: TileShape,
    k: usize,
    a: MatRef<'a>,
    b: Operand<'a>,
    c: *mut f32,
    ldc: usize,
    load_c: bool,
    epilogue: RawEpilogue<'a>,
}

// SAFETY: the pointers come from slices that `matmul` borrows until every task has ended; inputs are only read,
// and each task writes its own chunk of C and of the pre-activation, which no other task touches.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    /// Rows i0 .. i0 + m and columns j0 .. j0 + n of C; j0 is a multiple of 16.
    fn chunk(&self, i0: usize, m: usize, j0: usize, n: usize) {
        let isa = self.ctx.isa();
        let tiles = Tiles::new(m, self.shape.mr);
        let nv = self.shape.vectors(tiles.tallest());
        let (a_rs, a_cs) = (self.a.row_stride(), self.a.col_stride());
        let source = match self.b {
            Operand::Packed(w) => Source::Packed(w),
            Operand::Mat(b) if m <= SMALL_M && b.col_stride() == 1 => Source::InPlace(b),
            Operand::Mat(b) => Source::Strided(b),
        };
        let pack_a = m > SMALL_M;
        // Few rows stream B once from memory: no reason to leave a strip of C before k is through.
        let kc = match source {
            Source::Packed(_) | Source::InPlace(_) if !pack_a => self.k,
            _ => self.k.div_ceil(self.k.div_ceil(KC).max(1)),
        };
        let a_len = if pack_a { m * kc + SLACK } else { 0 };
        let b_len = if matches!(source, Source::Packed(_)) { 0 } else { nv * kc * PANEL };
        let mut scratch = self.ctx.scratch(a_len.next_multiple_of(16) + b_len);
        let a_block = scratch.as_mut_ptr();
        // SAFETY: scratch holds a_len, rounded up, and b_len floats.
        let b_block = unsafe { a_block.add(a_len.next_multiple_of(16)) };
        let mut pc = 0;
        loop {
            // LOOP 1: k in blocks of kc.
            let kc = kc.min(self.k - pc);
            let last = pc + kc == self.k;
            let mut a = self.a.data().as_ptr().wrapping_add(i0 * a_rs + pc * a_cs);
            if pack_a {
                dispatch_on(isa, PackA { dst: a_block, src: a, rs: a_rs, cs: a_cs, kc, tiles });
                a = a_block;
            }
            let mut j = 0;
            while j < n {
                // LOOP 2: strips of nv panels, fewer at the end.
                let left = (n - j).div_ceil(PANEL);
                let nv = if left >= nv { nv } else { 1 << left.ilog2() };
                let cols = (n - j).min(nv * PANEL);
                let (b, b_ks, b_panel) = self.panels(&source, pc, kc, j0 + j, cols, b_block);
                // SAFETY: the strip lies in this task's chunk of C.
                let c = unsafe { self.c.add(i0 * self.ldc + j0 + j) };
                for t in 0..tiles.count {
                    // LOOP 3: tiles of mr rows.
                    let (row, mr) = tiles.at(t);
                    // SAFETY: A's panel of this tile is packed at row·kc, or its rows are in place; B's panels hold
                    // kc × 16 floats each; C's rows i0 + row .. + mr and `cols` columns are this task's alone.
                    unsafe {
                        let tile = Tile {
                            kc,
                            a: if pack_a { a.add(row * kc) } else { a.wrapping_add(row * a_rs) },
                            a_rs,
                            a_ks: a_cs,
                            b,
                            b_ks,
                            b_panel,
                            c: c.add(row * self.ldc),
                            ldc: self.ldc,
                            cols,
                            load_c: self.load_c || pc > 0,
                        };
                        run_tile(isa, mr, nv, pack_a, &tile);
                    }
                }
                if last {
                    // SAFETY: this strip of C is this task's alone, and so is its part of the pre-activation.
                    unsafe { self.epilogue.run(isa, c, self.ldc, i0, m, j0 + j, cols) };
                }
                j += cols;
            }
            pc += kc;
            if last {
                break;
            }
        }
    }

    /// Rows pc .. pc + kc and columns j .. j + cols of B as panels of 16 columns: where they are, the stride of k
    /// and the stride of the panels. Packs into `block` what cannot be read in place.
    fn panels(&self, source: &Source<'_>, pc: usize, kc: usize, j: usize, cols: usize, block: *mut f32) -> Panels {
        let whole = cols.is_multiple_of(PANEL);
        match *source {
            Source::Packed(w) => (w.panel(j / PANEL).wrapping_add(pc * PANEL), PANEL, w.rows() * PANEL),
            Source::InPlace(b) if whole => {
                (b.data().as_ptr().wrapping_add(pc * b.row_stride() + j), b.row_stride(), PANEL)
            }
            Source::InPlace(b) | Source::Strided(b) => {
                let (rs, cs) = (b.row_stride(), b.col_stride());
                for v in 0..cols.div_ceil(PANEL) {
                    let (dst, cols) = (block.wrapping_add(v * kc * PANEL), (cols - v * PANEL).min(PANEL));
                    let src = b.data().as_ptr().wrapping_add(pc * rs + (j + v * PANEL) * cs);
                    dispatch_on(self.ctx.isa(), PackB { dst, src, rs, cs, kc, cols });
                }
                (block, PANEL, kc * PANEL)
            }
        }
    }
}

/// Panels of B: the first one, floats from k to k + 1, floats from panel to panel.
type Panels = (*const f32, usize, usize);

/// Where B's panels come from.
enum Source<'a> {
    Packed(&'a Weight),
    InPlace(MatRef<'a>),
    Strided(MatRef<'a>),
}

#[cfg(test)]
mod tests;
