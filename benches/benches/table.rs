//! One line a case: milliseconds, GFLOP/s or GB/s, and the share of the peak measured between its repetitions.
//!
//! `cargo bench --bench table -- [--json] [--threads 2] [--isa avx2] [--only matmul,attention,rowwise] [--seconds 1]`

use longhand_measure::cases::{self, Case};
use longhand_measure::peak::{Streams, is_trusted, ports_times_latency};
use longhand_measure::pool;
use longhand_measure::sampling::{Sample, sample};
use longhand_tensor::{Ctx, Isa};
use std::time::Duration;

const USAGE: &str =
    "usage: cargo bench --bench table -- [--json] [--threads N] [--isa NAME] [--only PREFIX,…] [--seconds S]
  --only: names of the cases begin with one of these, e.g. matmul/,attention_forward/,train_step
  --seconds: time for each case; 5 repetitions are run in any case";

struct Args {
    json: bool,
    threads: usize,
    isa: Isa,
    only: Option<String>,
    budget: Duration,
}

fn parse() -> Result<Args, String> {
    let isa = Isa::from_env().map_err(|e| e.to_string())?;
    let mut parsed = Args { json: false, threads: 2, isa, only: None, budget: Duration::from_secs(1) };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or(format!("{flag} wants a value"));
        match flag.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--json" => parsed.json = true,
            "--threads" => {
                let n = value()?;
                parsed.threads = n.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or(format!("--threads {n}"))?;
            }
            "--isa" => parsed.isa = Isa::at_most(&value()?).map_err(|e| e.to_string())?,
            "--only" => parsed.only = Some(value()?),
            "--seconds" => {
                let s = value()?;
                let seconds: f64 = s.parse().map_err(|_| format!("--seconds {s}"))?;
                parsed.budget = Duration::try_from_secs_f64(seconds).map_err(|e| format!("--seconds {s}: {e}"))?;
            }
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    Ok(parsed)
}

fn main() {
    let args = parse().unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        std::process::exit(2);
    });
    let chosen = match &args.only {
        Some(only) => cases::named(&only.split(',').collect::<Vec<_>>()),
        None => cases::all(),
    };
    if chosen.is_empty() {
        eprintln!("no case is named {}\n{USAGE}", args.only.as_deref().unwrap_or_default());
        std::process::exit(2);
    }
    let ratio = ports_times_latency(args.isa, 40);
    pool(args.threads).install(|| {
        let ctx = Ctx::new(args.isa);
        let mut rows: Vec<(Case, Sample)> = Vec::new();
        let (mut read, mut update) = (0.0f64, 0.0f64);
        for case in chosen {
            if case.bytes > 0.0 {
                // The streams are measured beside the kernels that they bound, and given back before the next case.
                let mut streams = Streams::new(128);
                for _ in 0..3 {
                    read = read.max(streams.read(args.isa));
                    update = update.max(streams.update(args.isa));
                }
            }
            let s = sample(&ctx, &case, args.budget);
            eprintln!("{}: {} repetitions", case.name, s.repetitions);
            rows.push((case, s));
        }
        let peak = rows.iter().map(|(_, s)| s.peak).fold(0.0, f64::max);
        report(&args, &rows, peak, ratio, read, update);
    });
}

fn report(args: &Args, rows: &[(Case, Sample)], peak: f64, ratio: f64, read: f64, update: f64) {
    let (isa, threads) = (args.isa, args.threads);
    let trusted = is_trusted(ratio);
    if args.json {
        let row = format!("\"isa\": \"{isa}\", \"threads\": {threads}");
        println!(
            "{{\"name\": \"peak\", {row}, \"gflops\": {:.2}, \"ratio\": {ratio:.2}, \"trusted\": {trusted}}}",
            peak / 1e9
        );
        for (case, s) in rows {
            print!("{{\"name\": \"{}\", {row}, \"ms\": {:.4}", case.name, s.median * 1e3);
            if case.flops > 0.0 {
                let rate = case.flops / s.median;
                print!(", \"gflops\": {:.2}, \"of_peak\": {:.3}, \"trusted\": {trusted}", rate / 1e9, rate / peak);
            } else {
                let rate = case.bytes / s.median;
                print!(", \"gb_s\": {:.2}, \"of_stream\": {:.3}", rate / 1e9, rate / update);
            }
            println!("}}");
        }
        return;
    }
    println!("{isa}, {threads} threads; peak {:.1} GFLOP/s, the best of all windows between repetitions", peak / 1e9);
    let trust = if trusted { "two ports of latency four" } else { "not near 8: UNTRUSTED" };
    println!("independent/dependent chains {ratio:.2} ({trust})");
    if read > 0.0 {
        println!("streams: {:.1} GB/s read, {:.1} GB/s read 4 write 3", read / 1e9, update / 1e9);
    }
    println!("{:<44} {:>10} {:>10} {:>8} {:>9}", "case", "ms", "GFLOP/s", "GB/s", "of peak");
    for (case, s) in rows {
        let (name, ms) = (&case.name, s.median * 1e3);
        if case.flops > 0.0 {
            let rate = case.flops / s.median;
            println!("{name:<44} {ms:>10.4} {:>10.2} {:>8} {:>9.3}", rate / 1e9, "", rate / peak);
        } else {
            let rate = case.bytes / s.median;
            println!("{name:<44} {ms:>10.4} {:>10} {:>8.2} {:>9.3}", "", rate / 1e9, rate / update);
        }
    }
    println!(
        "of peak: of the multiply-adds for GFLOP/s, of the 4-read 3-write stream for GB/s (above 1 where a cache holds the case)"
    );
}
