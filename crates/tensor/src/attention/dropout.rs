//! Which probabilities stay.

use super::Dropout;
use crate::simd::{Kernel, LANES, Simd};

/// keep[j] = `value` where the draw of element first + j is at least p, else 0, for j in lo..hi; 0 in the other lanes
/// of the vectors that hold these keys.
pub(super) struct Keep<'a> {
    pub dropout: Dropout<'a>,
    /// The element of key 0.
    pub first: u64,
    pub lo: usize,
    pub hi: usize,
    pub value: f32,
    pub keep: &'a mut [f32],
}

/// Blocks of the generator drawn together: eight fill vectors of AVX2.
const BLOCKS: usize = 8;

impl Kernel for Keep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        if self.lo >= self.hi {
            return;
        }
        let (lo, hi) = (self.lo, self.hi);
        self.keep[lo / LANES * LANES..lo].fill(0.0);
        self.keep[hi..hi.next_multiple_of(LANES)].fill(0.0);
        let keep = &mut self.keep[lo..hi];
        let start = self.first.wrapping_add(self.lo as u64);
        let mut skip = (start % 4) as usize;
        let (mut block, mut done) = (start / 4, 0);
        while done < keep.len() {
            let mut draws = [[0u32; 4]; BLOCKS];
            for b in 0..BLOCKS {
                draws[b] = self.dropout.rng.block(block.wrapping_add(b as u64));
            }
            let draws = &draws.as_flattened()[skip..];
            let n = draws.len().min(keep.len() - done);
            for (keep, u) in keep[done..done + n].iter_mut().zip(draws) {
                // `Philox::uniform`
                let uniform = (u >> 8) as f32 * (1.0 / 16_777_216.0);
                *keep = if uniform >= self.dropout.p { self.value } else { 0.0 };
            }
            done += n;
            skip = 0;
            block = block.wrapping_add(BLOCKS as u64);
        }
    }
}
