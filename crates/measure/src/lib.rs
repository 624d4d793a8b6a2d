//! What a CPU can do, and every kernel of Longhand as a fraction of it.
//!
//! ```text
//! cases      every case once: name, flops, bytes, and a closure that runs it
//! peak       what this machine can do: multiply-adds in registers, streams through memory
//! sampling   cases and peaks in turn, medians and bests
//! ```
//!
//! The commands that print figures and the Criterion benches measure with this code, so that a figure is the same
//! wherever it is read.

pub mod cases;
pub mod peak;
pub mod sampling;

/// A rayon pool of `threads`, in which every kernel of a measurement runs.
pub fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool starts")
}
