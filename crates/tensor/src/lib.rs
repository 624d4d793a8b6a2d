//! Hand-written CPU kernels for GPT-class models.
pub mod random;
