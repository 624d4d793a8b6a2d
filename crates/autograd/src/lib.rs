#![forbid(unsafe_code)]
//! A tape over `longhand-tensor`: it saves what a backward needs and routes gradients; it holds no mathematics.
