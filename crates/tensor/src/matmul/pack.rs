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
            match cols {
                // All panels at once read up to 256 B of each row: whole cache lines, a quarter of the pages.
                64 if cs == 1 => copy_panels::<S, 4>(s, dst, src, rs, kc),
                32 if cs == 1 => copy_panels::<S, 2>(s, dst, src, rs, kc),
                _ => {
                    for j in (0..cols).step_by(PANEL) {
                        let (dst, src) = (dst.wrapping_add(j * kc), src.wrapping_add(j * cs));
                        pack_b_panel(s, dst, src, (cols - j).min(PANEL), &self);
                    }
                }
            }
        }
    }
}

/// Rows that are asked for ahead: parts of long rows, which no hardware prefetcher follows.
const AHEAD: usize = 16;

/// NV panels of `PackB` from whole rows.
/// # Safety
/// As `PackB`, with cs 1 and 16·NV columns.
#[inline(always)]
unsafe fn copy_panels<S: Simd, const NV: usize>(s: S, dst: *mut f32, src: *const f32, rs: usize, kc: usize) {
    for k in 0..kc {
        for v in 0..NV {
            s.prefetch(src.wrapping_add((k + AHEAD).wrapping_mul(rs).wrapping_add(v * PANEL)));
            // SAFETY: row k of the source has these 16 floats, and panel v a step k.
            unsafe { s.store_ptr(dst.add((v * kc + k) * PANEL), s.load_ptr(src.add(k * rs + v * PANEL))) };
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
            copy_panels::<S, 1>(s, dst, src, rs, kc);
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

/// Packs a group of tiles of A, kc steps of each, into panels [kc][mr], as `Tiles` cuts the rows. Writes nothing of other
/// groups' panels, so that threads may pack groups side by side.
pub(super) struct PackA {
    /// Where the panels of all tiles stand, rows·kc floats.
    pub dst: *mut f32,
    /// Element (i, k) stands at `src + i·rs + k·cs`.
    pub src: *const f32,
    pub rs: usize,
    pub cs: usize,
    pub kc: usize,
    pub tiles: Tiles,
    /// Which tiles: one of `Tiles::group`.
    pub group: core::ops::Range<usize>,
}

impl Kernel for PackA {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mr = self.tiles.tallest();
        // SAFETY: whoever fills the struct vouches for rows·kc floats at dst, of which the group's panels are
        // this kernel's alone, and for every element (i, k) of the source.
        unsafe {
            if self.rs == 1 && self.cs >= PANEL && mr <= PANEL {
                columns(s, &self);
            } else if self.cs == 1 && mr <= PANEL {
                for t in self.group.clone() {
                    rows(s, &self, t);
                }
            } else {
                for t in self.group.clone() {
                    elements(&self, t, 0);
                }
            }
        }
    }
}

/// Packs a group's tiles from an A whose columns are contiguous, column by column.
/// # Safety
/// As `PackA`; cs ≥ 16.
#[inline(always)]
unsafe fn columns<S: Simd>(s: S, p: &PackA) {
    let group = p.group.clone();
    if group.is_empty() {
        return;
    }
    // The last steps may not write past their panel, as the next one has been begun already.
    let shared = p.kc.saturating_sub(PANEL);
    let (begin, (last, height)) = (p.tiles.at(group.start).0, p.tiles.at(group.end - 1));
    for k in 0..shared {
        for line in (begin..last + height).step_by(PANEL) {
            s.prefetch(p.src.wrapping_add(line + (k + AHEAD) * p.cs));
        }
        for t in group.clone() {
            let (first, mr) = p.tiles.at(t);
            // SAFETY: 16 floats from (first, k) end at most at (first, k + 1), which exists as k + 16 < kc; 16 floats
            // from step k of the panel, of mr ≥ 1 a step, end before step k + 16.
            unsafe {
                let x = s.load_ptr(p.src.add(first + k * p.cs));
                s.store_ptr(p.dst.add(first * p.kc + k * mr), x);
            }
        }
    }
    for t in group {
        // SAFETY: as this function.
        unsafe { elements(p, t, shared) }
    }
}

/// Packs tile t from an A whose rows are contiguous. Stores may run up to 7 floats past the panel's end, where the group's
/// next panel goes later; the last one's keep within it.
/// # Safety
/// As `PackA`; mr ≤ 16.
#[inline(always)]
unsafe fn rows<S: Simd>(s: S, p: &PackA, t: usize) {
    let (first, mr) = p.tiles.at(t);
    // SAFETY: rows first .. first + mr of the source have kc floats. Stores of 8 floats begin at a step's first or ninth:
    // at most 7 floats too far at the last step, and a panel of the group follows, of 8 steps or more. In its last panel
    // the last 8 steps are written one element at a time.
    unsafe {
        let src = p.src.add(first * p.rs);
        // Rows past mr repeat the last one: what they write is overwritten by the next step of k.
        let (mut low, mut high) = ([src; 8], [src; 8]);
        for i in 0..8 {
            low[i] = src.add(i.min(mr - 1) * p.rs);
            high[i] = src.add((8 + i).min(mr - 1) * p.rs);
        }
        let shared = if t + 1 == p.group.end { 8 } else { 0 };
        let whole = p.kc.saturating_sub(shared) / 8 * 8;
        for k in (0..whole).step_by(8) {
            let out = p.dst.add(first * p.kc + k * mr);
            if mr > 8 {
                // The upper half first: what it writes too much is then overwritten by the lower one.
                s.transpose8(high, out.add(8), mr);
            }
            s.transpose8(low, out, mr);
            for i in 0..8 {
                low[i] = low[i].wrapping_add(8);
                high[i] = high[i].wrapping_add(8);
            }
        }
        elements(p, t, whole);
    }
}

/// Packs tile t from step `begin` of k on, one element after the other.
/// # Safety
/// As `PackA`.
#[inline(always)]
unsafe fn elements(p: &PackA, t: usize, begin: usize) {
    let (first, mr) = p.tiles.at(t);
    for k in begin..p.kc {
        for i in 0..mr {
            // SAFETY: element (first + i, k) of the source exists, and so does its place in the panel.
            unsafe { *p.dst.add(first * p.kc + k * mr + i) = *p.src.add((first + i) * p.rs + k * p.cs) };
        }
    }
}

/// Rows of A that are packed side by side, at least.
pub(super) const SIDE_BY_SIDE: usize = 48;

/// Rows cut into tiles of nearly equal height, at most mr: 16 rows are 8 + 8 on a tile of 14, not 14 + 2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    pub count: usize,
    base: usize,
    taller: usize,
    /// Tiles of a group: three or more cache lines of a column of A.
    side: usize,
}

impl Tiles {
    pub fn new(rows: usize, mr: usize) -> Self {
        let count = rows.div_ceil(mr).max(1);
        Tiles { count, base: rows / count, taller: rows % count, side: SIDE_BY_SIDE.div_ceil(mr) }
    }
    /// First row and height of tile t; the taller ones come first.
    #[inline(always)]
    pub fn at(self, t: usize) -> (usize, usize) {
        (t * self.base + t.min(self.taller), self.base + usize::from(t < self.taller))
    }
    /// Number of groups of tiles that are packed together; no fewer rows have more.
    pub fn groups(self) -> usize {
        self.count.div_ceil(self.side)
    }
    /// The tiles of group g; none past the last group.
    pub fn group(self, g: usize) -> core::ops::Range<usize> {
        (g * self.side).min(self.count)..((g + 1) * self.side).min(self.count)
    }
    /// Runs of tiles of one height: first row, height, number of tiles.
    pub fn columns(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let taller = (0, self.base + 1, self.taller);
        let rest = (self.taller * (self.base + 1), self.base, self.count - self.taller);
        [taller, rest].into_iter().filter(|c| c.2 > 0)
    }
    /// Height of the tallest.
    pub fn tallest(self) -> usize {
        self.base + usize::from(self.taller > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, dispatch_on};

    /// Every group alone, in memory full of NaN: its panels are A, and nothing else is written.
    #[test]
    fn a_group_writes_its_own_panels_and_all_of_them() {
        let a: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
        for isa in Isa::available() {
            for mr in [1, 2, 4, 6, 9, 14] {
                for (m, kc) in
                    [1, 5, 14, 29, 57, 61, 109, 113].into_iter().flat_map(|m| (1..=26).map(move |kc| (m, kc)))
                {
                    let tiles = Tiles::new(m, mr);
                    // Rows contiguous, columns contiguous, neither.
                    for (rs, cs) in [(kc + 3, 1), (1, m + 16), (2 * kc + 1, 2)] {
                        let mut dst = vec![f32::NAN; m * kc];
                        for g in 0..tiles.groups() {
                            dst.fill(f32::NAN);
                            let group = tiles.group(g);
                            let (src, panels) = (a.as_ptr(), dst.as_mut_ptr());
                            dispatch_on(isa, PackA { dst: panels, src, rs, cs, kc, tiles, group: group.clone() });
                            for t in 0..tiles.count {
                                let (first, height) = tiles.at(t);
                                for (k, i) in (0..kc).flat_map(|k| (0..height).map(move |i| (k, i))) {
                                    let got = dst[first * kc + k * height + i];
                                    let wanted = a[(first + i) * rs + k * cs];
                                    let right = if group.contains(&t) { got == wanted } else { got.is_nan() };
                                    assert!(
                                        right,
                                        "{isa} mr {mr}: row {first} + {i} of {m}, {k} of {kc}, group {g}: {got}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
