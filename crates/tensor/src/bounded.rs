//! Bounded: a number together with how far f32 may be from it, so that an op's error bound is its reference, run once
//! in this arithmetic.
//!
//! ```text
//! value   in f64, the bits that `F64` computes
//! error   what the roundings so far amount to, each at its worst and all of one sign
//! ```
//!
//! With u = 2⁻²⁴ every operation passes on its operands' errors and adds its own rounding, u·|result|. A sum is kept
//! open: n additions cost n·u·Σ|terms| in whatever order they are made, so the bound holds for one chain, for 16 lanes
//! and a tree, and for blocks. An exponential costs (4 + |x|)·u relative (4 for the polynomial's 1.1 ULP and the
//! rounding class U, |x| for an argument scaled by a rounded log₂ e), tanh and erf 3·u.
//! Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3 (running error analysis).

use crate::reference::{Arith, Real};
use core::cmp::Ordering;
use core::fmt;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// 2⁻²⁴, the greatest relative error of one f32 rounding.
pub const UNIT: f64 = 0.5 * f32::EPSILON as f64;

/// A value and the greatest error of f32 arithmetic on the way to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounded {
    value: f64,
    /// Without the roundings of the open sum.
    error: f64,
    /// The open sum's Σ|terms|, and its additions.
    mass: f64,
    adds: f64,
}

impl Bounded {
    const fn exact(value: f64) -> Self {
        Bounded { value, error: 0.0, mass: 0.0, adds: 0.0 }
    }

    /// The value, as f64 arithmetic has it.
    pub fn value(self) -> f64 {
        self.value
    }

    /// How far an f32 kernel may be off, absolute: the errors of the reference's steps; 2·u·|value| for the roundings
    /// of a kernel that multiplies by a reciprocal or a product of factors where the reference divides; the
    /// least normal number, where results below it become 0.
    pub fn bound(self) -> f64 {
        self.total() + 2.0 * UNIT * self.value.abs() + f32::MIN_POSITIVE as f64
    }

    fn total(self) -> f64 {
        if self.adds == 0.0 {
            return self.error;
        }
        let roundings = self.adds * UNIT;
        self.error + roundings / (1.0 - roundings) * self.mass
    }

    /// `value`, whose operands' errors amount to `error`, and one rounding.
    fn rounded(value: f64, error: f64) -> Self {
        Bounded { value, error: error + UNIT * (value.abs() + error), mass: 0.0, adds: 0.0 }
    }

    /// `value`, whose operand's error amounts to `error`, off by `units` roundings' worth.
    fn function(value: f64, error: f64, units: f64) -> Self {
        Bounded { value, error: error + units * UNIT * (value.abs() + error), mass: 0.0, adds: 0.0 }
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl PartialOrd for Bounded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}
impl fmt::Display for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:e} ± {:e}", self.value, self.total())
    }
}

impl Add for Bounded {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        Self::rounded(self.value + b.value, self.total() + b.total())
    }
}
impl Sub for Bounded {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        Self::rounded(self.value - b.value, self.total() + b.total())
    }
}
impl Mul for Bounded {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let (ea, eb) = (self.total(), b.total());
        Self::rounded(self.value * b.value, self.value.abs() * eb + b.value.abs() * ea + ea * eb)
    }
}
impl Div for Bounded {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let (value, least) = (self.value / b.value, b.value.abs() - b.total());
        let error = if least > 0.0 { (self.total() + value.abs() * b.total()) / least } else { f64::INFINITY };
        Self::rounded(value, error)
    }
}
impl Neg for Bounded {
    type Output = Self;
    fn neg(self) -> Self {
        Bounded { value: -self.value, ..self }
    }
}
impl AddAssign for Bounded {
    fn add_assign(&mut self, b: Self) {
        let (error, size) = (b.total(), b.value.abs() + b.total());
        if self.adds == 0.0 {
            self.mass = self.value.abs() + self.error;
        }
        self.value += b.value;
        self.error += error;
        self.mass += size;
        self.adds += 1.0;
    }
}

impl Real for Bounded {
    const ZERO: Self = Bounded::exact(0.0);
    const ONE: Self = Bounded::exact(1.0);

