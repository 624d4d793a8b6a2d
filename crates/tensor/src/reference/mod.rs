//! Every op as plain loops, forward and backward: the oracle that the kernels are held against, and the text to
//! read first.
//!
//! Generic over the arithmetic. In `F64` it is the truth that f32 kernels are compared with, within bounds
//! derived from the op; in `Fused32` and `Unfused32` it is the chain of roundings that a matmul promises, bit
//! for bit. Slow on purpose: nothing here is blocked, packed or vectorised.

use core::fmt::{Debug, Display};
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

mod attention;
mod matmul;
mod rows;

#[allow(unused_imports, reason = "filled op by op")]
pub use attention::*;
#[allow(unused_imports, reason = "filled op by op")]
pub use matmul::*;
#[allow(unused_imports, reason = "filled op by op")]
pub use rows::*;

/// f32 or f64: arithmetic and the few functions that a transformer needs.
pub trait Real:
    Copy
    + PartialOrd
    + Debug
    + Display
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Send
    + Sync
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The nearest value.
    fn from_f64(x: f64) -> Self;
    /// The exact value.
    fn to_f64(self) -> f64;
    /// √self, correctly rounded.
    fn sqrt(self) -> Self;
    /// e^self.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// if self > other {self} else {other}.
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    /// Σ of nothing starts here and −∞ is the neutral element of max.
    fn neg_infinity() -> Self {
        Self::from_f64(f64::NEG_INFINITY)
    }
}

macro_rules! real {
    ($t:ty, $exp:path, $log:path, $tanh:path, $erf:path) => {
        impl Real for $t {
            const ZERO: $t = 0.0;
            const ONE: $t = 1.0;
            fn from_f64(x: f64) -> $t {
                x as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn sqrt(self) -> $t {
                self.sqrt()
            }
            fn exp(self) -> $t {
                $exp(self)
            }
            fn ln(self) -> $t {
                $log(self)
            }
            fn tanh(self) -> $t {
                $tanh(self)
            }
            fn erf(self) -> $t {
                $erf(self)
            }
        }
    };
}
real!(f32, libm::expf, libm::logf, libm::tanhf, libm::erff);
real!(f64, libm::exp, libm::log, libm::tanh, libm::erf);

/// A number type and how its multiply-add rounds.
pub trait Arith: Copy + Send + Sync + 'static {
    /// The numbers.
    type T: Real;
    /// a·b + c.
    fn mul_add(a: Self::T, b: Self::T, c: Self::T) -> Self::T;
}

/// f32, multiply-adds rounded once: rounding class F.
#[derive(Clone, Copy, Debug)]
pub struct Fused32;
/// f32, multiply-adds rounded after the product and after the sum: rounding class U.
#[derive(Clone, Copy, Debug)]
pub struct Unfused32;
/// f64: the truth that f32 is compared with.
#[derive(Clone, Copy, Debug)]
pub struct F64;

impl Arith for Fused32 {
    type T = f32;
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}
impl Arith for Unfused32 {
    type T = f32;
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}
impl Arith for F64 {
    type T = f64;
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

/// Writes `value` to `out`: overwriting, or adding to what is there.
pub(crate) fn put<T: Real>(out: &mut T, value: T, acc: crate::Accumulate) {
    *out = match acc {
        crate::Accumulate::Store => value,
        crate::Accumulate::Add => *out + value,
    };
}
