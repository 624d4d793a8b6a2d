//! `longhand roofline`: what this CPU can do, and how near to it each kernel comes.

use crate::args::RooflineArgs;
use crate::commands::check_memory;
use crate::failure::Failure;
use crate::limits::Limits;
use crate::machine::{Cpu, human_bytes};
use crate::plot::{self, Point, Roof};
use crate::pool::{Workers, isa_named};
use crate::progress::{Counter, note, print_line};
use longhand_measure::cases::{self, Case, Quoted};
use longhand_measure::peak::known_ports_and_latency;
use longhand_measure::roofline::{self, Level, Peak, Row};
use longhand_measure::streams::beyond_caches;
use longhand_tensor::{Ctx, Isa};
use serde_json::json;
use std::time::Duration;

/// Measures and shows; the exit status: 1 when a limit of `--assert` is not reached.
pub fn run(args: &RooflineArgs) -> Result<u8, Failure> {
    let chosen = chosen(args.only.as_deref())?;
    fits(&chosen)?;
    let limits = args.assert.as_deref().map(|path| Limits::load(path, &chosen)).transpose()?;
    if let Some(path) = &args.svg {
        plot::writable(path)?;
    }
    if !(0.0..=MOST_SECONDS).contains(&args.seconds) {
        return Err(Failure::usage(format!("seconds = {:?}: must be from 0 to {MOST_SECONDS}", args.seconds)));
    }
    let budget = Duration::from_secs_f64(args.seconds);
    let workers = Workers::new(args.threads)?;
    let isa = match &args.isa {
        None => workers.ctx.isa(),
        Some(name) => isa_named(name)?,
    };
    if limits.is_some() && known_ports_and_latency(isa).is_empty() {
        let limit = "must be avx2 or avx512 with --assert: the peak of another is not known well enough";
        return Err(Failure::usage(format!("isa = {isa}: {limit}")));
    }
    let threads = workers.ctx.threads();
    let ctx = Ctx::new(isa).with_threads(threads);
    let measured = workers.run(|| measure(&ctx, &chosen, budget));

    if args.json {
        print_json(&measured, threads);
    } else {
        print_table(&measured, threads);
    }
    let full = measured.peak.full_threads();
    if full < FULL * threads as f64 {
        let line = "together are as fast as";
        note(&format!(
            "{threads} threads {line} {full:.1} of one alone: they share cores, or something else had some of them"
        ));
    }
    if let Some(path) = &args.svg {
        let title = format!("{}, {}", cpu_name(), threads_of(isa, threads));
        let points: Vec<Point> = measured.rows.iter().map(Point::from).collect();
        let roof = Roof { title, peaks: &measured.peaks, levels: &measured.levels, points: &points };
        plot::roofline_svg(path, &roof).map_err(Failure::new)?;
    }
    let Some(limits) = limits else { return Ok(0) };
    if !measured.peak.trusted() {
        let line = "no limit can be held against a peak that is not trusted: something else had the core";
        return Err(Failure::new(format!("{line} (ratio {:.2})", measured.peak.ratio)));
    }
    let missed = limits.missed(&measured.rows);
    for line in &missed {
        note(line);
    }
    Ok(if missed.is_empty() { 0 } else { 1 })
}

/// The share of a thread alone that each of many has at least: clocks fall a little when all cores work.
const FULL: f64 = 0.7;

/// Seconds for a kernel that are no mistake.
const MOST_SECONDS: f64 = 3600.0;

/// The kernels; naive attention and the training step only where a word begins no other.
fn chosen(only: Option<&str>) -> Result<Vec<Case>, Failure> {
    let mut all: Vec<(Case, bool)> = cases::all().into_iter().map(|case| (case, false)).collect();
    let apart = |name: &str| ["attention_naive", "train_step"].iter().any(|apart| name.starts_with(apart));
    for word in only.unwrap_or_default().split(',').map(str::trim) {
        let begun = |case: &Case| case.name.starts_with(word);
        let usual = all.iter().any(|(case, _)| begun(case) && !apart(&case.name));
        if (word.is_empty() && only.is_some()) || !all.iter().any(|(case, _)| begun(case)) {
            let limit = "must begin a kernel's name: matmul, attention, rowwise, adamw, train_step, …";
            return Err(Failure::usage(format!("only = {word}: {limit}")));
        }
        for (case, asked) in &mut all {
            *asked |= begun(case) && (!usual || !apart(&case.name));
        }
    }
    Ok(all.into_iter().filter(|(_, asked)| *asked).map(|(case, _)| case).collect())
}

/// Refuses what takes more memory than there is: a case's own bytes, and the stream beside it.
fn fits(chosen: &[Case]) -> Result<(), Failure> {
    let Some(largest) = chosen.iter().max_by(|a, b| a.bytes.total_cmp(&b.bytes)) else { return Ok(()) };
    let needed = largest.bytes as u64 + beyond_caches() as u64;
    check_memory(format!("measuring {}", largest.name), needed)
}

struct Measured {
    /// Of the instruction set whose kernels ran, the best window of all.
    peak: Peak,
    /// Of every instruction set.
    peaks: Vec<Peak>,
    levels: Vec<Level>,
    rows: Vec<Row>,
}

