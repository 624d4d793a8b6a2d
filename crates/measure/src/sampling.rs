//! Repetitions of a case with windows of what bounds it between them.

use crate::cases::Case;
use crate::peak::{best_fma_window, fma_window};
use crate::streams::{BEYOND_CACHES, Stream};
use longhand_tensor::{Ctx, parallel};
use std::time::{Duration, Instant};

/// Seconds of a run of a case, and the bounds seen between its repetitions.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds, median.
    pub median: f64,
    /// Seconds, least.
    pub best: f64,
    /// Repetitions.
    pub repetitions: usize,
    /// The best window of multiply-adds, flops a second.
    pub peak: f64,
    /// The best window of the case's own traffic at its own footprint, bytes a second.
    pub stream: f64,
}

/// Runs `case` at least 5 times and, while `budget` lasts, up to 50 times; after each repetition one window of
/// the peak loop and one of the stream, at least 20 in all.
pub fn sample(ctx: &Ctx, case: &Case, budget: Duration) -> Sample {
    let mut run = (case.build)();
    let mut stream = Stream::new(case.traffic, (case.bytes as usize).min(BEYOND_CACHES));
    // As inside a step: the pool's threads are awake when a kernel begins.
    let mut once = || parallel::enter(ctx, || run(ctx));
    once();
    once();
    let (mut seconds, mut peak, mut best) = (Vec::new(), 0.0f64, 0.0f64);
    let began = Instant::now();
    while seconds.len() < 5 || (began.elapsed() < budget && seconds.len() < 50) {
        let t = Instant::now();
        once();
        seconds.push(t.elapsed().as_secs_f64());
        peak = peak.max(fma_window(ctx.isa()));
        best = best.max(stream.window(ctx.isa()));
    }
    peak = peak.max(best_fma_window(ctx.isa(), 20usize.saturating_sub(seconds.len())));
    seconds.sort_by(f64::total_cmp);
    Sample { median: seconds[seconds.len() / 2], best: seconds[0], repetitions: seconds.len(), peak, stream: best }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_case_runs() {
        let ctx = Ctx::default();
        for case in crate::cases::all().into_iter().filter(|c| c.flops.max(c.bytes) < 3e7) {
            let s = sample(&ctx, &case, Duration::ZERO);
            assert!(s.best > 0.0 && s.median >= s.best && s.repetitions == 5, "{}: {s:?}", case.name);
            assert!(s.peak > 0.0 && s.stream > 0.0, "{}: {s:?}", case.name);
        }
    }
}
