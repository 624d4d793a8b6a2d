//! GPT models on hand-written CPU kernels.
#![deny(unsafe_code)]
pub mod config;
pub mod data;
pub mod error;
mod fs;
pub mod hash;
mod json;
mod mmap;
pub mod ngram;
pub mod tokenizer;
pub mod world;
