//! What a head makes of a body's rows: some of them, one of each run, one of all layers.

use crate::tape::{Backward, Tape, Var};
use longhand_tensor::error::expect_summand;
use longhand_tensor::kernels::Pool;
use longhand_tensor::params::{ParamId, Role};
use longhand_tensor::{Accumulate, Result, kernels};

/// out[i] = x[rows i]
#[derive(Clone, Copy, Debug)]
pub struct GatherRows {
    x: Var,
    out: Var,
    rows: (usize, usize),
}

impl GatherRows {
    pub(crate) fn forward(tape: &mut Tape<'_>, x: Var, rows: &[usize]) -> Result<Var> {
        let (_, cols) = tape.rows_cols(x);
        let (out, ctx) = (tape.new_value(rows.len(), cols)?, tape.ctx);
        let ([o], [i]) = tape.views([tape.buf(out)], [tape.buf(x)]);
        kernels::gather_rows(ctx, o, i, rows, cols)?;
        if tape.needs_backward(&[out], &[x], &[]) {
            let rows = tape.save_list(rows.iter().copied());
            tape.record(GatherRows { x, out, rows });
        }
        Ok(out)
    }
}

impl Backward for GatherRows {
    /// dx[rows i] += dout[i], in order of i
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (_, cols) = tape.rows_cols(self.x);
        let (dx, acc) = tape.grad_target(self.x)?;
        let ctx = tape.ctx;
        let (arena, rows) = tape.arena_and_list(self.rows);
        let ([dx], [d]) = arena.views([dx], [dout]);
        if acc == Accumulate::Store {
            dx.fill(0.0);
        }
        kernels::scatter_rows_add(ctx, dx, d, rows, cols)?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        Ok(())
    }
}

/// out[s] = the mean, or the greatest, of the rows of run s
#[derive(Clone, Copy, Debug)]
pub struct PoolRows {
    x: Var,
    out: Var,
    lens: (usize, usize),
    pool: Pool,
}

impl PoolRows {
    pub(crate) fn forward(tape: &mut Tape<'_>, x: Var, lens: &[usize], pool: Pool) -> Result<Var> {
        let (_, cols) = tape.rows_cols(x);
        let (out, ctx) = (tape.new_value(lens.len(), cols)?, tape.ctx);
        let ([o], [i]) = tape.views([tape.buf(out)], [tape.buf(x)]);
        kernels::pool_forward(ctx, o, i, lens, cols, pool)?;
        if tape.needs_backward(&[out], &[x], &[]) {
            tape.keep(x);
            let lens = tape.save_list(lens.iter().copied());
            tape.record(PoolRows { x, out, lens, pool });
        }
        Ok(out)
    }
}

impl Backward for PoolRows {
    /// mean: dx[r] += dout[s] / len; max: dx[r,j] += dout[s,j] where r is the first that has it
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (_, cols) = tape.rows_cols(self.x);
        let (dx, acc) = tape.grad_target(self.x)?;
        let (x, ctx) = (tape.saved(self.x)?, tape.ctx);
        let (arena, lens) = tape.arena_and_list(self.lens);
        let ([dx], [d, x]) = arena.views([dx], [dout, x]);
        kernels::pool_backward(ctx, dx, d, x, lens, cols, self.pool, acc)?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        Ok(())
    }
}

/// out = γ·Σ_l softmax(w)_l·xs_l
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    xs: (usize, usize),
    weights: ParamId,
    out: Var,
}

impl Mix {
    pub(crate) fn forward(tape: &mut Tape<'_>, xs: &[Var], weights: ParamId) -> Result<Var> {
        tape.params.layout().spec_of("mix", weights, Role::Vector)?;
        let shares = kernels::mix_weights(tape.params.get(weights), xs.len())?;
        let (rows, cols) = tape.rows_cols(xs[0]);
        xs.iter().try_for_each(|x| expect_summand("mix", tape.rows_cols(*x), (rows, cols)))?;
        let (out, ctx) = (tape.new_value(rows, cols)?, tape.ctx);
        for (l, x) in xs.iter().enumerate() {
            let ([o], [i]) = tape.views([tape.buf(out)], [tape.buf(*x)]);
            let acc = if l == 0 { Accumulate::Store } else { Accumulate::Add };
            kernels::add_scaled(ctx, o, i, shares.of(l), acc)?;
        }
        if tape.needs_backward(&[out], xs, &[weights]) {
            xs.iter().for_each(|x| tape.keep(*x));
            let xs = tape.save_vars(xs);
            tape.record(Mix { xs, weights, out });
        }
        Ok(out)
    }
}

impl Backward for Mix {
    /// dx_l += γ·s_l·dout; dγ += Σ s_l·⟨dout, x_l⟩; dw_l += γ·s_l·(⟨dout, x_l⟩ − Σ_k s_k·⟨dout, x_k⟩)
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (ctx, xs) = (tape.ctx, tape.saved_vars(self.xs));
        let shares = kernels::mix_weights(tape.params.get(self.weights), xs.len())?;
        let mut dots = Vec::with_capacity(xs.len());
        for (l, x) in xs.into_iter().enumerate() {
            let saved = tape.saved(x)?;
            let ([], [d, value]) = tape.views([], [dout, saved]);
            dots.push(kernels::dot(ctx, d, value)?);
            if tape.trains(x) {
                let (dx, acc) = tape.grad_target(x)?;
                let ([dx], [d]) = tape.views([dx], [dout]);
                kernels::add_scaled(ctx, dx, d, shares.of(l), acc)?;
            }
        }
        let (_, grads) = tape.arena_and_grads();
        let acc = grads.accumulate(self.weights);
        shares.backward(grads.get_mut(self.weights), &dots, acc);
        tape.release_grad(dout);
        tape.free_value(self.out);
        Ok(())
    }
}
