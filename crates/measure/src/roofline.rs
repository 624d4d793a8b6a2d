//! The roofline of this machine, and every kernel under it.
//!
//! A kernel of F flops and D bytes takes at least max(F / peak, D / bandwidth) seconds, where the peak is that of
//! multiply-adds in registers and the bandwidth that of a stream which moves bytes as the kernel does, at the kernel's own
//! footprint. Both are the best of windows between turns of the kernel, and the kernel's time is the median: so
//! a share of the bound is a share of what this machine can do, not of what it is sold as.
//!
//! Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.

use crate::caches::caches;
use crate::cases::{Case, Quoted};
use crate::peak::{alone, ports_and_latency, settled_fma_window};
use crate::sampling::{Sample, sample};
use crate::streams::{Stream, Traffic, beyond_caches};
use longhand_tensor::{Ctx, Isa};
use std::time::Duration;

/// The peak of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// The instruction set.
    pub isa: Isa,
    /// Flops a second of all threads.
    pub flops: f64,
    /// Rate of independent over dependent chains on one thread: ports × latency.
    pub ratio: f64,
    /// Flops a second of one thread alone.
    pub alone: f64,
}

impl Peak {
    /// Whether the ratio is one that the instruction set is known to have.
    pub fn trusted(&self) -> bool {
        self.ports_and_latency().is_some()
    }

    /// Ports and latency whose product the ratio is.
    pub fn ports_and_latency(&self) -> Option<(u32, u32)> {
        ports_and_latency(self.isa, self.ratio)
    }

    /// The best window, on the threads of the current pool.
    pub fn measure(isa: Isa) -> Peak {
        let alone = alone(isa, 20);
        Peak { isa, flops: settled_fma_window(isa), ratio: alone.ratio, alone: alone.flops }
    }

    /// The threads that together reach this peak, each as fast as one alone: fewer than there are where some share a core,
    /// or where something else had one all the time.
    pub fn full_threads(&self) -> f64 {
        self.flops / self.alone
    }
}

/// The bandwidth at one footprint.
#[derive(Clone, Debug)]
pub struct Level {
    /// L1, L2, L3 or DRAM.
    pub name: String,
    /// The footprint of all threads.
    pub bytes: usize,
    /// Bytes a second read.
    pub read: f64,
    /// Bytes a second written.
    pub write: f64,
}

/// Reads and writes at half of each cache, and far beyond the last, on the threads of the current pool.
pub fn levels(isa: Isa) -> Vec<Level> {
    // More threads than cores have no more caches.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads().min(cores);
    let all = caches();
    let cached = all.iter().map(|c| (format!("L{}", c.level), c.bytes / 2 * threads.div_ceil(c.shared_by)));
    let beyond = ("DRAM".to_string(), beyond_caches());
    cached
        .chain([beyond])
        .map(|(name, bytes)| {
            let best = |traffic| Stream::new(traffic, bytes).best(isa, 10);
            Level { bytes, read: best(Traffic::Read), write: best(Traffic::Write), name }
        })
        .collect()
}

/// What bounds a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The multiply-adds.
    Flops,
    /// The bytes.
    Bytes,
}

impl Bound {
    /// As in tables.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Flops => "flops",
            Bound::Bytes => "bytes",
        }
    }
}

/// A kernel under the roofline.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case's name.
    pub name: String,
    /// Flops of a run.
    pub flops: f64,
    /// Bytes of a run.
    pub bytes: f64,
    /// What its rate is quoted in.
    pub quoted: Quoted,
    /// Seconds, median.
    pub seconds: f64,
    /// The least time, by the peak of the whole measurement and the case's own stream.
    pub least: f64,
    /// Which of the two it is.
    pub bound: Bound,
    /// Flops a second over the peak.
    pub of_peak: f64,
}

impl Row {
    fn new(case: &Case, s: &Sample, peak: f64) -> Row {
        let (compute, stream) = (case.flops / peak, case.bytes / s.stream);
        Row {
            name: case.name.clone(),
            flops: case.flops,
            bytes: case.bytes,
            quoted: case.quoted,
            seconds: s.median,
            least: compute.max(stream),
            bound: if compute >= stream { Bound::Flops } else { Bound::Bytes },
            of_peak: case.flops / s.median / peak,
        }
    }

    /// Milliseconds.
    pub fn ms(&self) -> f64 {
        self.seconds * 1e3
    }

    /// 10⁹ flops a second.
    pub fn gflops(&self) -> f64 {
        self.flops / self.seconds / 1e9
    }

    /// 10⁹ bytes a second.
    pub fn gb_s(&self) -> f64 {
        self.bytes / self.seconds / 1e9
    }

    /// The least time over the time taken.
    pub fn of_bound(&self) -> f64 {
        self.least / self.seconds
    }
}

/// Measures `cases` in turn in the current pool, `each` told before every one of them. The peak is `seen`, of windows before,
/// or the best window of all if that is more; it is returned beside the rows, which are shares of it.
pub fn rows(ctx: &Ctx, cases: &[Case], budget: Duration, seen: f64, mut each: impl FnMut(&Case)) -> (f64, Vec<Row>) {
    let mut samples = Vec::with_capacity(cases.len());
    for case in cases {
        each(case);
        samples.push(sample(ctx, case, budget));
    }
    let peak = samples.iter().map(|s| s.peak).fold(seen, f64::max);
    (peak, cases.iter().zip(&samples).map(|(case, s)| Row::new(case, s, peak)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn a_row_says_what_bounds_it() {
        let named = |name: &str| cases::named(&[name]).remove(0);
        let row = |name: &str, stream: f64| {
            let s = Sample { median: 0.1, best: 0.1, repetitions: 5, peak: 1e11, stream };
            Row::new(&named(name), &s, 2e11)
        };
        let compute = row("matmul/1024x1024x1024", 1e10);
        assert!(compute.bound == Bound::Flops && (compute.of_peak / compute.of_bound() - 1.0).abs() < 1e-12);
        assert!((compute.gflops() - 21.47).abs() < 0.01);
        let memory = row("adamw/262144", 1e9);
        assert_eq!(memory.bound, Bound::Bytes);
        assert!((memory.of_bound() - 28.0 * 262144.0 / 1e9 / 0.1).abs() < 1e-9);
        assert!((memory.flops / memory.bytes - 0.5).abs() < 1e-9);
    }

    /// However few windows stand between the repetitions of a case, the peak before them counts.
    #[test]
    fn rows_are_shares_of_the_peak_that_is_shown() {
        let case = cases::named(&["rowwise/softmax_forward/256x768"]);
        let (peak, rows) = rows(&Ctx::default(), &case, Duration::ZERO, 1e15, |_| ());
        assert_eq!(peak, 1e15);
        assert!((rows[0].of_peak * peak / (rows[0].gflops() * 1e9) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn levels_grow_to_memory() {
        let levels = levels(Isa::detect());
        assert!(levels.len() >= 2 && levels.last().unwrap().name == "DRAM");
        assert!(levels.windows(2).all(|w| w[0].bytes < w[1].bytes));
        assert!(levels.iter().all(|l| l.read > 0.0 && l.write > 0.0));
    }
}
