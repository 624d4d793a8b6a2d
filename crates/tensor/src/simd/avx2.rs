//! AVX2 and FMA: two registers of eight lanes make one vector of sixteen.

use super::{Kernel, LANES, Simd};
use core::arch::x86_64::*;

/// Proof that AVX2 and FMA exist; only the trampoline makes one.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy, Debug)]
pub struct Pair(__m256, __m256);

/// Whether this CPU has every feature that the trampoline enables.
pub(super) fn detected() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Runs `kernel` with AVX2 and FMA instructions.
#[target_feature(enable = "avx2,fma")]
pub(super) fn trampoline<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Eight mask words that begin `8 - n` words before the zeros: all ones in the first n lanes, n in 0..=8.
const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The masks of the first `n` of 16 lanes, n in 0..=16.
#[inline(always)]
fn first(n: usize) -> (__m256i, __m256i) {
    let (low, high) = (n.min(8), n.saturating_sub(8).min(8));
    // SAFETY: 8 words from index 8 − low (0..=8) lie within the 16 of MASKS, likewise high; a token exists.
    unsafe {
        (
            _mm256_loadu_si256(MASKS.as_ptr().add(8 - low).cast()),
            _mm256_loadu_si256(MASKS.as_ptr().add(8 - high).cast()),
        )
    }
}

/// In each half of its own, columns 0, 1, 2 and 3 of four rows of four.
/// # Safety
/// A CPU with AVX.
#[inline(always)]
unsafe fn transpose4(rows: [__m256; 4]) -> [__m256; 4] {
    let [r0, r1, r2, r3] = rows;
    // SAFETY: the caller vouches for AVX.
    unsafe {
        let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        [
            _mm256_shuffle_ps::<0x44>(a, c),
            _mm256_shuffle_ps::<0xee>(a, c),
            _mm256_shuffle_ps::<0x44>(b, d),
            _mm256_shuffle_ps::<0xee>(b, d),
        ]
    }
}

/// `Simd::load_columns` of eight of the sixteen rows.
/// # Safety
/// As `Simd::load_columns`, on a CPU with AVX.
#[inline(always)]
unsafe fn load_columns8(src: *const f32, apart: usize) -> [__m256; 4] {
    // SAFETY: the caller vouches for the memory and for AVX.
    unsafe {
        // Two rows a register, each in a half of its own: rows i and i + 4.
        let mut r = [_mm256_setzero_ps(); 4];
        for i in 0..4 {
            let low = _mm256_castps128_ps256(_mm_loadu_ps(src.add(i * apart)));
            r[i] = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(src.add((i + 4) * apart)));
        }
        transpose4(r)
    }
}

/// `Simd::transpose8` in registers: pairs, then quads, then halves change places.
/// # Safety
/// As `Simd::transpose8`, on a CPU with AVX.
#[inline(always)]
pub(super) unsafe fn transpose8(rows: [*const f32; 8], dst: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for the memory and for AVX.
    unsafe {
        // A loop, as a closure would be a function without AVX.
        let mut r = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            r[i] = _mm256_loadu_ps(rows[i]);
        }
        // Columns 0 and 4, 1 and 5, 2 and 6, 3 and 7: of rows 0 to 3, and of rows 4 to 7.
        let (upper, lower) = (transpose4([r[0], r[1], r[2], r[3]]), transpose4([r[4], r[5], r[6], r[7]]));
        for k in 0..4 {
            _mm256_storeu_ps(dst.add(k * stride), _mm256_permute2f128_ps::<0x20>(upper[k], lower[k]));
        }
        for k in 0..4 {
            _mm256_storeu_ps(dst.add((k + 4) * stride), _mm256_permute2f128_ps::<0x31>(upper[k], lower[k]));
        }
    }
}

/// One intrinsic on both halves.
macro_rules! both {
    ($f:ident($($x:expr),*)) => {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { Pair($f($($x.0),*), $f($($x.1),*)) }
    };
}

