//! Self-attention within each sequence.

use crate::tape::{Backward, Tape, Var};
use longhand_tensor::Result;
use longhand_tensor::arena::Buf;
use longhand_tensor::attention::{attention_backward, attention_forward};
use longhand_tensor::exec::AttentionOp;
use longhand_tensor::random::{Philox, SiteKind};

/// out = softmax(q·kᵀ/√HS + mask)·v, head by head
#[derive(Clone, Copy, Debug)]
pub struct AttentionNode {
    qkv: Var,
    out: Var,
    op: AttentionOp,
    lse: Buf,
    rng: Philox,
}

impl AttentionNode {
    pub(crate) fn forward(tape: &mut Tape<'_>, qkv: Var, op: &AttentionOp) -> Result<Var> {
        let (rows, cols) = tape.rows_cols(qkv);
        let rng = tape.philox(op.layer, SiteKind::AttentionDropout);
        let attention = op.attention(cols, Some(&rng))?;
        let (out, lse) = (tape.new_value(rows, cols / 3)?, tape.new_buf(rows, op.heads)?);
        let node = AttentionNode { qkv, out, op: *op, lse, rng };
        let (ctx, batch) = (tape.ctx, tape.batch);
        let ([o, l], [x]) = tape.views([tape.buf(out), lse], [tape.buf(qkv)]);
        attention_forward(ctx, o, l, x, batch.seqs(), &attention)?;
        if tape.needs_backward(&[out], &[qkv], &[]) {
            tape.keep(qkv);
            tape.keep(out);
            tape.record(node);
        } else {
            tape.free(lse);
        }
        Ok(out)
    }
}

impl Backward for AttentionNode {
    /// dv += pᵀ·dout; dp = dout·vᵀ; ds = p∘(dp − Σ dout∘out); dq += ds·k; dk += dsᵀ·q
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let Some(dout) = tape.take_grad(self.out) else { return Ok(()) };
        let (_, cols) = tape.rows_cols(self.qkv);
        let (dqkv, acc) = tape.grad_target(self.qkv)?;
        let (ctx, batch) = (tape.ctx, tape.batch);
        let (qkv, out) = (tape.saved(self.qkv)?, tape.saved(self.out)?);
        let ([dx], [d, x, o, l]) = tape.views([dqkv], [dout, qkv, out, self.lse]);
        attention_backward(ctx, dx, d, x, o, l, batch.seqs(), &self.op.attention(cols, Some(&self.rng))?, acc)?;
        tape.release_grad(dout);
        tape.free_value(self.out);
        tape.free(self.lse);
        Ok(())
    }
}
