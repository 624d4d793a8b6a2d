//! Sums over whole tensors: the loss, the gradient norm.
//!
//! Blocks of 4,096 elements are summed in f32 by 16 lanes; their results are added in f64 in order. Sixteen f32
//! lanes over 30 million squares would be off by 1e-3; this is off by 2⁻²⁴ · 270 at most.

use super::fetch;
use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// Elements of a block.
const BLOCK: usize = 4096;
/// Blocks of a task: 256 KiB are read in the time that a task takes to start many times over.
const BLOCKS_PER_TASK: usize = 16;

/// Σ xs[i]².
///
/// Shapes: any length. Cost: one pass, 2 flops an element; scratch of one float a block.
/// Numerics: within 270·2⁻²⁴ of the truth, relative (256 additions in a lane, the tree, the square), where every xs[i] is 0
/// or 1.1e-19 ≤ |xs[i]| ≤ 2.8e17. Squares are f32: smaller numbers' lose digits or vanish, those beyond 1.8e19 are +∞, and
/// so may be a block's sum of squares from 2.8e17 on.
/// Threads: 16 blocks a task; bitwise the same for any thread count.
/// # Errors
/// None today.
pub fn sum_of_squares(ctx: &Ctx, xs: &[f32]) -> Result<f64> {
    let _timed = ctx.time("sum_of_squares");
    Ok(by_blocks(ctx, xs, Some(xs)))
}

/// Σ xs[i].
///
/// As `sum_of_squares`; the error is relative to Σ |xs[i]|, where every |xs[i]| ≤ 8e34.
/// # Errors
/// None today.
pub fn sum(ctx: &Ctx, xs: &[f32]) -> Result<f64> {
    let _timed = ctx.time("sum");
    Ok(by_blocks(ctx, xs, None))
}

/// Σ xs[i]·ys[i].
///
/// As `sum_of_squares`; the error is relative to Σ |xs[i]·ys[i]|, where every product is 0 or 1.2e-38 ≤ |xs[i]·ys[i]| ≤ 8e34.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn dot(ctx: &Ctx, xs: &[f32], ys: &[f32]) -> Result<f64> {
    let _timed = ctx.time("dot");
    expect_len("dot", "ys length", ys.len(), xs.len())?;
    Ok(by_blocks(ctx, xs, Some(ys)))
}

/// Σ xs[i]·ys[i], or Σ xs[i].
fn by_blocks(ctx: &Ctx, xs: &[f32], ys: Option<&[f32]>) -> f64 {
    let (isa, blocks) = (ctx.isa(), xs.len().div_ceil(BLOCK));
    let mut sums = ctx.scratch(blocks);
    for_each_rows(ctx, RowsMut::new(&mut sums, 1), blocks, BLOCKS_PER_TASK, |first, sums| {
        let (xs, ys) = (&xs[first * BLOCK..], ys.map(|ys| &ys[first * BLOCK..]));
        dispatch_on(isa, Blocks { sums: sums.into_slice(), xs, ys });
    });
    sums.iter().fold(0.0, |total, &s| total + s as f64)
}

struct Blocks<'a> {
    sums: &'a mut [f32],
    xs: &'a [f32],
    ys: Option<&'a [f32]>,
}

impl Kernel for Blocks<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (b, (sum, xs)) in self.sums.iter_mut().zip(self.xs.chunks(BLOCK)).enumerate() {
            let ys = self.ys.map(|ys| &ys[b * BLOCK..b * BLOCK + xs.len()]);
            let mut lanes = s.zero();
            for i in (0..xs.len()).step_by(LANES) {
                let x = fetch(s, xs, i, 0.0);
                let y = ys.map_or(s.splat(1.0), |ys| fetch(s, ys, i, 0.0));
                lanes = s.mul_add(x, y, lanes);
            }
            *sum = s.reduce_add(lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64};
    use crate::testing::{gamma, numbers, on_every_ctx, wide};

    #[test]
    fn agrees_with_the_reference() {
        for n in (0..=65).chain([4095, 4096, 4097, 70_001, 300_000]) {
            let x = numbers(n as u64, n, 2.0);
            let x64 = wide(&x);
            let (squares, total) = (reference::sum_of_squares::<F64>(&x64), reference::sum::<F64>(&x64));
            let y: Vec<f32> = x.iter().rev().copied().collect();
            let product = x64.iter().zip(x64.iter().rev()).fold(0.0, |a, (x, y)| a + x * y);
            let magnitude = x64.iter().fold(0.0, |a, x| a + x.abs());
            on_every_ctx(|ctx| {
                let (q, t) = (sum_of_squares(ctx, &x).unwrap(), sum(ctx, &x).unwrap());
                assert!((q - squares).abs() <= gamma(270) * squares, "n {n}: {q} against {squares}");
                assert!((t - total).abs() <= gamma(270) * magnitude, "n {n}: {t} against {total}");
                let p = dot(ctx, &x, &y).unwrap();
                assert!((p - product).abs() <= gamma(270) * squares, "n {n}: {p} against {product}");
                // The f64 bits, in two f32.
                let halves = [q, t, p].map(|x| [x.to_bits() as u32, (x.to_bits() >> 32) as u32].map(f32::from_bits));
                vec![halves.concat()]
            });
        }
        assert!(sum_of_squares(&Ctx::default(), &[1.0, f32::NAN]).unwrap().is_nan());
        assert!(dot(&Ctx::default(), &[1.0], &[1.0; 2]).is_err());
    }
}
