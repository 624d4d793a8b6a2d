//! GELU, the Gaussian error linear unit: gelu(x) = x·Φ(x), Φ the normal distribution function.
//!
//! ```text
//! Erf     Φ(x) = ½(1 + erf(x/√2))
//! Tanh    Φ(x) ≈ ½(1 + tanh u) = 1/(1 + e^(−2u)),  u = √(2/π)(x + 0.044715 x³)
//! ```
//!
//! The tanh form is computed as the logistic function of 2u: one exponential, one division, and full relative
//! accuracy where ½(1 + tanh u) would cancel. Source: arXiv:1606.08415; GPT-2 uses the tanh form.

use super::{ELEMENTS, fetch, put};
use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on, math};

/// Which form of GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeluKind {
    /// The tanh approximation: GPT-1's and GPT-2's.
    Tanh,
    /// The exact form.
    Erf,
}

/// out[i] = gelu(inp[i]).
///
/// Shapes: out, inp of one length. Saves: nothing; the backward reads `inp`.
/// Cost: 1 pass, about 20 flops an element (tanh) or 40 (erf).
/// Numerics: within 2⁻²¹·|gelu| + 3e-7 of `reference` (test); NaN passes; −∞ gives NaN, the formula's −∞·0.
/// Threads: blocks of 16,384 elements; bitwise the same for any thread count.
/// Source: arXiv:1606.08415.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn gelu_forward(ctx: &Ctx, out: &mut [f32], inp: &[f32], kind: GeluKind) -> Result<()> {
    let _timed = ctx.time("gelu_forward");
    expect_len("gelu_forward", "out length", out.len(), inp.len())?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(out, 1), inp.len(), ELEMENTS, |first, out| {
        let out = out.into_slice();
        dispatch_on(isa, Forward { inp: &inp[first..first + out.len()], out, kind });
    });
    Ok(())
}

/// dinp[i] (+)= dout[i] · gelu′(inp[i]).
///
/// Shapes: dinp, dout, inp of one length. Writes `dinp` by `acc`. Recomputes the exponential of the forward.
/// Cost: 1 pass, about 30 flops an element (tanh) or 60 (erf).
/// Numerics: gelu′ within 1e-6 of `reference` (test); gelu′(±∞) is 1 and 0.
/// Threads: blocks of 16,384 elements; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn gelu_backward(
    ctx: &Ctx,
    dinp: &mut [f32],
    dout: &[f32],
    inp: &[f32],
    kind: GeluKind,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("gelu_backward");
    expect_len("gelu_backward", "dinp length", dinp.len(), inp.len())?;
    expect_len("gelu_backward", "dout length", dout.len(), inp.len())?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(dinp, 1), inp.len(), ELEMENTS, |first, dinp| {
        let dinp = dinp.into_slice();
        let here = first..first + dinp.len();
        dispatch_on(isa, Backward { inp: &inp[here.clone()], dout: &dout[here], dinp, kind, acc });
    });
    Ok(())
}

/// 2√(2/π): 2u = SLOPE·(x + 0.044715 x³).
const SLOPE: f32 = 1.595_769_2;
/// The cubic term's coefficient.
const CUBIC: f32 = 0.044_715;
/// log₂ e · SLOPE and that times CUBIC: the exponent −2u in base 2.
const SLOPE_2: f32 = 2.302_208_2;
const CUBIC_2: f32 = 0.102_943_24;
/// 1/√(2π), the normal density at 0.
const DENSITY: f32 = 0.398_942_3;

/// gelu of 16 numbers.
#[inline(always)]
pub(crate) fn gelu_vec<S: Simd>(s: S, kind: GeluKind, x: S::V) -> S::V {
    match kind {
        GeluKind::Tanh => {
            let (t, r) = logistic(s, x, s.mul(x, x));
            s.mul(x, s.select(s.gt(x, s.zero()), r, s.mul(t, r)))
        }
        GeluKind::Erf => {
            let half = s.mul(x, s.splat(0.5));
            let e = math::erf(s, s.mul(x, s.splat(core::f32::consts::FRAC_1_SQRT_2)));
            s.mul_add(half, e, half)
        }
    }
}

/// gelu′ of 16 numbers.
#[inline(always)]
pub(crate) fn dgelu_vec<S: Simd>(s: S, kind: GeluKind, x: S::V) -> S::V {
    // Beyond ±16 the density is 0 in f32, and ∞·0 is kept out; NaN passes.
    let x = s.min(s.splat(16.0), s.max(s.splat(-16.0), x));
    let y = s.mul(x, x);
    match kind {
        GeluKind::Tanh => {
            // (x·σ)′ = σ + x·σ(1 − σ)·(2u)′, and σ(1 − σ) = t·r² whatever the sign of u.
            let (t, r) = logistic(s, x, y);
            let tr = s.mul(t, r);
            let sigma = s.select(s.gt(x, s.zero()), r, tr);
            let slope = s.mul_add(y, s.splat(3.0 * CUBIC * SLOPE), s.splat(SLOPE));
            s.mul_add(s.mul(s.mul(tr, r), x), slope, sigma)
        }
        GeluKind::Erf => {
            // (x·Φ)′ = Φ + x·φ
            let e = math::erf(s, s.mul(x, s.splat(core::f32::consts::FRAC_1_SQRT_2)));
            let cdf = s.mul_add(e, s.splat(0.5), s.splat(0.5));
            let density = s.mul(math::exp_low(s, s.mul(y, s.splat(-0.5))), s.splat(DENSITY));
            s.mul_add(x, density, cdf)
        }
    }
}

