//! The measuring code that the benches share.
//!
//! ```text
//! cases      every case once: name, flops, bytes, and a closure that runs it
//! peak       what this machine can do: multiply-adds in registers, streams through memory
//! sampling   cases and peaks in turn, medians and bests
//! ```
//!
//! `cargo bench -p longhand-benches --bench matmul` (or `causal_attention`, `rowwise`, `adamw`, `train_step`) is
//! Criterion's view: every ISA, 1 and 2 threads. `cargo bench --bench table` prints one line a case with its share
//! of the peak measured between the repetitions, and with `-- --json` JSON lines for side-by-side scripts.

pub mod cases;
pub mod peak;
pub mod sampling;

/// A rayon pool of `threads`, in which every kernel of a measurement runs.
pub fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool starts")
}
