//! exp2, exp, tanh and erf on vectors of 16, with measured error bounds.
//!
//! Each reduces its argument to a short interval and evaluates a polynomial there. Only + − × ÷ and multiply-add
//! are used, so every instruction set of one rounding class gives the same bits. The coefficients are minimax
//! fits of the relative error, rounded to f32 from the lowest power on, the higher ones fitted again each time.
//!
//! Shared conventions: NaN passes; a result of exp or exp2 below 2⁻¹²⁶ is 0 (no subnormals leave here), so
//! exp(−∞) is exactly 0; above the largest f32 it is ∞.
//!
//! Greatest error against f64 over a sweep of all f32 (test `errors_stay_within_the_documented_bounds`):
//!
//! ```text
//!          fused     unfused
//! exp2     0.9 ULP   1.2 ULP
//! exp      1.1 ULP   1.2 ULP
//! tanh     1.4 ULP   1.5 ULP
//! erf      1.2 ULP   1.4 ULP
//! ```

use super::Simd;

/// (2^f − 1)/f on [−½, ½], powers 0 to 5; relative error of 1 + f·q below 3.0e-9.
const EXP2: [f32; 6] =
    [core::f32::consts::LN_2, 0.240_226_48, 0.055_503_6, 0.009_618_506, 0.001_339_080_7, 0.000_153_264_58];
/// (e^f − 1 − f)/f² on |f| ≤ 0.3475, powers 0 to 4; relative error of 1 + f + f²·q below 3.3e-9.
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_29, 0.008_368_716, 0.001_381_869_9];
/// (tanh(x)/x − 1)/x² in powers of x² on |x| ≤ 0.625; relative error of tanh below 4.6e-9.
const TANH: [f32; 5] = [-0.333_332_8, 0.133_314_06, -0.053_736_515, 0.020_628_167, -0.005_692_297];
/// erf(x)/x − 1 in powers of x² on |x| ≤ 0.9; relative error of erf below 9e-10.
const ERF_NEAR: [f32; 7] =
    [0.128_379_17, -0.376_126_3, 0.112_836_24, -0.026_855_56, 0.005_191_753, -0.000_803_975_3, 7.943_1e-5];
/// −log₂(1 − erf(x)) on [0.9, 4], powers 0 to 6; absolute error of erf below 1.7e-9.
const ERF_FAR: [f32; 7] =
    [0.000_256_074_3, 1.626_998_7, 0.919_083_06, 0.150_094_03, -0.032_138_94, 0.004_408_275, -0.000_284_468_67];

/// The polynomial with coefficients `c`, lowest power first, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, c: &[f32; N], x: S::V) -> S::V {
    let mut p = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        p = s.mul_add(p, x, s.splat(c[i]));
    }
    p
}

/// p · 2ⁿ for n up to 128, p in [½, 2): one more doubling than `pow2` can make.
#[inline(always)]
fn scale<S: Simd>(s: S, p: S::V, n: S::V) -> S::V {
    let m = s.min(s.splat(127.0), n);
    let r = s.mul(p, s.pow2(m));
    // n − m is 0 or 1: r or r + r.
    s.mul_add(r, s.sub(n, m), r)
}

/// 2^x. Within 0.9 ULP (fused) of the truth; 2^x is exact for integers.
#[inline(always)]
pub fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.min(s.splat(128.0), x);
    let (p, n) = exp2_parts(s, x);
    s.select(s.gt(s.splat(-126.0), x), s.zero(), scale(s, p, n))
}

/// 2^x for x < 127.5: the bits of `exp2`, four instructions fewer. Softmax, whose arguments are at most 0, uses it.
#[inline(always)]
pub fn exp2_low<S: Simd>(s: S, x: S::V) -> S::V {
    let (p, n) = exp2_parts(s, x);
    s.select(s.gt(s.splat(-126.0), x), s.zero(), s.mul(p, s.pow2(n)))
}

/// x = n + f with n an integer and |f| ≤ ½: 2^f and n.
#[inline(always)]
fn exp2_parts<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round_even(x);
    let f = s.sub(x, n);
    (s.mul_add(polynomial(s, &EXP2, f), f, s.splat(1.0)), n)
}

