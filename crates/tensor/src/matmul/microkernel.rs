//! The microkernel: MR rows × NV vectors of 16 columns of C in registers, one step of k after the other.
//!
//! ```text
//!              b: NV panels        for k in 0..kc
//!              [kc][16] each         load NV vectors of b
//!              +-----+-----+         for each of MR rows
//!              |  k  |  k  |           broadcast a[i, k]
//!  a           +-----+-----+           NV multiply-adds
//! [kc][MR]  k  |           |
//!              |  c  MR × 16·NV, in registers from the first k to the last
//! ```
//!
//! An output's multiply-adds happen in the order of k, whatever MR and NV are: that is the whole promise.

use super::params::{PANEL, SMALL_M};
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

/// The operands of a tile, or of the first of a column of tiles. Lengths and strides are counted in floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Steps of k.
    pub kc: usize,
    /// Element (i, k) of A stands at `a + i·a_rs + k`, in panels at `a + k·MR + i`.
    pub a: *const f32,
    pub a_rs: usize,
    /// Element (k, 16·v + l) of B stands at `b + v·b_panel + k·b_ks + l`; b_ks is 16 in panels. Of bfloat16 two fill a
    /// float's place: b_ks is 8 there.
    pub b: *const f32,
    pub b_ks: usize,
    pub b_panel: usize,
    /// Element (i, j) of C stands at `c + i·ldc + j`.
    pub c: *mut f32,
    pub ldc: usize,
    /// Columns of C that exist, 1 ..= 16·NV. B's vectors are read whole.
    pub cols: usize,
    /// Whether the chain goes on from C; else it starts at +0 and C is not read.
    pub load_c: bool,
}

/// Computes one MR × 16·NV tile of C; `PACKING` is a `Packing`.
///
/// # Safety
/// For i < MR, k < kc, v < NV: A's elements are readable, 16 floats (of `Halves` 8) are readable at every `b + v·b_panel + k·b_ks`,
/// and C's rows are writable (readable with `load_c`) for `cols` floats, with no other thread touching them.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const PACKING: u8>(s: S, t: &Tile) {
    assert!(t.cols <= NV * PANEL && t.cols + PANEL > NV * PANEL, "the last vector holds 1 to 16 columns");
    let (a_rs, a_ks) = if packs_a(PACKING) { (1, MR) } else { (t.a_rs, 1) };
    let halves = PACKING == Packing::Halves as u8;
    let b_ks = if PACKING == Packing::Neither as u8 {
        t.b_ks
    } else if halves {
        PANEL / 2
    } else {
        PANEL
    };
    let whole = t.cols == NV * PANEL;
    let tail = t.cols - (NV - 1) * PANEL;
    let mut acc = [[s.zero(); NV]; MR];
    if t.load_c {
        for i in 0..MR {
            for v in 0..NV {
                // SAFETY: row i of C is readable for `cols` floats: 16 a vector, `tail` in the last.
                acc[i][v] = unsafe {
                    let c = t.c.add(i * t.ldc + v * PANEL);
                    if whole || v + 1 < NV {
                        s.load_ptr(c)
                    } else {
                        s.load_partial(core::slice::from_raw_parts(c, tail), 0.0)
                    }
                };
            }
        }
    }
    // The tile below comes next: have its lines of C here by then. Tall tiles ask for A instead (`AHEAD`): with both, Zen 5
    // is 1 to 2% slower.
    if MR <= SMALL_M {
        for i in 0..MR {
            for v in 0..NV {
                s.prefetch(t.c.wrapping_add((MR + i).wrapping_mul(t.ldc).wrapping_add(v * PANEL)));
            }
        }
    }
    let ahead = if packs_a(PACKING) && MR > SMALL_M { AHEAD * MR } else { 0 };
    // Where B's rows lie apart, the compiler would load those of four steps first and have no register left for them; steps
    // of pairs, whose instruction it does not see through, it keeps in a loop of their own.
    let unroll = if PACKING == Packing::Neither as u8 || PACKING == Packing::Pairs as u8 { 1 } else { UNROLL };
    let (a, b) = (Strided { at: t.a, apart: a_rs, step: a_ks }, Strided { at: t.b, apart: t.b_panel, step: b_ks });
    // SAFETY: for k < kc a column of A and 16 floats of each panel are readable.
    unsafe {
        if halves {
            chain::<S, MR, NV, HALVES>(s, a, b, t.kc, unroll, ahead, &mut acc);
        } else if PACKING == Packing::Pairs as u8 {
            chain::<S, MR, NV, PAIRS>(s, a, b, t.kc, unroll, ahead, &mut acc);
        } else {
            chain::<S, MR, NV, FLOATS>(s, a, b, t.kc, unroll, ahead, &mut acc);
        }
    };
    for i in 0..MR {
        for v in 0..NV {
            // SAFETY: row i of C is writable for `cols` floats: 16 a vector, `tail` in the last.
            unsafe {
                let c = t.c.add(i * t.ldc + v * PANEL);
                if whole || v + 1 < NV {
                    s.store_ptr(c, acc[i][v]);
                } else {
                    s.store_partial(core::slice::from_raw_parts_mut(c, tail), acc[i][v]);
                }
            }
        }
    }
}

