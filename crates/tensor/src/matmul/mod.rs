//! Matrix multiplication: five loops, packed panels, one microkernel.
//!
//! C[i, j] = epilogue(c), where c starts at +0 (`Store`) or at the old C[i, j] (`Add`) and c ← fma(a[i, k], b[k, j], c)
//! for k = 0, 1, …, K−1 in order; then, once, + bias[j], then GELU, then + residual[i, j], one rounding each.
//! That chain is the promise: no block size, shape, stride, packing, instruction set of one rounding class or
//! number of threads can move a bit, and dW accumulated over microbatches equals dW of the whole batch.
//!
//! ```text
//! A is packed, in parallel: blocks [tile][kc][mr] of MC rows × KC          `PackA`
//! (at most 16 MiB at once: a group of row blocks after the other; and a span of k, `params::span`)
//! task        a chunk of C: up to 3 row blocks × some panels of columns    `params::cut`, by shape alone
//!   LOOP 1    k in blocks of KC
//!     LOOP 2  B's columns in strips of 4 panels, packed [panel][kc][16]    for each of the row blocks:
//!       LOOP 3  NV panels at a time                                        stay in L1, A's block in L2 (AVX2)
//!         LOOP 4  tiles of MR rows
//!           LOOP 5  the microkernel: k, and for each MR × NV multiply-adds C in registers
//!         epilogue over the part of C just finished                        near, in L2 mostly
//! ```
//!
//! Up to 8 contiguous rows (generation; 32 over bfloat16) A is read in place, and B too: packed, or its rows, or its columns (`turned`),
//! the latter for as many rows as that pays.
//! Rows of A are read in place also where C is narrow, since each element is then used too seldom to be worth a copy.
//! A packed B may be bfloat16: its numbers are widened to f32 as they are loaded, or a strip at a time, and the chain is
//! that of f32. Where the context rounds activations (`Ctx::with_bf16_activations`), more than 32 rows of A are rounded to
//! bfloat16 as well, pairs of steps of k take the places of floats, and every loop is as above with half of K; its
//! innermost adds two products a step, which round as the CPU does.
//!
//! Source of the blocking: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS
//! 34(3), 2008, with one change: a strip of B is used for a task's rows and then done with, so it is packed when
//! its turn comes, and no block of B is kept.

mod bias;
mod epilogue;
pub(crate) mod microkernel;
mod pack;
mod params;
mod turned;
mod weight;

pub use bias::bias_backward;
pub use epilogue::Epilogue;
pub use params::FEW_BF16;
pub(crate) use weight::{Numbers, pack_into};
pub use weight::{Weight, WeightType};

use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::{Accumulate, MatMut, MatRef};
use crate::parallel::{self, RowsMut};
use crate::shape;
use crate::simd::dispatch_on;
use epilogue::RawEpilogue;
use microkernel::{Packing, Tile, TileShape, run_tiles};
use pack::{PackA, PackB, Tiles};
use params::{NARROW, PANEL, SMALL_M, STRIP};
use turned::{Turned, most_rows, run_turned};
use weight::{Narrow, Pair, Panel, Widen};

/// The right-hand side of a matmul: a strided matrix, or a weight packed once for many products.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// (K, N), any strides; packed as it streams in, except for few rows of A.
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
/// Cost: 2·M·N·K flops. A is packed once, B at best once for 792 rows of C (AVX-512: 1,056);
/// scratch at most 4·M·K bytes and about 16 MiB, or 2 MiB where a block of rows with all of K is more than that; and 96
/// KiB a task (256). Products of bf16 take 2·M·K bytes more, for the rounded rows.
/// Numerics: the chain in the module's text, bit for bit (not with `Ctx::with_bf16_activations`); K = 0 leaves +0 or the
/// old C to the epilogue.
/// Threads: chunks of C in parallel; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the sizes of a, b, c or of the epilogue's parts disagree.
pub fn matmul<'b>(
    ctx: &Ctx,
    c: MatMut<'_>,
    a: MatRef<'_>,
    b: impl Into<Operand<'b>>,
    acc: Accumulate,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    multiply(ctx, c, a, b.into(), acc, epilogue, params::PACKED_A)
}

