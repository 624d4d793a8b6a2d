//! Longhand's kernels: all of its mathematics, forward and backward, on slices and small dims structs.
//!
//! ```text
//! ctx        Ctx { isa, threads }: the first argument of every public op
//! error      one enum for everything that can be wrong with an argument
//! shape      checked products and strides: every size passes through here
//! matrix     MatRef, MatMut: a slice, dims, two strides
//! arena      one block of memory for a step; handles, never pointers
//! random     Philox, counter-based
//! recorder   where time goes: ops report to it when the Ctx holds one
//! parallel   the only module that names rayon
//! reference  every op as plain loops: the oracle, and the teaching text
//! simd       one vector type of 16 lanes, five ways to compute on it
//! kernels    row kernels: X_forward and X_backward side by side
//! matmul     five loops, packed panels, one microkernel
//! attention  causal, banded or unmasked; naive and fused
//! bounded    a number with the error of f32 on the way to it: every op's derived bound
//! sampled    a number with samples of its f32 counterpart: whole models' bounds
//! cases      every op once, as a case: tests, gradient checks and benches read it
//! exec       Exec, the ops a model is written in; Infer, the executor without a tape
//! ```
//!
//! Shapes in the docs: `B` sequences, `T` tokens, `C` channels, `V` vocabulary, `NH` heads, `HS` head size;
//! matmul's `M`, `N`, `K`; `R` rows of any kind. All matrices are row-major unless a stride says otherwise.

pub mod arena;
pub mod attention;
pub mod bf16;
#[cfg(feature = "cases")]
pub mod bounded;
#[cfg(feature = "cases")]
pub mod cases;
pub mod ctx;
pub mod error;
pub mod exec;
pub mod kernels;
pub mod matmul;
pub mod matrix;
#[cfg(feature = "cases")]
pub mod oracle;
pub mod parallel;
pub mod params;
pub mod random;
pub mod recorder;
pub mod reference;
#[cfg(feature = "cases")]
pub mod sampled;
pub mod shape;
pub mod simd;
#[cfg(test)]
mod testing;

pub use ctx::Ctx;
pub use error::{Error, Result};
pub use matrix::{Accumulate, MatMut, MatRef};
pub use recorder::Recorder;
pub use simd::Isa;
