//! Sixteen scalars: the token that every other one must agree with.

use super::{LANES, Simd};

/// Computes lane by lane; `mul_add` rounds once.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Sixteen correctly rounded multiply-adds: instructions where the CPU has FMA, slow library calls elsewhere,
/// with the same result. A call for sixteen lanes, so that kernels are compiled for scalars once and not twice.
#[inline(never)]
fn mul_add(a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: FMA was detected in the line above.
        return unsafe { mul_add_with_fma(a, b, c) };
    }
    lanes(|i| a[i].mul_add(b[i], c[i]))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn mul_add_with_fma(a: &[f32; LANES], b: &[f32; LANES], c: &[f32; LANES]) -> [f32; LANES] {
    lanes(|i| a[i].mul_add(b[i], c[i]))
}

/// Lane by lane.
#[inline(always)]
fn lanes(mut f: impl FnMut(usize) -> f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f(i);
    }
    out
}

impl Simd for Scalar {
    const FUSED: bool = true;
    const MR: usize = 4;
    const NV: usize = 1;
    type V = [f32; LANES];
    type M = [bool; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load_partial(self, xs: &[f32], fill: f32) -> Self::V {
        assert!(xs.len() <= LANES);
        let mut out = [fill; LANES];
        out[..xs.len()].copy_from_slice(xs);
        out
    }
    #[inline(always)]
    fn store_partial(self, out: &mut [f32], v: Self::V) {
        assert!(out.len() <= LANES);
        let n = out.len();
        out.copy_from_slice(&v[..n]);
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 16 floats at p.
        unsafe { p.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::V {
        // SAFETY: the caller vouches for 16 halves at p.
        let halves = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        halves.map(|x| f32::from_bits(u32::from(x) << 16))
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for 16 floats at p.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        lanes(|i| a[i].sqrt())
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        mul_add(&a, &b, &c)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        lanes(|i| a[i].abs())
    }
    #[inline(always)]
    fn copysign(self, mag: Self::V, sign: Self::V) -> Self::V {
        lanes(|i| mag[i].copysign(sign[i]))
    }
    #[inline(always)]
    fn round_even(self, a: Self::V) -> Self::V {
        lanes(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    fn pow2(self, n: Self::V) -> Self::V {
        lanes(|i| f32::from_bits(((n[i] as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V) -> Self::M {
        core::array::from_fn(|i| a[i] > b[i])
    }
    #[inline(always)]
    fn is_nan(self, a: Self::V) -> Self::M {
        core::array::from_fn(|i| a[i].is_nan())
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn reduce_add(self, mut v: Self::V) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] += v[i + half];
            }
        }
        v[0]
    }
    #[inline(always)]
    fn reduce_max(self, mut v: Self::V) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] = if v[i] > v[i + half] { v[i] } else { v[i + half] };
            }
        }
        v[0]
    }
}
