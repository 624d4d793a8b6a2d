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
            // Sixteen blocks of four draws: element 4·i + w is word w of block i.
            let words = self.dropout.rng.blocks_16(block);
            let mut draws = [[0.0f32; 4]; LANES];
            for w in 0..4 {
                for i in 0..LANES {
                    // `Philox::uniform`
                    let uniform = (words[w][i] >> 8) as f32 * (1.0 / 16_777_216.0);
                    draws[i][w] = if uniform >= self.dropout.p { self.value } else { 0.0 };
                }
            }
            let draws = &draws.as_flattened()[skip..];
            let n = draws.len().min(keep.len() - done);
            keep[done..done + n].copy_from_slice(&draws[..n]);
            done += n;
            skip = 0;
            block = block.wrapping_add(LANES as u64);
        }
    }
}