/// e^x. Within 1.1 ULP (fused) of the truth.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // e^89 overflows.
    let x = s.min(s.splat(89.0), x);
    let (p, n) = exp_parts(s, x);
    s.select(s.gt(s.splat(LN_SMALLEST), x), s.zero(), scale(s, p, n))
}

/// e^x for x < 88: the bits of `exp`, four instructions fewer.
#[inline(always)]
pub fn exp_low<S: Simd>(s: S, x: S::V) -> S::V {
    let (p, n) = exp_parts(s, x);
    s.select(s.gt(s.splat(LN_SMALLEST), x), s.zero(), s.mul(p, s.pow2(n)))
}

/// The least f32 above −126·ln 2.
const LN_SMALLEST: f32 = -87.336_54;

/// x = n·ln 2 + f with n an integer and |f| ≤ ln 2 / 2: e^f and n.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round_even(s.mul(x, s.splat(core::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first of 9 bits: n times it is exact, fused or not (Cody and Waite).
    let f = s.mul_add(n, s.splat(-0.693_359_4), x);
    let f = s.mul_add(n, s.splat(2.121_944_4e-4), f);
    let p = s.mul_add(polynomial(s, &EXP, f), s.mul(f, f), f);
    (s.add(p, s.splat(1.0)), n)
}

/// tanh x. Within 1.4 ULP (fused) of the truth; odd, bit for bit.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let z = s.mul(a, a);
    let near = s.mul_add(s.mul(polynomial(s, &TANH, z), z), a, a);
    // 1 − 2/(e^2a + 1), where nothing cancels; ∞ gives 1.
    let e = exp(s, s.add(a, a));
    let far = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))));
    s.copysign(s.select(s.gt(a, s.splat(0.625)), far, near), x)
}

