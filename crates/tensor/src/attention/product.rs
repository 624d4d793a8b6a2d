//! The one multiply-add kernel of attention: a block of at most 48 rows, its tiles clipped to what each row sees.
//!
//! ```text
//!                         rows      steps       lanes         clipped
//! scores   S  = Q·Kᵀ      queries   channels    keys          by vector of 16 keys; the mask follows
//!          dP = dO·Vᵀ     queries   channels    keys          by vector
//! outputs  O += P·V       queries   keys        channels      by step: row i takes its own keys only
//!          dQ += dS·K     queries   keys        channels      by step
//!          dV += Pᵀ·dO    keys      queries     channels      by step
//!          dK += dSᵀ·Q    keys      queries     channels      by step
//! ```
//!
//! A tile is MR rows × NV vectors of 16 lanes in registers: C[r, 16·v + l] = Σ over steps of A[r, step]·B[step, 16·v +
//! l], one chain of multiply-adds in the order of the steps, whatever MR and NV are. A always has rows of 64 floats:
//! with constant strides a broadcast's address is a displacement, where six rows of a variable stride would cost six
//! additions that wait for each other.

use crate::matmul::microkernel::{FLOATS, Strided, UNROLL, chain};
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch_on};
use core::ops::Range;

/// Rows of a block of queries: eight tiles of 6 rows.
pub(super) const QUERIES: usize = 48;

/// Keys of a block of keys, channels of a block of channels, and floats of a row of A: four vectors of 16.
pub(super) const WIDTH: usize = 64;

/// For each row of a block the range lo[r]..hi[r] of what it sees; both never fall from one row to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    pub lo: [usize; WIDTH],
    pub hi: [usize; WIDTH],
}

impl Ranges {
    /// The ranges of the first `rows` rows, one or more, counted from `start` and cut to 0..len; those of further rows mean
    /// nothing.
    pub fn within(&self, rows: usize, start: usize, len: usize) -> Ranges {
        // Most blocks lie wholly inside; cutting 64 rows takes longer than a twentieth of a product.
        if self.lo[rows - 1] <= start && start + len <= self.hi[0] {
            return Ranges { lo: [0; WIDTH], hi: [len; WIDTH] };
        }
        let cut = |x: usize| x.saturating_sub(start).min(len);
        Ranges { lo: self.lo.map(cut), hi: self.hi.map(cut) }
    }

    /// For each of `len` columns, the range of the first `rows` rows that see it.
    pub fn transposed(&self, rows: usize, len: usize) -> Ranges {
        let mut t = Ranges { lo: [0; WIDTH], hi: [0; WIDTH] };
        let (mut first, mut end) = (0, 0);
        for j in 0..len {
            while first < rows && self.hi[first] <= j {
                first += 1;
            }
            while end < rows && self.lo[end] <= j {
                end += 1;
            }
            t.lo[j] = first;
            t.hi[j] = end.max(first);
        }
        t
    }
}

/// What the ranges of a product clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clip {
    /// Vectors that no row of a tile sees are left out.
    Vectors,
    /// A row's chain takes the steps of its range only.
    Steps,
}

/// How A's elements stand in its rows of 64 floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Element (r, step) at r·64 + step.
    Rows,
    /// Element (r, step) at step·64 + r.
    Transposed,
}

/// C = A·B or C += A·B on `rows` rows and `vectors` vectors of 16 lanes. Strides are counted in floats.
pub(super) struct Product<'a> {
    pub clip: Clip,
    pub ranges: &'a Ranges,
    /// At most 64.
    pub rows: usize,
    pub vectors: usize,
    /// At most 64.
    pub steps: usize,
    pub a: &'a [f32],
    pub order: Order,
    /// Vector v of a step stands at v·b_vs + step·b_ks.
    pub b: &'a [f32],
    pub b_vs: usize,
    pub b_ks: usize,
    /// Element (r, lane) stands at r·c_rs + lane.
    pub c: &'a mut [f32],
    pub c_rs: usize,
    /// Whether the chains go on from C; else they start at +0 and C is not read.
    pub add: bool,
    /// What comes next from memory: asked for line by line, each tile its share, so that the L2's latency passes behind
    /// the multiply-adds.
    pub next: &'a [f32],
}

/// Computes a product on `isa`.
pub(super) fn product(isa: Isa, p: Product) {
    dispatch_on(isa, p);
}

/// The steps of a tile: `from..to`, of which every row takes `all_from..all_to`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Steps {
    from: usize,
    all_from: usize,
    all_to: usize,
    to: usize,
}

