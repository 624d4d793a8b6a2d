//! What the kernels' tests share: inputs, comparisons that say what differs, every instruction set.

use crate::ctx::Ctx;
use crate::random::{Philox, Site, SiteKind};
use crate::simd::Isa;

/// `n` normal numbers times `scale`; `stream` tells one tensor from another.
pub(crate) fn numbers(stream: u64, n: usize, scale: f32) -> Vec<f32> {
    let rng = Philox::new(stream, Site::new(0, SiteKind::Init), 0);
    (0..n as u64).map(|i| rng.normal(i) * scale).collect()
}

/// The same numbers in f64.
pub(crate) fn wide(xs: &[f32]) -> Vec<f64> {
    xs.iter().map(|&x| x as f64).collect()
}

/// f32 values between a and b: 0 when equal or both zero.
pub(crate) fn ulps(a: f32, b: f32) -> u64 {
    let key = |x: f32| if x.is_sign_negative() { -((x.to_bits() & 0x7fff_ffff) as i64) } else { x.to_bits() as i64 };
    key(a).abs_diff(key(b))
}

/// Every |got − expected| ≤ atol + rtol·|expected|; NaN and ∞ only where expected.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f64], rtol: f64, atol: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let same = g as f64 == e || (g.is_nan() && e.is_nan());
        let bound = atol + rtol * e.abs();
        let err = (g as f64 - e).abs();
        assert!(
            same || (err <= bound && e.is_finite()),
            "{what}[{i}]: got {g:e}, expected {e:e}: {err:e} apart, bound {bound:e}, {} ULP",
            ulps(g, e as f32)
        );
    }
}

/// The same bits, any NaN equalling any other.
#[track_caller]
pub(crate) fn assert_same_bits(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = g.to_bits() == e.to_bits() || (g.is_nan() && e.is_nan());
        assert!(same, "{what}[{i}]: got {g:e}, expected {e:e}, {} ULP", ulps(*g, *e));
    }
}

/// Runs `f` on every instruction set with 1 and with 4 threads; the outputs that it returns must have the same
/// bits for both thread counts, and for all instruction sets of the fused class.
#[track_caller]
pub(crate) fn on_every_ctx(f: impl Fn(&Ctx) -> Vec<Vec<f32>>) {
    let mut fused: Option<(Isa, Vec<Vec<f32>>)> = None;
    for isa in Isa::available() {
        let one = f(&Ctx::new(isa).with_threads(1));
        let four = f(&Ctx::new(isa).with_threads(4));
        for (i, (a, b)) in one.iter().zip(&four).enumerate() {
            assert_same_bits(&format!("output {i} on {isa}, 4 threads against 1, element "), b, a);
        }
        if !isa.fused() {
            continue;
        }
        match &fused {
            None => fused = Some((isa, one)),
            Some((first, outputs)) => {
                for (i, (a, b)) in one.iter().zip(outputs).enumerate() {
                    assert_same_bits(&format!("output {i}, {isa} against {first}, element "), a, b);
                }
            }
        }
    }
}

/// `grad` is the gradient of the scalar `loss` at `x`: within 1e-6 relative of central differences in f64.
#[track_caller]
pub(crate) fn central_difference(what: &str, x: &[f64], grad: &[f64], mut loss: impl FnMut(&[f64]) -> f64) {
    assert_eq!(x.len(), grad.len(), "{what}: lengths differ");
    let mut at = x.to_vec();
    // A loss of size L is known to L·2⁻⁵³, the difference quotient to that over the step; halving the step
    // and extrapolating (Richardson) removes the error of order step².
    let scale = 1.0 + loss(x).abs();
    for i in 0..x.len() {
        let mut quotient = |h: f64| {
            at[i] = x[i] + h;
            let up = loss(&at);
            at[i] = x[i] - h;
            let down = loss(&at);
            at[i] = x[i];
            (up - down) / (2.0 * h)
        };
        let (coarse, fine) = (quotient(2e-3), quotient(1e-3));
        let slope = fine + (fine - coarse) / 3.0;
        let bound = 1e-6 * slope.abs() + 1e-9 * scale;
        let err = (slope - grad[i]).abs();
        assert!(err <= bound, "{what}[{i}]: gradient {:e}, slope {slope:e}: {err:e} apart, bound {bound:e}", grad[i]);
    }
}

/// The relative error bound of `k` roundings in f32: k·2⁻²⁴, with half an extra for the products of errors.
pub(crate) fn gamma(k: usize) -> f64 {
    let e = (k + 1) as f64 * (0.5f64 * f32::EPSILON as f64);
    e / (1.0 - e)
}

/// Σ a[i]·b[i].
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// a[i] + b[i].
pub(crate) fn plus(a: &[f64], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, &b)| a + b as f64).collect()
}

/// The greatest |x|.
pub(crate) fn greatest(xs: &[f32]) -> f64 {
    xs.iter().fold(0.0, |m, x| f64::max(m, x.abs() as f64))
}
