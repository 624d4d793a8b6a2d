//! GPT models on hand-written CPU kernels.
#![deny(unsafe_code)]
pub mod config;
pub mod error;
mod fs;
mod json;
pub mod ngram;
pub mod tokenizer;
pub mod world;
