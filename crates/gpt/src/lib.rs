//! GPT models on hand-written CPU kernels.
#![deny(unsafe_code)]
pub mod config;
pub mod error;
mod json;
pub mod ngram;
pub mod world;
