//! What a CPU can do, and every kernel of Longhand as a fraction of it.
//!
//! ```text
//! cases        every case once: name, flops, bytes, and a closure that runs it
//! generation   prompts read and tokens written
//! loading      from a folder to the first token
//! train_step   the training step of a preset
//! split        the time of such a step, kernel by kernel
//! peak         multiply-adds in registers
//! streams      reads and writes at any footprint
//! caches       the sizes of the caches
//! limits       faults of a file of limits
//! sampling     a case and what bounds it in turn, medians and bests; two programs in turn
//! roofline     all of them together: what this machine can do, and how near to it each kernel comes
//! ```
//!
//! The commands that print figures and the Criterion benches measure with this code, so that a figure is the same
//! wherever it is read.

pub mod caches;
pub mod cases;
pub mod generation;
pub mod limits;
pub mod loading;
pub mod peak;
pub mod roofline;
pub mod sampling;
pub mod split;
pub mod streams;
pub mod train_step;

/// A rayon pool of `threads`, in which every kernel of a measurement runs.
pub fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool starts")
}

/// The numbers of threads that benches run on: one, and one for each core that the process may use by its affinity and
/// its cgroup's quota.
pub fn thread_counts() -> Vec<usize> {
    let granted = std::thread::available_parallelism().map_or(1, usize::from);
    if granted > 1 { vec![1, granted] } else { vec![1] }
}
