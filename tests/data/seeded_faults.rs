//! Kernels for tests/assembly.rs to judge: one sound, two with the faults that it exists to find.

use longhand_tensor::simd::{Isa, Kernel, LANES, Simd, dispatch_on};

/// acc[i] ← fma(x[k], x[k + i], acc[i]) for N accumulators: as many registers as it has accumulators, and one more.
#[inline(always)]
fn chains<S: Simd, const N: usize>(s: S, xs: &[f32], out: &mut [f32]) {
    let mut acc = [s.zero(); N];
    for x in xs.chunks_exact(N * LANES) {
        let a = s.splat(x[0]);
        for i in 0..N {
            acc[i] = s.mul_add(a, s.load(&x[i * LANES..(i + 1) * LANES]), acc[i]);
        }
    }
    for i in 0..N {
        s.store(&mut out[i * LANES..(i + 1) * LANES], acc[i]);
    }
}

pub struct Sound<'a>(pub &'a [f32], pub &'a mut [f32]);
impl Kernel for Sound<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        chains::<S, 6>(s, self.0, self.1);
    }
}

/// 48 accumulators: more than the 32 registers of AVX-512, three times those of AVX2.
pub struct TooWide<'a>(pub &'a [f32], pub &'a mut [f32]);
impl Kernel for TooWide<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        chains::<S, 48>(s, self.0, self.1);
    }
}

pub struct OutOfLine<'a>(pub &'a [f32], pub &'a mut [f32]);
impl Kernel for OutOfLine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        chains::<S, 6>(s, self.0, self.1);
        helper(s, self.1);
    }
}

#[inline(never)]
fn helper<S: Simd>(s: S, xs: &mut [f32]) {
    let v = s.load(xs);
    s.store(xs, s.mul_add(v, v, v));
}

pub fn run(isa: Isa, xs: &[f32], out: &mut [f32]) {
    dispatch_on(isa, Sound(xs, out));
    dispatch_on(isa, TooWide(xs, out));
    dispatch_on(isa, OutOfLine(xs, out));
}
