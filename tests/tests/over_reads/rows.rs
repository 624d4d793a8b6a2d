//! Every op of the list of cases, and what of the row kernels no case runs.

use super::{floats, on_every_isa};
use longhand_tensor::kernels::{self, GeluKind, LinearCrossEntropyGrads, Pool};
use longhand_tensor::random::{Philox, Site, SiteKind};
use longhand_tensor::{Accumulate, Ctx, cases};

/// Longest row, in elements: every tail of five vectors, and of the kernels' groups of four.
const MOST: usize = 80;

/// Forward and backward of every op, a new one included: at its own size, with rows of any length, with any number of
/// rows.
pub fn every_op(side: &str) {
    let run = |ctx: &Ctx, case: &cases::Case| assert!(case.run(ctx).is_ok(), "{}", case.name());
    for case in cases::all() {
        on_every_isa(&format!("{} | {side}", case.name()), |ctx| run(ctx, &case));
        // And where tasks of several threads end.
        on_every_isa(&format!("{}, 3 threads | {side}", case.name()), |ctx| run(&ctx.clone().with_threads(3), &case));
        let columns = (0..=MOST).flat_map(|n| [(1, n), (5, n)]);
        let rows = (2..=17).flat_map(|r| [(r, 1), (r, 19)]);
        for (r, n) in columns.chain(rows) {
            let case = case.resized(r, n);
            on_every_isa(&format!("{} {r} × {n} | {side}", case.name()), |ctx| run(ctx, &case));
        }
    }
}

/// Backwards that add to gradients, which read what they write; and the kernels that are no op of a model.
pub fn adding(side: &str) {
    const ADD: Accumulate = Accumulate::Add;
    let rng = Philox::new(3, Site::new(1, SiteKind::MlpResidualDropout), 2);
    for (rows, n) in (0..=MOST).flat_map(|n| [(1, n), (6, n)]) {
        on_every_isa(&format!("backwards that add, {rows} × {n} | {side}"), |ctx| {
            let (x, dout, weight) = (floats(rows * n), floats(rows * n), floats(n));
            let rows = if n == 0 { 0 } else { rows };
            let (mean, rstd, mut dx) = (floats(rows), floats(rows), floats(rows * n));
            let (mut dweight, mut dbias) = (floats(n), floats(n));
            kernels::softmax_backward(ctx, &mut dx, &dout, &x, n, ADD).unwrap();
            kernels::layernorm_backward(
                ctx,
                &mut dx,
                &mut dweight,
                &mut dbias,
                &dout,
                &x,
                &mean,
                &rstd,
                &weight,
                ADD,
                ADD,
            )
            .unwrap();
            for dsum in [None, Some(&x[..])] {
                kernels::residual_layernorm_backward(
                    ctx,
                    &mut dx,
                    &mut dweight,
                    &mut dbias,
                    &dout,
                    dsum,
                    &x,
                    &mean,
                    &rstd,
                    &weight,
                    ADD,
                    ADD,
                )
                .unwrap();
            }
            longhand_tensor::matmul::bias_backward(ctx, &mut dbias, &dout, ADD).unwrap();
            for kind in [GeluKind::Tanh, GeluKind::Erf] {
                kernels::gelu_backward(ctx, &mut dx, &dout, &x, kind, ADD).unwrap();
            }
            kernels::residual_backward(ctx, &mut dx, &dout, ADD).unwrap();
            kernels::dropout_backward(ctx, &mut dx, &dout, 0.25, &rng, 7, ADD).unwrap();
            kernels::sum(ctx, &x).unwrap();

            // Row r of the batch is row r of both tables.
            let ids: Vec<u32> = (0..rows as u32).collect();
            let (mut dwte, mut dwpe) = (floats(rows * n), floats(rows * n));
            kernels::embedding_backward(ctx, &mut dwte, &mut dwpe, &dout, &ids, &ids, n, ADD, ADD).unwrap();

            // One run of all rows.
            let lens = if n == 0 { 0 } else { rows };
            for pool in [Pool::Mean, Pool::Max] {
                kernels::pool_backward(ctx, &mut dx, &floats(n), &x, &[lens], n, pool, ADD).unwrap();
            }

            // Logits of n tokens, the last of them the target; and a table of n + 1 tokens of n channels.
            let targets = vec![(n as u32).saturating_sub(1); rows];
            let mut losses = floats(rows);
            if n > 0 {
                kernels::cross_entropy_backward(ctx, &mut dx, &x, &targets, n, 0.5.into(), ADD).unwrap();
                kernels::cross_entropy_rows_in_place(ctx, &mut losses, &mut dx, &targets, n, 0.5.into()).unwrap();
            }
            let (table, mut dtable) = (floats((n + 1) * n), floats((n + 1) * n));
            let grads = LinearCrossEntropyGrads {
                dinp: &mut dx,
                dweight: &mut dtable,
                acc_inp: ADD,
                acc_weight: ADD,
                weights: 0.5.into(),
            };
            kernels::linear_cross_entropy(ctx, &mut losses, Some(grads), &x, &table, &targets, n + 1, n).unwrap();
        });
    }
}
