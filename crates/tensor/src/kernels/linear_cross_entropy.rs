//! The output layer and its loss as one terminal op, in chunks of rows: the (R, V) logits never exist.
//!
//! ```text
//! logits = x·Wᵀ                 (chunk, V)
//! losses = cross entropy, logits ← weight·(softmax − onehot)
//! dx (+)= dlogits·W             (chunk, C)
//! dW += dlogitsᵀ·x              (V, C)
//! ```
//!
//! Each output of dW is one chain over all rows in order, continued from chunk to chunk: the bits of a single
//! product over the whole batch, and of any cut into microbatches.

use super::cross_entropy::{LossWeights, check_targets, cross_entropy_forward, cross_entropy_rows_in_place};
use super::rows_of;
use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matmul::{Epilogue, matmul};
use crate::matrix::{Accumulate, MatMut, MatRef};
use crate::shape::product2;

/// Floats of a chunk of logits at most, where one row is not more: 64 MiB. Each chunk reads W twice and reads and
/// writes dW, so fewer rows cost memory traffic; at GPT-2's 50,257 classes this is 264 rows.
const CHUNK: usize = 1 << 24;
/// Rows of a chunk at most: with few classes the logits stay in cache.
const ROWS: usize = 1056;
/// Rows of a block of AVX2's matmul, which packs its right-hand side once for one to three of them; chunks are whole
/// multiples of it where they can be.
const PACK: usize = 264;

/// Rows of a chunk, by the number of classes alone: with gradients or without, this many rows of V logits are in
/// memory at once.
pub fn chunk_rows(v: usize) -> usize {
    let rows = (CHUNK / v.max(1)).min(ROWS);
    if rows >= PACK { rows / PACK * PACK } else { rows.max(1) }
}

/// Where the gradients of `linear_cross_entropy` go.
#[derive(Debug)]
pub struct LinearCrossEntropyGrads<'a> {
    /// (R, C): the gradient of the input.
    pub dinp: &'a mut [f32],
    /// (V, C): the gradient of the weight.
    pub dweight: &'a mut [f32],
    /// How `dinp` is written.
    pub acc_inp: Accumulate,
    /// How `dweight` is written.
    pub acc_weight: Accumulate,
    /// The weight of each row's loss in what is minimised.
    pub weights: LossWeights<'a>,
}