/// Steps of k written out one after the other. A step of 6 × 16 on AVX2 is 12 multiply-adds and 8 loads; four more
/// instructions for two pointers, the counter and the branch, once a step, would be a sixth of what a core decodes.
pub(crate) const UNROLL: usize = 4;

/// Steps of k that a tall tile asks for A ahead. With AVX-512 a block of A is 1.4 MiB, more than Zen 5's L2, and a step of
/// 14 × 32 takes 14 cycles: 48 steps cover the way to the L3. On Zen 5 4096 × 3072 × 768 is 4 to 6% faster for it, 2048³
/// 2 to 4%; 12 to 100 steps do the same.
const AHEAD: usize = 48;

/// Floats that a panel of bfloat16 is asked for ahead: 64 steps of k. A panel of f32 comes fast enough by itself (asking for
/// it gains nothing); of half as many bytes a step the processor asks too late: on Zen 5 one token of GPT-2 is 5 to 14%
/// faster for it, and 128, 1,024 or 2,048 floats do less.
const AHEAD_HALVES: usize = 512;

/// Where an operand of a tile stands: the element of row i of A, or vector v of B, of step k at `at + i·apart +
/// k·step`.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub at: *const f32,
    pub apart: usize,
    pub step: usize,
}

/// What a chain multiplies: f32 of A and B.
pub(crate) const FLOATS: u8 = 0;
/// f32 of A, and of B vectors of sixteen bfloat16.
const HALVES: u8 = 1;
/// Pairs of bfloat16 of both, one below the other in k: a lane of A and B holds two, and a step adds two products.
const PAIRS: u8 = 2;

/// For k = 0, 1, … steps − 1: acc[i][v] ← fma(a[i, k], b[k, 16·v ..], acc[i][v]), `unroll` steps at a time. What
/// stands `ahead` floats after each step of A is asked for, unless that is 0. `KIND` is what is multiplied.
/// # Safety
/// MR elements of A and NV vectors of B are readable in each of the steps.
#[inline(always)]
pub(crate) unsafe fn chain<S: Simd, const MR: usize, const NV: usize, const KIND: u8>(
    s: S,
    mut a: Strided,
    mut b: Strided,
    steps: usize,
    unroll: usize,
    ahead: usize,
    acc: &mut [[S::V; NV]; MR],
) {
    // SAFETY: these are steps of the caller's; pointers past the last one are made with wrapping_add and not read.
    unsafe {
        for _ in 0..steps / unroll {
            for u in 0..unroll {
                if ahead > 0 {
                    s.prefetch(a.at.wrapping_add(u * a.step + ahead));
                }
                step::<S, MR, NV, KIND>(s, a.at.add(u * a.step), a.apart, b.at.add(u * b.step), b.apart, acc);
            }
            a.at = a.at.wrapping_add(unroll * a.step);
            b.at = b.at.wrapping_add(unroll * b.step);
        }
        for _ in 0..steps % unroll {
            step::<S, MR, NV, KIND>(s, a.at, a.apart, b.at, b.apart, acc);
            a.at = a.at.wrapping_add(a.step);
            b.at = b.at.wrapping_add(b.step);
        }
    }
}

/// acc[i][v] ← fma(a[i·a_apart], b[v·b_apart ..], acc[i][v]).
/// # Safety
/// MR elements of A and NV vectors of B are readable.
#[inline(always)]
unsafe fn step<S: Simd, const MR: usize, const NV: usize, const KIND: u8>(
    s: S,
    a: *const f32,
    a_apart: usize,
    b: *const f32,
    b_apart: usize,
    acc: &mut [[S::V; NV]; MR],
) {
    // SAFETY: the caller's word.
    unsafe {
        let mut bv = [s.zero(); NV];
        for v in 0..NV {
            let at = b.add(v * b_apart);
            if KIND == HALVES {
                s.prefetch(at.wrapping_add(AHEAD_HALVES));
            }
            bv[v] = if KIND == HALVES { s.load_bf16(at.cast()) } else { s.load_ptr(at) };
        }
        for i in 0..MR {
            let x = s.splat(*a.add(i * a_apart));
            for v in 0..NV {
                acc[i][v] =
                    if KIND == PAIRS { s.dot_bf16(x, bv[v], acc[i][v]) } else { s.mul_add(x, bv[v], acc[i][v]) };
            }
        }
    }
}

/// Which of a tile's operands are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Packing {
    /// A in panels [kc][MR], B in panels [kc][16].
    Both,
    /// B in panels; A's rows in place.
    OnlyB,
    /// Rows in place: element (k, 16·v + l) of B at k·b_ks + v·b_panel + l.
    Neither,
    /// B in panels of bfloat16; A's rows in place.
    Halves,
    /// As `Both`, of pairs of bfloat16 in the places of floats.
    Pairs,
}

