//! GPT-1's second stage: one pre-trained net, many tasks, almost no new parameters.
//!
//! ```text
//! examples    rows of texts with what is right for each
//! transform   an example of a task as sequences of tokens
//! metrics     how good predictions are
//! ```

pub mod batch;
pub mod encode;
pub mod examples;
pub mod metrics;
pub mod net;
pub mod spec;
pub mod transform;