/// t = e^(−2|u|) and r = 1/(1 + t): the logistic function of 2u is r for u > 0 and t·r for u < 0.
#[inline(always)]
fn logistic<S: Simd>(s: S, x: S::V, y: S::V) -> (S::V, S::V) {
    let u = s.mul(x, s.mul_add(y, s.splat(CUBIC_2), s.splat(SLOPE_2)));
    let t = math::exp2_low(s, s.sub(s.zero(), s.abs(u)));
    let one = s.splat(1.0);
    (t, s.div(one, s.add(one, t)))
}

struct Forward<'a> {
    out: &'a mut [f32],
    inp: &'a [f32],
    kind: GeluKind,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // One length for all: one test a block, not one an access.
        let n = self.inp.len();
        let out = &mut self.out[..n];
        for i in (0..n).step_by(LANES) {
            let y = gelu_vec(s, self.kind, fetch(s, self.inp, i, 0.0));
            put(s, out, i, y, Accumulate::Store);
        }
    }
}

struct Backward<'a> {
    dinp: &'a mut [f32],
    dout: &'a [f32],
    inp: &'a [f32],
    kind: GeluKind,
    acc: Accumulate,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.inp.len();
        let (dinp, dout) = (&mut self.dinp[..n], &self.dout[..n]);
        for i in (0..n).step_by(LANES) {
            let slope = dgelu_vec(s, self.kind, fetch(s, self.inp, i, 0.0));
            put(s, dinp, i, s.mul(fetch(s, dout, i, 0.0), slope), self.acc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64};
    use crate::testing::{assert_close, central_difference, numbers, on_every_ctx, wide};

    const KINDS: [GeluKind; 2] = [GeluKind::Tanh, GeluKind::Erf];

    #[test]
    fn agrees_with_the_reference() {
        for kind in KINDS {
            for n in (0..=65).chain([40_000]) {
                let (x, d, old) = (numbers(1, n, 3.0), numbers(2, n, 1.0), numbers(3, n, 1.0));
                let (mut y, mut dx) = (vec![0.0; n], vec![0.0; n]);
                reference::gelu_forward::<F64>(&mut y, &wide(&x), kind);
                reference::gelu_backward::<F64>(&mut dx, &wide(&d), &wide(&x), kind, Accumulate::Store);
                let sum: Vec<f64> = dx.iter().zip(&old).map(|(g, o)| g + *o as f64).collect();
                on_every_ctx(|ctx| {
                    let mut out = vec![f32::NAN; n];
                    gelu_forward(ctx, &mut out, &x, kind).unwrap();
                    assert_close("gelu", &out, &y, 5e-7, 3e-7);
                    let (mut dinp, mut more) = (vec![f32::NAN; n], old.clone());
                    gelu_backward(ctx, &mut dinp, &d, &x, kind, Accumulate::Store).unwrap();
                    gelu_backward(ctx, &mut more, &d, &x, kind, Accumulate::Add).unwrap();
                    // |dout| stays below 6; gelu′ within 1e-6.
                    assert_close("dgelu", &dinp, &dx, 5e-7, 6e-6);
                    assert_close("dgelu, added", &more, &sum, 5e-7, 7e-6);
                    vec![out, dinp, more]
                });
            }
        }
    }

    #[test]
    fn special_values() {
        let inf = f32::INFINITY;
        let x = [inf, f32::NAN, 0.0, -0.0, -30.0, 30.0, 1e30, -inf, -1e30];
        for kind in KINDS {
            on_every_ctx(|ctx| {
                let (mut y, mut dx) = ([7.0; 9], [f32::NAN; 9]);
                gelu_forward(ctx, &mut y, &x, kind).unwrap();
                gelu_backward(ctx, &mut dx, &[1.0; 9], &x, kind, Accumulate::Store).unwrap();
                assert_eq!([y[0], y[2], y[3], y[4].abs(), y[5], y[6]], [inf, 0.0, 0.0, 0.0, 30.0, 1e30]);
                assert!(y[1].is_nan() && dx[1].is_nan());
                assert_eq!([dx[0], dx[2], dx[5], dx[6]], [1.0, 0.5, 1.0, 1.0]);
                assert_eq!([dx[4].abs(), dx[7].abs(), dx[8].abs()], [0.0; 3]);
                vec![]
            });
        }
    }

    #[test]
    fn reference_backward_is_the_slope() {
        for kind in KINDS {
            let (x, d) = (wide(&numbers(4, 50, 2.0)), wide(&numbers(5, 50, 1.0)));
            let mut dx = vec![0.0; 50];
            reference::gelu_backward::<F64>(&mut dx, &d, &x, kind, Accumulate::Store);
            central_difference("gelu", &x, &dx, |x| {
                let mut y = vec![0.0; 50];
                reference::gelu_forward::<F64>(&mut y, x, kind);
                y.iter().zip(&d).fold(0.0, |a, (y, d)| a + y * d)
            });
        }
    }

    #[test]
    fn lengths_must_agree() {
        assert!(gelu_forward(&Ctx::default(), &mut [0.0], &[0.0; 2], GeluKind::Erf).is_err());
    }
}
