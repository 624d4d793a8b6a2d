//! Copies into the shapes that the products read.
//!
//! ```text
//! panels   [group of 16 keys][HS][16]   element (key j, channel d) at (j/16)·HS·16 + d·16 + j mod 16
//! rows     [row][HSP]                   HSP = HS rounded up to 16, zeros behind the HS channels
//! blocks   [channel / 64][48 rows][64]  what stands left in a product
//! ```

use super::plan::Shared;
use super::product::{QUERIES, WIDTH};
use crate::matrix::Accumulate;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch_on};

/// Packs `keys` rows of `hs` channels into panels; lanes past the last key are zero.
pub(super) fn panels(isa: Isa, dst: &mut [f32], src: &[f32], stride: usize, keys: usize, hs: usize) {
    dispatch_on(isa, Panels { dst, src, stride, keys, hs });
}

struct Panels<'a> {
    dst: &'a mut [f32],
    src: &'a [f32],
    stride: usize,
    keys: usize,
    hs: usize,
}

impl Kernel for Panels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const ZEROS: [f32; 8] = [0.0; 8];
        let Panels { dst, src, stride, keys, hs } = self;
        let whole = hs / 8 * 8;
        assert!(keys == 0 || (keys - 1) * stride + hs <= src.len());
        for (group, panel) in dst[..keys.div_ceil(LANES) * hs * LANES].chunks_exact_mut(hs * LANES).enumerate() {
            for half in [0, 8] {
                let first = group * LANES + half;
                let there = keys.saturating_sub(first).min(8);
                for key in first + 8..(first + 16).min(keys) {
                    for d in (0..hs).step_by(LANES) {
                        s.prefetch(src.as_ptr().wrapping_add(key * stride + d));
                    }
                }
                for d in (0..whole).step_by(8) {
                    // SAFETY: the keys first..first + there exist and have channels d..d + 8, others are read from
                    // zeros; the panel holds HS·16 floats, of which rows d..d + 8 are written, lanes `half`..+8.
                    unsafe {
                        let row =
                            |i| if i < there { src.as_ptr().add((first + i) * stride + d) } else { ZEROS.as_ptr() };
                        s.transpose8(core::array::from_fn(row), panel.as_mut_ptr().add(d * LANES + half), LANES);
                    }
                }
                for d in whole..hs {
                    for i in 0..8 {
                        panel[d * LANES + half + i] = if i < there { src[(first + i) * stride + d] } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// Rows that `ScaleRows` asks for ahead of the one it reads: a head's channels are a few lines of a long row, which no
/// hardware prefetcher follows. `Panels` asks for the next eight.
const AHEAD: usize = 12;

/// dst[row] = src[row]·factor, `rows` rows of `hs` channels, zeros up to `width`, a multiple of 16 not above HSP.
pub(super) struct ScaleRows<'a> {
    pub dst: &'a mut [f32],
    pub width: usize,
    pub src: &'a [f32],
    pub stride: usize,
    pub rows: usize,
    pub hs: usize,
    pub factor: f32,
}

impl Kernel for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        let whole = self.hs / LANES * LANES;
        for r in 0..self.rows {
            let src = &self.src[r * self.stride..][..self.hs];
            let dst = &mut self.dst[r * self.width..][..self.width];
            for d in (0..self.hs).step_by(LANES) {
                s.prefetch(src.as_ptr().wrapping_add(AHEAD.wrapping_mul(self.stride).wrapping_add(d)));
            }
            for d in (0..whole).step_by(LANES) {
                s.store(&mut dst[d..], s.mul(factor, s.load(&src[d..])));
            }
            if whole < self.hs {
                s.store(&mut dst[whole..], s.mul(factor, s.load_partial(&src[whole..], 0.0)));
            }
        }
    }
}

/// As `ScaleRows`, to blocks of 64 channels: [channel / 64][48 rows][64], zeros behind the last channel's vector.
pub(super) fn blocks(isa: Isa, dst: &mut [f32], src: &[f32], stride: usize, rows: usize, hs: usize, factor: f32) {
    assert!(rows <= QUERIES);
    for (d, dst) in (0..hs).step_by(WIDTH).zip(dst.chunks_exact_mut(QUERIES * WIDTH)) {
        let src = &src[d..];
        dispatch_on(isa, ScaleRows { dst, width: WIDTH, src, stride, rows, hs: WIDTH.min(hs - d), factor });
    }
}

/// Floats of `blocks`' result.
pub(super) fn blocks_len(hs: usize) -> usize {
    hs.div_ceil(WIDTH) * QUERIES * WIDTH
}

/// Writes rows of a head to where they belong: out = f(values) or out += f(values), by row.
pub(super) struct PutRows<'a> {
    pub out: &'a Shared<'a>,
    /// The first row's first element, and the elements from one row to the next.
    pub start: usize,
    pub stride: usize,
    pub rows: usize,
    pub hs: usize,
    pub values: &'a [f32],
    pub width: usize,
    pub f: Map<'a>,
    pub acc: Accumulate,
}

/// What happens to values on their way out.
#[derive(Clone, Copy)]
pub(super) enum Map<'a> {
    /// Times a factor.
    Times(f32),
    /// Row r divided by the r-th number.
    Over(&'a [f32]),
}

/// 16 values of row r on their way out. Not a closure, which would be compiled outside the trampoline.
#[inline(always)]
fn mapped<S: Simd>(s: S, f: Map, r: usize, x: S::V) -> S::V {
    match f {
        Map::Times(factor) => s.mul(x, s.splat(factor)),
        Map::Over(by) => s.div(x, s.splat(by[r])),
    }
}

/// # Safety
/// No other task uses these elements of `out`.
pub(super) unsafe fn put_rows(isa: Isa, rows: PutRows) {
    dispatch_on(isa, rows);
}

impl Kernel for PutRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.hs / LANES * LANES;
        for r in 0..self.rows {
            // SAFETY: `put_rows`' caller vouches that nobody else uses this row.
            let out = unsafe { self.out.range(self.start + r * self.stride, self.hs) };
            let values = &self.values[r * self.width..][..self.hs];
            for d in (0..whole).step_by(LANES) {
                let mut x = mapped(s, self.f, r, s.load(&values[d..]));
                if self.acc == Accumulate::Add {
                    x = s.add(s.load(&out[d..]), x);
                }
                s.store(&mut out[d..], x);
            }
            if whole < self.hs {
                let out = &mut out[whole..];
                let mut x = mapped(s, self.f, r, s.load_partial(&values[whole..], 0.0));
                if self.acc == Accumulate::Add {
                    x = s.add(s.load_partial(out, 0.0), x);
                }
                s.store_partial(out, x);
            }
        }
    }
}
