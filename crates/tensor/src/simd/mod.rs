//! One vector type of 16 f32 lanes, and the instruction sets that compute on it.
//!
//! A kernel is a struct with `run<S: Simd>`, written once. `dispatch_on(isa, kernel)` enters one
//! `#[target_feature]` trampoline an ISA, and everything below it, being `#[inline(always)]`, is compiled with
//! that ISA's instructions from a plain `cargo build`:
//!
//! ```text
//! token      a vector of 16 is     mul_add rounds   where
//! Scalar     [f32; 16]             once             everywhere
//! Portable   2 × wide::f32x8       as wide compiles everywhere; wasm, aarch64, target-cpu=native
//! Avx2       2 × __m256            once             x86-64 with AVX2 and FMA
//! Avx512     1 × __m512            once             x86-64 with AVX-512 F, BW, VL, DQ
//! ```
//!
//! **Why 16 lanes on every ISA.** A row reduction keeps element i in lane i mod 16 and ends with the tree
//! 8-4-2-1, so all ISAs of one rounding class give the same bits; and no kernel is written for a lane count.
//! AVX2 sees two independent instructions where AVX-512 sees one, which hides latency for nothing.
//!
//! Calling a method of a token outside its trampoline compiles, but to one call an intrinsic: always go
//! through `dispatch_on`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod math;
mod portable;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;
pub use scalar::Scalar;

use crate::error::{Error, Result};

/// Lanes of every vector: what a load takes, and the number of partial sums of a row reduction.
pub const LANES: usize = 16;

/// The vector operations that the kernels need, and no more.
///
/// A value of the implementing token proves that its instructions exist; slices prove the memory. Every method
/// rounds as IEEE 754 says; comparisons with NaN are false.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Whether `mul_add` rounds once (rounding class F) or twice (class U).
    const FUSED: bool;
    /// Rows of a matmul tile: MR × (16·NV) accumulators fill the register file, see `matmul::params`.
    const MR: usize;
    /// Vectors across a matmul tile.
    const NV: usize;
    /// Whether there may be instructions for `dot_bf16`; `Isa::dots_bf16` says whether this CPU has them.
    const DOT_BF16: bool = false;

    /// Sixteen f32.
    type V: Copy;
    /// Sixteen truth values.
    type M: Copy;

    /// All lanes x.
    fn splat(self, x: f32) -> Self::V;
    /// The first 16 of `xs`. Panics when there are fewer.
    #[inline(always)]
    fn load(self, xs: &[f32]) -> Self::V {
        assert!(xs.len() >= LANES);
        // SAFETY: at least 16 floats, checked in the line above.
        unsafe { self.load_ptr(xs.as_ptr()) }
    }
    /// Writes the first 16 of `out`. Panics when there are fewer.
    #[inline(always)]
    fn store(self, out: &mut [f32], v: Self::V) {
        assert!(out.len() >= LANES);
        // SAFETY: at least 16 floats, checked in the line above.
        unsafe { self.store_ptr(out.as_mut_ptr(), v) }
    }
    /// The up to 16 elements of `xs`, the lanes past its end being `fill`, the operation's neutral element.
    /// Reads nothing past the end.
    fn load_partial(self, xs: &[f32], fill: f32) -> Self::V;
    /// Writes the first `out.len()` lanes, at most 16, and nothing past the end.
    fn store_partial(self, out: &mut [f32], v: Self::V);
    /// Sixteen floats from memory, any alignment.
    /// # Safety
    /// `p` is valid for reads of 16 floats.
    unsafe fn load_ptr(self, p: *const f32) -> Self::V;
    /// Sixteen bfloat16 from memory, any alignment, as the floats whose upper halves they are.
    /// # Safety
    /// `p` is valid for reads of 16 halves.
    unsafe fn load_bf16(self, p: *const u16) -> Self::V;
    /// Sixteen floats to memory, any alignment.
    /// # Safety
    /// `p` is valid for writes of 16 floats.
    unsafe fn store_ptr(self, p: *mut f32, v: Self::V);

    /// Asks for the cache line of `p`, which need not be readable.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        let _ = p;
    }
    /// Four columns of sixteen rows: lane i of vector k is `src[i·apart + k]`, k < 4.
    /// # Safety
    /// `src + i·apart` is valid for reads of 4 floats, i < 16.
    #[inline(always)]
    unsafe fn load_columns(self, src: *const f32, apart: usize) -> [Self::V; 4] {
        let mut columns = [self.zero(); 4];
        for (k, column) in columns.iter_mut().enumerate() {
            let mut lanes = [0.0; LANES];
            for (i, lane) in lanes.iter_mut().enumerate() {
                // SAFETY: the caller vouches for 4 floats of every row.
                *lane = unsafe { *src.add(i * apart + k) };
            }
            *column = self.load(&lanes);
        }
        columns
    }
    /// An 8 × 8 transposition in memory: `dst[k·stride + i] = rows[i][k]` for i, k < 8, with eight stores of eight
    /// floats in the order of k, so that a stride below 8 leaves the later ones standing.
    /// # Safety
    /// Every row is valid for reads of 8 floats, and `dst + k·stride` for writes of 8 floats, k < 8; no row
    /// overlaps what is written.
    #[inline(always)]
    unsafe fn transpose8(self, rows: [*const f32; 8], dst: *mut f32, stride: usize) {
        for k in 0..8 {
            for i in 0..8 {
                // SAFETY: the caller vouches for 8 floats of every row and of every store.
                unsafe { *dst.add(k * stride + i) = *rows[i].add(k) };
            }
        }
    }

    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b, correctly rounded.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a·b + c, rounded once where `FUSED`, else after the product and after the sum.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c + a₀·b₀ + a₁·b₁ in each lane, where a lane of a and b is a pair of bfloat16, a₀ its lower half. Products and sums
    /// round as the CPU does, subnormal numbers being 0: other bits on another CPU.
    /// # Safety
    /// `Isa::dots_bf16`.
    #[inline(always)]
    unsafe fn dot_bf16(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let _ = (a, b);
        unreachable!("no instruction for it; {:?}", self.to_array(c))
    }
    /// if a > b {a} else {b}: with a NaN on either side, b.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// if a < b {a} else {b}: with a NaN on either side, b.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V;
    /// |mag| with the sign of `sign`.
    fn copysign(self, mag: Self::V, sign: Self::V) -> Self::V;
    /// The nearest integer, ties to even.
    fn round_even(self, a: Self::V) -> Self::V;
    /// 2ⁿ for lanes that hold integers −126 ..= 127; unspecified elsewhere.
    fn pow2(self, n: Self::V) -> Self::V;
    /// a > b.
    fn gt(self, a: Self::V, b: Self::V) -> Self::M;
    /// a is NaN.
    fn is_nan(self, a: Self::V) -> Self::M;
    /// a where the mask is set, else b.
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// The lanes' sum by the tree 8-4-2-1: lane i + lane i+8, then i+4, i+2, i+1.
    fn reduce_add(self, v: Self::V) -> f32;
    /// The lanes' greatest, by the same tree and `max`.
    fn reduce_max(self, v: Self::V) -> f32;

    /// All lanes 0.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    /// The lanes as an array, for the rare scalar step.
    #[inline(always)]
    fn to_array(self, v: Self::V) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        self.store(&mut out, v);
        out
    }
}

