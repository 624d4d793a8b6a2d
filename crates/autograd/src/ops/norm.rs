//! Layer norm, alone and with the residual sum before it.

use crate::tape::{Backward, Tape, Var};
use longhand_tensor::arena::Buf;
use longhand_tensor::error::expect_summand;
use longhand_tensor::exec::NormOp;
use longhand_tensor::{Accumulate, Result, kernels};

/// out = (x − mean)·rstd·γ + β, row by row
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    x: Var,
    out: Var,
    op: NormOp,
    mean: Buf,
    rstd: Buf,
}

impl LayerNorm {
    pub(crate) fn forward(tape: &mut Tape<'_>, x: Var, op: &NormOp) -> Result<Var> {
        let (rows, cols) = tape.rows_cols(x);
        let (ctx, params) = (tape.ctx, tape.params);
        op.check("layer_norm", params.layout())?;
        let out = tape.new_value(rows, cols)?;
        let (mean, rstd) = (tape.new_buf(rows, 1)?, tape.new_buf(rows, 1)?);
        let ([o, m, r], [i]) = tape.views([tape.buf(out), mean, rstd], [tape.buf(x)]);
        kernels::layernorm_forward(ctx, o, m, r, i, params.get(op.weight), params.get(op.bias), op.eps)?;
        if tape.needs_backward(&[out], &[x], &[op.weight, op.bias]) {
            tape.keep(x);
            tape.record(LayerNorm { x, out, op: *op, mean, rstd });
        } else {
            tape.free(mean);
            tape.free(rstd);
        }
        Ok(out)
    }
}

impl Backward for LayerNorm {
    /// dx += rstd·(γ∘dout − mean(γ∘dout) − x̂·mean(γ∘dout∘x̂)); dγ += Σ dout∘x̂; dβ += Σ dout
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (dx, acc_inp) = tape.grad_target(self.x)?;
        let (ctx, weight, x) = (tape.ctx, tape.params.get(self.op.weight), tape.saved(self.x)?);
        let (arena, grads) = tape.arena_and_grads();
        let acc = grads.accumulate(self.op.weight);
        grads.accumulate(self.op.bias);
        let (dweight, dbias) = grads.get_two_mut(self.op.weight, self.op.bias);
        let ([dx], [d, x, m, r]) = arena.views([dx], [dout, x, self.mean, self.rstd]);
        kernels::layernorm_backward(ctx, dx, dweight, dbias, d, x, m, r, weight, acc_inp, acc)?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        tape.free(self.mean);
        tape.free(self.rstd);
        Ok(())
    }
}

/// sum = a + b; out = layer_norm(sum)
#[derive(Clone, Copy, Debug)]
pub struct ResidualLayerNorm {
    a: Var,
    b: Var,
    sum: Var,
    out: Var,
    op: NormOp,
    mean: Buf,
    rstd: Buf,
}

impl ResidualLayerNorm {
    pub(crate) fn forward(tape: &mut Tape<'_>, a: Var, b: Var, op: &NormOp) -> Result<(Var, Var)> {
        let (rows, cols) = tape.rows_cols(a);
        expect_summand("residual_layer_norm", tape.rows_cols(b), (rows, cols))?;
        let (ctx, params) = (tape.ctx, tape.params);
        op.check("residual_layer_norm", params.layout())?;
        let (sum, out) = (tape.new_value(rows, cols)?, tape.new_value(rows, cols)?);
        let (mean, rstd) = (tape.new_buf(rows, 1)?, tape.new_buf(rows, 1)?);
        let outs = [tape.buf(sum), tape.buf(out), mean, rstd];
        let ([s, o, m, r], [x, y]) = tape.views(outs, [tape.buf(a), tape.buf(b)]);
        let (weight, bias) = (params.get(op.weight), params.get(op.bias));
        kernels::residual_layernorm_forward(ctx, s, o, m, r, x, y, weight, bias, op.eps)?;
        if tape.needs_backward(&[sum, out], &[a, b], &[op.weight, op.bias]) {
            tape.keep(sum);
            tape.record(ResidualLayerNorm { a, b, sum, out, op: *op, mean, rstd });
        } else {
            tape.free(mean);
            tape.free(rstd);
        }
        Ok((sum, out))
    }
}

impl Backward for ResidualLayerNorm {
    /// d = dsum + dLN(dout); da += d; db += d
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let dsum = tape.take_grad(self.sum);
        let d = match (tape.take_grad(self.out), dsum) {
            (Some(dout), dsum) => {
                let (rows, cols) = tape.rows_cols(self.sum);
                let total = tape.new_buf(rows, cols)?;
                let (ctx, weight, sum) = (tape.ctx, tape.params.get(self.op.weight), tape.buf(self.sum));
                let (arena, grads) = tape.arena_and_grads();
                let acc = grads.accumulate(self.op.weight);
                grads.accumulate(self.op.bias);
                let (dw, db) = grads.get_two_mut(self.op.weight, self.op.bias);
                let inps = [dout, dsum.unwrap_or(dout), sum, self.mean, self.rstd];
                let ([t], [d, ds, s, m, r]) = arena.views([total], inps);
                let ds = dsum.map(|_| ds);
                let store = Accumulate::Store;
                kernels::residual_layernorm_backward(ctx, t, dw, db, d, ds, s, m, r, weight, store, acc)?;
                tape.release_grad(dout);
                if let Some(dsum) = dsum {
                    tape.release_grad(dsum);
                }
                total
            }
            // Only the sum was read: its gradient is that of both.
            (None, Some(dsum)) => dsum,
            (None, None) => return Ok(()),
        };
        tape.give_grad([self.a, self.b], d)?;
        tape.free_value(self.sum);
        tape.free_value(self.out);
        tape.free(self.mean);
        tape.free(self.rstd);
        Ok(())
    }
}
