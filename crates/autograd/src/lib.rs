#![forbid(unsafe_code)]
//! A tape over `longhand-tensor`: it saves what a backward needs and routes gradients; it holds no mathematics.
//!
//! ```text
//! tape   Tape, the executor that records: Exec for training
//! ops    one struct an op, its forward with its backward directly below
//! gradcheck  three links from central differences to the tape (feature `gradcheck`)
//! ```
//!
//! One step: make a `Tape` on a batch, run the model on it (the loss is the last op), call `backward`. Gradients
//! are then in the `Grads` that the tape was given; the first of an optimiser step stores, later ones add.

#[cfg(feature = "gradcheck")]
pub mod gradcheck;
mod ops;
mod tape;

pub use tape::{Backward, Draw, Tape, TapeMemory, Var};