/// A computation written once for every ISA.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The body. Mark it, and every helper it calls, `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// An instruction set that this CPU has: values come from detection only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Scalar,
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Sixteen scalars.
    pub const SCALAR: Isa = Isa(Kind::Scalar);
    /// The `wide` crate, at the width it was compiled for.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// The instruction sets of this CPU, slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "only x86-64 pushes")]
        let mut all = vec![Isa::SCALAR, Isa::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::detected() {
                all.push(Isa(Kind::Avx2));
            }
            if avx2::detected() && avx512::detected() {
                all.push(Isa(Kind::Avx512));
            }
        }
        all
    }

    /// The best instruction set of this CPU.
    pub fn detect() -> Isa {
        Isa::available().pop().unwrap_or(Isa::PORTABLE)
    }

    /// `detect`, lowered by `LONGHAND_ISA=scalar|portable|avx2|avx512` when that names a lower one; a higher
    /// one changes nothing.
    /// # Errors
    /// `UnknownIsa` when the variable holds another word.
    pub fn from_env() -> Result<Isa> {
        match std::env::var_os("LONGHAND_ISA") {
            None => Ok(Isa::detect()),
            Some(name) if name.is_empty() => Ok(Isa::detect()),
            Some(name) => Isa::at_most(&name.to_string_lossy()),
        }
    }

    /// The best available instruction set that is not above the one named.
    /// # Errors
    /// `UnknownIsa` when `name` names none.
    pub fn at_most(name: &str) -> Result<Isa> {
        const NAMES: [&str; 4] = ["scalar", "portable", "avx2", "avx512"];
        let rank = |n: &str| NAMES.iter().position(|x| *x == n);
        let limit = rank(name).ok_or_else(|| Error::UnknownIsa { got: name.to_string() })?;
        let best = Isa::available().into_iter().rfind(|isa| rank(isa.name()) <= Some(limit));
        Ok(best.unwrap_or(Isa::SCALAR))
    }

    /// The name `LONGHAND_ISA` knows.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Whether this CPU multiplies pairs of bfloat16 in this instruction set.
    pub fn dots_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => avx512::dots_bf16(),
            _ => false,
        }
    }

    /// Whether multiply-adds round once: the rounding class within which results agree bit for bit.
    pub fn fused(self) -> bool {
        match self.0 {
            Kind::Portable => Portable::FUSED,
            _ => true,
        }
    }
}

impl core::fmt::Debug for Isa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for Isa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs `kernel` compiled for `isa`: the only match on the instruction set.
#[inline]
pub fn dispatch_on<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.0 {
        Kind::Scalar => kernel.run(Scalar),
        Kind::Portable => kernel.run(Portable),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only where `avx2::detected()` was true.
        Kind::Avx2 => unsafe { avx2::trampoline(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only where `avx512::detected()` was true.
        Kind::Avx512 => unsafe { avx512::trampoline(kernel) },
    }
}

#[cfg(test)]
mod tests;
