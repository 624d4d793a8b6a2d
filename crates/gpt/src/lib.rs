//! GPT models on hand-written CPU kernels.