/// erf x = 2/√π ∫₀ˣ e^(−t²) dt. Within 1.2 ULP (fused) of the truth; odd, bit for bit.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let near = s.mul_add(polynomial(s, &ERF_NEAR, s.mul(a, a)), a, a);
    // From 3.92 on erf rounds to 1; the fit ends at 4.
    let q = polynomial(s, &ERF_FAR, s.min(s.splat(4.0), a));
    let far = s.sub(s.splat(1.0), exp2_low(s, s.sub(s.zero(), q)));
    s.copysign(s.select(s.gt(a, s.splat(0.9)), far, near), x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, LANES, dispatch_on};

    /// The functions under test, with their f64 truth and the documented bounds in ULP, fused and unfused.
    type Row = (&'static str, fn(f64) -> f64, f64, f64);
    const TABLE: [Row; 4] = [
        ("exp2", libm::exp2, 0.9, 1.2),
        ("exp", libm::exp, 1.1, 1.2),
        ("tanh", libm::tanh, 1.4, 1.5),
        ("erf", libm::erf, 1.2, 1.4),
    ];

    struct Apply<'a>(usize, &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for xs in self.1.chunks_exact_mut(LANES) {
                let x = s.load(xs);
                let y = match self.0 {
                    0 => exp2(s, x),
                    1 => exp(s, x),
                    2 => tanh(s, x),
                    3 => erf(s, x),
                    4 => exp2_low(s, x),
                    _ => exp_low(s, x),
                };
                s.store(xs, y);
            }
        }
    }

    fn apply(isa: Isa, f: usize, xs: &[f32]) -> Vec<f32> {
        let mut out = xs.to_vec();
        dispatch_on(isa, Apply(f, &mut out));
        out
    }

    /// Every 4,001st f32 of either sign, and many where the functions bend.
    fn sweep() -> Vec<f32> {
        let mut xs: Vec<f32> = (0..=u32::MAX / 4001).map(|i| f32::from_bits(i * 4001)).collect();
        xs.extend((0..400_000).map(|i| (i as f32 - 200_000.0) * 0.000_7));
        xs.extend((0..400_000).map(|i| (i as f32 - 200_000.0) * 0.000_03));
        xs.resize(xs.len().next_multiple_of(LANES), 0.0);
        xs
    }

    #[test]
    fn errors_stay_within_the_documented_bounds() {
        let xs = sweep();
        for (f, (name, truth, fused, unfused)) in TABLE.into_iter().enumerate() {
            let expected: Vec<f64> = xs.iter().map(|&x| truth(x as f64)).collect();
            let scalar = apply(Isa::SCALAR, f, &xs);
            for isa in Isa::available() {
                let got = apply(isa, f, &xs);
                let (mut worst, mut at) = (0.0, 0.0);
                for i in 0..xs.len() {
                    let (x, g, e) = (xs[i], got[i], expected[i]);
                    if isa.fused() {
                        let same = g.to_bits() == scalar[i].to_bits() || (g.is_nan() && scalar[i].is_nan());
                        assert!(same, "{name} on {isa}: x {x:e}: {g:e}, scalar {:e}", scalar[i]);
                    }
                    if x.is_nan() {
                        assert!(g.is_nan(), "{name} on {isa}: NaN gives {g}");
                        continue;
                    }
                    if f < 2 && e < f32::MIN_POSITIVE as f64 {
                        assert_eq!(g, 0.0, "{name} on {isa}: x {x:e}");
                        continue;
                    }
                    if g.is_infinite() {
                        assert!(e > f32::MAX as f64 * (1.0 - 6e-8), "{name} on {isa}: x {x:e}");
                        continue;
                    }
                    // One ULP: the distance of adjacent f32 at the truth, subnormal ones at least.
                    let rounded = (e as f32).abs();
                    let ulp = (f32::from_bits(rounded.to_bits() + 1) - rounded) as f64;
                    let err = (g as f64 - e).abs() / ulp;
                    if err > worst {
                        (worst, at) = (err, x);
                    }
                }
                let bound = if isa.fused() { fused } else { unfused };
                println!("{name} on {isa}: {worst:.3} ULP at {at:e}");
                assert!(worst <= bound, "{name} on {isa}: {worst} ULP at {at:e}, bound {bound}");
            }
        }
    }

    #[test]
    fn special_values() {
        let mut xs = [0.0f32; LANES];
        let inf = f32::INFINITY;
        xs[..10].copy_from_slice(&[inf, -inf, f32::NAN, 0.0, -0.0, 128.0, 127.99999, -126.0, -126.00001, 1e-45]);
        for isa in Isa::available() {
            let e2 = apply(isa, 0, &xs);
            assert_eq!([e2[0], e2[1], e2[3], e2[4], e2[5]], [inf, 0.0, 1.0, 1.0, inf]);
            assert!(e2[1].is_sign_positive() && e2[2].is_nan() && e2[6].is_finite());
            assert_eq!([e2[7], e2[8], e2[9]], [f32::MIN_POSITIVE, 0.0, 1.0]);
            let e = apply(isa, 1, &xs);
            assert_eq!([e[0], e[1], e[3], e[4]], [inf, 0.0, 1.0, 1.0]);
            let beyond = apply(isa, 1, &[LN_SMALLEST, LN_SMALLEST.next_down(), 88.722_83, 88.8, -88.0].repeat(16));
            assert!(beyond[0] >= f32::MIN_POSITIVE && beyond[2].is_finite());
            assert_eq!([beyond[1], beyond[3], beyond[4]], [0.0, inf, 0.0]);
            for f in [2, 3] {
                let y = apply(isa, f, &xs);
                assert_eq!([y[0], y[1]], [1.0, -1.0]);
                assert!(y[2].is_nan() && y[3].to_bits() == 0 && y[4].to_bits() == (-0.0f32).to_bits());
            }
        }
    }

    #[test]
    fn low_variants_give_the_same_bits() {
        let xs: Vec<f32> = sweep().into_iter().filter(|&x| x < 87.5).collect();
        let xs = &xs[..xs.len() / LANES * LANES];
        for isa in Isa::available() {
            for (full, low) in [(0, 4), (1, 5)] {
                let (a, b) = (apply(isa, full, xs), apply(isa, low, xs));
                assert!(a.iter().zip(&b).all(|(x, y)| x.to_bits() == y.to_bits()));
            }
        }
    }
}
