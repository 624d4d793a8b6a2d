//! From plain loops to the kernels: what each step is worth on this machine, on one thread. The steps stand in
//! `benches/src/steps`, the book's chapters on matmul and attention explain them.
//!
//! `cargo bench --bench steps`, a minute and a half. A step with * does some of the rows, or one of the heads, and its
//! time is that of all.

use longhand_benches::steps::attention::{self, Shape};
use longhand_benches::steps::tile_loop::measure_tile_loop;
use longhand_benches::steps::{matmul, measure};
use longhand_measure::peak::{alone, ports_and_latency};
use longhand_measure::pool;
use longhand_tensor::Ctx;

/// Rows of C that the steps without tiles compute.
const SLOW: usize = 64;

const ROUNDS: usize = 9;

fn main() {
    pool(1).install(|| {
        let ctx = Ctx::default();
        let ratio = alone(ctx.isa(), 20).ratio;
        let trust = if ports_and_latency(ctx.isa(), ratio).is_some() { "trusted" } else { "UNTRUSTED" };
        println!("{}, one thread; independent over dependent chains {ratio:.2} ({trust})", ctx.isa());
        for [m, n, k] in [[256, 768, 768], [1024, 1024, 1024]] {
            let mut bench = matmul::Bench::new([m, n, k]);
            let (title, flops) = (format!("matmul {m}x{n}x{k}"), bench.flops());
            measure(&title, ctx.isa(), flops, ROUNDS, bench.steps(&ctx, SLOW));
            bench.check(&ctx, SLOW);
        }
        measure_tile_loop(ctx.isa(), 60);
        for (t, first) in [(512, 0), (1024, 2)] {
            let mut bench = attention::Bench::new(Shape { t, heads: 12, hs: 64 });
            let (title, flops) = (format!("attention b1h12t{t}d64"), bench.flops());
            measure(&format!("{title}, forward"), ctx.isa(), flops, ROUNDS, bench.forward(&ctx, first));
            measure(&format!("{title}, backward"), ctx.isa(), 2.5 * flops, ROUNDS, bench.backward(&ctx));
            bench.check(first);
        }
    });
}
