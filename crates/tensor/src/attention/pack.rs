//! Copies into the shapes that the products read.
//!
//! ```text
//! panels   [group of 16 keys][HS][16]   element (key j, channel d) at (j/16)·HS·16 + d·16 + j mod 16
//! rows     [row][HSP]                   HSP = HS rounded up to 16, zeros behind the HS channels
//! ```

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
        let Panels { dst, src, stride, keys, hs } = self;
        assert!(keys == 0 || (keys - 1) * stride + hs <= src.len());
        for (group, panel) in dst[..keys.div_ceil(LANES) * hs * LANES].chunks_exact_mut(hs * LANES).enumerate() {
            for half in [0, 8] {
                let first = group * LANES + half;
                let there = keys.saturating_sub(first).min(8);
                let mut d = 0;
                while there == 8 && d + 8 <= hs {
                    // SAFETY: keys first..first + 8 exist and have channels d..d + 8; the panel holds HS·16 floats,
                    // of which rows d..d + 8 are written, 8 lanes from `half` on.
                    unsafe {
                        let row = |i: usize| src.as_ptr().add((first + i) * stride + d);
                        s.transpose8(core::array::from_fn(row), panel.as_mut_ptr().add(d * LANES + half), LANES);
                    }
                    d += 8;
                }
                for d in d..hs {
                    for i in 0..8 {
                        panel[d * LANES + half + i] = if i < there { src[(first + i) * stride + d] } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// dst[row] = src[row]·factor, `rows` rows of `hs` channels, zeros up to `width`, a multiple of 16.
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
            for d in (0..whole).step_by(LANES) {
                s.store(&mut dst[d..], s.mul(factor, s.load(&src[d..])));
            }
            if whole < self.hs {
                s.store(&mut dst[whole..], s.mul(factor, s.load_partial(&src[whole..], 0.0)));
            }
        }
    }
}
