//! Repetitions of a case with windows of what bounds it between them; and two programs in turn.

use crate::cases::Case;
use crate::peak::fma_window;
use crate::streams::{Stream, beyond_caches};
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

/// How long a case runs without a window in between, and how often: the shortest take five turns.
const ONE_TURN: Duration = Duration::from_millis(4);
const RUNS: usize = 10;

/// Times `case` at least 5 times and, while `budget` lasts, up to 50 times, in turns of a few; after each turn one window of
/// the peak loop and one of the stream, or up to four after many runs, at least 20 in all. A window leaves the stream's bytes in
/// the caches, so a turn begins with a run that is not timed, and goes on because one is not enough: of a weight of 9 MB an L3
/// that others use as well holds more after each. What a turn comes near is a loop of nothing but the case, as others time it.
pub fn sample(ctx: &Ctx, case: &Case, budget: Duration) -> Sample {
    let mut run = (case.build)();
    let mut stream = Stream::new(case.traffic, (case.bytes as usize).min(beyond_caches()));
    // As inside a step: the pool's threads are awake when a kernel begins.
    let mut once = || parallel::enter(ctx, || run(ctx));
    once();
    let (mut seconds, mut windows, mut peak, mut best) = (Vec::new(), 0, 0.0f64, 0.0f64);
    let mut look = |some: usize| {
        for _ in 0..some {
            peak = peak.max(fma_window(ctx.isa()));
            best = best.max(stream.window(ctx.isa()));
        }
    };
    let began = Instant::now();
    let goes_on = |runs: usize| runs < 5 || (began.elapsed() < budget && runs < 50);
    while goes_on(seconds.len()) {
        once();
        let (turn, before) = (Instant::now(), seconds.len());
        while goes_on(seconds.len()) && seconds.len() < before + RUNS {
            let t = Instant::now();
            once();
            seconds.push(t.elapsed().as_secs_f64());
            if turn.elapsed() >= ONE_TURN {
                break;
            }
        }
        let some = (seconds.len() - before).div_ceil(3);
        look(some);
        windows += some;
    }
    look(20usize.saturating_sub(windows));
    let (least, repetitions) = (seconds.iter().copied().fold(f64::INFINITY, f64::min), seconds.len());
    Sample { median: median(seconds), best: least, repetitions, peak, stream: best }
}

/// The median; of an even number the mean of the two in the middle.
pub fn median(mut xs: Vec<f64>) -> f64 {
    xs.sort_by(f64::total_cmp);
    (xs[(xs.len() - 1) / 2] + xs[xs.len() / 2]) / 2.0
}

/// Two programs that ran in turn.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Seconds of a call of either, medians.
    pub seconds: [f64; 2],
    /// The second one's time over the first one's in the same round, median.
    pub ratio: f64,
    /// The quartiles of that ratio.
    pub quartiles: [f64; 2],
    /// Rounds.
    pub rounds: usize,
}

/// The least time of a turn: a call of 50 µs is timed 20 at once.
const TURN: Duration = Duration::from_millis(1);

/// How long a turn waits for the threads of the other side to fall asleep: some spin for half a millisecond.
const REST: Duration = Duration::from_millis(1);

/// One side of those that run in turn.
pub struct Turns<F> {
    call: F,
    /// Calls of a turn, in one measurement.
    calls: u32,
}

impl<F: FnMut()> Turns<F> {
    /// Times one call, to know how many make a turn.
    pub fn new(call: F) -> Self {
        let mut turns = Turns { call, calls: 1 };
        turns.calls = (TURN.as_secs_f64() / turns.next_turn()).ceil().clamp(1.0, 1000.0) as u32;
        turns
    }

    /// One turn: waits, calls once so that threads are awake and inputs near, and returns the seconds of one of the calls
    /// that follow.
    pub fn next_turn(&mut self) -> f64 {
        let began = Instant::now();
        while began.elapsed() < REST {
            core::hint::spin_loop();
        }
        (self.call)();
        let began = Instant::now();
        (0..self.calls).for_each(|_| (self.call)());
        began.elapsed().as_secs_f64() / f64::from(self.calls)
    }
}

/// Runs `a` and `b` in turn, at least `least` rounds and, while `budget` lasts, up to 200.
pub fn pair(budget: Duration, least: usize, a: impl FnMut(), b: impl FnMut()) -> Pair {
    let (mut a, mut b) = (Turns::new(a), Turns::new(b));
    let (mut seconds, mut ratios) = ([vec![], vec![]], vec![]);
    let began = Instant::now();
    while ratios.len() < least.max(1) || (began.elapsed() < budget && ratios.len() < 200) {
        let (x, y) = (a.next_turn(), b.next_turn());
        seconds[0].push(x);
        seconds[1].push(y);
        ratios.push(y / x);
    }
    let rounds = ratios.len();
    ratios.sort_by(f64::total_cmp);
    let quartiles = [ratios[(rounds - 1) / 4], ratios[rounds - 1 - (rounds - 1) / 4]];
    Pair { seconds: seconds.map(median), ratio: median(ratios), quartiles, rounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_runs_both_sides_as_often_as_it_says() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0])), (2.0, 2.5));
        let (mut a, mut b) = (0, 0);
        let wait = |ms| std::thread::sleep(Duration::from_millis(ms));
        let long = pair(
            Duration::ZERO,
            3,
            || {
                a += 1;
                wait(2);
            },
            || {
                b += 1;
                wait(20);
            },
        );
        // A turn is a call that is not timed and one that is; one turn comes before all rounds.
        assert_eq!((a, b, long.rounds), (8, 8, 3));
        assert!(long.seconds[0] >= 2e-3 && long.seconds[1] >= 20e-3 && long.ratio > 1.0, "{long:?}");
        assert!(long.quartiles[0] <= long.ratio && long.ratio <= long.quartiles[1], "{long:?}");
    }

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
