//! The peak of multiply-adds, measured in the process that measures the kernels.
//!
//! The peak is the rate of multiply-adds on registers alone, in chains that do not wait for each other. One chain
//! waits for itself: it runs at 1/latency. So independent over dependent is ports × latency, whatever the clock does: 8 on
//! Intel servers and on Zen 2 and later, 10 for AVX2 on Haswell and Broadwell, 4 for AVX-512 where one port has it. Another
//! ratio says that the loop was not what it should be, or that something else had the core, and the peak is marked
//! untrusted. Without a multiply-add instruction no such number is known, and nothing is trusted.

use longhand_tensor::Isa;
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// `N` chains of acc ← acc·x + y, `steps` long, on registers.
struct Chains<const N: usize> {
    steps: usize,
}

impl<const N: usize> Kernel for Chains<N> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        // Converges to y / (1 − x) = 2: neither overflow nor a denormal slows a step.
        let (x, y) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
        let mut acc = [s.zero(); N];
        for i in 0..N {
            acc[i] = s.splat(black_box(i as f32));
        }
        for _ in 0..self.steps {
            for i in 0..N {
                acc[i] = s.mul_add(acc[i], x, y);
            }
        }
        let mut sum = s.zero();
        for a in acc {
            sum = s.add(sum, a);
        }
        s.reduce_add(sum)
    }
}

/// Vectors of 16 whose chains fill the registers: 24 zmm, 12 ymm, or 12 xmm.
fn independent(isa: Isa, steps: usize) -> (usize, f32) {
    match isa.name() {
        "avx512" => (24, dispatch_on(isa, Chains::<24> { steps })),
        "avx2" => (6, dispatch_on(isa, Chains::<6> { steps })),
        _ => (3, dispatch_on(isa, Chains::<3> { steps })),
    }
}

/// At most `flops` operations of the peak loop on the calling thread, less than one step short of it.
pub fn multiply_adds(isa: Isa, flops: usize) {
    let (vectors, _) = independent(isa, 0);
    black_box(independent(isa, flops / (vectors * LANES * 2)));
}

/// Registers that one vector of 16 takes: so many chains run in a "single" one.
fn registers(isa: Isa) -> usize {
    match isa.name() {
        "avx512" => 1,
        "avx2" => 2,
        _ => 4,
    }
}

/// One window of the peak loop on every thread of the current pool: floating-point operations a second.
pub fn fma_window(isa: Isa) -> f64 {
    const STEPS: usize = 40_000;
    let began = Instant::now();
    let vectors = rayon::broadcast(|_| {
        let (vectors, sum) = independent(isa, STEPS);
        black_box(sum);
        vectors
    });
    let flops: f64 = vectors.iter().map(|v| (v * LANES * 2 * STEPS) as f64).sum();
    flops / began.elapsed().as_secs_f64()
}

/// The best of `windows`.
pub fn best_fma_window(isa: Isa, windows: usize) -> f64 {
    (0..windows).map(|_| fma_window(isa)).fold(0.0, f64::max)
}

/// The best of at least 20 windows and of 100 ms of them: a whole slice of whatever else runs on a core lasts milliseconds, in
/// which all of 20 windows may find one thread waiting.
pub fn settled_fma_window(isa: Isa) -> f64 {
    let began = Instant::now();
    let mut best = best_fma_window(isa, 20);
    while began.elapsed() < Duration::from_millis(100) {
        best = best.max(fma_window(isa));
    }
    best
}

/// What windows on the calling thread alone say.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Floating-point operations a second of independent chains.
    pub flops: f64,
    /// Independent over dependent chains: ports × latency.
    pub ratio: f64,
}

/// Independent and dependent chains on the calling thread, each the best of `windows`, with clocks alike as windows
/// alternate.
pub fn alone(isa: Isa, windows: usize) -> Alone {
    const STEPS: usize = 40_000;
    let (mut free, mut bound) = (0.0f64, 0.0f64);
    for _ in 0..windows {
        let began = Instant::now();
        let (vectors, sum) = independent(isa, STEPS);
        black_box(sum);
        free = free.max((vectors * STEPS) as f64 / began.elapsed().as_secs_f64());
        let began = Instant::now();
        black_box(dispatch_on(isa, Chains::<1> { steps: STEPS }));
        bound = bound.max(STEPS as f64 / began.elapsed().as_secs_f64());
    }
    // The single vector holds `registers` chains side by side.
    Alone { flops: free * (LANES * 2) as f64, ratio: free / (bound / registers(isa) as f64) }
}

/// Ports and latency of the multiply-adds that `isa` may have, most likely first; none for one without the instruction.
pub fn known_ports_and_latency(isa: Isa) -> &'static [(u32, u32)] {
    match isa.name() {
        "avx512" => &[(2, 4), (1, 4)],
        "avx2" => &[(2, 4), (2, 5)],
        _ => &[],
    }
}

/// The ports and the latency whose product a measured ratio is, within an eighth; `None` where it is to be distrusted.
pub fn ports_and_latency(isa: Isa, ratio: f64) -> Option<(u32, u32)> {
    let off = |(ports, latency): (u32, u32)| (ratio / f64::from(ports * latency) - 1.0).abs();
    known_ports_and_latency(isa)
        .iter()
        .copied()
        .min_by(|a, b| off(*a).total_cmp(&off(*b)))
        .filter(|known| off(*known) <= 0.125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive_on_every_isa() {
        for isa in Isa::available() {
            let alone = alone(isa, 2);
            let rates = [fma_window(isa), alone.flops, alone.ratio];
            assert!(rates.iter().all(|r| r.is_finite() && *r > 0.0), "{isa}: {rates:?}");
            let time = |flops| {
                let seconds = (0..20).map(|_| {
                    let began = Instant::now();
                    multiply_adds(isa, flops);
                    began.elapsed().as_secs_f64()
                });
                seconds.fold(f64::INFINITY, f64::min)
            };
            assert!(time(4_000_000) > 2.0 * time(1_000_000), "{isa}: four times the work");
        }
        for isa in Isa::available() {
            let of = |ratio| ports_and_latency(isa, ratio);
            assert!(of(1.0).is_none() && of(f64::NAN).is_none() && of(6.0).is_none(), "{isa}");
            assert_eq!(of(7.9), known_ports_and_latency(isa).first().copied(), "{isa}");
        }
    }
}
