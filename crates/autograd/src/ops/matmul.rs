//! Linear layers.

use crate::tape::{Backward, Tape, Var};
use longhand_tensor::arena::Buf;
use longhand_tensor::exec::LinearOp;
use longhand_tensor::matmul::{Epilogue, bias_backward, matmul};
use longhand_tensor::params::{ParamId, Role};
use longhand_tensor::{Accumulate, MatMut, MatRef, Result, kernels};

/// out = gelu?(x·W + b)
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    x: Var,
    out: Var,
    op: LinearOp,
    /// x·W + b, when an activation follows.
    pre: Option<Buf>,
}

impl Linear {
    pub(crate) fn forward(tape: &mut Tape<'_>, x: Var, op: &LinearOp) -> Result<Var> {
        let (rows, inner) = tape.rows_cols(x);
        let (ctx, params) = (tape.ctx, tape.params);
        let spec = op.check(params.layout())?;
        let cols = spec.cols();
        let out = tape.new_value(rows, cols)?;
        let bias = op.bias.map(|b| params.get(b));
        let w = MatRef::new(params.get(op.weight), spec.rows(), cols)?; // (in, out)
        let pre = if op.gelu.is_some() { Some(tape.new_buf(rows, cols)?) } else { None };
        let out_buf = tape.buf(out);
        let x_buf = tape.buf(x);
        match pre {
            None => {
                let ([o], [i]) = tape.views([out_buf], [x_buf]);
                let epilogue = Epilogue { bias, ..Epilogue::default() };
                let c = MatMut::new(o, rows, cols)?;
                matmul(ctx, c, MatRef::new(i, rows, inner)?, w, Accumulate::Store, epilogue)?;
            }
            Some(pre) => {
                let ([o, p], [i]) = tape.views([out_buf, pre], [x_buf]);
                let pre_activation = Some(MatMut::new(p, rows, cols)?);
                let epilogue = Epilogue { bias, gelu: op.gelu, pre_activation, ..Epilogue::default() };
                let c = MatMut::new(o, rows, cols)?;
                matmul(ctx, c, MatRef::new(i, rows, inner)?, w, Accumulate::Store, epilogue)?;
            }
        }
        let params = [op.weight, op.bias.unwrap_or(op.weight)];
        if !tape.needs_backward(&[out], &[x], &params) {
            if let Some(pre) = pre {
                tape.free(pre);
            }
            return Ok(out);
        }
        // Only the weight's gradient reads it.
        if tape.grads.trains(op.weight) {
            tape.keep(x);
        }
        if let (Some(pre), Some(kind)) = (pre, op.gelu) {
            tape.is_gelu_of(out, pre, kind);
        }
        tape.record(Linear { x, out, op: *op, pre });
        Ok(out)
    }
}

impl Backward for Linear {
    /// dy = dout ∘ gelu′(x·W + b); dW += xᵀ·dy; db += Σ_rows dy; dx += dy·Wᵀ
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (ctx, params) = (tape.ctx, tape.params);
        let (rows, inner) = tape.rows_cols(self.x);
        let (_, cols) = tape.rows_cols(self.out);
        // The output itself is not read: its room takes dy.
        let dy = match (self.op.gelu, self.pre) {
            (Some(kind), Some(pre)) => {
                let dy = tape.room(self.out)?;
                let ([d], [dout, pre]) = tape.views([dy], [dout, pre]);
                kernels::gelu_backward(ctx, d, dout, pre, kind, Accumulate::Store)?;
                dy
            }
            _ => dout,
        };
        if tape.grads.trains(self.op.weight) {
            let x_buf = tape.saved(self.x)?;
            let (arena, grads) = tape.arena_and_grads();
            let (x, d) = (MatRef::new(arena.get(x_buf), rows, inner)?, MatRef::new(arena.get(dy), rows, cols)?);
            let acc = grads.accumulate(self.op.weight);
            let dw = MatMut::new(grads.get_mut(self.op.weight), inner, cols)?;
            matmul(ctx, dw, x.t(), d, acc, Epilogue::default())?;
        }
        let (arena, grads) = tape.arena_and_grads();
        if let Some(bias) = self.op.bias.filter(|bias| grads.trains(*bias)) {
            let acc = grads.accumulate(bias);
            bias_backward(ctx, grads.get_mut(bias), arena.get(dy), acc)?;
        }
        if tape.trains(self.x) {
            let (dx, acc) = tape.grad_target(self.x)?;
            let ([dx], [d]) = tape.views([dx], [dy]);
            let w = MatRef::new(params.get(self.op.weight), inner, cols)?;
            let dx = MatMut::new(dx, rows, inner)?;
            matmul(ctx, dx, MatRef::new(d, rows, cols)?, w.t(), acc, Epilogue::default())?;
        }
        tape.release_grad(dout);
        tape.free_value(self.out);
        if let Some(pre) = self.pre {
            tape.free(pre);
        }
        Ok(())
    }
}

/// out = x · tableᵀ
#[derive(Clone, Copy, Debug)]
pub struct Logits {
    x: Var,
    out: Var,
    table: ParamId,
}

impl Logits {
    pub(crate) fn forward(tape: &mut Tape<'_>, x: Var, table: ParamId) -> Result<Var> {
        let (rows, inner) = tape.rows_cols(x);
        let (ctx, params) = (tape.ctx, tape.params);
        let spec = params.layout().spec_of("logits", table, Role::Embedding)?;
        let out = tape.new_value(rows, spec.rows())?;
        let t = MatRef::new(params.get(table), spec.rows(), spec.cols())?; // (V, C)
        let ([o], [i]) = tape.views([tape.buf(out)], [tape.buf(x)]);
        let c = MatMut::new(o, rows, spec.rows())?;
        matmul(ctx, c, MatRef::new(i, rows, inner)?, t.t(), Accumulate::Store, Epilogue::default())?;
        if tape.needs_backward(&[out], &[x], &[table]) {
            tape.keep(x);
            tape.record(Logits { x, out, table });
        }
        Ok(out)
    }
}

impl Backward for Logits {
    /// dtable += doutᵀ·x; dx += dout·table
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (ctx, params) = (tape.ctx, tape.params);
        let (rows, inner) = tape.rows_cols(self.x);
        let (_, cols) = tape.rows_cols(self.out);
        let x_buf = tape.saved(self.x)?;
        let (arena, grads) = tape.arena_and_grads();
        let (x, d) = (MatRef::new(arena.get(x_buf), rows, inner)?, MatRef::new(arena.get(dout), rows, cols)?);
        let acc = grads.accumulate(self.table);
        let dtable = MatMut::new(grads.get_mut(self.table), cols, inner)?;
        matmul(ctx, dtable, d.t(), x, acc, Epilogue::default())?;
        let (dx, acc) = tape.grad_target(self.x)?;
        let ([dx], [d]) = tape.views([dx], [dout]);
        let table = MatRef::new(params.get(self.table), cols, inner)?;
        let dx = MatMut::new(dx, rows, inner)?;
        matmul(ctx, dx, MatRef::new(d, rows, cols)?, table, acc, Epilogue::default())?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        Ok(())
    }
}
