//! `longhand bench`: how fast this machine trains and generates.

mod generate;
mod load;

use crate::args::{BenchCommand, BenchTrainArgs};
use crate::commands::roofline::{cpu_name, rounded, threads_of};
use crate::commands::train::model_that_fits;
use crate::failure::Failure;
use crate::machine::peak_memory;
use crate::plot::{self, Bars};
use crate::pool::Workers;
use crate::progress::print_line;
use longhand_measure::peak::best_fma_window;
use longhand_measure::sampling::median;
use longhand_measure::split::{Part, Recorded};
use longhand_measure::streams::{Stream, Traffic, beyond_caches};
use longhand_measure::train_step::TrainStep;
use longhand_tensor::{Recorder, parallel};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// Measures and shows.
pub fn run(command: &BenchCommand) -> Result<u8, Failure> {
    match command {
        BenchCommand::Train(args) => train(args),
        BenchCommand::Generate(args) => generate::run(args),
        BenchCommand::Load(args) => load::run(args),
    }
}

/// Steps before those that count: the first ones allocate, and measure the arena.
const WARM_UP: usize = 2;

/// More of them are a mistake on any machine.
const MOST_STEPS: usize = 1_000_000;

fn train(args: &BenchTrainArgs) -> Result<u8, Failure> {
    let step = TrainStep::new(&args.preset, args.batch_size, args.block_size)?;
    if args.steps == 0 || args.steps > MOST_STEPS {
        return Err(Failure::usage(format!("steps = {}: must be from 1 to {MOST_STEPS}", args.steps)));
    }
    if let Some(path) = &args.svg {
        plot::writable(path)?;
    }
    let workers = Workers::new(args.threads)?;
    let isa = workers.ctx.isa();
    let model = model_that_fits(&step.config(), args.batch_size, args.block_size, 0)?;
    let recorder = args.split.then(|| Arc::new(Recorder::default()));
    let ctx = match &recorder {
        Some(recorder) => workers.ctx.clone().with_recorder(recorder.clone()),
        None => workers.ctx.clone(),
    };
    let mut running = workers.run(|| step.start(&ctx, model))?;
    let (mut steps, mut peak) = (Vec::new(), 0.0f64);
    for i in 0..WARM_UP + args.steps {
        let began = Instant::now();
        workers.run(|| parallel::enter(&ctx, || running.step()));
        let seconds = began.elapsed().as_secs_f64();
        let ops = recorder.as_ref().map_or(Vec::new(), |recorder| recorder.take());
        if i >= WARM_UP {
            steps.push(Recorded { seconds, ops });
        }
        peak = peak.max(workers.run(|| best_fma_window(isa, 4)));
    }
    let memory = peak_memory();
    drop(running);
    let bandwidth = workers.run(|| Stream::new(Traffic::Read, beyond_caches()).best(isa, 8));
    steps.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let measured = Measured { step, steps, peak, bandwidth, memory, threads: threads_of(isa, workers.ctx.threads()) };
    if args.json {
        let mut row = measured.json();
        (row["isa"], row["threads"]) = (json!(isa.to_string()), json!(workers.ctx.threads()));
        row["model"] = json!(args.preset);
        print_line(&row.to_string());
    } else {
        measured.print(&args.preset);
    }
    if !args.split {
        return Ok(0);
    }
    let parts = measured.step.split(measured.middle());
    if args.json {
        measured.print_json_of(&parts, &args.preset);
    } else {
        measured.print_table_of(&parts);
    }
    if let Some(path) = &args.svg {
        let title = format!(
            "{}, {} × {} tokens: {:.0} ms a step",
            args.preset,
            args.batch_size,
            args.block_size,
            whole(&parts) * 1e3
        );
        let machine = format!("{}, {}", cpu_name(), measured.threads);
        plot::split_svg(path, &Bars { title, machine, parts: &parts, peak }).map_err(Failure::new)?;
    }
    Ok(0)
}

/// Seconds of all parts.
fn whole(parts: &[Part]) -> f64 {
    parts.iter().fold(0.0, |sum, p| sum + p.seconds)
}

/// What was measured of a step.
struct Measured {
    step: TrainStep,
    /// The fastest first.
    steps: Vec<Recorded>,
    /// Flops and bytes a second.
    peak: f64,
    bandwidth: f64,
    memory: Option<u64>,
    /// "avx2, 2 threads".
    threads: String,
}

impl Measured {
    /// Seconds of the median step.
    fn median(&self) -> f64 {
        median(self.steps.iter().map(|step| step.seconds).collect())
    }

    /// Seconds that the flops take at the peak, and those that the bytes take.
    fn bounds(&self) -> (f64, f64) {
        (self.step.flops() / self.peak, self.step.bytes() / self.bandwidth)
    }

