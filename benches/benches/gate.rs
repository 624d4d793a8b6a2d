//! The gate on the causal attention: its time over the time of as many multiply-adds, held to `gate.toml`.
//!
//! ```text
//! ratio    time of the fused attention, 12 heads of 64 channels, over time of the baseline of as many operations
//! peak     the baseline is multiply-adds on registers: what is lost against the core itself
//! matmul   the baseline is a packed product that reads a weight again and again: what is lost against code with loads
//! ```
//!
//! A ratio of two times taken beside each other needs no clock rate, no quiet machine and no stored time of another
//! one. What makes it steady on a machine that others use:
//!
//! - One thread, and the time that the thread had its core for, not the time that passed. A process that takes the core
//!   away takes nothing from either side then. (Where the system has no such clock, the time that passed.)
//! - Half of the baseline before the attention and half after it: a clock rate that drifts drifts for both, and a
//!   straight drift cancels. A round lasts half a millisecond to 0.2 s, less than such changes take.
//! - A sample is the median of its rounds and the estimate the median of the samples. A disturbance is one-sided, it
//!   makes a side slow and never fast, and moves a mean and a least value in whichever side it meets; medians stand
//!   while fewer than half of the rounds are disturbed.
//! - The samples of a case are taken in rounds through all cases: a disturbance of some seconds meets a part of them.
//! - The interval is Criterion's, of the median, by resampling the samples of all rounds.
//!
//! What no statistic takes away: a neighbour that stays, on the other hardware thread of the core or in the shared
//! cache. Multiply-adds on registers do not feel it, attention does: its ratio over `peak` has been seen 30% higher
//! beside compilers. The product feels it too, about as much, so `matmul` is the sharp limit; `peak` is a blunt one,
//! there for what slows the product and the attention alike, who share their innermost loop.
//!
//! `cargo bench --bench gate` exits with 1 when a case is refused and with 2 when nothing could be decided.

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, SamplingMode, Throughput};
use longhand_benches::gate::{BASELINES, CASES, Decision, ISAS, Interval, Limits, cpu_name, decide};
use longhand_measure::cases::{self, Run};
use longhand_measure::sampling::median;
use longhand_measure::{peak, pool};
use longhand_tensor::{Ctx, Isa};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gate.toml");

/// M, N, K of the product that is one unit of the baseline. W, 0.75 MiB read for 32 rows, is to the caches what the
/// keys and values of a head are: more than Zen 3's L2, less than Sapphire Rapids'.
const UNIT: [usize; 3] = [32, 256, 768];

/// Operations of one unit, of either baseline.
const UNIT_FLOPS: usize = 2 * UNIT[0] * UNIT[1] * UNIT[2];

/// The least time of a sample: hundreds of rounds of the short cases.
const SAMPLE: Duration = Duration::from_millis(100);

/// A ratio of two times.
struct Ratio;

impl Measurement for Ratio {
    type Intermediate = ();
    type Value = f64;

    fn start(&self) {}

    fn end(&self, (): ()) -> f64 {
        unreachable!("both times of a ratio are taken in iter_custom")
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Times
    }
}

/// Ratios are printed as they are, "1.42 x".
struct Times;

impl ValueFormatter for Times {
    fn scale_values(&self, _: f64, _: &mut [f64]) -> &'static str {
        "x"
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, _: &mut [f64]) -> &'static str {
        "x"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "x"
    }
}