/// `matmul` with room for `packed_a` floats of packed A: tests have little, so that small products go in groups and spans.
fn multiply(
    ctx: &Ctx,
    mut c: MatMut<'_>,
    a: MatRef<'_>,
    b: Operand<'_>,
    acc: Accumulate,
    epilogue: Epilogue<'_>,
    packed_a: usize,
) -> Result<()> {
    let _timed = ctx.time(by_layout(&a, &b));
    let (m, n, k) = (c.rows(), c.cols(), a.cols());
    expect_len("matmul", "rows of a", a.rows(), m)?;
    expect_len("matmul", "rows of b", b.rows(), k)?;
    expect_len("matmul", "columns of b", b.cols(), n)?;
    let epilogue = RawEpilogue::check(epilogue, m, n)?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let halves = matches!(b, Operand::Packed(w) if w.is_bf16());
    let dots = halves && k > 0 && m > FEW_BF16 && a.col_stride() == 1 && ctx.bf16_activations();
    // From here on a pair of bfloat16 is one number, and K half of what it was.
    let (whole, mut rounded) = (k, None);
    let (a, k) = if dots {
        let pairs = rounded.insert(ctx.scratch(shape::product2("matmul", m, k.div_ceil(2))?));
        round_rows(ctx, a, pairs);
        (MatRef::new(pairs, m, k.div_ceil(2))?, k.div_ceil(2))
    } else {
        (a, k)
    };
    let shape = TileShape::of(ctx.isa());
    let blocks = params::blocks(shape.nv);
    let cut = params::cut(m, n, k, blocks.mc, packed_a);
    let kc = params::depth(k, blocks.kc);
    let mut product = Product {
        ctx,
        shape,
        k,
        pairs_of: dots.then_some(whole),
        kc,
        tm: cut.tm,
        // One empty block when K is 0.
        depths: 0..k.div_ceil(kc).max(1),
        a,
        a_packed: None,
        b,
        ldc: c.row_stride(),
        c: c.data_mut().as_mut_ptr(),
        load_c: acc == Accumulate::Add,
        epilogue,
    };
    let in_place = if halves { FEW_BF16 } else { SMALL_M };
    if m <= in_place && a.col_stride() == 1 {
        let height = m.div_ceil(m.div_ceil(SMALL_M));
        parallel::for_each_block(ctx, cut.cols, |t| {
            let (begin, end) = (t * cut.tn, n.min((t + 1) * cut.tn));
            let turned = product.turned_panels(m, begin, (end - begin) / PANEL);
            // Strip by strip, so that B is read once and in order; further rows find a strip of halves in the L2.
            for j in (begin + turned * PANEL..end).step_by(STRIP * PANEL) {
                for i in (0..m).step_by(height) {
                    product.chunk(i, height.min(m - i), j, (STRIP * PANEL).min(end - j));
                }
            }
        });
        return Ok(());
    }
    if n <= NARROW && a.col_stride() == 1 && shape.mr <= SMALL_M && !dots {
        parallel::for_each_block(ctx, cut.rows * cut.cols, |t| {
            let (i, j) = (t % cut.rows * cut.tm, t / cut.rows * cut.tn);
            product.chunk(i, cut.tm.min(m - i), j, cut.tn.min(n - j));
        });
        return Ok(());
    }
    // A's blocks of one group of row blocks are packed, then shared by that group's tasks: all of k, or a span after the
    // other.
    let (depths, groups) = (product.depths.len(), Tiles::new(cut.tm, shape.mr).groups());
    let block = (cut.tm * product.kc).next_multiple_of(16);
    let span = params::span(block, depths, &cut, packed_a, blocks.near);
    let mut packed = ctx.scratch(shape::product3("matmul", cut.together, span, block)?);
    for (first, pc) in
        (0..cut.rows).step_by(cut.together).flat_map(|i| (0..depths).step_by(span).map(move |pc| (i, pc)))
    {
        let (rows, depths) = (cut.together.min(cut.rows - first), span.min(depths - pc));
        let shared =
            Packed { data: packed.as_mut_ptr(), block, depths, first: first * cut.tm, first_pc: pc, tm: cut.tm };
        let pieces = rows * depths * groups;
        parallel::for_each_rows(ctx, (), pieces, params::pieces(product.kc), |begin, ()| {
            for t in begin..pieces.min(begin + params::pieces(product.kc)) {
                let (i, pc) = ((first + t / groups / depths) * cut.tm, pc + t / groups % depths);
                product.pack_a(&shared, i, cut.tm.min(m - i), pc, t % groups);
            }
        });
        product.a_packed = Some(shared);
        product.depths = pc..pc + depths;
        parallel::for_each_block(ctx, rows.div_ceil(cut.tall) * cut.cols, |t| {
            // Neighbouring tasks share A's rows: a core finds what its L2 holds of them again.
            let (i, j) = (first + t / cut.cols * cut.tall, t % cut.cols * cut.tn);
            let (i, end) = (i * cut.tm, m.min((i + cut.tall).min(first + rows) * cut.tm));
            product.chunk(i, end - i, j, cut.tn.min(n - j));
        });
    }
    Ok(())
}

