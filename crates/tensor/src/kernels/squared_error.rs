//! Squared errors: the loss of a score.
//!
//! ```text
//! loss_r = (x_r − t_r)²          dx_r (+)= weight_r·2·(x_r − t_r)
//! ```

use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::Accumulate;

/// losses[r] = (inp[r] − targets[r])², and with `dinp` the gradient of Σ weights·losses.
///
/// Shapes: losses, inp, dinp, targets, weights (R). Units: the target's, squared.
/// Cost: one pass, 5 flops an element, on one thread: a score is one number a text.
/// Numerics: a subtraction and a product, each rounded; the gradient has one more product.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn squared_errors(
    ctx: &Ctx,
    losses: &mut [f32],
    dinp: Option<(&mut [f32], Accumulate)>,
    inp: &[f32],
    targets: &[f32],
    weights: &[f32],
) -> Result<()> {
    let op = "squared_errors";
    let _timed = ctx.time(op);
    for (len, what) in
        [(losses.len(), "losses length"), (targets.len(), "targets length"), (weights.len(), "weights length")]
    {
        expect_len(op, what, len, inp.len())?;
    }
    if let Some((dinp, _)) = &dinp {
        expect_len(op, "dinp length", dinp.len(), inp.len())?;
    }
    for r in 0..inp.len() {
        let d = inp[r] - targets[r];
        losses[r] = d * d;
    }
    if let Some((dinp, acc)) = dinp {
        for r in 0..inp.len() {
            let d = 2.0 * weights[r] * (inp[r] - targets[r]);
            dinp[r] = if acc == Accumulate::Add { dinp[r] + d } else { d };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64};
    use crate::testing::*;

    #[test]
    fn agrees_with_the_reference() {
        for n in [0, 1, 5, 40] {
            let [x, t, w, old] = [1, 2, 3, 4].map(|i| numbers(i, n, 1.0));
            let (mut l, mut d) = (vec![0.0; n], vec![0.0; n]);
            reference::squared_errors::<F64>(&mut l, &mut d, &wide(&x), &wide(&t), &wide(&w));
            let (ctx, mut losses) = (Ctx::default(), vec![f32::NAN; n]);
            for acc in [Accumulate::Store, Accumulate::Add] {
                let mut dinp = if acc == Accumulate::Add { old.clone() } else { vec![f32::NAN; n] };
                squared_errors(&ctx, &mut losses, Some((&mut dinp, acc)), &x, &t, &w).unwrap();
                let want = if acc == Accumulate::Add { plus(&d, &old) } else { d.clone() };
                assert_close("losses", &losses, &l, gamma(4), gamma(1));
                assert_close("dinp", &dinp, &want, gamma(4), gamma(8) * 200.0);
            }
        }
        assert!(squared_errors(&Ctx::default(), &mut [0.0], None, &[0.0; 2], &[0.0; 2], &[0.0; 2]).is_err());
        // Nothing is written before the last check.
        let (mut losses, mut short) = ([7.0; 2], [7.0; 1]);
        let dinp = Some((&mut short[..], Accumulate::Store));
        assert!(squared_errors(&Ctx::default(), &mut losses, dinp, &[0.0; 2], &[0.0; 2], &[0.0; 2]).is_err());
        assert_eq!((losses, short), ([7.0; 2], [7.0]));
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let [x, t, w] = [1, 2, 3].map(|i| wide(&numbers(i, 5, 1.0)));
        let (mut l, mut d) = (vec![0.0; 5], vec![0.0; 5]);
        reference::squared_errors::<F64>(&mut l, &mut d, &x, &t, &w);
        central_difference("squared errors", &x, &d, |x| {
            let (mut l, mut d) = (vec![0.0; 5], vec![0.0; 5]);
            reference::squared_errors::<F64>(&mut l, &mut d, x, &t, &w);
            l.iter().zip(&w).fold(0.0, |sum, (l, w)| sum + l * w)
        });
    }
}