impl Measured {
    /// Whether a share of the peak says anything: the instruction set has multiply-adds whose ratio is known.
    fn has_shares(&self) -> bool {
        !known_ports_and_latency(self.peak.isa).is_empty()
    }
}

fn measure(ctx: &Ctx, chosen: &[Case], budget: Duration) -> Measured {
    let counter = Counter::new(chosen.len() as u64 + 1);
    counter.next("peaks and bandwidths");
    let mut peaks: Vec<Peak> = Isa::available().into_iter().map(Peak::measure).collect();
    let levels = roofline::levels(ctx.isa());
    let own = peaks.iter_mut().find(|p| p.isa == ctx.isa()).expect("the chosen instruction set is available");
    let rows;
    (own.flops, rows) = roofline::rows(ctx, chosen, budget, own.flops, |case| counter.next(&case.name));
    counter.finish();
    Measured { peak: *own, peaks, levels, rows }
}

/// The CPU's name, or its architecture's.
pub fn cpu_name() -> String {
    let name = Cpu::detect().name;
    if name.is_empty() { std::env::consts::ARCH.into() } else { name }
}

/// "avx2, 2 threads".
pub fn threads_of(isa: Isa, threads: usize) -> String {
    format!("{isa}, {threads} {}", if threads == 1 { "thread" } else { "threads" })
}

fn print_table(m: &Measured, threads: usize) {
    print_line(&format!("{}: {}\n", cpu_name(), threads_of(m.peak.isa, threads)));
    print_line(&format!("{:<12}{:>10}   {}", "peak", "GFLOP/s", "independent over dependent chains: ports × latency"));
    for p in &m.peaks {
        let trust = match (p.ports_and_latency(), known_ports_and_latency(p.isa)) {
            (Some((ports, latency)), _) => format!("{ports} × latency {latency}"),
            (None, [(ports, latency), ..]) => format!("not near {}: not trusted", ports * latency),
            (None, []) => "no multiply-add instruction: not trusted".into(),
        };
        print_line(&format!("{:<12}{:>10.1}   {:.2}, {trust}", p.isa.to_string(), p.flops / 1e9, p.ratio));
    }
    print_line(&format!("\n{:<12}{:>10}{:>12}{:>14}", "bandwidth", "footprint", "GB/s read", "GB/s written"));
    for l in &m.levels {
        let footprint = human_bytes(l.bytes as u64);
        print_line(&format!("{:<12}{footprint:>10}{:>12.1}{:>14.1}", l.name, l.read / 1e9, l.write / 1e9));
    }
    let known = m.has_shares();
    let (isa, head) = (m.peak.isa.to_string(), ["ms", "GFLOP/s", "GB/s", "of peak", "bound", "of bound"]);
    let [ms, gflops, gb_s, of_peak, bound, of_bound] = head;
    print_line(&format!("\n{isa:<46}{ms:>10}{gflops:>9}{gb_s:>8}{of_peak:>9}{bound:>7}{of_bound:>10}"));
    for r in &m.rows {
        let (gflops, gb_s) = match r.quoted {
            Quoted::Flops => (format!("{:.1}", r.gflops()), String::new()),
            Quoted::Bytes => (String::new(), format!("{:.1}", r.gb_s())),
        };
        let share = |share: f64| if known { format!("{share:.3}") } else { "–".into() };
        let of_peak = if gflops.is_empty() { String::new() } else { share(r.of_peak) };
        let (name, ms, of_bound) = (&r.name, r.ms(), share(r.of_bound()));
        let bound = if known { r.bound.name() } else { "–" };
        print_line(&format!("{name:<46}{ms:>10.4}{gflops:>9}{gb_s:>8}{of_peak:>9}{bound:>7}{of_bound:>10}"));
    }
    print_line("\nbound: the multiply-adds, or a stream of the kernel's own reads and writes at its own footprint");
}

fn print_json(m: &Measured, threads: usize) {
    for p in &m.peaks {
        print_line(
            &json!({"name": format!("peak/{}", p.isa), "threads": threads, "gflops": rounded(p.flops / 1e9, 1e2),
                "ratio": rounded(p.ratio, 1e2), "one_thread_gflops": rounded(p.alone / 1e9, 1e2), "trusted": p.trusted()})
            .to_string(),
        );
    }
    for l in &m.levels {
        print_line(
            &json!({"name": format!("bandwidth/{}", l.name), "threads": threads, "bytes": l.bytes,
                "read_gb_s": rounded(l.read / 1e9, 1e2), "write_gb_s": rounded(l.write / 1e9, 1e2)})
            .to_string(),
        );
    }
    let known = m.has_shares();
    for r in &m.rows {
        let share = |share: f64| known.then(|| rounded(share, 1e4));
        print_line(
            &json!({"name": r.name, "isa": m.peak.isa.to_string(), "threads": threads, "ms": rounded(r.ms(), 1e4),
                "gflops": rounded(r.gflops(), 1e2), "gb_s": rounded(r.gb_s(), 1e2), "of_peak": share(r.of_peak),
                "bound": known.then(|| r.bound.name()), "of_bound": share(r.of_bound()), "trusted": m.peak.trusted()})
            .to_string(),
        );
    }
}

/// To the next 1/`per`.
pub fn rounded(x: f64, per: f64) -> f64 {
    (x * per).round() / per
}
