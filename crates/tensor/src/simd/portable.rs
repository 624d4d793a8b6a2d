//! Two vectors of the `wide` crate, which picks their width when it is compiled: SSE2 in a plain x86-64 build,
//! NEON on aarch64, simd128 on wasm, AVX under `target-cpu=native`.

use super::{LANES, Simd};
use wide::{f32x8, i32x8};

/// Computes on pairs of `wide::f32x8`.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy, Debug)]
pub struct Pair(f32x8, f32x8);

impl Simd for Portable {
    /// `wide` fuses where the compiled-for CPU has the instruction and it can be relied on.
    const FUSED: bool = cfg!(any(
        all(any(target_arch = "x86", target_arch = "x86_64"), target_feature = "fma"),
        target_arch = "aarch64"
    ));
    /// SSE2 has 16 registers of 4 lanes: 2 × 16 accumulators take 8 of them.
    const MR: usize = 2;
    const NV: usize = 1;
    type V = Pair;
    type M = Pair;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        Pair(f32x8::splat(x), f32x8::splat(x))
    }
    #[inline(always)]
    fn load_partial(self, xs: &[f32], fill: f32) -> Pair {
        assert!(xs.len() <= LANES);
        let mut buffer = [fill; LANES];
        buffer[..xs.len()].copy_from_slice(xs);
        self.load(&buffer)
    }
    #[inline(always)]
    fn store_partial(self, out: &mut [f32], v: Pair) {
        assert!(out.len() <= LANES);
        let n = out.len();
        out.copy_from_slice(&self.to_array(v)[..n]);
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> Pair {
        // SAFETY: the caller vouches for 16 floats at p.
        let [a, b] = unsafe { p.cast::<[[f32; 8]; 2]>().read_unaligned() };
        Pair(f32x8::new(a), f32x8::new(b))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Pair {
        // SAFETY: the caller vouches for 16 halves at p.
        let halves = unsafe { p.cast::<[[u16; 8]; 2]>().read_unaligned() };
        let [a, b] = halves.map(|half| f32x8::new(half.map(|x| f32::from_bits(u32::from(x) << 16))));
        Pair(a, b)
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: Pair) {
        // SAFETY: the caller vouches for 16 floats at p.
        unsafe { p.cast::<[[f32; 8]; 2]>().write_unaligned([v.0.to_array(), v.1.to_array()]) }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        Pair(a.0 + b.0, a.1 + b.1)
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        Pair(a.0 - b.0, a.1 - b.1)
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        Pair(a.0 * b.0, a.1 * b.1)
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        Pair(a.0 / b.0, a.1 / b.1)
    }
    #[inline(always)]
    fn sqrt(self, a: Pair) -> Pair {
        Pair(a.0.sqrt(), a.1.sqrt())
    }
    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        if Self::FUSED {
            Pair(a.0.mul_add(b.0, c.0), a.1.mul_add(b.1, c.1))
        } else {
            Pair(a.0 * b.0 + c.0, a.1 * b.1 + c.1)
        }
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        self.select(self.gt(a, b), a, b)
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        self.select(Pair(a.0.simd_lt(b.0), a.1.simd_lt(b.1)), a, b)
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        Pair(a.0.abs(), a.1.abs())
    }
    #[inline(always)]
    fn copysign(self, mag: Pair, sign: Pair) -> Pair {
        let bit = f32x8::splat(-0.0);
        let magnitude = self.abs(mag);
        Pair((sign.0 & bit) | magnitude.0, (sign.1 & bit) | magnitude.1)
    }
    #[inline(always)]
    fn round_even(self, a: Pair) -> Pair {
        // wide loses the sign of a zero.
        self.copysign(Pair(a.0.round_ties_even(), a.1.round_ties_even()), a)
    }
    #[inline(always)]
    fn pow2(self, n: Pair) -> Pair {
        let half = |x: f32x8| {
            let bits: i32x8 = (x.fast_trunc_int() + i32x8::splat(127)) << 23;
            bytemuck::cast::<i32x8, f32x8>(bits)
        };
        Pair(half(n.0), half(n.1))
    }
    #[inline(always)]
    fn gt(self, a: Pair, b: Pair) -> Pair {
        Pair(a.0.simd_gt(b.0), a.1.simd_gt(b.1))
    }
    #[inline(always)]
    fn is_nan(self, a: Pair) -> Pair {
        Pair(a.0.simd_ne(a.0), a.1.simd_ne(a.1))
    }
    #[inline(always)]
    fn select(self, m: Pair, a: Pair, b: Pair) -> Pair {
        Pair(m.0.bitselect(a.0, b.0), m.1.bitselect(a.1, b.1))
    }
    #[inline(always)]
    fn reduce_add(self, v: Pair) -> f32 {
        let x = (v.0 + v.1).to_array();
        let y = [x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7]];
        (y[0] + y[2]) + (y[1] + y[3])
    }
    #[inline(always)]
    fn reduce_max(self, v: Pair) -> f32 {
        super::Scalar.reduce_max(self.to_array(v))
    }
}
