//! Weight: a right-hand side packed once.

use super::pack::PackB;
use super::params::PANEL;
use crate::arena::Block;
use crate::bf16;
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::MatRef;
use crate::parallel::{self, Parts, RowsMut};
use crate::shape;
use crate::simd::{Kernel, Simd, dispatch_on};
use core::marker::PhantomData;
use core::ops::Range;
use std::sync::Arc;

/// How a packed weight's numbers are kept. Arithmetic is that of f32 either way, unless the context rounds activations
/// (`Ctx::with_bf16_activations`).
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
    /// The memory that its panels have a part of, alone or beside other weights.
    block: Arc<Block>,
    /// Which part: the panels' numbers; of bfloat16 two in the place of a float.
    part: Range<usize>,
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

/// Numbers that a task reads and packs at a time: 128 KiB that a core's own cache holds in between.
const PIECE: usize = 1 << 15;

/// Where the numbers of a (K, N) weight come from.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    /// A matrix in memory, any strides.
    Matrix(MatRef<'a>),
    /// A row-major matrix that is nowhere whole in memory: the weight or, `turned`, its transpose.
    Read { read: Read<'a>, turned: bool },
}

/// Writes a matrix's numbers from the first one, that of this index, on into all of a slice. It is asked for pieces of whole
/// rows, each number once (of an empty matrix none), from any thread and in any order.
pub(crate) type Read<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

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
        let (k, n) = (b.rows(), b.cols());
        let mut block = Block::zeroed(Weight::room(k, n, kind)?)?;
        pack_into(ctx, &mut block, k, n, kind, Numbers::Matrix(b));
        let part = 0..block.len();
        Ok(Weight::packed(Arc::new(block), part, kind, k, n))
    }

    /// A (K, N) weight that `pack_into` wrote into a part of `block`.
    pub(crate) fn packed(block: Arc<Block>, part: Range<usize>, kind: WeightType, k: usize, n: usize) -> Weight {
        assert_eq!(Weight::room(k, n, kind), Ok(part.len()));
        Weight { block, part, kind, rows: k, cols: n }
    }

    /// Floats that a packed (K, N) weight takes.
    pub(crate) fn room(k: usize, n: usize, kind: WeightType) -> Result<usize> {
        let op = "Weight::pack";
        let room = shape::product2(op, shape::product2(op, k, PANEL)?, n.div_ceil(PANEL))?;
        Ok(if kind == WeightType::F32 { room } else { room / 2 })
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
        size_of_val(self.data())
    }

    /// Row k of panel p.
    fn line(&self, p: usize, k: usize) -> [f32; PANEL] {
        let at = (p * self.rows + k) * PANEL;
        match self.kind {
            WeightType::F32 => {
                let line = &self.data()[at..at + PANEL];
                core::array::from_fn(|l| line[l])
            }
            WeightType::Bf16 => {
                let line = &self.halves()[at..at + PANEL];
                core::array::from_fn(|l| bf16::widen(line[l]))
            }
        }
    }

    fn data(&self) -> &[f32] {
        &self.block[self.part.clone()]
    }

    fn halves(&self) -> &[u16] {
        bytemuck::cast_slice(self.data())
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
            WeightType::F32 => Panel::F32(self.data()[at..].as_ptr()),
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

/// Packs a (K, N) weight into its memory, `Weight::room` floats, on all threads of `ctx`.
pub(crate) fn pack_into(ctx: &Ctx, data: &mut [f32], k: usize, n: usize, kind: WeightType, numbers: Numbers<'_>) {
    let _timed = ctx.time("Weight::pack");
    match kind {
        _ if data.is_empty() => (),
        WeightType::F32 => fill(ctx, data, k, n, numbers, |panel, b| pack_panel(ctx, panel, b)),
        WeightType::Bf16 => {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(data);
            fill(ctx, halves, k, n, numbers, |panel, b| {
                let mut one = ctx.scratch(panel.len());
                pack_panel(ctx, &mut one, b);
                dispatch_on(ctx.isa(), Narrow { out: panel, x: &one });
            });
        }
    }
}

/// Floats as bfloat16.
pub(super) struct Narrow<'a> {
    pub out: &'a mut [u16],
    pub x: &'a [f32],
}

impl Kernel for Narrow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (half, x) in self.out.iter_mut().zip(self.x) {
            *half = bf16::round(*x);
        }
    }
}

