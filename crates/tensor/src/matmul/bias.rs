//! The gradient of a bias: column sums.

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// Columns of a task: four vectors, four chains that hide each other's latency, and whole cache lines of dout.
const COLUMNS: usize = 4 * LANES;

/// dbias[j] (+)= Σ_r dout[r, j]: the matmul chain with a ≡ 1, over the rows in order.
///
/// Shapes: dbias (N), dout (R, N) row-major. `Store` does not read dbias.
/// Cost: R·N adds, one pass over dout; no scratch.
/// Numerics: equal to `reference::bias_backward` in f32, bit for bit, on every instruction set.
/// Threads: columns in parallel; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if `dout.len()` is no multiple of N, or is not 0 where N is 0.
pub fn bias_backward(ctx: &Ctx, dbias: &mut [f32], dout: &[f32], acc: Accumulate) -> Result<()> {
    let _timed = ctx.time("bias_backward");
    let n = dbias.len();
    let rows = dout.len().checked_div(n).unwrap_or(0);
    if rows * n != dout.len() {
        let (op, what) = ("bias_backward", "length of dout");
        return Err(Error::ShapeMismatch { op, what, expected: rows * n, got: dout.len() });
    }
    for_each_rows(ctx, RowsMut::new(dbias, 1), n, COLUMNS, |first, part| {
        dispatch_on(ctx.isa(), ColumnSums { out: part.into_slice(), dout, first, n, rows, acc });
    });
    Ok(())
}

/// Sums of up to `COLUMNS` columns from `first` on.
struct ColumnSums<'a> {
    out: &'a mut [f32],
    dout: &'a [f32],
    first: usize,
    n: usize,
    rows: usize,
    acc: Accumulate,
}

impl Kernel for ColumnSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ColumnSums { out, dout, first, n, rows, acc } = self;
        if out.len() == COLUMNS {
            let mut sums = [s.zero(); 4];
            if acc == Accumulate::Add {
                for v in 0..4 {
                    sums[v] = s.load(&out[v * LANES..]);
                }
            }
            for r in 0..rows {
                let row = &dout[r * n + first..][..COLUMNS];
                for v in 0..4 {
                    sums[v] = s.add(sums[v], s.load(&row[v * LANES..]));
                }
            }
            for v in 0..4 {
                s.store(&mut out[v * LANES..], sums[v]);
            }
            return;
        }
        for (v, part) in out.chunks_mut(LANES).enumerate() {
            let start = first + v * LANES;
            let mut sum = if acc == Accumulate::Add { s.load_partial(part, 0.0) } else { s.zero() };
            for r in 0..rows {
                sum = s.add(sum, s.load_partial(&dout[r * n + start..][..part.len()], 0.0));
            }
            s.store_partial(part, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, Fused32};
    use crate::simd::Isa;

    #[test]
    fn equals_the_chain_on_every_isa() {
        for isa in Isa::available() {
            let ctx = Ctx::new(isa);
            for (rows, n) in [(0, 5), (1, 1), (7, 16), (33, 64), (20, 64 + 37), (5, 200)] {
                let dout: Vec<f32> = (0..rows * n).map(|i| ((i * 7919) % 1013) as f32 * 0.37 - 180.0).collect();
                for acc in [Accumulate::Store, Accumulate::Add] {
                    let start = if acc == Accumulate::Add { 0.25 } else { f32::NAN };
                    let (mut got, mut expected) = (vec![start; n], vec![start; n]);
                    bias_backward(&ctx, &mut got, &dout, acc).unwrap();
                    reference::bias_backward::<Fused32>(&mut expected, &dout, acc);
                    assert_eq!(got, expected, "{isa} {rows} × {n} {acc:?}");
                }
            }
        }
        assert!(bias_backward(&Ctx::default(), &mut [0.0; 3], &[0.0; 4], Accumulate::Add).is_err());
        assert!(bias_backward(&Ctx::default(), &mut [], &[0.0; 4], Accumulate::Add).is_err());
    }
}
