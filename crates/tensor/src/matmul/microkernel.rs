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

use super::params::PANEL;
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

/// One tile's operands. Lengths and strides are counted in floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Steps of k.
    pub kc: usize,
    /// Element (i, k) of A stands at `a + i·a_rs + k·a_ks`; packed panels have a_rs 1 and a_ks MR.
    pub a: *const f32,
    pub a_rs: usize,
    pub a_ks: usize,
    /// Element (k, 16·v + l) of B stands at `b + v·b_panel + k·b_ks + l`.
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

/// Computes one MR × 16·NV tile of C. With `PACKED`, A's strides are known to be 1 and MR.
///
/// # Safety
/// For i < MR, k < kc, v < NV: A's elements are readable, 16 floats are readable at every `b + v·b_panel + k·b_ks`,
/// and C's rows are writable (readable with `load_c`) for `cols` floats, with no other thread touching them.
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const PACKED: bool>(s: S, t: &Tile) {
    assert!(t.cols <= NV * PANEL && t.cols + PANEL > NV * PANEL, "the last vector holds 1 to 16 columns");
    let (a_rs, a_ks) = if PACKED { (1, MR) } else { (t.a_rs, t.a_ks) };
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
    // The tile below comes next: have its lines of C here by then.
    for i in 0..MR {
        for v in 0..NV {
            s.prefetch(t.c.wrapping_add((MR + i) * t.ldc + v * PANEL));
        }
    }
    let (mut a, mut b) = (t.a, t.b);
    for _ in 0..t.kc {
        // SAFETY: k < kc, so these 16 floats of each panel and this column of A are readable; after the last step
        // the pointers are advanced with wrapping_add and not read.
        unsafe {
            let mut bv = [s.zero(); NV];
            for v in 0..NV {
                bv[v] = s.load_ptr(b.add(v * t.b_panel));
            }
            for i in 0..MR {
                let x = s.splat(*a.add(i * a_rs));
                for v in 0..NV {
                    acc[i][v] = s.mul_add(x, bv[v], acc[i][v]);
                }
            }
        }
        a = a.wrapping_add(a_ks);
        b = b.wrapping_add(t.b_ks);
    }
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

/// A tile as a kernel of its own: one compiled function for each MR, NV and ISA.
struct MatmulTile<'a, const MR: usize, const NV: usize, const PACKED: bool>(&'a Tile);

impl<const MR: usize, const NV: usize, const PACKED: bool> Kernel for MatmulTile<'_, MR, NV, PACKED> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Tiles that would not fit the register file are never asked for; do not compile them.
        if MR <= S::MR && (NV <= S::NV || MR * NV < S::MR * S::NV) {
            // SAFETY: `run_tile`'s caller vouched for the tile.
            unsafe { tile::<S, MR, NV, PACKED>(s, self.0) }
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

/// Runs the tile of `mr` rows and `nv` vectors (1, 2 or 4) on `isa`.
///
/// # Safety
/// As `tile`.
#[inline]
pub(super) unsafe fn run_tile(isa: Isa, mr: usize, nv: usize, packed: bool, t: &Tile) {
    macro_rules! choose {
        ($($mr:literal)*) => {
            match (nv, packed, mr) {
                $(
                    (1, true, $mr) => dispatch_on(isa, MatmulTile::<$mr, 1, true>(t)),
                    (2, true, $mr) => dispatch_on(isa, MatmulTile::<$mr, 2, true>(t)),
                    (4, true, $mr) => dispatch_on(isa, MatmulTile::<$mr, 4, true>(t)),
                    (1, false, $mr) => dispatch_on(isa, MatmulTile::<$mr, 1, false>(t)),
                    (2, false, $mr) => dispatch_on(isa, MatmulTile::<$mr, 2, false>(t)),
                    (4, false, $mr) => dispatch_on(isa, MatmulTile::<$mr, 4, false>(t)),
                )*
                _ => unreachable!("no tile of {mr} rows and {nv} vectors"),
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}