/// Rounds the rows of A, whose elements are contiguous, to bfloat16: pairs in the places of floats, K rounded up to pairs
/// with a zero.
fn round_rows(ctx: &Ctx, a: MatRef<'_>, pairs: &mut [f32]) {
    let (rows, cols) = (a.rows(), a.cols());
    let width = cols.next_multiple_of(2);
    let out = RowsMut::new(bytemuck::cast_slice_mut::<f32, u16>(pairs), width);
    parallel::for_each_rows(ctx, out, rows, (ROUNDED / cols).max(1), |first, some| {
        for (i, out) in some.into_slice().chunks_exact_mut(width).enumerate() {
            let x = &a.data()[(first + i) * a.row_stride()..][..cols];
            dispatch_on(ctx.isa(), Narrow { out: &mut out[..cols], x });
            out[cols..].fill(0);
        }
    });
}

/// Numbers of A that a task rounds to bfloat16.
const ROUNDED: usize = 1 << 15;

/// The name under which a product is timed.
fn by_layout(a: &MatRef<'_>, b: &Operand<'_>) -> &'static str {
    let turned = |m: &MatRef<'_>| m.rows() > 1 && m.cols() > 1 && m.row_stride() == 1;
    match (turned(a), matches!(b, Operand::Mat(b) if turned(b))) {
        (false, false) => "matmul_nn",
        (false, true) => "matmul_nt",
        (true, false) => "matmul_tn",
        (true, true) => "matmul_tt",
    }
}

/// The operands, for tasks to share.
struct Product<'a> {
    ctx: &'a Ctx,
    shape: TileShape,
    /// K, or the pairs that K makes, of a K that is here then.
    k: usize,
    pairs_of: Option<usize>,
    kc: usize,
    /// Rows of a block of A.
    tm: usize,
    /// The blocks of k that tasks go through.
    depths: core::ops::Range<usize>,
    a: MatRef<'a>,
    a_packed: Option<Packed>,
    b: Operand<'a>,
    c: *mut f32,
    ldc: usize,
    load_c: bool,
    epilogue: RawEpilogue<'a>,
}

// SAFETY: the pointers come from slices that `matmul` borrows until every task has ended; inputs are only read,
// and each task writes its own chunk of C and of the pre-activation, which no other task touches.
unsafe impl Sync for Product<'_> {}

/// Row blocks of A, of each `depths` blocks of k, each packed into `block` floats.
struct Packed {
    data: *mut f32,
    block: usize,
    depths: usize,
    /// First row of the first row block, rows of each, and the first block of k.
    first: usize,
    tm: usize,
    first_pc: usize,
}

// SAFETY: while A is packed each task writes its own groups' panels; afterwards all of them only read.
unsafe impl Sync for Packed {}

impl Packed {
    /// Block `pc` of the row block that begins at row i0.
    fn at(&self, i0: usize, pc: usize) -> *mut f32 {
        self.data.wrapping_add(((i0 - self.first) / self.tm * self.depths + pc - self.first_pc) * self.block)
    }
}

