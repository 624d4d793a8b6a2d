//! `longhand bench`: how fast this machine trains.

use crate::args::{BenchCommand, BenchTrainArgs};
use crate::commands::roofline::{rounded, threads_of};
use crate::commands::train::model_that_fits;
use crate::failure::Failure;
use crate::machine::peak_memory;
use crate::pool::Workers;
use crate::progress::print_line;
use longhand_measure::peak::best_fma_window;
use longhand_measure::streams::{BEYOND_CACHES, Stream, Traffic};
use longhand_measure::train_step::TrainStep;
use longhand_tensor::parallel;
use serde_json::json;
use std::time::Instant;

/// Measures and shows.
pub fn run(command: &BenchCommand) -> Result<u8, Failure> {
    match command {
        BenchCommand::Train(args) => train(args),
    }
}

/// Steps before those that count: the first ones allocate, and measure the arena.
const WARM_UP: usize = 2;

fn train(args: &BenchTrainArgs) -> Result<u8, Failure> {
    let step = TrainStep::new(&args.preset, args.batch_size, args.block_size)?;
    if args.steps == 0 {
        return Err(Failure::usage("steps = 0: must be 1 or more"));
    }
    let workers = Workers::new(args.threads)?;
    let isa = workers.ctx.isa();
    let model = model_that_fits(&step.config(), args.batch_size, args.block_size)?;
    let mut running = workers.run(|| step.start(&workers.ctx, model))?;
    let (mut seconds, mut peak) = (Vec::new(), 0.0f64);
    for i in 0..WARM_UP + args.steps {
        let began = Instant::now();
        workers.run(|| parallel::enter(&workers.ctx, || running.step()));
        if i >= WARM_UP {
            seconds.push(began.elapsed().as_secs_f64());
        }
        peak = peak.max(workers.run(|| best_fma_window(isa, 4)));
    }
    let memory = peak_memory();
    drop(running);
    let bandwidth = workers.run(|| Stream::new(Traffic::Read, BEYOND_CACHES).best(isa, 8));
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let (compute, traffic) = (step.flops() / peak, step.bytes() / bandwidth);
    let (bound, tokens) = (compute + traffic, step.tokens() as f64 / median);
    if args.json {
        let mut row = json!({"name": step.name(), "isa": isa.to_string(), "threads": workers.ctx.threads(),
            "ms": rounded(median * 1e3, 1e2), "tok_s": rounded(tokens, 1e2),
            "gflops": rounded(step.flops() / median / 1e9, 1e2), "of_bound": rounded(bound / median, 1e4)});
        if let Some(bytes) = memory {
            row["peak_rss_gb"] = json!(rounded(bytes as f64 / 1e9, 1e2));
        }
        print_line(&row.to_string());
        return Ok(0);
    }
    let threads = threads_of(isa, workers.ctx.threads());
    print_line(&format!("{}, {}: {threads}, {} steps", args.preset, step.name(), args.steps));
    print_line(&format!(
        "step        {:.1} ms, median; {:.1} to {:.1}",
        median * 1e3,
        seconds[0] * 1e3,
        seconds[seconds.len() - 1] * 1e3
    ));
    print_line(&format!("tokens/s    {tokens:.1}"));
    let (gflop, gb) = (step.flops() / 1e9, step.bytes() / 1e9);
    print_line(&format!("flops       {gflop:.1} GFLOP at {:.1} GFLOP/s: {:.1} ms", peak / 1e9, compute * 1e3));
    print_line(&format!("bytes       {gb:.2} GB at {:.1} GB/s: {:.1} ms", bandwidth / 1e9, traffic * 1e3));
    print_line(&format!("of bound    {:.3} of flops/peak + bytes/bandwidth", bound / median));
    if let Some(bytes) = memory {
        print_line(&format!("memory      {:.2} GB at the peak", bytes as f64 / 1e9));
    }
    Ok(0)
}
