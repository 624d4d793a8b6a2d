//! Packing: copies of A and B in the order in which the microkernel reads them.
//!
//! ```text
//! B, kc × 16 columns     [kc][16]   columns past N are 0
//! A, mr rows × kc        [kc][mr]   mr as the tile that reads it
//! ```
//!
//! Rows that are contiguous in the wrong direction are turned in blocks of 8 × 8 in registers.

use super::params::PANEL;
use crate::simd::{Kernel, Simd};

/// Floats past the end of a packed A block that whole-vector stores may touch.
pub(super) const SLACK: usize = 16;

/// Packs kc × `cols` of B into panels [kc][16], the columns past `cols` being 0.
pub(super) struct PackB {
    /// kc·16 floats to write for each 16 columns begun.
    pub dst: *mut f32,
    /// Element (k, j) stands at `src + k·rs + j·cs`.
    pub src: *const f32,
    pub rs: usize,
    pub cs: usize,
    pub kc: usize,
    /// 1 or more.
    pub cols: usize,
}

impl Kernel for PackB {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PackB { dst, src, rs, cs, kc, cols } = self;
        // SAFETY: whoever fills the struct vouches for the panels at dst and for every element (k, j) of the source
        // with k < kc, j < cols.
        unsafe {
            if cs == 1 && cols == 4 * PANEL {
                // Four panels at once read 256 B of each row: whole cache lines, a quarter of the pages.
                for k in 0..kc {
                    for v in 0..4 {
                        let x = s.load_ptr(src.add(k * rs + v * PANEL));
                        s.store_ptr(dst.add((v * kc + k) * PANEL), x);
                    }
                }
                return;
            }
            for j in (0..cols).step_by(PANEL) {
                pack_b_panel(s, dst.add(j * kc), src.add(j * cs), (cols - j).min(PANEL), &self);
            }
        }
    }
}

/// One panel of `PackB`, `cols` ≤ 16.
#[inline(always)]
unsafe fn pack_b_panel<S: Simd>(s: S, dst: *mut f32, src: *const f32, cols: usize, p: &PackB) {
    let (rs, cs, kc) = (p.rs, p.cs, p.kc);
    // SAFETY: the caller vouches for kc·16 floats at dst and every element (k, j < cols) of the source.
    unsafe {
        if cs == 1 && cols == PANEL {
            for k in 0..kc {
                s.store_ptr(dst.add(k * PANEL), s.load_ptr(src.add(k * rs)));
            }
        } else if cs == 1 {
            for k in 0..kc {
                let row = core::slice::from_raw_parts(src.add(k * rs), cols);
                s.store_ptr(dst.add(k * PANEL), s.load_partial(row, 0.0));
            }
        } else if rs == 1 && cols == PANEL {
            let whole = kc / 8 * 8;
            for k in (0..whole).step_by(8) {
                for half in [0, 8] {
                    let mut rows = [src; 8];
                    for i in 0..8 {
                        rows[i] = src.add((half + i) * cs + k);
                    }
                    s.transpose8(rows, dst.add(k * PANEL + half), PANEL);
                }
            }
            for k in whole..kc {
                for j in 0..PANEL {
                    *dst.add(k * PANEL + j) = *src.add(j * cs + k);
                }
            }
        } else {
            for k in 0..kc {
                s.store_ptr(dst.add(k * PANEL), s.zero());
            }
            for j in 0..cols {
                for k in 0..kc {
                    *dst.add(k * PANEL + j) = *src.add(k * rs + j * cs);
                }
            }
        }
    }
}

/// Packs `rows` × kc of A into panels [kc][mr], one a tile, as `Tiles` cuts the rows.
pub(super) struct PackA {
    /// rows·kc + SLACK floats to write.
    pub dst: *mut f32,
    /// Element (i, k) stands at `src + i·rs + k·cs`.
    pub src: *const f32,
    pub rs: usize,
    pub cs: usize,
    pub kc: usize,
    pub tiles: Tiles,
}

impl Kernel for PackA {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for t in 0..self.tiles.count {
            let (first, mr) = self.tiles.at(t);
            // SAFETY: whoever fills the struct vouches for rows·kc + SLACK floats at dst, of which this panel's are
            // mr·kc from first·kc on, and for every element (i, k) of the source.
            unsafe { panel(s, self.dst.add(first * self.kc), self.src.add(first * self.rs), mr, &self) }
        }
    }
}

/// One panel of `PackA`. Stores may run up to 16 − mr floats past its end, where the next panel goes later.
#[inline(always)]
unsafe fn panel<S: Simd>(s: S, dst: *mut f32, src: *const f32, mr: usize, p: &PackA) {
    let (rs, cs, kc) = (p.rs, p.cs, p.kc);
    // SAFETY: elements (i < mr, k < kc) of the source are readable; stores end below mr·kc + SLACK: the last
    // step of k begins at mr·(kc − 1) and writes at most 16 floats.
    unsafe {
        let mut done = 0;
        if cs == 1 && mr <= PANEL {
            // Rows past mr repeat the last one: what they write is overwritten by the next step of k.
            let (mut low, mut high) = ([src; 8], [src; 8]);
            for i in 0..8 {
                low[i] = src.add(i.min(mr - 1) * rs);
                high[i] = src.add((8 + i).min(mr - 1) * rs);
            }
            while done + 8 <= kc {
                let out = dst.add(done * mr);
                if mr > 8 {
                    // The upper half first: what it writes too much is then overwritten by the lower one.
                    s.transpose8(high, out.add(8), mr);
                }
                s.transpose8(low, out, mr);
                for i in 0..8 {
                    low[i] = low[i].wrapping_add(8);
                    high[i] = high[i].wrapping_add(8);
                }
                done += 8;
            }
        } else if rs == 1 && cs >= PANEL && mr <= PANEL {
            // 16 floats from (0, k) end at most at (0, k + 1), which exists except after the last k.
            while done + 1 < kc {
                s.store_ptr(dst.add(done * mr), s.load_ptr(src.add(done * cs)));
                done += 1;
            }
        }
        for k in done..kc {
            for i in 0..mr {
                *dst.add(k * mr + i) = *src.add(i * rs + k * cs);
            }
        }
    }
}

/// Rows cut into tiles of nearly equal height, at most mr: 16 rows are 8 + 8 on a tile of 14, not 14 + 2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    pub count: usize,
    base: usize,
    taller: usize,
}

impl Tiles {
    pub fn new(rows: usize, mr: usize) -> Self {
        let count = rows.div_ceil(mr).max(1);
        Tiles { count, base: rows / count, taller: rows % count }
    }
    /// First row and height of tile t; the taller ones come first.
    #[inline(always)]
    pub fn at(self, t: usize) -> (usize, usize) {
        (t * self.base + t.min(self.taller), self.base + usize::from(t < self.taller))
    }
    /// Height of the tallest.
    pub fn tallest(self) -> usize {
        self.base + usize::from(self.taller > 0)
    }
}