impl Simd for Avx2 {
    const FUSED: bool = true;
    /// 6 × 16 is 12 accumulators of 8 lanes: more than the 8 that two FMA ports of latency 4 need, and with
    /// two registers of B and one of A they fill 15 of 16.
    const MR: usize = 6;
    const NV: usize = 1;
    type V = Pair;
    type M = Pair;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        // SAFETY: the token proves AVX2.
        let v = unsafe { _mm256_set1_ps(x) };
        Pair(v, v)
    }
    #[inline(always)]
    fn load_partial(self, xs: &[f32], fill: f32) -> Pair {
        assert!(xs.len() <= LANES);
        let (m0, m1) = first(xs.len());
        let p = xs.as_ptr();
        // SAFETY: a masked load reads set lanes only, and they lie in `xs`; wrapping_add, as the second half's
        // address may lie past the end when all of its lanes are masked.
        unsafe {
            let a = _mm256_maskload_ps(p, m0);
            let b = _mm256_maskload_ps(p.wrapping_add(8), m1);
            let f = _mm256_set1_ps(fill);
            Pair(_mm256_blendv_ps(f, a, _mm256_castsi256_ps(m0)), _mm256_blendv_ps(f, b, _mm256_castsi256_ps(m1)))
        }
    }
    #[inline(always)]
    fn store_partial(self, out: &mut [f32], v: Pair) {
        assert!(out.len() <= LANES);
        let (m0, m1) = first(out.len());
        let p = out.as_mut_ptr();
        // SAFETY: a masked store writes set lanes only, and they lie in `out`.
        unsafe {
            _mm256_maskstore_ps(p, m0, v.0);
            _mm256_maskstore_ps(p.wrapping_add(8), m1, v.1);
        }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> Pair {
        // SAFETY: the caller vouches for 16 floats at p; the token proves AVX2.
        unsafe { Pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Pair {
        // SAFETY: the caller vouches for 16 halves at p; the token proves AVX2.
        unsafe {
            let widen = |p: *const u16| {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
            };
            Pair(widen(p), widen(p.add(8)))
        }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: Pair) {
        // SAFETY: the caller vouches for 16 floats at p; the token proves AVX2.
        unsafe {
            _mm256_storeu_ps(p, v.0);
            _mm256_storeu_ps(p.add(8), v.1);
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_columns(self, src: *const f32, apart: usize) -> [Pair; 4] {
        // SAFETY: the caller vouches for the memory; the token proves AVX.
        let (low, high) = unsafe { (load_columns8(src, apart), load_columns8(src.add(8 * apart), apart)) };
        let [l0, l1, l2, l3] = low;
        let [h0, h1, h2, h3] = high;
        [Pair(l0, h0), Pair(l1, h1), Pair(l2, h2), Pair(l3, h3)]
    }
    #[inline(always)]
    unsafe fn transpose8(self, rows: [*const f32; 8], dst: *mut f32, stride: usize) {
        // SAFETY: the caller vouches for the memory; the token proves AVX.
        unsafe { self::transpose8(rows, dst, stride) }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: Pair) -> Pair {
        both!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        both!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        // maxps returns its second operand when either is NaN: exactly `if a > b {a} else {b}`.
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps(sign, a))
    }
    #[inline(always)]
    fn copysign(self, mag: Pair, sign: Pair) -> Pair {
        let bit = self.splat(-0.0);
        let (s, m) = (both!(_mm256_and_ps(bit, sign)), self.abs(mag));
        both!(_mm256_or_ps(s, m))
    }
    #[inline(always)]
    fn round_even(self, a: Pair) -> Pair {
        const MODE: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: the token proves AVX2.
        unsafe { Pair(_mm256_round_ps::<MODE>(a.0), _mm256_round_ps::<MODE>(a.1)) }
    }
    #[inline(always)]
    fn pow2(self, n: Pair) -> Pair {
        // SAFETY: the token proves AVX2.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let a = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvttps_epi32(n.0), bias));
            let b = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvttps_epi32(n.1), bias));
            Pair(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))
        }
    }
    #[inline(always)]
    fn gt(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: the token proves AVX2.
        unsafe { Pair(_mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_GT_OQ>(a.1, b.1)) }
    }
    #[inline(always)]
    fn is_nan(self, a: Pair) -> Pair {
        // SAFETY: the token proves AVX2.
        unsafe { Pair(_mm256_cmp_ps::<_CMP_UNORD_Q>(a.0, a.0), _mm256_cmp_ps::<_CMP_UNORD_Q>(a.1, a.1)) }
    }
    #[inline(always)]
    fn select(self, m: Pair, a: Pair, b: Pair) -> Pair {
        both!(_mm256_blendv_ps(b, a, m))
    }
    #[inline(always)]
    fn reduce_add(self, v: Pair) -> f32 {
        // SAFETY: the token proves AVX2.
        unsafe {
            let x = _mm256_add_ps(v.0, v.1);
            let y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let z = _mm_add_ps(y, _mm_movehl_ps(y, y));
            _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: Pair) -> f32 {
        // SAFETY: the token proves AVX2.
        unsafe {
            let x = _mm256_max_ps(v.0, v.1);
            let y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let z = _mm_max_ps(y, _mm_movehl_ps(y, y));
            _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)))
        }
    }
}