/// Whether A is in panels.
const fn packs_a(packing: u8) -> bool {
    packing == Packing::Both as u8 || packing == Packing::Pairs as u8
}

impl Packing {
    /// Whether A is in panels.
    pub fn packs_a(self) -> bool {
        packs_a(self as u8)
    }
}

/// A column of tiles as a kernel of its own, so that a tile costs no call: one compiled function for each MR, NV,
/// packing and ISA. A's panels of further tiles follow the first one's, and so do A's and C's rows.
struct MatmulTiles<'a, const MR: usize, const NV: usize, const PACKING: u8> {
    first: &'a Tile,
    count: usize,
}

impl<const MR: usize, const NV: usize, const PACKING: u8> Kernel for MatmulTiles<'_, MR, NV, PACKING> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Tiles that would not fit the register file are never asked for, nor tall ones in place: do not compile them.
        let in_place = PACKING == Packing::Neither as u8 || PACKING == Packing::Halves as u8;
        let multiplies = S::DOT_BF16 || PACKING != Packing::Pairs as u8;
        if multiplies && MR <= S::MR && !(in_place && MR > SMALL_M) && (NV <= S::NV || MR * NV < S::MR * S::NV) {
            let mut t = *self.first;
            let a_step = MR * if packs_a(PACKING) { t.kc } else { t.a_rs };
            for _ in 0..self.count {
                // SAFETY: `run_tiles`' caller vouched for every tile.
                unsafe { tile::<S, MR, NV, PACKING>(s, &t) }
                (t.a, t.c) = (t.a.wrapping_add(a_step), t.c.wrapping_add(MR * t.ldc));
            }
        } else {
            unreachable!("a {MR} × {NV} tile on an ISA of {} × {}", S::MR, S::NV);
        }
    }
}

/// Rows of the widest tile, and vectors across a tile of `rows` rows: 4, 2 or 1, as many as the registers hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileShape {
    pub mr: usize,
    /// Vectors across it.
    pub nv: usize,
    registers: usize,
}

impl TileShape {
    /// The tile that `isa`'s registers hold.
    pub fn of(isa: Isa) -> Self {
        struct Query;
        impl Kernel for Query {
            type Output = TileShape;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> TileShape {
                TileShape { mr: S::MR, registers: S::MR * S::NV, nv: S::NV }
            }
        }
        dispatch_on(isa, Query)
    }

    /// Vectors across the tiles of a block whose tallest tile has `rows` rows. Few rows take wider tiles, for
    /// enough independent chains to hide the latency, but leave a register for each further vector of B.
    pub fn vectors(self, rows: usize) -> usize {
        let fits = |nv: usize| nv <= self.nv || rows * nv < self.registers;
        if fits(4) {
            4
        } else if fits(2) {
            2
        } else {
            1
        }
    }
}

/// Runs a column of `count` tiles of `mr` rows and `nv` vectors (1, 2 or 4) on `isa`.
///
/// # Safety
/// As `tile`, for each of them.
#[inline]
pub(super) unsafe fn run_tiles(isa: Isa, mr: usize, nv: usize, packing: Packing, first: &Tile, count: usize) {
    const BOTH: u8 = Packing::Both as u8;
    const ONLY_B: u8 = Packing::OnlyB as u8;
    const NEITHER: u8 = Packing::Neither as u8;
    const HALVES: u8 = Packing::Halves as u8;
    const PAIRS: u8 = Packing::Pairs as u8;
    macro_rules! choose {
        ($($mr:literal)*) => {
            match (nv, packing, mr) {
                $(
                    (1, Packing::Both, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 1, BOTH> { first, count }),
                    (2, Packing::Both, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 2, BOTH> { first, count }),
                    (4, Packing::Both, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 4, BOTH> { first, count }),
                    (1, Packing::OnlyB, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 1, ONLY_B> { first, count }),
                    (2, Packing::OnlyB, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 2, ONLY_B> { first, count }),
                    (4, Packing::OnlyB, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 4, ONLY_B> { first, count }),
                    (1, Packing::Neither, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 1, NEITHER> { first, count }),
                    (2, Packing::Neither, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 2, NEITHER> { first, count }),
                    (4, Packing::Neither, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 4, NEITHER> { first, count }),
                    (1, Packing::Halves, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 1, HALVES> { first, count }),
                    (2, Packing::Halves, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 2, HALVES> { first, count }),
                    (4, Packing::Halves, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 4, HALVES> { first, count }),
                    (1, Packing::Pairs, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 1, PAIRS> { first, count }),
                    (2, Packing::Pairs, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 2, PAIRS> { first, count }),
                    (4, Packing::Pairs, $mr) => dispatch_on(isa, MatmulTiles::<$mr, 4, PAIRS> { first, count }),
                )*
                _ => unreachable!("no tile of {mr} rows and {nv} vectors"),
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}
