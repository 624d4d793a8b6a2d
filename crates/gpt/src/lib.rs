//! GPT models on hand-written CPU kernels.
//!
//! A program that holds a model needs [`snapshot::open_body_packed`], or [`hugging_face::packed_from_bytes`] where the
//! files are compiled into it, and [`generate::Session`]: ids in, logits out. With a tokenizer there are
//! [`snapshot::open_packed`] and [`completion::complete`]. Both are examples, `embed` and `embed_text`.
//!
//! | feature | default | what it adds | crates linked with it, and with `threads` |
//! |---|---|---|---|
//! | (none) | | models, files, generation, likelihoods; tokenizers of bytes and characters | 15 without `threads` |
//! | `threads` | yes | kernels on the rayon pool that calls them; without it, on the caller's thread | 21 |
//! | `train` | yes | the tape, optimisers, training and fine-tuning | 22 |
//! | `text` | | tokenizers with merges (GPT-1, GPT-2, BPE trained here), through the tokenizers crate | 59 |
//! | `gradcheck` | | gradients of whole models against float64 | 22 |
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
