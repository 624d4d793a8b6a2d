//! Repetitions of a case with windows of the peak between them.

use crate::cases::Case;
use crate::peak::fma_window;
use longhand_tensor::{Ctx, parallel};
use std::time::{Duration, Instant};

/// Seconds a run of a case: the median and the best of its repetitions, and the peak seen between them.
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
}

/// Runs `case` at least 5 times and, while `budget` lasts, up to 50 times; after each repetition one window of
/// the peak loop, at least 20 in all.
pub fn sample(ctx: &Ctx, case: &Case, budget: Duration) -> Sample {
    let mut run = (case.build)();
    // As inside a step: the pool's threads are awake when a kernel begins.
    let mut once = || parallel::enter(ctx, || run(ctx));
    once();
    once();
    let (mut seconds, mut peak, mut windows) = (Vec::new(), 0.0f64, 0);
    let began = Instant::now();
    while seconds.len() < 5 || (began.elapsed() < budget && seconds.len() < 50) {
        let t = Instant::now();
        once();
        seconds.push(t.elapsed().as_secs_f64());
        peak = peak.max(fma_window(ctx.isa()));
        windows += 1;
    }
    for _ in windows..20 {
        peak = peak.max(fma_window(ctx.isa()));
    }
    seconds.sort_by(f64::total_cmp);
    Sample { median: seconds[seconds.len() / 2], best: seconds[0], repetitions: seconds.len(), peak }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_case_runs() {
        let ctx = Ctx::default();
        for case in crate::cases::all().into_iter().filter(|c| c.flops.max(c.bytes) < 3e7) {
            let s = sample(&ctx, &case, Duration::ZERO);
            assert!(s.best > 0.0 && s.median >= s.best && s.repetitions == 5 && s.peak > 0.0, "{}: {s:?}", case.name);
        }
    }
}