/// Where a tile's operands begin, and the steps of its rows.
#[derive(Clone, Copy)]
struct Tile {
    steps: Steps,
    lo: *const usize,
    hi: *const usize,
    a: *const f32,
    b: *const f32,
    b_vs: usize,
    b_ks: usize,
    c: *mut f32,
    c_rs: usize,
    add: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self;
        if p.rows == 0 || p.vectors == 0 || p.steps == 0 {
            return;
        }
        let (a_rs, a_ks) = if p.order == Order::Rows { (WIDTH, 1) } else { (1, WIDTH) };
        let last = |rows: usize, rs: usize, cols: usize, cs: usize| (rows - 1) * rs + (cols - 1) * cs;
        assert!(p.rows <= WIDTH);
        assert!(last(p.rows, a_rs, p.steps, a_ks) < p.a.len());
        assert!(last(p.vectors, p.b_vs, p.steps, p.b_ks) + LANES <= p.b.len());
        assert!(last(p.rows, p.c_rs, p.vectors, LANES) + LANES <= p.c.len());
        // Rows of a tile: 6 fill the registers of AVX2, and let AVX-512 hold four vectors of each row.
        let tall = if S::MR < 6 { S::MR } else { 6 };
        let most = const { most_vectors::<S>() };
        let pieces = p.vectors.div_ceil(most[tall]);
        let mut ahead = Ahead::new(p.next, p.rows.div_ceil(tall) * pieces);
        let mut r = 0;
        while r < p.rows {
            let mr = tall.min(p.rows - r);
            let (vectors, steps) = p.clipped(r, mr);
            // Tiles below this one that are clipped just as it is: not at all.
            let mut count = 1;
            if steps.all_from == steps.from && steps.all_to == steps.to {
                while r + (count + 1) * mr <= p.rows && p.clipped(r + count * mr, mr) == (vectors.clone(), steps) {
                    count += 1;
                }
            }
            // As many vectors as the registers hold, the last two pieces of nearly one size.
            let (most, mut v) = (most[mr], vectors.start);
            while v < vectors.end {
                let left = vectors.end - v;
                let nv = if left < 2 * most && left > most { left.div_ceil(2) } else { left.min(most) };
                // SAFETY: rows r..r + count·mr, vectors v..v + nv and all steps lie within the extents asserted above.
                unsafe {
                    let t = Tile {
                        a: p.a.as_ptr().add(r * a_rs),
                        b: p.b.as_ptr().add(v * p.b_vs),
                        b_vs: p.b_vs,
                        b_ks: p.b_ks,
                        c: p.c.as_mut_ptr().add(r * p.c_rs + v * LANES),
                        c_rs: p.c_rs,
                        add: p.add,
                        steps,
                        lo: p.ranges.lo.as_ptr().add(r),
                        hi: p.ranges.hi.as_ptr().add(r),
                    };
                    column_of(s, mr, nv, p.order, t, count, &mut ahead);
                }
                v += nv;
            }
            r += count * mr;
        }
        ahead.share(s, usize::MAX);
    }
}

impl Product<'_> {
    /// The vectors and steps that a tile of rows r..r + mr takes.
    #[inline(always)]
    fn clipped(&self, r: usize, mr: usize) -> (Range<usize>, Steps) {
        let (lo, hi) = (&self.ranges.lo[r..r + mr], &self.ranges.hi[r..r + mr]);
        let (first, last) = (lo[0], hi[mr - 1]);
        match self.clip {
            Clip::Vectors => {
                let all = Steps { from: 0, all_from: 0, all_to: self.steps, to: self.steps };
                (first / LANES..last.div_ceil(LANES).min(self.vectors), all)
            }
            Clip::Steps => {
                let to = last.min(self.steps);
                let from = first.min(to);
                let all_from = lo[mr - 1].clamp(from, to);
                let all_to = hi[0].clamp(all_from, to);
                let vectors = if from < to || !self.add { self.vectors } else { 0 };
                (0..vectors, Steps { from, all_from, all_to, to })
            }
        }
    }
}

/// Memory that is asked for line by line, in shares.
struct Ahead {
    next: *const f32,
    lines: usize,
    /// Lines a tile.
    share: usize,
}

impl Ahead {
    fn new(next: &[f32], tiles: usize) -> Self {
        let lines = next.len().div_ceil(LANES);
        Ahead { next: next.as_ptr(), lines, share: lines.div_ceil(tiles) }
    }

    /// Asks for the lines of the next `tiles` tiles.
    #[inline(always)]
    fn share<S: Simd>(&mut self, s: S, tiles: usize) {
        let lines = self.share.saturating_mul(tiles).min(self.lines);
        for _ in 0..lines {
            s.prefetch(self.next);
            self.next = self.next.wrapping_add(LANES);
        }
        self.lines -= lines;
    }
}

/// For each number of rows, the vectors of a tile that the registers hold.
const fn most_vectors<S: Simd>() -> [usize; 7] {
    let mut most = [4; 7];
    let mut mr = 1;
    while mr < most.len() {
        // Accumulators and a step of B, against those of the matmul's tile.
        let fit = (S::MR + 1) * S::NV / (mr + 1);
        most[mr] = if fit < 4 { fit } else { 4 };
        mr += 1;
    }
    most
}

