//! Losses, whose gradients are made in the forward: that of the output layer, while its logits are hot, that of runs, and that of scores.

use crate::tape::{Tape, Var};
use longhand_tensor::Result;
use longhand_tensor::kernels::{self, LinearCrossEntropyGrads, LossWeights};
use longhand_tensor::params::{ParamId, Role};

/// losses[r] = −log softmax(x·tableᵀ)[targets r]; dx and dtable of Σ weights·losses.
pub(crate) fn linear_cross_entropy(
    tape: &mut Tape<'_>,
    x: Var,
    table: ParamId,
    targets: &[u32],
    weights: LossWeights<'_>,
    losses: &mut [f32],
) -> Result<()> {
    let (_, c) = tape.rows_cols(x);
    let (ctx, params) = (tape.ctx, tape.params);
    let v = params.layout().spec_of("linear_cross_entropy", table, Role::Embedding)?.rows();
    if !tape.needs_backward(&[], &[x], &[table]) {
        let ([], [inp]) = tape.views([], [tape.buf(x)]);
        return kernels::linear_cross_entropy(ctx, losses, None, inp, params.get(table), targets, v, c);
    }
    let (dx, acc_inp) = tape.grad_target(x)?;
    let inp = tape.buf(x);
    let (arena, grads) = tape.arena_and_grads();
    let acc_weight = grads.next(table);
    let ([dinp], [inp]) = arena.views([dx], [inp]);
    let dweight = grads.get_mut(table);
    let out = LinearCrossEntropyGrads { dinp, dweight, acc_inp, acc_weight, weights };
    let said = kernels::linear_cross_entropy(ctx, losses, Some(out), inp, params.get(table), targets, v, c);
    if said.is_ok() {
        grads.accumulate(table);
    }
    tape.settle(x, acc_inp, said)
}

/// losses[s] = −log softmax(run s of x)[targets s]; dx of Σ weights·losses.
pub(crate) fn softmax_losses(
    tape: &mut Tape<'_>,
    x: Var,
    lens: &[usize],
    targets: &[u32],
    weights: &[f32],
    losses: &mut [f32],
) -> Result<()> {
    let ctx = tape.ctx;
    let (dx, acc) = tape.grad_target(x)?;
    let ([dx], [inp]) = tape.views([dx], [tape.buf(x)]);
    let said = kernels::cross_entropy_of_runs(ctx, losses, Some((dx, acc)), inp, lens, targets, weights);
    tape.settle(x, acc, said)
}

/// losses[r] = (x_r − targets[r])²; dx of Σ weights·losses.
pub(crate) fn squared_errors(
    tape: &mut Tape<'_>,
    x: Var,
    targets: &[f32],
    weights: &[f32],
    losses: &mut [f32],
) -> Result<()> {
    let ctx = tape.ctx;
    let (dx, acc) = tape.grad_target(x)?;
    let ([dx], [inp]) = tape.views([dx], [tape.buf(x)]);
    let said = kernels::squared_errors(ctx, losses, Some((dx, acc)), inp, targets, weights);
    tape.settle(x, acc, said)
}
