//! The benches of this workspace stand in `benches/benches`; what they measure, and against what, in
//! `longhand-measure`. Here is what the gate decides and from which file, and the steps that the book goes from plain
//! loops to the kernels.

pub mod gate;
pub mod steps;