/// Seconds that the calling thread has had a core for.
#[cfg(unix)]
fn seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Seconds that have passed since the first call.
#[cfg(not(unix))]
fn seconds() -> f64 {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

/// Time for which a case runs unmeasured before its samples of a round.
const WARM_UP: Duration = Duration::from_millis(300);

/// The two sides of a ratio.
struct Sides {
    ctx: Ctx,
    attention: Run,
    unit: Run,
    /// Units of the baseline before the attention, and after it.
    units: [usize; 2],
}

impl Sides {
    fn new(isa: Isa, case: &cases::Case, over: &str) -> Self {
        let unit: Run = match over {
            "peak" => Box::new(|ctx| peak::multiply_adds(ctx.isa(), UNIT_FLOPS)),
            _ => (cases::linear(UNIT[0], UNIT[1], UNIT[2], true).build)(),
        };
        let units = case.flops as usize / UNIT_FLOPS;
        assert_eq!(units * UNIT_FLOPS, case.flops as usize, "{}: as many operations on both sides", case.name);
        Sides {
            ctx: Ctx::new(isa).with_threads(1),
            attention: (case.build)(),
            unit,
            units: [units / 2, units.div_ceil(2)],
        }
    }

    /// One round: time of the attention over time of the baseline around it.
    fn ratio(&mut self) -> f64 {
        let t0 = seconds();
        (0..self.units[0]).for_each(|_| (self.unit)(&self.ctx));
        let t1 = seconds();
        (self.attention)(&self.ctx);
        let t2 = seconds();
        (0..self.units[1]).for_each(|_| (self.unit)(&self.ctx));
        (t2 - t1) / ((t1 - t0) + (seconds() - t2))
    }

    /// Rounds until the core runs as it will; how many of them fill a sample, two at least.
    fn warm_up(&mut self) -> usize {
        let (began, mut rounds) = (Instant::now(), 0);
        while began.elapsed() < WARM_UP {
            self.ratio();
            rounds += 1;
        }
        (SAMPLE.as_secs_f64() / began.elapsed().as_secs_f64() * f64::from(rounds)).ceil().max(2.0) as usize
    }

    /// The median of `n` rounds.
    fn median(&mut self, n: usize) -> f64 {
        median((0..n).map(|_| self.ratio()).collect())
    }
}

/// Where Criterion writes, by this program's word and not by its guess.
fn output() -> PathBuf {
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("target/tmp lies in target").join("criterion")
}

/// One ratio that is gated, and its samples.
struct Gated {
    isa: Isa,
    case: &'static str,
    /// What follows `attention_` in the name of its case.
    suffix: &'static str,
    over: &'static str,
    limit: f64,
    /// Rounds of every sample, once the case is warm for the first time.
    rounds: Option<usize>,
    samples: Vec<f64>,
}

impl Gated {
    /// One bench of Criterion with `samples` samples, those of earlier rounds and as many new ones as are missing; `None`
    /// where the command line leaves it out.
    fn measure(&mut self, samples: usize, confidence: f64) -> Result<Option<Interval>, String> {
        let dir = output();
        let (group, function) = (format!("gate_{}_{}", self.isa.name(), self.case), format!("over_{}", self.over));
        let estimates = dir.join(&group).join(&function).join("new/estimates.json");
        if estimates.exists() {
            std::fs::remove_file(&estimates).map_err(|e| format!("{}: {e}", estimates.display()))?;
        }
        let attention = cases::named(&[&format!("attention_{}", self.suffix)]).swap_remove(0);
        let mut sides = Sides::new(self.isa, &attention, self.over);
        let thread = pool(1);
        let mut criterion = Criterion::default().with_measurement(Ratio).configure_from_args().output_directory(&dir);
        let mut bench = criterion.benchmark_group(&group);
        bench.sampling_mode(SamplingMode::Flat).sample_size(samples).measurement_time(SAMPLE * samples as u32);
        bench.confidence_level(confidence).nresamples(20_000);
        // Criterion's own warm-up is one call; its samples are the calls after it.
        bench.warm_up_time(Duration::from_nanos(1));
        let mut calls = 0;
        bench.bench_function(&function, |b| {
            if calls == 0 {
                let rounds = thread.install(|| sides.warm_up());
                self.rounds.get_or_insert(rounds);
            }
            b.iter_custom(|n| {
                let mut sample = || thread.install(|| sides.median(self.rounds.unwrap_or(2)));
                let ratio = match calls {
                    0 => sample(),
                    _ if calls <= self.samples.len() => self.samples[calls - 1],
                    _ => {
                        self.samples.push(sample());
                        self.samples[calls - 1]
                    }
                };
                calls += 1;
                // What Criterion takes for n rounds is one sample, whatever n: it divides by n.
                n as f64 * ratio
            });
        });
        bench.finish();
        match estimates.exists() {
            false => Ok(None),
            true if self.samples.len() == samples => Interval::read(&estimates).map(Some),
            true => Err(format!("{group}/{function}: {} samples, not {samples} (--quick?)", self.samples.len())),
        }
    }
}

/// A line of the report.
struct Row {
    name: String,
    limit: f64,
    decision: Decision,
}

fn run(limits: &Limits, cpu: &str) -> Result<Vec<Row>, String> {
    let mut gated = Vec::new();
    for name in ISAS {
        let Some(isa) = Isa::available().into_iter().find(|isa| isa.name() == name) else { continue };
        let of = limits.name(cpu, name);
        for (case, suffix) in CASES {
            for over in BASELINES {
                let limit = limits.of(of, name, case, over);
                gated.push(Gated { isa, case, suffix, over, limit, rounds: None, samples: Vec::new() });
            }
        }
    }
    let each: Vec<f64> = gated.iter().map(|gated| gated.limit).collect();
    let decisions = decide(&each, limits.rounds, |at, samples| gated[at].measure(samples, limits.rounds.confidence))?;
    let row = |(Gated { isa, case, over, limit, .. }, decision): (&Gated, Option<Decision>)| {
        Some(Row { name: format!("{}/{case} over {over}", isa.name()), limit: *limit, decision: decision? })
    };
    Ok(gated.iter().zip(decisions).filter_map(row).collect())
}

/// How many times faster the fused attention is than the naive one: for the reader, no verdict rests on it.
fn naive_over_fused(isa: Isa, suffix: &str) -> f64 {
    let ctx = Ctx::new(isa).with_threads(1);
    let [mut fused, mut naive] =
        ["attention", "attention_naive"].map(|kind| (cases::named(&[&format!("{kind}_{suffix}")])[0].build)());
    let mut ratio = || {
        let t0 = seconds();
        fused(&ctx);
        let t1 = seconds();
        naive(&ctx);
        (seconds() - t1) / (t1 - t0)
    };
    ratio();
    median((0..5).map(|_| ratio()).collect())
}

fn report(rows: &[Row], limits: &Limits, cpu: &str) {
    let confidence = limits.rounds.confidence;
    println!(
        "{:<42} {:>7} {:>7}   {:<16} {:>7}",
        "case",
        "limit",
        "ratio",
        format!("{confidence} interval"),
        "samples"
    );
    for Row { name, limit, decision: Decision { verdict, interval, samples } } in rows {
        let (ends, verdict) = (format!("{:.3} to {:.3}", interval.lower, interval.upper), verdict.text());
        println!("{name:<42} {limit:>7.3} {:>7.3}   {ends:<16} {samples:>7}   {verdict}", interval.median);
    }
    for name in ISAS {
        let Some(isa) = Isa::available().into_iter().find(|isa| isa.name() == name) else {
            println!("{name}: not run: this CPU has none");
            continue;
        };
        println!("{name}: the limits of {:?}, this CPU being {cpu:?}", limits.name(cpu, name));
        for (case, suffix) in CASES {
            if rows.iter().any(|row| row.name.starts_with(&format!("{name}/{case} "))) {
                let times = pool(1).install(|| naive_over_fused(isa, suffix));
                println!("{name}/{case}: {times:.2} times as fast as the naive attention (not gated)");
            }
        }
    }
}

fn main() -> ExitCode {
    let read = std::fs::read_to_string(FILE).map_err(|e| e.to_string());
    let cpu = cpu_name(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    let measured = match read.and_then(|text| Limits::parse(&text)) {
        Err(fault) => Err(format!("{FILE}: {fault}")),
        Ok(limits) => run(&limits, &cpu).map(|rows| (limits, rows)),
    };
    let (limits, rows) = match measured {
        Ok(measured) => measured,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    report(&rows, &limits, &cpu);
    let refused = rows.iter().filter(|row| !row.decision.verdict.passes()).count();
    let available = Isa::available().iter().any(|isa| ISAS.contains(&isa.name()));
    // Without --bench Criterion runs each bench once, to see that it runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    if refused > 0 {
        println!("gate: REFUSED: {refused} of {} ratios", rows.len());
        ExitCode::FAILURE
    } else if !rows.is_empty() {
        println!("gate: accepted: {} ratios", rows.len());
        ExitCode::SUCCESS
    } else if available && measuring {
        println!("gate: nothing was measured");
        ExitCode::from(2)
    } else {
        println!("gate: not run");
        ExitCode::SUCCESS
    }
}