/// `count` tiles of `mr` rows and `nv` vectors, one below the other.
/// # Safety
/// As `tile`, for each of them.
#[inline(always)]
unsafe fn column_of<S: Simd>(s: S, mr: usize, nv: usize, order: Order, t: Tile, count: usize, ahead: &mut Ahead) {
    macro_rules! choose {
        ($(($mr:literal, $nv:literal))*) => {
            match (mr, nv) {
                $(
                    // Tiles that would not fit the register file are never asked for: they are not compiled.
                    ($mr, $nv) if $mr <= S::MR && ($mr + 1) * $nv <= (S::MR + 1) * S::NV => {
                        // SAFETY: the caller vouches for the tile.
                        unsafe {
                            match order {
                                Order::Rows => column::<S, $mr, $nv, WIDTH, 1>(s, t, count, ahead),
                                Order::Transposed => column::<S, $mr, $nv, 1, WIDTH>(s, t, count, ahead),
                            }
                        }
                    }
                )*
                _ => unreachable!("a tile of {mr} rows and {nv} vectors"),
            }
        };
    }
    choose!((1, 1)(1, 2)(1, 3)(1, 4)(2, 1)(2, 2)(2, 3)(2, 4)(3, 1)(3, 2)(3, 3)(3, 4)(4, 1)(4, 2)(4, 3)(4, 4)(5, 1)(
        5, 2
    )(5, 3)(5, 4)(6, 1)(6, 2)(6, 3)(6, 4));
}

/// A column of tiles without a call or a choice between two of them.
/// # Safety
/// As `tile`, for each of them.
#[inline(always)]
unsafe fn column<S: Simd, const MR: usize, const NV: usize, const RS: usize, const KS: usize>(
    s: S,
    mut t: Tile,
    count: usize,
    ahead: &mut Ahead,
) {
    for _ in 0..count {
        ahead.share(s, 1);
        // SAFETY: the caller's word.
        unsafe { tile::<S, MR, NV, RS, KS>(s, &t) };
        (t.a, t.c) = (t.a.wrapping_add(MR * RS), t.c.wrapping_add(MR * t.c_rs));
        (t.lo, t.hi) = (t.lo.wrapping_add(MR), t.hi.wrapping_add(MR));
    }
}

/// One tile; element (r, step) of A stands at r·RS + step·KS.
///
/// # Safety
/// For r < MR, v < NV and every step in `from..to`: A's element is readable, 16 floats of B and of C are readable, and
/// those of C writable; `lo` and `hi` have MR elements.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const RS: usize, const KS: usize>(s: S, t: &Tile) {
    let (t, steps) = (*t, t.steps);
    let mut acc = [[s.zero(); NV]; MR];
    if t.add {
        for r in 0..MR {
            for v in 0..NV {
                // SAFETY: C is readable.
                acc[r][v] = unsafe { s.load_ptr(t.c.add(r * t.c_rs + v * LANES)) };
                // The tile below this one is next.
                s.prefetch(t.c.wrapping_add((MR + r) * t.c_rs + v * LANES));
            }
        }
    }
    // SAFETY: from..all_from are steps of this tile.
    unsafe { some_rows::<S, MR, NV, RS, KS>(s, &t, steps.from..steps.all_from, &mut acc) };
    let a = Strided { at: t.a.wrapping_add(steps.all_from * KS), apart: RS, step: KS };
    let b = Strided { at: t.b.wrapping_add(steps.all_from * t.b_ks), apart: t.b_vs, step: t.b_ks };
    // SAFETY: all_from..all_to are steps of this tile.
    unsafe { chain::<S, MR, NV, FLOATS>(s, a, b, steps.all_to - steps.all_from, UNROLL, 0, &mut acc) };
    // SAFETY: all_to..to are steps of this tile.
    unsafe { some_rows::<S, MR, NV, RS, KS>(s, &t, steps.all_to..steps.to, &mut acc) };
    for r in 0..MR {
        for v in 0..NV {
            // SAFETY: C is writable.
            unsafe { s.store_ptr(t.c.add(r * t.c_rs + v * LANES), acc[r][v]) };
        }
    }
}

/// Steps at the edge of the mask, which some rows of the tile take and others do not.
/// # Safety
/// As `tile`.
#[inline(always)]
unsafe fn some_rows<S: Simd, const MR: usize, const NV: usize, const RS: usize, const KS: usize>(
    s: S,
    t: &Tile,
    range: Range<usize>,
    acc: &mut [[S::V; NV]; MR],
) {
    for step in range {
        // SAFETY: a step of this tile, by the caller's word.
        unsafe {
            let mut x = [s.zero(); NV];
            for v in 0..NV {
                x[v] = s.load_ptr(t.b.add(v * t.b_vs + step * t.b_ks));
            }
            for r in 0..MR {
                if *t.lo.add(r) <= step && step < *t.hi.add(r) {
                    let y = s.splat(*t.a.add(r * RS + step * KS));
                    for v in 0..NV {
                        acc[r][v] = s.mul_add(y, x[v], acc[r][v]);
                    }
                }
            }
        }
    }
}
