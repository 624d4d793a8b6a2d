//! Plain loops: rows.

use super::{Arith, Real, put};
use crate::kernels::GeluKind;
use crate::matrix::Accumulate;

/// Φ(x), in the form of `kind`, and its derivative.
fn normal_distribution<T: Real>(x: T, kind: GeluKind) -> (T, T) {
    let r = T::from_f64;
    match kind {
        GeluKind::Tanh => {
            let a = r(2.0 / core::f64::consts::PI).sqrt();
            let u = a * (x + r(0.044715) * x * x * x);
            let du = a * (T::ONE + r(3.0 * 0.044715) * x * x);
            let t = u.tanh();
            (r(0.5) * (T::ONE + t), r(0.5) * (T::ONE - t * t) * du)
        }
        GeluKind::Erf => {
            let cdf = r(0.5) * (T::ONE + (x * r(core::f64::consts::FRAC_1_SQRT_2)).erf());
            let density = r(2.0 * core::f64::consts::PI).sqrt();
            (cdf, (r(-0.5) * x * x).exp() / density)
        }
    }
}

/// out = x·Φ(x).
pub fn gelu_forward<A: Arith>(out: &mut [A::T], inp: &[A::T], kind: GeluKind) {
    for (y, &x) in out.iter_mut().zip(inp) {
        *y = x * normal_distribution(x, kind).0;
    }
}

/// dinp (+)= dout·(Φ(x) + x·Φ′(x)).
pub fn gelu_backward<A: Arith>(dinp: &mut [A::T], dout: &[A::T], inp: &[A::T], kind: GeluKind, acc: Accumulate) {
    for i in 0..inp.len() {
        let (cdf, density) = normal_distribution(inp[i], kind);
        put(&mut dinp[i], dout[i] * (cdf + inp[i] * density), acc);
    }
}