    fn of_bound(&self) -> f64 {
        let (compute, traffic) = self.bounds();
        (compute + traffic) / self.median()
    }

    fn tokens(&self) -> f64 {
        self.step.tokens() as f64 / self.median()
    }

    fn json(&self) -> serde_json::Value {
        let (step, median) = (&self.step, self.median());
        let mut row = json!({"name": step.name(), "ms": rounded(median * 1e3, 1e2),
            "tok_s": rounded(self.tokens(), 1e2), "gflops": rounded(step.flops() / median / 1e9, 1e2),
            "of_bound": rounded(self.of_bound(), 1e4)});
        if let Some(bytes) = self.memory {
            row["peak_rss_gb"] = json!(rounded(bytes as f64 / 1e9, 1e2));
        }
        row
    }

    fn print(&self, preset: &str) {
        let (median, fastest, slowest) =
            (self.median(), self.steps[0].seconds, self.steps[self.steps.len() - 1].seconds);
        let (compute, traffic) = self.bounds();
        let (gflop, gb) = (self.step.flops() / 1e9, self.step.bytes() / 1e9);
        print_line(&format!("{preset}, {}: {}, {} steps", self.step.name(), self.threads, self.steps.len()));
        print_line(&format!(
            "step        {:.1} ms, median; {:.1} to {:.1}",
            median * 1e3,
            fastest * 1e3,
            slowest * 1e3
        ));
        print_line(&format!("tokens/s    {:.1}", self.tokens()));
        print_line(&format!("flops       {gflop:.1} GFLOP at {:.1} GFLOP/s: {:.1} ms", self.peak / 1e9, compute * 1e3));
        print_line(&format!("bytes       {gb:.2} GB at {:.1} GB/s: {:.1} ms", self.bandwidth / 1e9, traffic * 1e3));
        print_line(&format!("of bound    {:.3} of flops/peak + bytes/bandwidth", self.of_bound()));
        if let Some(bytes) = self.memory {
            print_line(&format!("memory      {:.2} GB at the peak", bytes as f64 / 1e9));
        }
    }

    /// The steps that are neither of the fastest quarter nor of the slowest: what one step says of a kernel of a few
    /// calls is mostly noise.
    fn middle(&self) -> &[Recorded] {
        let apart = self.steps.len() / 4;
        &self.steps[apart..self.steps.len() - apart]
    }

    fn print_table_of(&self, parts: &[Part]) {
        let [calls, ms, share, gflops, of_peak, gb_s] = ["calls", "ms", "share", "GFLOP/s", "of peak", "GB/s"];
        let head = format!("mean of the middle {}", self.middle().len());
        print_line(&format!("\n{head:<28}{calls:>7}{gflops:>10}{of_peak:>9}{gb_s:>8}{ms:>11}{share:>8}"));
        for p in parts {
            let of = |rate: Option<f64>, per: f64, digits: usize| {
                rate.map_or(String::new(), |rate| format!("{:.digits$}", rate / per))
            };
            let (gflops, of_peak) = (of(p.gflops(), 1.0, 1), of(p.gflops(), self.peak / 1e9, 3));
            let (gb_s, ms, share) = (of(p.gb_s(), 1.0, 1), p.seconds * 1e3, p.share);
            let (name, calls) = (p.label(), if p.calls == 0 { String::new() } else { p.calls.to_string() });
            print_line(&format!("{name:<28}{calls:>7}{gflops:>10}{of_peak:>9}{gb_s:>8}{ms:>11.2}{share:>8.3}"));
        }
        let (seconds, share) = (whole(parts), parts.iter().fold(0.0, |sum, p| sum + p.share));
        let (gflops, ms) = (self.step.flops() / seconds / 1e9, seconds * 1e3);
        let of_peak = gflops / (self.peak / 1e9);
        print_line(&format!("{:<28}{:>7}{gflops:>10.1}{of_peak:>9.3}{:>8}{ms:>11.2}{share:>8.3}", "together", "", ""));
    }

    fn print_json_of(&self, parts: &[Part], preset: &str) {
        for p in parts {
            let mut row = json!({"name": format!("{}/{}", self.step.name(), p.name), "model": preset, "calls": p.calls,
                "ms": rounded(p.seconds * 1e3, 1e4), "share": rounded(p.share, 1e5)});
            if let Some(gflops) = p.gflops() {
                row["gflops"] = json!(rounded(gflops, 1e2));
                row["of_peak"] = json!(rounded(gflops * 1e9 / self.peak, 1e4));
            }
            if let Some(gb_s) = p.gb_s() {
                row["gb_s"] = json!(rounded(gb_s, 1e2));
            }
            print_line(&row.to_string());
        }
    }
}
