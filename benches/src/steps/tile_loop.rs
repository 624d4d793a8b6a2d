//! The limit of a matmul: the loads and multiply-adds of its tiles and nothing else. No packing, no C to read, no edges, no
//! threads; what it lacks of the peak loop is what caches and neighbours take from any tile of this shape.

use super::numbers;
use longhand_measure::peak::fma_window;
use longhand_measure::sampling::median;
use longhand_tensor::Isa;
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use std::hint::black_box;
use std::time::Instant;

/// Tiles of `ROWS` × `PANELS` vectors: A packed [tile][kc][ROWS], one strip of B [kc][16·PANELS] for all of them.
struct TileLoop<'a, const ROWS: usize, const PANELS: usize> {
    a: &'a [f32],
    b: &'a [f32],
    kc: usize,
    out: &'a mut [[[f32; LANES]; PANELS]; ROWS],
}

impl<const ROWS: usize, const PANELS: usize> Kernel for TileLoop<'_, ROWS, PANELS> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(self.b.len(), self.kc * PANELS * LANES);
        for tile in self.a.chunks_exact(self.kc * ROWS) {
            let mut acc = [[s.zero(); PANELS]; ROWS];
            let (mut a, mut b) = (tile.as_ptr(), self.b.as_ptr());
            for _ in 0..self.kc {
                // SAFETY: step k of kc: ROWS floats of the tile, PANELS vectors of B's checked length.
                unsafe {
                    let mut x = [s.zero(); PANELS];
                    for v in 0..PANELS {
                        x[v] = s.load_ptr(b.add(v * LANES));
                    }
                    for i in 0..ROWS {
                        let y = s.splat(*a.add(i));
                        for v in 0..PANELS {
                            acc[i][v] = s.mul_add(y, x[v], acc[i][v]);
                        }
                    }
                    (a, b) = (a.add(ROWS), b.add(PANELS * LANES));
                }
            }
            for i in 0..ROWS {
                for v in 0..PANELS {
                    s.store(&mut self.out[i][v], acc[i][v]);
                }
            }
        }
    }
}

/// Prints the loop's share of the peak, for A in the L2 and in the L3: its windows and those of the peak loop in turn.
/// Tiles and depths are those of `matmul` on AVX2 and AVX-512; on other instruction sets nothing is printed.
pub fn measure_tile_loop(isa: Isa, rounds: usize) {
    match isa.name() {
        "avx512" => windows::<14, 2>(isa, rounds, [(256, 252), (768, 168), (512, 504), (768, 1512)]),
        "avx2" => windows::<6, 1>(isa, rounds, [(256, 264), (384, 264), (384, 528), (384, 2112)]),
        _ => {}
    }
}

/// `n` floats of `xs`, which has 16 more, from the first cache line that begins there: as packed operands stand.
fn aligned(xs: &[f32], n: usize) -> &[f32] {
    &xs[xs.as_ptr().align_offset(64)..][..n]
}

fn windows<const ROWS: usize, const PANELS: usize>(isa: Isa, rounds: usize, cases: [(usize, usize); 4]) {
    let operands = cases.map(|(kc, rows)| {
        assert!(rows.is_multiple_of(ROWS), "whole tiles");
        (numbers(1, kc * rows + LANES), numbers(2, kc * PANELS * LANES + LANES))
    });
    let mut out = [[[0.0; LANES]; PANELS]; ROWS];
    let (mut peak, mut rates) = (vec![], cases.map(|_| vec![]));
    for _ in 0..rounds {
        for (((kc, rows), (a, b)), rates) in cases.into_iter().zip(&operands).zip(&mut rates) {
            peak.push(fma_window(isa));
            let (a, b) = (aligned(a, kc * rows), aligned(b, kc * PANELS * LANES));
            let flops = 2 * kc * rows * PANELS * LANES;
            // About as many operations as in a window of the peak loop.
            let times = 30_000_000 / flops + 1;
            let began = Instant::now();
            for _ in 0..times {
                dispatch_on(isa, TileLoop::<ROWS, PANELS> { a, b, kc, out: &mut out });
                black_box(&mut out);
            }
            rates.push((times * flops) as f64 / began.elapsed().as_secs_f64());
        }
    }
    let best = |xs: &[f64]| xs.iter().copied().fold(0.0, f64::max);
    let roof = best(&peak);
    println!(
        "\nthe tile loop alone, {ROWS} × {}: of the best peak window of {:.1} GFLOP/s",
        PANELS * LANES,
        roof / 1e9
    );
    println!("{:<44}{:>10}{:>10}", "", "best", "median");
    println!("{:<44}{:>10.3}{:>10.3}", "multiply-adds on registers", 1.0, median(peak) / roof);
    for ((kc, rows), rates) in cases.into_iter().zip(rates) {
        let (panel, block) = (kc * PANELS * LANES * 4 / 1024, kc * rows * 4 / 1024);
        let name = format!("kc {kc}: B {panel} KiB, A {block} KiB");
        println!("{name:<44}{:>10.3}{:>10.3}", best(&rates) / roof, median(rates) / roof);
    }
}
