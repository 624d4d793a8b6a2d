//! The measurement: shapes, rounds in turn, the table.

use crate::{attention, embedding, layernorm, split_k};
use longhand_measure::streams::beyond_caches;
use longhand_measure::{cases, pool};
use longhand_tensor::random::{Philox, Site, SiteKind};
use longhand_tensor::{Ctx, parallel};
use std::time::{Duration, Instant};

/// GPT-2 124M.
pub const C: usize = 768;
pub const HEADS: usize = 12;
pub const LAYERS: usize = 12;
pub const VOCABULARY: usize = 50257;
pub const POSITIONS: usize = 1024;

/// B sequences of T tokens.
#[derive(Clone, Copy)]
pub struct Batch {
    pub b: usize,
    pub t: usize,
}

impl Batch {
    pub fn rows(self) -> usize {
        self.b * self.t
    }
}

/// A shipped kernel and a free one, on the same tensors.
pub trait Contest: Send {
    fn name(&self) -> String;
    /// Calls of a step.
    fn calls(&self) -> usize;
    /// Sets of tensors.
    fn sets(&self) -> usize;
    /// What the variant can be set to.
    fn settings(&self) -> &'static [&'static str];
    fn shipped(&mut self, ctx: &Ctx, set: usize);
    fn variant(&mut self, ctx: &Ctx, set: usize, setting: usize);
    /// What either writes.
    fn outputs(&mut self, set: usize) -> Vec<&mut [f32]>;
    /// Brings outputs that are added to back to what they were.
    fn reset(&mut self, _: usize) {}
}

/// Sets of `bytes` each that no cache holds together, but not more than a step's calls.
pub fn sets(bytes: usize, calls: usize) -> usize {
    beyond_caches().div_ceil(2 * bytes).clamp(1, calls)
}

/// Normal numbers, the same every time.
pub fn numbers(stream: usize, n: usize) -> Vec<f32> {
    let rng = Philox::new(3, Site::new(stream, SiteKind::Init), 0);
    (0..n as u64).map(|i| rng.normal(i)).collect()
}

/// Token ids, the same every time.
pub fn tokens(n: usize) -> Vec<u32> {
    let rng = Philox::new(4, Site::new(0, SiteKind::Shuffle), 0);
    (0..n as u64).map(|i| rng.below(i, VOCABULARY as u32)).collect()
}

/// The greatest difference of the first set's outputs over their greatest element, for every setting.
fn difference(c: &mut dyn Contest, ctx: &Ctx) -> f64 {
    c.reset(0);
    c.shipped(ctx, 0);
    let want: Vec<Vec<f32>> = c.outputs(0).into_iter().map(|out| out.to_vec()).collect();
    let mut worst = 0.0f64;
    for setting in 0..c.settings().len() {
        // What the variant does not write must not look like what the shipped kernel wrote.
        c.outputs(0).into_iter().for_each(|out| out.fill(f32::NAN));
        c.reset(0);
        c.variant(ctx, 0, setting);
        for (got, want) in c.outputs(0).into_iter().zip(&want) {
            let greatest = want.iter().fold(0.0, |m, x| f64::max(m, x.abs() as f64));
            for (g, w) in got.iter().zip(want) {
                let off = (g - w).abs() as f64 / greatest;
                worst = if off > worst || off.is_nan() { off } else { worst };
            }
        }
    }
    worst
}

/// What a contest came to.
struct Outcome {
    /// Milliseconds of a step, and of its variant as a share of that: the quartiles of the ratios.
    shipped: f64,
    ratio: [f64; 3],
    setting: &'static str,
    rounds: usize,
    difference: f64,
}

impl Outcome {
    /// Milliseconds of a step that the variant would save.
    fn saved(&self) -> f64 {
        self.shipped * (1.0 - self.ratio[1])
    }
}

fn quartiles(mut xs: Vec<f64>) -> [f64; 3] {
    xs.sort_by(f64::total_cmp);
    [1, 2, 3].map(|q| xs[(xs.len() - 1) * q / 4])
}

/// Who runs in a round.
#[derive(Clone, Copy)]
enum Side {
    Shipped,
    Variant(usize),
}

/// Seconds of a pass over all sets.
fn round(c: &mut dyn Contest, ctx: &Ctx, side: Side) -> f64 {
    let began = Instant::now();
    // As inside a step: the pool's threads are awake when a kernel begins.
    parallel::enter(ctx, || {
        for set in 0..c.sets() {
            match side {
                Side::Shipped => c.shipped(ctx, set),
                Side::Variant(setting) => c.variant(ctx, set, setting),
            }
        }
    });
    began.elapsed().as_secs_f64()
}

