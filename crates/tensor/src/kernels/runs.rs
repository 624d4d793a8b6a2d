//! Cross-entropy where each row has as many classes as it has: the answers of a question, the tokens of a document.
//!
//! ```text
//! inp      | run 0 | run 1       | run 2 |      Σ lens floats in a row
//! losses[s] = ln Σ_j exp(x_j) − x_target over run s
//! dinp of run s (+)= weights[s]·(softmax(run s) − onehot)
//! ```

use super::cross_entropy::{IGNORE, LossWeights, cross_entropy_backward, cross_entropy_forward};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;

/// The loss of each run of `inp`, and with `dinp` the gradient of Σ weights·losses.
///
/// Shapes: inp and dinp (Σ lens); losses, lens, targets, weights (S). Units: nats. A target of `IGNORE` gives loss 0 and
/// gradient 0.
/// Cost: as `cross_entropy_forward`, and with `dinp` as `cross_entropy_backward`; no scratch. Runs come one after the
/// other: they are short and few beside what computed them.
/// Numerics: the bits of those two kernels on a single row.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit; `OutOfRange` for a target outside its run; `SizeOverflow` if
/// Σ lens overflows.
pub fn cross_entropy_of_runs(
    ctx: &Ctx,
    losses: &mut [f32],
    mut dinp: Option<(&mut [f32], Accumulate)>,
    inp: &[f32],
    lens: &[usize],
    targets: &[u32],
    weights: &[f32],
) -> Result<()> {
    let op = "cross_entropy_of_runs";
    let _timed = ctx.time(op);
    let mut whole = 0usize;
    for &len in lens {
        whole = whole.checked_add(len).ok_or(Error::SizeOverflow { op, sizes: [whole, len, 1] })?;
    }
    expect_len(op, "inp length", inp.len(), whole)?;
    for (len, what) in
        [(losses.len(), "losses length"), (targets.len(), "targets length"), (weights.len(), "weights length")]
    {
        expect_len(op, what, len, lens.len())?;
    }
    if let Some((dinp, _)) = &dinp {
        expect_len(op, "dinp length", dinp.len(), inp.len())?;
    }
    // Before anything is written.
    for (&target, &len) in targets.iter().zip(lens) {
        if target != IGNORE && target as usize >= len {
            return Err(Error::OutOfRange { op, what: "target", got: target as usize, limit: len });
        }
    }
    let mut first = 0;
    for (s, &len) in lens.iter().enumerate() {
        let (x, target) = (&inp[first..first + len], &targets[s..s + 1]);
        if len == 0 {
            losses[s] = 0.0;
            continue;
        }
        cross_entropy_forward(ctx, &mut losses[s..s + 1], x, target, len)?;
        if let Some((dinp, acc)) = &mut dinp {
            let weight = LossWeights::Same(weights[s]);
            cross_entropy_backward(ctx, &mut dinp[first..first + len], x, target, len, weight, *acc)?;
        }
        first += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits, numbers};

    #[test]
    fn a_run_is_a_row() {
        let ctx = Ctx::default();
        let lens = [3, 1, 0, 17, 40];
        let (n, targets, weights) = (61, [2, 0, IGNORE, IGNORE, 39], [0.5, 1.0, 1.0, 2.0, 0.25]);
        let (x, old) = (numbers(1, n, 2.0), numbers(2, n, 1.0));
        for acc in [Accumulate::Store, Accumulate::Add] {
            let (mut losses, mut dx) = ([f32::NAN; 5], old.clone());
            cross_entropy_of_runs(&ctx, &mut losses, Some((&mut dx, acc)), &x, &lens, &targets, &weights).unwrap();
            let (mut first, mut want_losses, mut want) = (0, [0.0; 5], old.clone());
            for (s, len) in lens.into_iter().enumerate().filter(|(_, len)| *len > 0) {
                let (run, t) = (first..first + len, &targets[s..s + 1]);
                cross_entropy_forward(&ctx, &mut want_losses[s..s + 1], &x[run.clone()], t, len).unwrap();
                let weight = LossWeights::Same(weights[s]);
                cross_entropy_backward(&ctx, &mut want[run.clone()], &x[run], t, len, weight, acc).unwrap();
                first += len;
            }
            assert_same_bits("losses", &losses, &want_losses);
            assert_same_bits("dinp", &dx, &want);
        }
    }

    #[test]
    fn wrong_lengths_and_targets_are_errors_and_write_nothing() {
        let (ctx, x) = (Ctx::default(), [1.0; 5]);
        let mut losses = [7.0; 2];
        let mut run = |lens: &[usize], targets: &[u32], weights: &[f32]| {
            cross_entropy_of_runs(&ctx, &mut losses, None, &x, lens, targets, weights)
        };
        assert!(run(&[2, 2], &[0, 0], &[1.0; 2]).is_err());
        assert!(run(&[2, 3], &[0], &[1.0; 2]).is_err());
        assert!(run(&[2, 3], &[0, 0], &[1.0]).is_err());
        assert!(run(&[2, 3], &[0, 3], &[1.0; 2]).is_err());
        assert!(run(&[usize::MAX, 6], &[0, 0], &[1.0; 2]).is_err());
        assert_eq!(losses, [7.0; 2]);
    }
}
