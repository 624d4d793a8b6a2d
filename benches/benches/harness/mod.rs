//! Criterion over the cases of the table: every ISA of this machine, one thread and as many as cores are granted.

use criterion::{Criterion, Throughput};
use longhand_measure::{cases, peak, pool, thread_counts};
use longhand_tensor::{Ctx, Isa, parallel};
use std::time::Duration;

/// Benches the cases whose names begin with one of `prefixes` and prints the peak of each ISA first.
pub fn run(prefixes: &[&str]) {
    let mut criterion = Criterion::default().configure_from_args();
    for isa in Isa::available() {
        let ratio = peak::alone(isa, 20).ratio;
        let trust = if peak::ports_and_latency(isa, ratio).is_some() { "trusted" } else { "UNTRUSTED" };
        for threads in thread_counts() {
            let best = pool(threads).install(|| peak::best_fma_window(isa, 20));
            println!("peak {isa}/{threads}: {:.1} GFLOP/s, independent/dependent {ratio:.2} ({trust})", best / 1e9);
        }
    }
    for case in cases::named(prefixes) {
        let mut group = criterion.benchmark_group(case.name.as_str());
        group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
        group.throughput(match case.quoted {
            cases::Quoted::Flops => Throughput::Elements(case.flops as u64),
            cases::Quoted::Bytes => Throughput::Bytes(case.bytes as u64),
        });
        for isa in Isa::available() {
            for threads in thread_counts() {
                let pool = pool(threads);
                group.bench_function(format!("{isa}/{threads}"), |b| {
                    let (ctx, mut run) = (pool.install(|| Ctx::new(isa)), (case.build)());
                    // As inside a step: the pool's threads are awake when a kernel begins.
                    b.iter(|| pool.install(|| parallel::enter(&ctx, || run(&ctx))));
                });
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
