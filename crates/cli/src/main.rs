//! The `longhand` binary.
#![forbid(unsafe_code)]
fn main() {}
