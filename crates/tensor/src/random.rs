//! Philox4x32-10, a counter-based generator: the number at a counter depends on nothing drawn before it.
//!
//! That is what makes randomness independent of threads, of batches and of resuming: a draw is named by
//! *where* it falls (element, site, step), not by *when* it happens.
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.

/// Multipliers and Weyl constants of Philox4x32, as published.
const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// What a draw is for; with the layer it names one place in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum SiteKind {
    /// A parameter's initial value; the layer is the parameter's index.
    Init = 0,
    /// Dropout on the sum of token and position embeddings.
    EmbeddingDropout = 1,
    /// Dropout on attention probabilities.
    AttentionDropout = 2,
    /// Dropout on the attention sub-block's output.
    AttentionResidualDropout = 3,
    /// Dropout on the MLP sub-block's output.
    MlpResidualDropout = 4,
    /// The order of training rows.
    Shuffle = 5,
    /// A token drawn from a distribution.
    Sample = 6,
    /// A story of the embedded world.
    World = 7,
    /// Dropout on a classifier's input.
    HeadDropout = 8,
}

/// One place in a model that draws random numbers: a layer and a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site(u32);

impl Site {
    /// The site of `kind` in `layer` (below 2^26).
    pub fn new(layer: usize, kind: SiteKind) -> Self {
        Site(((layer as u32) << 6) | kind as u32)
    }
}

/// A stream of Philox numbers: key = seed, counter = (64-bit element, site, step).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    site: u32,
    step: u32,
}

impl Philox {
    /// The stream of `seed` at `site`, in `step` (step × microbatches + microbatch while training).
    pub fn new(seed: u64, site: Site, step: u32) -> Self {
        Philox { key: [seed as u32, (seed >> 32) as u32], site: site.0, step }
    }

    /// The four 32-bit numbers at `element`.
    #[inline(always)]
    pub fn block(&self, element: u64) -> [u32; 4] {
        philox4x32_10([element as u32, (element >> 32) as u32, self.site, self.step], self.key)
    }

    /// Word w of blocks first .. first + 16 at `[w][i]`: sixteen blocks side by side, for a vector unit.
    #[inline(always)]
    pub(crate) fn blocks_16(&self, first: u64) -> [[u32; 16]; 4] {
        let (mut c, mut k) = ([[0; 16], [0; 16], [self.site; 16], [self.step; 16]], self.key);
        for i in 0..16 {
            let element = first.wrapping_add(i as u64);
            (c[0][i], c[1][i]) = (element as u32, (element >> 32) as u32);
        }
        for _ in 0..10 {
            let [a, b, d, e] = c;
            for i in 0..16 {
                let (p0, p1) = (M0 as u64 * a[i] as u64, M1 as u64 * d[i] as u64);
                c[0][i] = (p1 >> 32) as u32 ^ b[i] ^ k[0];
                c[1][i] = p1 as u32;
                c[2][i] = (p0 >> 32) as u32 ^ e[i] ^ k[1];
                c[3][i] = p0 as u32;
            }
            k = [k[0].wrapping_add(W0), k[1].wrapping_add(W1)];
        }
        c
    }

    /// One 32-bit number for `element`: lane `element % 4` of block `element / 4`.
    #[inline(always)]
    pub fn u32(&self, element: u64) -> u32 {
        self.block(element / 4)[(element % 4) as usize]
    }

    /// Uniform in [0, 1), 24 bits, exact in f32.
    #[inline(always)]
    pub fn uniform(&self, element: u64) -> f32 {
        (self.u32(element) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1), 53 bits, from the two halves of block `element`.
    #[inline]
    pub fn uniform_f64(&self, element: u64) -> f64 {
        let b = self.block(element);
        let bits = ((b[0] as u64) << 32 | b[1] as u64) >> 11;
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A standard normal number for `element`, by Box and Muller's transform in f64.
    pub fn normal(&self, element: u64) -> f32 {
        let b = self.block(element);
        // (0, 1]: the logarithm is finite.
        let u = ((b[0] as u64) << 20 | (b[1] as u64) >> 12) as f64 * (1.0 / 4_503_599_627_370_496.0);
        let v = ((b[2] as u64) << 20 | (b[3] as u64) >> 12) as f64 * (1.0 / 4_503_599_627_370_496.0);
        let r = (-2.0 * libm::log(1.0 - u)).sqrt();
        (r * libm::cos(2.0 * core::f64::consts::PI * v)) as f32
    }

    /// Uniform in 0..n without bias worth naming (64-bit multiply-shift; n below 2^32).
    #[inline]
    pub fn below(&self, element: u64, n: u32) -> u32 {
        let b = self.block(element);
        let x = (b[0] as u64) << 32 | b[1] as u64;
        ((x as u128 * n as u128) >> 64) as u32
    }
}

/// Ten rounds of Philox4x32.
#[inline(always)]
fn philox4x32_10(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = M0 as u64 * c[0] as u64;
        let p1 = M1 as u64 * c[2] as u64;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
        k = [k[0].wrapping_add(W0), k[1].wrapping_add(W1)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors of the authors' Random123 library (kat_vectors, philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32_10([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn sixteen_blocks_at_once_are_sixteen_blocks() {
        let p = Philox::new(0x1234_5678_9abc, Site::new(2, SiteKind::HeadDropout), 9);
        for first in [0, 7, u32::MAX as u64 - 5] {
            let words = p.blocks_16(first);
            for i in 0..16 {
                assert_eq!(words.map(|w| w[i]), p.block(first + i as u64));
            }
        }
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let p = Philox::new(3, Site::new(0, SiteKind::Init), 0);
        let n = 100_000;
        let (mut s, mut q) = (0.0f64, 0.0f64);
        for i in 0..n {
            let x = p.normal(i) as f64;
            s += x;
            q += x * x;
        }
        let (mean, var) = (s / n as f64, q / n as f64);
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.02, "mean {mean}, variance {var}");
    }
}
