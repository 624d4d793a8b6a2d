//! From plain loops to the kernels, one idea a step: what the book's chapters quote, and the table that says what each
//! idea is worth on this machine.

pub mod attention;
pub mod matmul;
pub mod tile_loop;

use longhand_measure::peak::fma_window;
use longhand_measure::sampling::{Turns, median};
use longhand_tensor::Isa;
use longhand_tensor::random::{Philox, Site, SiteKind};

/// One step, ready to run.
pub struct Step<'a> {
    /// A few words.
    pub name: &'static str,
    /// The part of the work that a run does: slow steps do some of the rows, or one of the heads.
    pub part: f64,
    /// Runs it.
    pub run: Box<dyn FnMut() + 'a>,
}

impl<'a> Step<'a> {
    /// A step that does all of the work.
    pub fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Step { name, part: 1.0, run: Box::new(run) }
    }

    /// The same step, whose runs do `part` of the work.
    pub fn of(self, part: f64) -> Self {
        Step { part, ..self }
    }
}

/// Runs the steps in turn, `rounds` times, each beside a window of the peak loop, and prints their medians against the
/// best window. `flops` are those of the whole work.
pub fn measure(title: &str, isa: Isa, flops: f64, rounds: usize, steps: Vec<Step>) {
    let mut rows: Vec<_> = steps.into_iter().map(|s| (s.name, s.part, Turns::new(s.run), vec![])).collect();
    let mut windows = Vec::new();
    for _ in 0..rounds {
        for (_, part, turns, seconds) in &mut rows {
            windows.push(fma_window(isa));
            seconds.push(turns.next_turn() / *part);
        }
    }
    let peak = windows.iter().copied().fold(0.0, f64::max);
    println!("\n{title}: peak {:.1} GFLOP/s, {:.1} in the median window", peak / 1e9, median(windows) / 1e9);
    println!("{:<44}{:>10}{:>10}{:>9}{:>9}", "step", "ms", "GFLOP/s", "of peak", "times");
    let mut before = None;
    for (name, part, _, seconds) in rows {
        let s = median(seconds);
        let times = before.map_or(String::new(), |b: f64| format!("{:.2}", b / s));
        let mark = if part < 1.0 { "*" } else { "" };
        let (rate, share) = (flops / s / 1e9, flops / s / peak);
        println!("{:<44}{:>10.2}{rate:>10.1}{share:>9.3}{times:>9}", format!("{name}{mark}"), s * 1e3);
        before = Some(s);
    }
}

/// `n` uniform numbers in −1 .. 1, the same every time for one `seed`.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let rng = Philox::new(seed, Site::new(0, SiteKind::Shuffle), 0);
    (0..n as u64).map(|i| rng.uniform(i) * 2.0 - 1.0).collect()
}

/// Panics unless `got` is `want` within `tolerance`.
fn agree(got: &[f32], want: &[f32], tolerance: f32, step: usize) {
    for (i, (x, y)) in got.iter().zip(want).enumerate() {
        assert!((x - y).abs() <= tolerance, "step {step}: element {i} is {x}, not {y}");
    }
}
