//! GPT-1's second stage: one pre-trained net, many tasks, almost no new parameters.
//!
//! ```text
//! examples    rows of texts with what is right for each
//! data        files to rows, and predictions to files
//! transform   an example of a task as sequences of tokens
//! encode      rows to items, what a net says to predictions
//! batch       items to batches, with the weight of every loss
//! spec        what decides a task's net
//! net         a pre-trained body with a head
//! tuner       the step: gradients, updates, predictions
//! fit         a run: epochs, held-out rows, early stopping
//! tuned       fine-tuned nets to checkpoints and back
//! write       what a net tuned on sequences writes
//! score       figures of predictions, by the kind of task
//! metrics     what these figures are
//! baseline    what no net is needed for: majority, bags of words, shared words
//! ```

pub mod baseline;
pub mod batch;
pub mod data;
pub mod encode;
pub mod examples;
pub mod fit;
pub mod metrics;
pub mod net;
pub mod score;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod transform;
pub mod tuned;
pub mod tuner;
mod write;
