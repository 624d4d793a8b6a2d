//! Criterion over the cases of the table: every ISA of this machine, one thread and as many as cores are granted.

use criterion::{Criterion, Throughput};
use longhand_measure::{cases, peak, pool};
use longhand_tensor::{Ctx, Isa};
use std::time::Duration;

/// One thread, and one for each core that the process may use by its affinity and its cgroup's quota.
fn threads() -> Vec<usize> {
    let granted = std::thread::available_parallelism().map_or(1, usize::from);
    if granted > 1 { vec![1, granted] } else { vec![1] }
}

/// Benches the cases whose names begin with one of `prefixes` and prints the peak of each ISA first.
pub fn run(prefixes: &[&str]) {
    let mut criterion = Criterion::default().configure_from_args();
    for isa in Isa::available() {
        let ratio = peak::ports_times_latency(isa, 20);
        let trust = if peak::is_trusted(ratio) { "trusted" } else { "UNTRUSTED" };
        for threads in threads() {
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
            for threads in threads() {
                let pool = pool(threads);
                group.bench_function(format!("{isa}/{threads}"), |b| {
                    let (ctx, mut run) = (pool.install(|| Ctx::new(isa)), (case.build)());
                    b.iter(|| pool.install(|| run(&ctx)));
                });
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
