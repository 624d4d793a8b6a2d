//! AVX-512: one register of sixteen lanes, and masks that are registers of their own.

use super::{Kernel, LANES, Simd};
use core::arch::x86_64::*;

/// Proof that AVX-512 F, BW, VL and DQ exist; only the trampoline makes one.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Whether this CPU and its operating system have every feature that the trampoline enables.
pub(super) fn detected() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512dq")
}

/// Whether there is AVX512-BF16 beside them.
pub(super) fn dots_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

/// Runs `kernel` with AVX-512 instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
pub(super) fn trampoline<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// `Simd::dot_bf16`, as assembly: the trampoline, which all kernels share, does not enable AVX512-BF16.
/// # Safety
/// `dots_bf16`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn dot_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
    let mut sum = c;
    // SAFETY: the caller vouches for the instruction; it reads and writes registers alone.
    unsafe {
        core::arch::asm!(
            "vdpbf16ps {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// The mask of the first `n` of 16 lanes, n in 0..=16.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    const FUSED: bool = true;
    /// 14 × 32 is 28 accumulators; with two registers of B they leave two of 32 for broadcasts of A, and each
    /// FMA costs 0.57 loads, the fewest that leave the load ports slack.
    const MR: usize = 14;
    const NV: usize = 2;
    const DOT_BF16: bool = true;
    type V = __m512;
    type M = __mmask16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load_partial(self, xs: &[f32], fill: f32) -> __m512 {
        assert!(xs.len() <= LANES);
        // SAFETY: a masked load reads set lanes only, and they lie in `xs`.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(xs.len()), xs.as_ptr()) }
    }
    #[inline(always)]
    fn store_partial(self, out: &mut [f32], v: __m512) {
        assert!(out.len() <= LANES);
        // SAFETY: a masked store writes set lanes only, and they lie in `out`.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), first(out.len()), v) }
    }
    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for 16 floats at p; the token proves AVX-512.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m512 {
        // SAFETY: the caller vouches for 16 halves at p; the token proves AVX-512.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn store_ptr(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller vouches for 16 floats at p; the token proves AVX-512.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_columns(self, src: *const f32, apart: usize) -> [__m512; 4] {
        // SAFETY: the caller vouches for the memory; the token proves AVX-512.
        unsafe {
            // Four rows a register, each in a quarter of its own: rows i, i + 4, i + 8, i + 12.
            let mut r = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                r[i] = _mm512_castps128_ps512(_mm_loadu_ps(src.add(i * apart)));
                r[i] = _mm512_insertf32x4::<1>(r[i], _mm_loadu_ps(src.add((i + 4) * apart)));
                r[i] = _mm512_insertf32x4::<2>(r[i], _mm_loadu_ps(src.add((i + 8) * apart)));
                r[i] = _mm512_insertf32x4::<3>(r[i], _mm_loadu_ps(src.add((i + 12) * apart)));
            }
            let (a, b) = (_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1]));
            let (c, d) = (_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3]));
            [
                _mm512_shuffle_ps::<0x44>(a, c),
                _mm512_shuffle_ps::<0xee>(a, c),
                _mm512_shuffle_ps::<0x44>(b, d),
                _mm512_shuffle_ps::<0xee>(b, d),
            ]
        }
    }
    #[inline(always)]
    unsafe fn transpose8(self, rows: [*const f32; 8], dst: *mut f32, stride: usize) {
        // SAFETY: the caller vouches for the memory; the token proves AVX.
        unsafe { super::avx2::transpose8(rows, dst, stride) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512, here and below.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn dot_bf16(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instruction, the token for AVX-512.
        unsafe { dot_bf16(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token. vmaxps returns its second operand when either is NaN.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn copysign(self, mag: __m512, sign: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_or_ps(_mm512_and_ps(_mm512_set1_ps(-0.0), sign), _mm512_abs_ps(mag)) }
    }
    #[inline(always)]
    fn round_even(self, a: __m512) -> __m512 {
        // SAFETY: the token. 8: nearest even, no exceptions, no scaling.
        unsafe { _mm512_roundscale_ps::<8>(a) }
    }
    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: the token.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn is_nan(self, a: __m512) -> __mmask16 {
        // SAFETY: the token.
        unsafe { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    fn reduce_add(self, v: __m512) -> f32 {
        // SAFETY: the token.
        unsafe {
            let x = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let z = _mm_add_ps(y, _mm_movehl_ps(y, y));
            _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)))
        }
    }
    #[inline(always)]
    fn reduce_max(self, v: __m512) -> f32 {
        // SAFETY: the token.
        unsafe {
            let x = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let z = _mm_max_ps(y, _mm_movehl_ps(y, y));
            _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)))
        }
    }
}