    fn from_f64(x: f64) -> Self {
        if x as f32 as f64 == x { Bounded::exact(x) } else { Self::rounded(x, 0.0) }
    }
    fn to_f64(self) -> f64 {
        self.value
    }
    fn sqrt(self) -> Self {
        let (value, least) = (self.value.sqrt(), (self.value - self.total()).max(0.0));
        Self::rounded(value, value - least.sqrt())
    }
    fn exp(self) -> Self {
        let value = libm::exp(self.value);
        let mut y = Self::function(value, value * libm::expm1(self.total()), 4.0 + self.value.abs());
        y.error += f32::MIN_POSITIVE as f64;
        y
    }
    fn ln(self) -> Self {
        let least = self.value - self.total();
        let error = if least > 0.0 { self.total() / least } else { f64::INFINITY };
        Self::function(libm::log(self.value), error, 2.0)
    }
    fn tanh(self) -> Self {
        // The slope is greatest where |x| is least.
        let t = libm::tanh((self.value.abs() - self.total()).max(0.0));
        Self::function(libm::tanh(self.value), self.total() * (1.0 - t * t), 3.0)
    }
    fn erf(self) -> Self {
        let x = (self.value.abs() - self.total()).max(0.0);
        let slope = core::f64::consts::FRAC_2_SQRT_PI * libm::exp(-x * x);
        Self::function(libm::erf(self.value), self.total() * slope, 3.0)
    }
    fn max(self, other: Self) -> Self {
        let (greater, less) = if self > other { (self, other) } else { (other, self) };
        let error = if less.value.is_finite() { f64::max(greater.total(), less.total()) } else { greater.total() };
        Bounded { error, ..Bounded::exact(greater.value) }
    }
}

/// The arithmetic of `Bounded`; a multiply-add rounds its product too, as in rounding class U.
#[derive(Clone, Copy, Debug)]
pub struct Bounds;

impl Arith for Bounds {
    type T = Bounded;
    fn mul_add(a: Bounded, b: Bounded, mut c: Bounded) -> Bounded {
        c += a * b;
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64, Fused32, Unfused32};
    use crate::testing::{numbers, wide};

    fn norm<A: Arith>(x: &[f32]) -> Vec<A::T> {
        let real = |x: &[f32]| -> Vec<A::T> { x.iter().map(|&x| A::T::from_f64(x as f64)).collect() };
        let (mut y, mut mean, mut rstd) = (vec![A::T::ZERO; x.len()], vec![A::T::ZERO; 9], vec![A::T::ZERO; 9]);
        let (w, b) = (real(&numbers(2, 31, 1.0)), real(&numbers(3, 31, 1.0)));
        let eps = A::T::from_f64(1e-5f32 as f64);
        reference::layernorm_forward::<A>(&mut y, &mut mean, &mut rstd, &real(x), &w, &b, eps);
        let mut p = vec![A::T::ZERO; x.len()];
        reference::softmax_forward::<A>(&mut p, &y, 31);
        p
    }

    #[test]
    fn the_value_is_that_of_f64_and_f32_stays_within_the_bound() {
        let x = numbers(1, 9 * 31, 1.0);
        let (bounded, exact) = (norm::<Bounds>(&x), norm::<F64>(&x));
        for f32s in [norm::<Fused32>(&x), norm::<Unfused32>(&x)] {
            for i in 0..x.len() {
                assert_eq!(bounded[i].value(), exact[i]);
                let error = (f32s[i] as f64 - exact[i]).abs();
                assert!(error <= bounded[i].bound(), "{i}: {error:e} for {}", bounded[i]);
                // And no bound of despair: two ops of 31 terms, and 1/σ and exp between them.
                assert!(bounded[i].bound() < 1000.0 * UNIT * exact[i], "{i}: {}", bounded[i]);
            }
        }
    }

    #[test]
    fn a_sum_costs_its_length_whatever_the_order() {
        let x = wide(&numbers(1, 100, 1.0));
        let mut sum = Bounded::ZERO;
        for &x in &x {
            sum += Bounded::from_f64(x);
        }
        let mass = x.iter().fold(0.0, |m, x| m + x.abs());
        let expected = 100.0 * UNIT * mass;
        assert!((sum.total() - expected).abs() < 1e-4 * expected);
    }
}