fn measure(c: &mut dyn Contest, ctx: &Ctx) -> Outcome {
    let difference = difference(c, ctx);
    // 1e-3: f32 sums of thousands of terms, and a variance by one pass.
    assert!(difference < 1e-3, "{}: the variant computes something else, {difference:e}", c.name());
    let settings = c.settings();
    let mut best = (f64::INFINITY, 0);
    for setting in 0..settings.len() {
        let tried = quartiles((0..5).map(|_| round(c, ctx, Side::Variant(setting))).collect())[0];
        if tried < best.0 {
            best = (tried, setting);
        }
    }
    let (mut ratios, began) = (Vec::new(), Instant::now());
    let mut shipped = vec![round(c, ctx, Side::Shipped)];
    while ratios.len() < 9 || (began.elapsed() < Duration::from_secs(4) && ratios.len() < 400) {
        let variant = round(c, ctx, Side::Variant(best.1));
        shipped.push(round(c, ctx, Side::Shipped));
        let n = shipped.len();
        ratios.push(2.0 * variant / (shipped[n - 2] + shipped[n - 1]));
    }
    let (rounds, per_step) = (ratios.len(), 1e3 * c.calls() as f64 / c.sets() as f64);
    let shipped = quartiles(shipped)[1] * per_step;
    Outcome { shipped, ratio: quartiles(ratios), setting: settings[best.1], rounds, difference }
}

/// Milliseconds of a whole step: the median of some, after one that allocates.
fn step_ms(ctx: &Ctx, batch: Batch) -> f64 {
    let mut run = (cases::train_step(batch.b, batch.t).build)();
    let mut once = || {
        let began = Instant::now();
        parallel::enter(ctx, || run(ctx));
        began.elapsed().as_secs_f64() * 1e3
    };
    once();
    let steps = if batch.rows() > 1024 { 3 } else { 9 };
    quartiles((0..steps).map(|_| once()).collect())[1]
}

/// Builds a kernel's contests at a batch.
type Build = fn(Batch) -> Vec<Box<dyn Contest>>;

const CONTESTS: [Build; 4] = [split_k::contests, layernorm::contests, attention::contests, embedding::contests];

fn table(batch: Batch, threads: usize) {
    let ctx = Ctx::default().with_threads(threads);
    let step = step_ms(&ctx, batch);
    let label = if threads == 1 { "thread" } else { "threads" };
    println!(
        "\nGPT-2 124M, {} × {} tokens, {}, {threads} {label}: a step takes {step:.0} ms",
        batch.b,
        batch.t,
        ctx.isa()
    );
    println!(
        "{:<30}{:>11}{:>11}{:>9}  {:<15}{:>10}{:>9}{:>8}{:>9}  setting of the variant",
        "", "shipped ms", "variant ms", "ratio", "quartiles", "saved ms", "of step", "rounds", "differ"
    );
    let (mut signed, mut costs) = (0.0, 0.0);
    for build in CONTESTS {
        for mut contest in build(batch) {
            let o = measure(&mut *contest, &ctx);
            let quartiles = format!("{:.3} to {:.3}", o.ratio[0], o.ratio[2]);
            println!(
                "{:<30}{:>11.2}{:>11.2}{:>9.3}  {quartiles:<15}{:>10.2}{:>8.2}%{:>8}{:>9.0e}  {}",
                contest.name(),
                o.shipped,
                o.shipped * o.ratio[1],
                o.ratio[1],
                o.saved(),
                100.0 * o.saved() / step,
                o.rounds,
                o.difference,
                o.setting,
            );
            signed += o.saved();
            costs += o.saved().max(0.0);
        }
    }
    println!("all variants together save {signed:.1} ms, {:.2}% of a step", 100.0 * signed / step);
    println!("those that save something save {costs:.1} ms, {:.2}% of a step", 100.0 * costs / step);
}

pub fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("determinism: not run");
        return;
    }
    // "t64" or "t1024" leaves the other out.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let granted = std::thread::available_parallelism().map_or(1, usize::from);
    for batch in [Batch { b: 4, t: 64 }, Batch { b: 4, t: 1024 }] {
        if !asked.is_empty() && !asked.contains(&format!("t{}", batch.t)) {
            continue;
        }
        for threads in if granted > 1 { vec![granted, 1] } else { vec![1] } {
            pool(threads).install(|| table(batch, threads));
        }
    }
}