impl Product<'_> {
    /// Packs a group of the tiles of rows i0 .. i0 + m of A, block `pc` of k.
    fn pack_a(&self, to: &Packed, i0: usize, m: usize, pc: usize, group: usize) {
        let (rs, cs, k0) = (self.a.row_stride(), self.a.col_stride(), pc * self.kc);
        let src = self.a.data().as_ptr().wrapping_add(i0 * rs + k0 * cs);
        let (kc, tiles) = (self.kc.min(self.k - k0), Tiles::new(m, self.shape.mr));
        let group = tiles.group(group);
        dispatch_on(self.ctx.isa(), PackA { dst: to.at(i0, pc), src, rs, cs, kc, tiles, group });
    }

    /// All m ≤ `SMALL_M` rows, which are contiguous in A, of `panels` panels from column j0 on, if B's columns are
    /// contiguous and turning them pays: `panels`, or 0 if nothing was done.
    fn turned_panels(&self, m: usize, j0: usize, panels: usize) -> usize {
        let (a, c) = (self.a, self.c.wrapping_add(j0));
        let b = match self.b {
            Operand::Mat(b) if b.row_stride() == 1 && panels > 0 && m <= most_rows(self.shape.nv, b.col_stride()) => b,
            _ => return 0,
        };
        let turned = Turned {
            k: self.k,
            a: a.data().as_ptr(),
            a_rs: a.row_stride(),
            b: b.data().as_ptr().wrapping_add(j0 * b.col_stride()),
            b_cs: b.col_stride(),
            c,
            ldc: self.ldc,
            panels,
            load_c: self.load_c,
        };
        // SAFETY: A has m rows and B these columns, of K floats each; this part of C is this task's alone, and so is its
        // part of the pre-activation.
        unsafe {
            run_turned(self.ctx.isa(), m, turned);
            self.epilogue.run(self.ctx.isa(), c, self.ldc, 0, m, j0, panels * PANEL);
        }
        panels
    }

    /// Rows i0 .. i0 + m, where a row block begins, and columns j0 .. j0 + n of C; j0 is a multiple of 16.
    fn chunk(&self, i0: usize, m: usize, j0: usize, n: usize) {
        let isa = self.ctx.isa();
        let a_rs = self.a.row_stride();
        let source = match self.b {
            Operand::Packed(w) => Source::Packed(w),
            Operand::Mat(b) if self.a_packed.is_none() && m <= SMALL_M && b.col_stride() == 1 => Source::InPlace(b),
            Operand::Mat(b) => Source::Strided(b),
        };
        // Of a weight of bfloat16 few rows read the panels as they are, many a strip that is widened once.
        let halves = matches!(source, Source::Packed(w) if w.is_bf16()) && self.a_packed.is_none();
        let in_place = halves || matches!(source, Source::Packed(w) if !w.is_bf16());
        let mut scratch = self.ctx.scratch(if in_place { 0 } else { STRIP * self.kc * PANEL });
        for pc in self.depths.clone() {
            // LOOP 1: k in blocks of kc.
            let k0 = pc * self.kc;
            let kc = self.kc.min(self.k - k0);
            let last = k0 + kc == self.k;
            for j in (0..n).step_by(STRIP * PANEL) {
                // LOOP 2: strips of B.
                let cols = (n - j).min(STRIP * PANEL);
                let (b, b_ks, b_panel) = self.panels(&source, k0, kc, j0 + j, cols, &mut scratch);
                for i in (i0..i0 + m).step_by(self.tm) {
                    // A task of several row blocks: the strip, packed once, passes over each.
                    let m = self.tm.min(i0 + m - i);
                    let a = match &self.a_packed {
                        Some(p) => p.at(i, pc).cast_const(),
                        None => self.a.data().as_ptr().wrapping_add(i * a_rs + k0),
                    };
                    let c = self.c.wrapping_add(i * self.ldc + j0 + j);
                    let load_c = self.load_c || pc > 0;
                    let strip = Tile { kc, a, a_rs, b, b_ks, b_panel, c, ldc: self.ldc, cols, load_c };
                    let packing = match (&self.a_packed, b_ks) {
                        (Some(_), _) if self.pairs_of.is_some() => Packing::Pairs,
                        (Some(_), _) => Packing::Both,
                        _ if halves => Packing::Halves,
                        (None, PANEL) => Packing::OnlyB,
                        (None, _) => Packing::Neither,
                    };
                    self.strip(&strip, packing, Tiles::new(m, self.shape.mr), |c, first, cols| {
                        if last {
                            // SAFETY: this part of C is this task's alone, and so is its part of the pre-activation.
                            unsafe { self.epilogue.run(isa, c, self.ldc, i, m, j0 + j + first, cols) };
                        }
                    });
                }
            }
        }
    }

    /// Computes a strip: `tile` of all rows and up to `STRIP` panels, whose A, if it is packed, begins with the first
    /// panel. Calls `done(c, first, cols)` after columns first .. first + cols, which begin at `c`.
    fn strip(&self, strip: &Tile, packing: Packing, tiles: Tiles, done: impl Fn(*mut f32, usize, usize)) {
        let nv = self.shape.vectors(tiles.tallest());
        let mut first = 0;
        while first < strip.cols {
            // LOOP 3: nv panels, fewer at the end.
            let left = (strip.cols - first).div_ceil(PANEL);
            let nv = if left >= nv { nv } else { 1 << left.ilog2() };
            let cols = (strip.cols - first).min(nv * PANEL);
            let (b, c) = (strip.b.wrapping_add(first / PANEL * strip.b_panel), strip.c.wrapping_add(first));
            for (row, mr, count) in tiles.columns() {
                // LOOP 4: tiles of mr rows, inside `run_tiles`.
                let a = strip.a.wrapping_add(row * if packing.packs_a() { strip.kc } else { strip.a_rs });
                let tile = Tile { a, b, c: c.wrapping_add(row * strip.ldc), cols, ..*strip };
                // SAFETY: A's panels of these rows stand at row·kc, or the rows are in place; B's nv panels hold
                // kc × 16 floats each; C's rows and columns are those of this task alone.
                unsafe { run_tiles(self.ctx.isa(), mr, nv, packing, &tile, count) };
            }
            done(c, first, cols);
            first += cols;
        }
    }

    /// Rows k0 .. k0 + kc and columns j .. j + cols of B as panels of 16 columns. Packs into `block`, which holds
    /// `STRIP` of them, what cannot be read in place.
    fn panels(&self, source: &Source<'_>, k0: usize, kc: usize, j: usize, cols: usize, block: &mut [f32]) -> Panels {
        match *source {
            Source::Packed(w) => match w.panel(j / PANEL) {
                Panel::F32(first) => (first.wrapping_add(k0 * PANEL), PANEL, w.rows() * PANEL),
                Panel::Bf16(first) if self.a_packed.is_none() => {
                    (first.wrapping_add(k0 * PANEL).cast(), PANEL / 2, w.rows() * PANEL / 2)
                }
                Panel::Bf16(first) => {
                    let panels = cols.div_ceil(PANEL);
                    assert!(block.len() >= panels * kc * PANEL);
                    let (dst, apart, lines, isa) = (block.as_mut_ptr(), w.rows() * PANEL, kc, self.ctx.isa());
                    match self.pairs_of {
                        None => {
                            let src = first.wrapping_add(k0 * PANEL);
                            dispatch_on(isa, Widen { dst, src, apart, lines, panels });
                        }
                        Some(rows) => {
                            let (src, even) = (first.wrapping_add(2 * k0 * PANEL), 2 * (k0 + kc) <= rows);
                            dispatch_on(isa, Pair { dst, src, apart, lines, panels, even });
                        }
                    }
                    (dst, PANEL, kc * PANEL)
                }
            },
            Source::InPlace(b) if cols.is_multiple_of(PANEL) => {
                (b.data().as_ptr().wrapping_add(k0 * b.row_stride() + j), b.row_stride(), PANEL)
            }
            Source::InPlace(b) | Source::Strided(b) => {
                assert!(block.len() >= cols.div_ceil(PANEL) * kc * PANEL);
                let (rs, cs, dst) = (b.row_stride(), b.col_stride(), block.as_mut_ptr());
                let src = b.data().as_ptr().wrapping_add(k0 * rs + j * cs);
                dispatch_on(self.ctx.isa(), PackB { dst, src, rs, cs, kc, cols });
                (dst, PANEL, kc * PANEL)
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
