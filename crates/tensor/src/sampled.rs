//! Sampled: a number in f64 and sixteen of what f32 might have made of it, each with roundings of its own.
//!
//! The worst case of every rounding at once, which `bounded` adds up, says something of one op; through the ops of a
//! model it grows beyond any use, for roundings do not conspire. Here each lane rounds each result by a factor
//! 1 + u·r, r in [−1, 1] from a hash of the result and the lane, so that the lanes' scatter is the scatter of f32
//! arithmetic, with all that is shared between values (a row's mean, a softmax's sum) shared in the lanes too.
//! Source: stochastic arithmetic, J. Vignes, Math. Comput. Simul. 35 (1993); D. S. Parker, UCLA CSD-970002 (1997).

use crate::bounded::UNIT;
use crate::reference::{Arith, Real};
use core::cmp::Ordering;
use core::fmt;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// Samples of a number. The estimate of a standard deviation from 16 is less than half of it once in a thousand.
const LANES: usize = 16;

/// Standard deviations that a result may be off: in more than 8 estimated, or 4 true ones, there is an error.
const DEVIATIONS: f64 = 8.0;

/// A value and samples of its f32 counterpart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampled {
    value: f64,
    lanes: [f64; LANES],
}

/// r in [−1, 1] of a result and its lane (the finaliser of SplitMix64).
fn draw(x: f64, lane: usize) -> f64 {
    let mut z = x.to_bits().wrapping_add((lane as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 * (2.0 / (1u64 << 53) as f64) - 1.0
}

impl Sampled {
    const fn exact(value: f64) -> Self {
        Sampled { value, lanes: [value; LANES] }
    }

    /// The value, as f64 arithmetic has it.
    pub fn value(self) -> f64 {
        self.value
    }

    /// How far f32 may be off: eight times the root mean square of the samples' errors, and two roundings.
    pub fn bound(self) -> f64 {
        let squares = self.lanes.iter().fold(0.0, |sum, x| sum + (x - self.value) * (x - self.value));
        DEVIATIONS * (squares / LANES as f64).sqrt() + 2.0 * UNIT * self.value.abs()
    }

    /// f of the value and of each lane, a lane's result being off by at most `units` roundings.
    fn map(self, units: f64, f: impl Fn(f64) -> f64) -> Self {
        self.zip(self, units, |x, _| f(x))
    }

    fn zip(self, b: Self, units: f64, f: impl Fn(f64, f64) -> f64) -> Self {
        let mut lanes = [0.0; LANES];
        for i in 0..LANES {
            let x = f(self.lanes[i], b.lanes[i]);
            lanes[i] = x * (1.0 + units * UNIT * draw(x, i));
        }
        Sampled { value: f(self.value, b.value), lanes }
    }
}

impl PartialEq for Sampled {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl PartialOrd for Sampled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}
impl fmt::Display for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:e} ± {:e}", self.value, self.bound())
    }
}
impl Add for Sampled {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        self.zip(b, 1.0, |x, y| x + y)
    }
}
impl Sub for Sampled {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        self.zip(b, 1.0, |x, y| x - y)
    }
}
impl Mul for Sampled {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        self.zip(b, 1.0, |x, y| x * y)
    }
}
impl Div for Sampled {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        self.zip(b, 1.0, |x, y| x / y)
    }
}
impl Neg for Sampled {
    type Output = Self;
    fn neg(self) -> Self {
        self.map(0.0, |x| -x)
    }
}
impl AddAssign for Sampled {
    fn add_assign(&mut self, b: Self) {
        *self = *self + b;
    }
}

impl Real for Sampled {
    const ZERO: Self = Sampled::exact(0.0);
    const ONE: Self = Sampled::exact(1.0);

    fn from_f64(x: f64) -> Self {
        let exact = Sampled::exact(x);
        if x as f32 as f64 == x { exact } else { exact.map(1.0, |x| x) }
    }
    fn to_f64(self) -> f64 {
        self.value
    }
    fn sqrt(self) -> Self {
        self.map(1.0, f64::sqrt)
    }
    // The functions' errors in roundings, of `simd::math` and rounding class U.
    fn exp(self) -> Self {
        self.map(4.0, libm::exp)
    }
    fn ln(self) -> Self {
        self.map(2.0, libm::log)
    }
    fn tanh(self) -> Self {
        self.map(3.0, libm::tanh)
    }
    fn erf(self) -> Self {
        self.map(3.0, libm::erf)
    }
}

/// The arithmetic of `Sampled`; a multiply-add rounds its product too, as in rounding class U.
#[derive(Clone, Copy, Debug)]
pub struct Samples;

impl Arith for Samples {
    type T = Sampled;
    fn mul_add(a: Sampled, b: Sampled, c: Sampled) -> Sampled {
        c + a * b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{numbers, wide};

    #[test]
    fn a_sum_scatters_as_the_root_of_its_length() {
        // Partial sums near i: the roundings' variance is Σ (i·u)²/3.
        let x = wide(&numbers(1, 1000, 0.01));
        let mut sum = Sampled::ZERO;
        for x in &x {
            sum += Sampled::from_f64(1.0 + (*x as f32) as f64);
        }
        let expected = DEVIATIONS * UNIT * (1e9f64 / 9.0).sqrt();
        let bound = sum.bound() - 2.0 * UNIT * sum.value;
        assert!(bound > 0.5 * expected && bound < 2.0 * expected, "{bound:e}, expected {expected:e}");
        assert!((sum.value - x.iter().fold(1000.0, |s, x| s + x)).abs() < 1e-4);
    }
}
