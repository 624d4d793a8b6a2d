//! GPT-1's second stage: one pre-trained net, many tasks, almost no new parameters.
//!
//! ```text
//! transform   an example of a task as sequences of tokens
//! metrics     how good predictions are
//! ```

pub mod metrics;
pub mod transform;