/// losses[r] = ln Σ_j exp(z_j) − z_target, z = inp[r]·weightᵀ; with `grads`, also the gradients of Σ weights·losses.
///
/// Shapes: inp (R, C); weight (V, C) row-major, the layout of a tied embedding; losses, targets (R). Units: nats.
/// A target of `IGNORE` gives loss 0 and no gradient: its row of dlogits is 0. Products with that row are made all the
/// same, so non-finite numbers of an ignored row still spread: one of `inp` makes its column of `dweight` NaN (0·NaN), and
/// one of `weight` its column of `dinp` in every row.
/// Cost: 2·R·V·C flops, three times that with gradients; scratch of at most max(V, 2²⁴) floats, besides matmul's.
/// Numerics: `matmul`, `cross_entropy_rows_in_place` and two more `matmul` on the whole batch give the same bits.
/// Threads: as those; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit R, C and V; `OutOfRange` for a target ≥ V that is not `IGNORE`;
/// `SizeOverflow` if V·C or a chunk of logits overflows.
pub fn linear_cross_entropy(
    ctx: &Ctx,
    losses: &mut [f32],
    mut grads: Option<LinearCrossEntropyGrads<'_>>,
    inp: &[f32],
    weight: &[f32],
    targets: &[u32],
    v: usize,
    c: usize,
) -> Result<()> {
    let op = "linear_cross_entropy";
    let _timed = ctx.time(op);
    let rows = rows_of(op, "inp length", inp.len(), c)?;
    expect_len(op, "weight length", weight.len(), product2(op, v, c)?)?;
    expect_len(op, "targets length", targets.len(), rows)?;
    expect_len(op, "losses length", losses.len(), rows)?;
    check_targets(op, targets, v)?;
    if let Some(g) = &mut grads {
        expect_len(op, "dinp length", g.dinp.len(), inp.len())?;
        expect_len(op, "dweight length", g.dweight.len(), weight.len())?;
        g.weights.check(op, rows)?;
        if rows == 0 && g.acc_weight == Accumulate::Store {
            g.dweight.fill(0.0);
        }
    }
    let weight = MatRef::new(weight, v, c)?;
    let chunk = chunk_rows(v).min(rows);
    let mut scratch = ctx.scratch(product2(op, chunk, v)?);
    let mut first = 0;
    while first < rows {
        let end = rows.min(first + chunk);
        let n = end - first;
        let (losses, targets) = (&mut losses[first..end], &targets[first..end]);
        let x = MatRef::new(&inp[first * c..end * c], n, c)?;
        let logits = &mut scratch[..n * v];
        matmul(ctx, MatMut::new(logits, n, v)?, x, weight.t(), Accumulate::Store, Epilogue::default())?;
        if let Some(g) = &mut grads {
            cross_entropy_rows_in_place(ctx, losses, logits, targets, v, g.weights.part(first..end))?;
            let dlogits = MatRef::new(logits, n, v)?;
            let dinp = MatMut::new(&mut g.dinp[first * c..end * c], n, c)?;
            matmul(ctx, dinp, dlogits, weight, g.acc_inp, Epilogue::default())?;
            let acc = if first == 0 { g.acc_weight } else { Accumulate::Add };
            matmul(ctx, MatMut::new(g.dweight, v, c)?, dlogits.t(), x, acc, Epilogue::default())?;
        } else {
            cross_entropy_forward(ctx, losses, logits, targets, v)?;
        }
        first = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::IGNORE;
    use crate::reference::{self, F64};
    use crate::testing::*;

    const STORE: Accumulate = Accumulate::Store;
    const NAN: f32 = f32::NAN;
    const SCALE: f32 = 0.01;

    fn targets(rows: usize, v: usize) -> Vec<u32> {
        (0..rows).map(|r| if r % 7 == 3 { IGNORE } else { ((r * 5 + 1) % v) as u32 }).collect()
    }

    fn grads<'a>(dinp: &'a mut [f32], dweight: &'a mut [f32], acc: Accumulate) -> LinearCrossEntropyGrads<'a> {
        LinearCrossEntropyGrads { dinp, dweight, acc_inp: acc, acc_weight: acc, weights: SCALE.into() }
    }

    #[test]
    fn agrees_with_the_reference_and_equals_the_whole_batch() {
        // 1,100 rows are two chunks.
        for (rows, v, c) in [(1, 1, 1), (0, 3, 2), (5, 17, 3), (33, 65, 16), (20, 300, 40), (1100, 9, 5)] {
            let (x, w, t) = (numbers(1, rows * c, 1.0), numbers(2, v * c, 1.0), targets(rows, v));
            let (old_x, old_w) = (numbers(3, rows * c, 1.0), numbers(4, v * c, 1.0));
            let (mut l, mut dx, mut dw) = (vec![0.0; rows], vec![0.0; rows * c], vec![0.0; v * c]);
            let scale = SCALE as f64;
            reference::linear_cross_entropy::<F64>(&mut l, &mut dx, &mut dw, &wide(&x), &wide(&w), &t, v, c, scale);
            // A logit is a chain of c products below 25; a loss or probability is off by as much as two logits.
            let logit = gamma(c) * 25.0 * c as f64;
            let bound = 2.0 * logit + gamma(v / 16 + 15 + 60);
            on_every_ctx(|ctx| {
                let [mut losses, mut only] = [vec![NAN; rows], vec![NAN; rows]];
                let (mut gx, mut gw) = (vec![NAN; rows * c], vec![NAN; v * c]);
                linear_cross_entropy(ctx, &mut only, None, &x, &w, &t, v, c).unwrap();
                let g = grads(&mut gx, &mut gw, STORE);
                linear_cross_entropy(ctx, &mut losses, Some(g), &x, &w, &t, v, c).unwrap();
                assert_same_bits("losses without gradients", &only, &losses);
                assert_close("losses", &losses, &l, gamma(1), bound);
                let d = bound * scale * 6.0;
                assert_close("dinp", &gx, &dx, gamma(v), d * v as f64);
                assert_close("dweight", &gw, &dw, gamma(rows), d * rows as f64);

                // The whole batch at once.
                let mut logits = vec![NAN; rows * v];
                let (xm, wm) = (MatRef::new(&x, rows, c).unwrap(), MatRef::new(&w, v, c).unwrap());
                let e = Epilogue::default;
                matmul(ctx, MatMut::new(&mut logits, rows, v).unwrap(), xm, wm.t(), STORE, e()).unwrap();
                cross_entropy_rows_in_place(ctx, &mut only, &mut logits, &t, v, SCALE.into()).unwrap();
                let z = MatRef::new(&logits, rows, v).unwrap();
                // A weight for each row, all the same, is that weight.
                let (each, mut ex, mut ew) = (vec![SCALE; rows], vec![NAN; rows * c], vec![NAN; v * c]);
                let g = LinearCrossEntropyGrads { weights: each[..].into(), ..grads(&mut ex, &mut ew, STORE) };
                linear_cross_entropy(ctx, &mut losses, Some(g), &x, &w, &t, v, c).unwrap();
                assert_same_bits("dinp by weights", &ex, &gx);
                assert_same_bits("dweight by weights", &ew, &gw);
                for acc in [STORE, Accumulate::Add] {
                    let (mut ax, mut aw) = (old_x.clone(), old_w.clone());
                    let (mut bx, mut bw) = (old_x.clone(), old_w.clone());
                    matmul(ctx, MatMut::new(&mut ax, rows, c).unwrap(), z, wm, acc, e()).unwrap();
                    matmul(ctx, MatMut::new(&mut aw, v, c).unwrap(), z.t(), xm, acc, e()).unwrap();
                    let g = grads(&mut bx, &mut bw, acc);
                    linear_cross_entropy(ctx, &mut losses, Some(g), &x, &w, &t, v, c).unwrap();
                    assert_same_bits("losses of the whole", &losses, &only);
                    assert_same_bits("dinp of the whole", &bx, &ax);
                    assert_same_bits("dweight of the whole", &bw, &aw);
                }
                vec![losses, gx, gw]
            });
        }
    }

    #[test]
    fn microbatches_give_the_bits_of_the_batch() {
        let (rows, v, c, ctx) = (48, 30, 11, Ctx::default());
        let (x, w, t) = (numbers(1, rows * c, 1.0), numbers(2, v * c, 1.0), targets(rows, v));
        let run = |size: usize| {
            let (mut losses, mut dx, mut dw) = (vec![NAN; rows], vec![NAN; rows * c], vec![NAN; v * c]);
            for first in (0..rows).step_by(size) {
                let (r, e) = (first..first + size, first * c..(first + size) * c);
                let acc_weight = if first == 0 { STORE } else { Accumulate::Add };
                let g = LinearCrossEntropyGrads { acc_weight, ..grads(&mut dx[e.clone()], &mut dw, STORE) };
                linear_cross_entropy(&ctx, &mut losses[r.clone()], Some(g), &x[e], &w, &t[r], v, c).unwrap();
            }
            (losses, dx, dw)
        };
        assert_eq!(run(48), run(12));
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let (rows, v, c, scale) = (6, 5, 3, 0.2);
        let (x, w, t) = (wide(&numbers(1, rows * c, 1.0)), wide(&numbers(2, v * c, 1.0)), targets(rows, v));
        let run = |x: &[f64], w: &[f64]| {
            let (mut l, mut dx, mut dw) = (vec![0.0; rows], vec![0.0; rows * c], vec![0.0; v * c]);
            reference::linear_cross_entropy::<F64>(&mut l, &mut dx, &mut dw, x, w, &t, v, c, scale);
            (scale * reference::sum::<F64>(&l), dx, dw)
        };
        let (_, dx, dw) = run(&x, &w);
        central_difference("dinp", &x, &dx, |x| run(x, &w).0);
        central_difference("dweight", &w, &dw, |w| run(&x, w).0);
    }

    #[test]
    fn chunks_are_cut_by_the_classes_alone() {
        assert_eq!([1, 65, 20_000, 50_257, 100_000, 1 << 30].map(chunk_rows), [1056, 1056, 792, 264, 167, 1]);
    }

    #[test]
    fn arguments_are_checked() {
        let ctx = Ctx::default();
        let run = |x: usize, w: usize, t: &[u32]| {
            linear_cross_entropy(&ctx, &mut vec![0.0; t.len()], None, &vec![0.0; x], &vec![0.0; w], t, 3, 2)
        };
        assert!(run(4, 6, &[0, IGNORE]).is_ok());
        assert!(run(4, 6, &[0, 3]).is_err() && run(4, 5, &[0, 1]).is_err() && run(6, 6, &[0, 1]).is_err());
    }
}
