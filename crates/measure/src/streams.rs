//! Streams through memory: what loads and stores alone reach, at any footprint.
//!
//! A kernel that is bound by memory is compared with a stream of its own kind: as many slices read and written, as many
//! bytes, and so the same cache. Every thread has slices of its own, allocated and first written by itself.

use crate::caches::caches;
use longhand_tensor::Isa;
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// What a pass does to its slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// One slice read: a sum.
    Read,
    /// One slice written.
    Write,
    /// b ← a.
    Copy,
    /// c ← a + b.
    Add,
    /// c, d ← a + b.
    AddTwice,
    /// p, m, v ← p + g, m + g, v + g: four read, three of them written, as AdamW does.
    Update,
}

impl Traffic {
    /// Slices in memory.
    fn slices(self) -> usize {
        match self {
            Traffic::Read | Traffic::Write => 1,
            Traffic::Copy => 2,
            Traffic::Add => 3,
            Traffic::AddTwice | Traffic::Update => 4,
        }
    }

    /// Slices read and slices written: what a pass moves.
    fn moves(self) -> usize {
        match self {
            Traffic::Update => 7,
            _ => self.slices(),
        }
    }
}

/// Some traffic in memory of its own, for the threads of the pool that made it.
pub struct Stream {
    traffic: Traffic,
    /// The slices of each thread.
    parts: Vec<Vec<Vec<f32>>>,
    passes: usize,
}

/// A footprint that this CPU's caches do not hold: a stream of more bytes moves no slower. 256 MiB, or four times the
/// last cache.
pub fn beyond_caches() -> usize {
    let largest = caches().last().map_or(0, |c| c.bytes);
    (256 << 20).max(4 * largest)
}

/// Least bytes of a window: below this its start would weigh more than 1%.
const WINDOW: usize = 8 << 20;

impl Stream {
    /// Slices whose pass moves about `bytes` in all, shared among the threads of the current pool.
    pub fn new(traffic: Traffic, bytes: usize) -> Self {
        let threads = rayon::current_num_threads();
        let len = (bytes / 4 / traffic.moves() / threads).next_multiple_of(STEP).max(STEP);
        // Written here: an untouched page is not read from memory.
        let part = |_| (0..traffic.slices()).map(|_| vec![1.0f32; len]).collect();
        let parts = (0..threads).into_par_iter().with_max_len(1).map(part).collect();
        let pass = len * threads * traffic.moves() * 4;
        Stream { traffic, parts, passes: WINDOW.div_ceil(pass) }
    }

    /// One window: bytes a second, each slice's reading and writing counted once a pass.
    pub fn window(&mut self, isa: Isa) -> f64 {
        let (traffic, passes) = (self.traffic, self.passes);
        let moved = self.parts.iter().map(|p| p[0].len()).sum::<usize>() * traffic.moves() * 4 * passes;
        let began = Instant::now();
        self.parts.par_iter_mut().with_max_len(1).for_each(|slices| {
            black_box(dispatch_on(isa, Pass { traffic, passes, slices }));
        });
        moved as f64 / began.elapsed().as_secs_f64()
    }

    /// The best of `windows`.
    pub fn best(&mut self, isa: Isa, windows: usize) -> f64 {
        (0..windows).map(|_| self.window(isa)).fold(0.0, f64::max)
    }
}

/// Floats of a step: four vectors.
const STEP: usize = 4 * LANES;

/// The passes of one thread.
struct Pass<'a> {
    traffic: Traffic,
    passes: usize,
    slices: &'a mut [Vec<f32>],
}

impl Kernel for Pass<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.zero(); 4];
        for _ in 0..self.passes {
            match (self.traffic, &mut *black_box(&mut *self.slices)) {
                (Traffic::Read, [a]) => {
                    for xs in a.chunks_exact(STEP) {
                        for i in 0..4 {
                            sums[i] = s.add(sums[i], s.load(&xs[i * LANES..]));
                        }
                    }
                }
                (Traffic::Write, [a]) => {
                    // No constant: a loop that stores one may become `memset`, which goes around the caches.
                    let x = s.splat(black_box(2.0));
                    for ys in a.chunks_exact_mut(LANES) {
                        s.store(ys, x);
                    }
                }
                (Traffic::Copy, [a, b]) => {
                    for (ys, xs) in b.chunks_exact_mut(LANES).zip(a.chunks_exact(LANES)) {
                        s.store(ys, s.load(xs));
                    }
                }
                (Traffic::Add, [a, b, c]) => {
                    let inputs = a.chunks_exact(LANES).zip(b.chunks_exact(LANES));
                    for (zs, (xs, ys)) in c.chunks_exact_mut(LANES).zip(inputs) {
                        s.store(zs, s.add(s.load(xs), s.load(ys)));
                    }
                }
                (Traffic::AddTwice, [a, b, c, d]) => {
                    let inputs = a.chunks_exact(LANES).zip(b.chunks_exact(LANES));
                    let outputs = c.chunks_exact_mut(LANES).zip(d.chunks_exact_mut(LANES));
                    for ((zs, ws), (xs, ys)) in outputs.zip(inputs) {
                        let sum = s.add(s.load(xs), s.load(ys));
                        s.store(zs, sum);
                        s.store(ws, sum);
                    }
                }
                (Traffic::Update, [p, m, v, g]) => {
                    let written = p.chunks_exact_mut(LANES).zip(m.chunks_exact_mut(LANES));
                    let written = written.zip(v.chunks_exact_mut(LANES));
                    for (((ps, ms), vs), gs) in written.zip(g.chunks_exact(LANES)) {
                        let g = s.load(gs);
                        for xs in [ps, ms, vs] {
                            s.store(xs, s.add(s.load(xs), g));
                        }
                    }
                }
                (traffic, slices) => unreachable!("{traffic:?} of {} slices", slices.len()),
            }
        }
        s.reduce_add(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_flows_on_every_isa() {
        use Traffic::{Add, AddTwice, Copy, Read, Update, Write};
        for isa in Isa::available() {
            for traffic in [Read, Write, Copy, Add, AddTwice, Update] {
                for bytes in [1, 1 << 20] {
                    let mut stream = Stream::new(traffic, bytes);
                    let rate = stream.window(isa);
                    assert!(rate.is_finite() && rate > 0.0, "{isa} {traffic:?} {bytes}: {rate}");
                    let last = stream.parts[0].last().unwrap().last().copied().unwrap();
                    let expected = match traffic {
                        Read | Copy | Update => 1.0,
                        Write | Add | AddTwice => 2.0,
                    };
                    assert_eq!(last, expected, "{isa} {traffic:?}");
                }
            }
        }
    }
}