/// Writes the panels of a (K, N) weight, K and N at least 1: `pack(steps, b)` packs the up to 16 columns of `b` into as
/// many steps of k of one panel.
fn fill<T: Send>(
    ctx: &Ctx,
    data: &mut [T],
    k: usize,
    n: usize,
    numbers: Numbers<'_>,
    pack: impl Fn(&mut [T], MatRef<'_>) + Sync,
) {
    let panels = n.div_ceil(PANEL);
    // Columns 16p .. of a part of the weight that begins with its column 0.
    let columns = |part: MatRef<'_>, p: usize, panel: &mut [T]| {
        let first = p * PANEL;
        pack(panel, part.block(0, first, part.rows(), (part.cols() - first).min(PANEL)));
    };
    match numbers {
        // A task packs some panels, wherever their columns stand.
        Numbers::Matrix(b) => {
            parallel::for_each_rows(ctx, RowsMut::new(data, k * PANEL), panels, PANELS, |first, some| {
                for (i, panel) in some.into_slice().chunks_exact_mut(k * PANEL).enumerate() {
                    columns(b, first + i, panel);
                }
            });
        }
        // A row of the transpose is a column of the weight: a piece makes whole panels.
        Numbers::Read { read, turned: true } => {
            let step = (PIECE / (PANEL * k)).max(1);
            parallel::for_each_rows(ctx, RowsMut::new(data, k * PANEL), panels, step, |first, some| {
                let (first, some) = (first * PANEL, some.into_slice());
                let count = (n - first).min(some.len() / k);
                let mut piece = ctx.scratch(count * k);
                read(first * k, &mut piece);
                let part = MatRef::new(&piece, count, k).expect("as many as the piece has").t();
                for (p, panel) in some.chunks_exact_mut(k * PANEL).enumerate() {
                    columns(part, p, panel);
                }
            });
        }
        // Rows of the weight: a piece makes some steps of every panel.
        Numbers::Read { read, turned: false } => {
            let step = (PIECE / n).max(1);
            parallel::for_each_rows(ctx, Lines::new(data, k), k, step, |first, mut lines| {
                let count = lines.count();
                let mut piece = ctx.scratch(count * n);
                read(first * n, &mut piece);
                let part = MatRef::new(&piece, count, n).expect("as many as the piece has");
                for p in 0..panels {
                    columns(part, p, lines.of(p));
                }
            });
        }
    }
}

/// Packs a matrix of up to 16 columns.
fn pack_panel(ctx: &Ctx, panel: &mut [f32], b: MatRef<'_>) {
    let (kc, cols, src) = (b.rows(), b.cols(), b.data().as_ptr());
    assert_eq!(panel.len(), kc * PANEL);
    assert!((1..=PANEL).contains(&cols));
    // The panel's kc·16 floats are writable, and every element of b exists, as of every MatRef: PackB's terms.
    let (rs, cs) = (b.row_stride(), b.col_stride());
    dispatch_on(ctx.isa(), PackB { dst: panel.as_mut_ptr(), src, rs, cs, kc, cols });
}

/// Steps of k of all panels [N/16][K][16], to be cut between tasks.
struct Lines<'a, T> {
    data: *mut T,
    panels: usize,
    k: usize,
    steps: Range<usize>,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<'a, T> Lines<'a, T> {
    /// All steps of panels that are full.
    fn new(data: &'a mut [T], k: usize) -> Self {
        let panels = data.len() / (k * PANEL);
        assert_eq!(data.len(), panels * k * PANEL);
        Lines { data: data.as_mut_ptr(), panels, k, steps: 0..k, lifetime: PhantomData }
    }

    /// Steps of k.
    fn count(&self) -> usize {
        self.steps.len()
    }

    /// Those of panel p.
    fn of(&mut self, p: usize) -> &mut [T] {
        assert!(p < self.panels);
        // SAFETY: p < panels and steps lie in 0..k: within the slice that `data` comes from. Only `self` has these steps of
        // its panels, by `Parts`, and it is borrowed mutably as long as the result.
        unsafe {
            let first = self.data.add((p * self.k + self.steps.start) * PANEL);
            core::slice::from_raw_parts_mut(first, self.steps.len() * PANEL)
        }
    }
}

// SAFETY: parts of ranges that do not overlap have different steps of every panel; T: Send lets another thread have them.
unsafe impl<T: Send> Parts for Lines<'_, T> {
    unsafe fn part(&self, from: usize, to: usize) -> Self {
        let at = |step: usize| self.steps.start.saturating_add(step).min(self.steps.end);
        Lines { data: self.data, panels: self.panels, k: self.k, steps: at(from)..at(to), lifetime: PhantomData }
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

/// Panels of bfloat16 as panels of pairs, [lines][16], each pair two steps of k of one column, the first in its lower half.
pub(super) struct Pair {
    /// panels · lines · 16 pairs to write, in the places of floats.
    pub dst: *mut f32,
    /// Row k of panel p stands at `src + p·apart + k·16`.
    pub src: *const u16,
    pub apart: usize,
    pub lines: usize,
    pub panels: usize,
    /// Whether the second row of the last line is there; else it is 0.
    pub even: bool,
}

impl Kernel for Pair {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let zeros = [0u16; PANEL];
        for p in 0..self.panels {
            for line in 0..self.lines {
                // SAFETY: whoever fills the struct vouches for every row of every panel at both ends.
                unsafe {
                    let first = self.src.add(p * self.apart + 2 * line * PANEL);
                    let second = if line + 1 < self.lines || self.even { first.add(PANEL) } else { zeros.as_ptr() };
                    let out = self.dst.add((p * self.lines + line) * PANEL).cast::<u32>();
                    for l in 0..PANEL {
                        *out.add(l) = u32::from(*first.add(l)) | u32::from(*second.add(l)) << 16;
                    }
                }
            }
        }
    }
}
