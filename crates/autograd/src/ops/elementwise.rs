//! Embedding, sums and dropout.

use crate::tape::{Backward, Tape, Var};
use longhand_tensor::error::expect_summand;
use longhand_tensor::params::{ParamId, Role};
use longhand_tensor::random::{Philox, SiteKind};
use longhand_tensor::{Result, kernels};

/// out[r] = wte[token r] + wpe[position r]
#[derive(Clone, Copy, Debug)]
pub struct Embed {
    wte: ParamId,
    wpe: ParamId,
    out: Var,
}

impl Embed {
    pub(crate) fn forward(tape: &mut Tape<'_>, wte: ParamId, wpe: ParamId) -> Result<Var> {
        let layout = tape.params.layout();
        layout.spec_of("embed", wpe, Role::Positions)?;
        let cols = layout.spec_of("embed", wte, Role::Embedding)?.cols();
        let out = tape.new_value(tape.batch.rows(), cols)?;
        let (ctx, batch, params) = (tape.ctx, tape.batch, tape.params);
        let ([o], []) = tape.views([tape.buf(out)], []);
        kernels::embedding_forward(ctx, o, batch.tokens(), batch.positions(), params.get(wte), params.get(wpe))?;
        if tape.needs_backward(&[out], &[], &[wte, wpe]) {
            tape.record(Embed { wte, wpe, out });
        }
        Ok(out)
    }
}

impl Backward for Embed {
    /// dwte[token r] += dout[r]; dwpe[position r] += dout[r]
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (ctx, batch) = (tape.ctx, tape.batch);
        let cols = tape.params.layout().spec(self.wte).cols();
        let (arena, grads) = tape.arena_and_grads();
        let (acc_wte, acc_wpe) = (grads.accumulate(self.wte), grads.accumulate(self.wpe));
        let (dwte, dwpe) = grads.get_two_mut(self.wte, self.wpe);
        let (tokens, positions) = (batch.tokens(), batch.positions());
        kernels::embedding_backward(ctx, dwte, dwpe, arena.get(dout), tokens, positions, cols, acc_wte, acc_wpe)?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        Ok(())
    }
}

/// out = a + b
#[derive(Clone, Copy, Debug)]
pub struct Add {
    a: Var,
    b: Var,
    out: Var,
}

impl Add {
    pub(crate) fn forward(tape: &mut Tape<'_>, a: Var, b: Var) -> Result<Var> {
        let (rows, cols) = tape.rows_cols(a);
        expect_summand("add", tape.rows_cols(b), (rows, cols))?;
        let (out, ctx) = (tape.new_value(rows, cols)?, tape.ctx);
        let ([o], [x, y]) = tape.views([tape.buf(out)], [tape.buf(a), tape.buf(b)]);
        kernels::residual_forward(ctx, o, x, y)?;
        if tape.needs_backward(&[out], &[a, b], &[]) {
            tape.record(Add { a, b, out });
        }
        Ok(out)
    }
}

impl Backward for Add {
    /// da += dout; db += dout
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        tape.give_grad([self.a, self.b], dout)?;
        tape.free_value(self.out);
        Ok(())
    }
}

/// out = x · keep / (1 − p)
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    x: Var,
    out: Var,
    p: f32,
    rng: Philox,
}

impl Dropout {
    pub(crate) fn forward(tape: &mut Tape<'_>, x: Var, p: f32, layer: usize, kind: SiteKind) -> Result<Var> {
        let (rows, cols) = tape.rows_cols(x);
        let (out, rng, ctx) = (tape.new_value(rows, cols)?, tape.philox(layer, kind), tape.ctx);
        let ([o], [i]) = tape.views([tape.buf(out)], [tape.buf(x)]);
        kernels::dropout_forward(ctx, o, i, p, &rng, 0)?;
        if tape.needs_backward(&[out], &[x], &[]) {
            tape.record(Dropout { x, out, p, rng });
        }
        Ok(out)
    }
}

impl Backward for Dropout {
    /// dx += dout · keep / (1 − p), the same elements kept
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (dx, acc) = tape.grad_target(self.x)?;
        let ctx = tape.ctx;
        let ([dx], [d]) = tape.views([dx], [dout]);
        kernels::dropout_backward(ctx, dx, d, self.p, &self.rng, 0, acc)?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        Ok(())
    }
}
