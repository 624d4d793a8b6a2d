//! GPT models on hand-written CPU kernels.
#![deny(unsafe_code)]
pub mod attention_map;
pub mod beam;
pub mod checkpoint;
pub mod completion;
pub mod config;
pub mod data;
pub mod error;
#[cfg(feature = "train")]
pub mod finetune;
mod fs;
pub mod generate;
#[cfg(feature = "gradcheck")]
pub mod gradcheck;
pub mod hash;
pub mod hugging_face;
mod json;
#[cfg(feature = "train")]
pub mod learner;
pub mod likelihood;
pub mod mmap;
pub mod model;
pub mod ngram;
#[cfg(feature = "train")]
pub mod optim;
pub mod run_dir;
pub mod safetensors_io;
pub mod sampling;
pub mod snapshot;
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;
pub mod world;
#[cfg(feature = "train")]
pub mod world_report;
