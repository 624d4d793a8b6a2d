//! Attention: causal, banded or unmasked; naive and fused; in training, in prefill and over a KV cache.
//!
//! ```text
//! S = scale·Q·Kᵀ     P = softmax over the visible keys     O = P·V          a head of HS channels at a time
//! ```
//!
//! **The whole row of scores at once.** For a block of 48 queries all visible scores are kept in scratch (L2), then
//! come the row's maximum, exp2, the row's sum, and P·V. No running maximum, no rescaling of partial outputs:
//! a score is one chain of multiply-adds over HS, an output one chain over the keys in order, and the only other sum,
//! the softmax's, has its fixed 16 lanes. So no result depends on a tile, a block or a mask's shape; naive and fused,
//! whole sequence and KV cache give the same bits.
//!
//! Order of one query's arithmetic, everywhere in this module (fma = one step of the rounding class):
//!
//! ```text
//! q'  = q · (scale·log₂e)                         s_j = chain over HS of fma(q'_d, k_jd), from +0
//! m   = max s_j      p_j = exp2(s_j − m)          l = p_j in lane j mod 16, then the tree 8-4-2-1
//! o_d = chain over visible j of fma(p_j, v_jd)    out = o / l, and lse = m + log₂ l
//! with dropout: the dropped p_j enter o as 0, l is the sum of all, and out = o / (l·(1 − p))
//! ```
//!
//! A masked score is never multiplied with anything: a query's outputs do not depend on what it cannot see, were
//! it NaN. Queries and keys may differ in number; a query without keys gives 0 and lse = +∞, one whose scores are all −∞ NaN.
//!
//! ```text
//! product    the one multiply-add kernel: a block of at most 48 rows, clipped row by row
//! pack       rows to panels of 16 keys, rows to rows
//! forward    scores, softmax, P·V of a block of queries; the fused forward, and the cached one
//! backward   P again from lse, then dQ, dK and dV
//! naive      the T × T matrices in memory and plain loops over rows
//! dropout    the draws
//! cache      KvCache
//! plan       ragged batches into tasks, the longest first
//! ```
//!
//! Source: Vaswani et al., arXiv:1706.03762; the backward by blocks as in Dao et al., arXiv:2205.14135.

mod backward;
mod cache;
mod dropout;
mod forward;
mod naive;
mod pack;
mod plan;
mod product;
#[cfg(test)]
mod tests;

#[cfg(longhand_variants)]
pub use backward::by_keys::attention_backward_by_keys;
pub use cache::{KvCache, attention_cached};

use crate::error::{Error, Result, expect_len};
use crate::matrix::{Accumulate, MatRef};
use crate::random::Philox;
use crate::simd::LANES;
use crate::{Ctx, shape};
use core::ops::Range;
use product::WIDTH;

/// Which keys a query sees, by absolute position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Keys up to the query's own position.
    Causal,
    /// Every key.
    None,
    /// The last `w` keys up to the query's own position: i − w < j ≤ i.
    Banded(usize),
}

impl Mask {
    /// The keys that query `i` of `seq` sees.
    #[inline]
    pub fn visible(self, seq: Seq, i: usize) -> Range<usize> {
        let behind = seq.queries.saturating_sub(i).saturating_sub(1);
        let end = seq.keys.saturating_sub(behind);
        match self {
            Mask::None => 0..seq.keys,
            Mask::Causal => 0..end,
            Mask::Banded(w) => end.saturating_sub(w)..end,
        }
    }
}

/// Dropout on the probabilities: the draw of (sequence, head, query, key) has element
/// ((sequence·NH + head)·context + query)·context + key, positions being absolute.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// The share that is dropped, in [0, 1).
    pub p: f32,
    /// The stream of this layer and step.
    pub rng: &'a Philox,
    /// The longest sequence of the model: keys may not exceed it.
    pub context: usize,
    /// The number of the batch's first sequence, so that microbatches draw what the whole batch would.
    pub first_sequence: u64,
}

impl Dropout<'_> {
    /// The element of query `i` of sequence `index` in `head`, for key 0.
    pub(crate) fn first_element(&self, index: usize, head: usize, heads: usize, seq: Seq, i: usize) -> u64 {
        let sequence = self.first_sequence.wrapping_add(index as u64);
        let position = (seq.keys + i).wrapping_sub(seq.queries) as u64;
        let context = self.context as u64;
        let row = sequence.wrapping_mul(heads as u64).wrapping_add(head as u64);
        row.wrapping_mul(context).wrapping_add(position).wrapping_mul(context)
    }
}

/// What an attention layer is, apart from its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads (NH); C = NH·HS.
    pub heads: usize,
    /// Channels of a head (HS).
    pub head_size: usize,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Dropout on the probabilities, in training.
    pub dropout: Option<Dropout<'a>>,
    /// Factor of the scores, 1/√HS.
    pub scale: f32,
}

impl Attention<'_> {
    /// scale·log₂e: scores in bits.
    fn scale_log2(&self) -> f32 {
        (self.scale as f64 * core::f64::consts::LOG2_E) as f32
    }

    /// The dropout, unless it drops nothing.
    fn active_dropout(&self) -> Option<Dropout<'_>> {
        self.dropout.filter(|d| d.p > 0.0)
    }
}

/// The lengths of one sequence of a ragged batch. Query i stands at absolute position keys − queries + i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seq {
    /// Rows of q and out.
    pub queries: usize,
    /// Rows of k and v.
    pub keys: usize,
}

/// Fused attention on packed rows: out = softmax(scale·Q·Kᵀ)·V by head, sequence after sequence.
///
/// Shapes: qkv (R, 3C) with rows q | k | v, out (R, C), lse (R, NH); R = Σ queries, and each sequence has as many keys
/// as queries. Units: lse in bits, log₂ of the softmax's denominator.
/// Saves: lse and out for the backward. Writes out and lse whole.
/// Cost: 4·HS flops and one exp2 for each visible (query, key) pair of a head; scratch of a thread about
/// (2·HS + 49)·T + 96·HS floats, T more with dropout.
/// Numerics: as in the module's text; bitwise equal to `attention_naive_forward` and `attention_cached`.
/// Threads: by (sequence, head, run of queries): runs of half of the longest sequence, shorter where fewer than twelve heads
/// are in the batch, at least 192; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` when lengths disagree; `InvalidValue` for no heads, no channels or a p outside [0, 1);
/// `OutOfRange` for a sequence longer than the dropout's context; `SizeOverflow` for sizes whose products or sums, the
/// greatest scratch's among them, have none.
pub fn attention_forward(
    ctx: &Ctx,
    out: &mut [f32],
    lse: &mut [f32],
    qkv: &[f32],
    seqs: &[Seq],
    att: &Attention,
) -> Result<()> {
    let _timed = ctx.time("attention_forward");
    let [q, k, v] = packed("attention_forward", qkv, seqs, att)?;
    let op = Inputs::checked("attention_forward", q, k, v, seqs, att)?;
    op.check_outputs(out, lse)?;
    forward::forward(ctx, out, lse, &op);
    Ok(())
}

/// `attention_forward` with queries, keys and values of their own, as many queries and keys as each `Seq` says.
///
/// Shapes: q and out (Σ queries, C), k and v (Σ keys, C), lse (Σ queries, NH); rows of q, k and v may lie apart, their
/// columns may not.
/// # Errors
/// As `attention_forward`, and `InvalidValue` for a column stride other than 1.
pub fn attention_forward_qkv(
    ctx: &Ctx,
    out: &mut [f32],
    lse: &mut [f32],
    q: MatRef,
    k: MatRef,
    v: MatRef,
    seqs: &[Seq],
    att: &Attention,
) -> Result<()> {
    let _timed = ctx.time("attention_forward_qkv");
    let op = Inputs::checked("attention_forward_qkv", q, k, v, seqs, att)?;
    op.check_outputs(out, lse)?;
    forward::forward(ctx, out, lse, &op);
    Ok(())
}

/// `attention_forward` with the T × T scores of a head in memory and plain loops over rows: the same bits, slower.
/// # Errors
/// As `attention_forward`.
pub fn attention_naive_forward(
    ctx: &Ctx,
    out: &mut [f32],
    lse: &mut [f32],
    qkv: &[f32],
    seqs: &[Seq],
    att: &Attention,
) -> Result<()> {
    let _timed = ctx.time("attention_naive_forward");
    let [q, k, v] = packed("attention_naive_forward", qkv, seqs, att)?;
    let op = Inputs::checked("attention_naive_forward", q, k, v, seqs, att)?;
    op.check_outputs(out, lse)?;
    naive::forward(ctx, out, lse, &op);
    Ok(())
}

/// The gradient of `attention_forward`:
/// dV = P'ᵀ·dO, dP = keep∘(dO·Vᵀ), dS = P∘(dP − D) with D = Σ dO∘O, dQ = scale·dS·K, dK = scale·dSᵀ·Q, P' = keep∘P.
///
/// Shapes: dqkv and qkv (R, 3C), dout and out (R, C), lse (R, NH), out and lse as the forward wrote them. Dropout is
/// drawn again. Writes dqkv by `acc`.
/// Cost: 2.5 times the forward's flops and one exp2 a visible pair; scratch of a thread about 5·HS·T floats.
/// Numerics: P again as exp2(s − lse); dQ is one chain over keys, dK and dV one over queries, in order.
/// Threads: by (sequence, head); bitwise the same for any thread count.
/// # Errors
/// As `attention_forward`.
pub fn attention_backward(
    ctx: &Ctx,
    dqkv: &mut [f32],
    dout: &[f32],
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    seqs: &[Seq],
    att: &Attention,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("attention_backward");
    let [q, k, v] = packed("attention_backward", qkv, seqs, att)?;
    let op = Inputs::checked("attention_backward", q, k, v, seqs, att)?;
    expect_len(op.name, "dqkv length", dqkv.len(), qkv.len())?;
    op.check_saved(dout, out, lse)?;
    let grads = backward::Gradients::packed(dqkv, op.c);
    backward::backward(ctx, &grads, dout, out, lse, &op, acc);
    Ok(())
}

/// The gradient of `attention_forward_qkv`: dq (Σ queries, C), dk and dv (Σ keys, C) row-major; else as
/// `attention_backward`.
/// # Errors
/// As `attention_forward_qkv`.
pub fn attention_backward_qkv(
    ctx: &Ctx,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
    dout: &[f32],
    q: MatRef,
    k: MatRef,
    v: MatRef,
    out: &[f32],
    lse: &[f32],
    seqs: &[Seq],
    att: &Attention,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("attention_backward_qkv");
    let op = Inputs::checked("attention_backward_qkv", q, k, v, seqs, att)?;
    expect_len(op.name, "dq length", dq.len(), q.rows() * op.c)?;
    expect_len(op.name, "dk length", dk.len(), k.rows() * op.c)?;
    expect_len(op.name, "dv length", dv.len(), k.rows() * op.c)?;
    op.check_saved(dout, out, lse)?;
    let grads = backward::Gradients::separate(dq, dk, dv, op.c);
    backward::backward(ctx, &grads, dout, out, lse, &op, acc);
    Ok(())
}

/// `attention_backward` with the T × T matrices P and dS of a head in memory and plain loops over rows: the same
/// bits, slower.
/// # Errors
/// As `attention_backward`.
pub fn attention_naive_backward(
    ctx: &Ctx,
    dqkv: &mut [f32],
    dout: &[f32],
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    seqs: &[Seq],
    att: &Attention,
    acc: Accumulate,
) -> Result<()> {
    let _timed = ctx.time("attention_naive_backward");
    let [q, k, v] = packed("attention_naive_backward", qkv, seqs, att)?;
    let op = Inputs::checked("attention_naive_backward", q, k, v, seqs, att)?;
    expect_len(op.name, "dqkv length", dqkv.len(), qkv.len())?;
    op.check_saved(dout, out, lse)?;
    let grads = backward::Gradients::packed(dqkv, op.c);
    naive::backward(ctx, &grads, dout, out, lse, &op, acc);
    Ok(())
}

/// The inputs of every pass, checked against each other.
#[derive(Clone, Copy, Debug)]
struct Inputs<'a> {
    name: &'static str,
    q: MatRef<'a>,
    k: MatRef<'a>,
    v: MatRef<'a>,
    seqs: &'a [Seq],
    att: &'a Attention<'a>,
    /// NH·HS.
    c: usize,
}

impl<'a> Inputs<'a> {
    fn checked(
        name: &'static str,
        q: MatRef<'a>,
        k: MatRef<'a>,
        v: MatRef<'a>,
        seqs: &'a [Seq],
        att: &'a Attention,
    ) -> Result<Self> {
        let c = channels(name, att)?;
        let (mut queries, mut keys) = (0usize, 0usize);
        for seq in seqs {
            let overflow = Error::SizeOverflow { op: name, sizes: [queries, seq.queries, seq.keys] };
            (queries, keys) = match (queries.checked_add(seq.queries), keys.checked_add(seq.keys)) {
                (Some(q), Some(k)) => (q, k),
                _ => return Err(overflow),
            };
            check_context(name, seq, att)?;
        }
        // Rows may lie on top of each other, so that no memory bounds their number: the greatest scratch must have a size.
        let places = seqs.len().checked_mul(LANES).and_then(|more| keys.checked_add(more)).unwrap_or(usize::MAX);
        shape::product3(name, places, att.heads, 8 * size_of::<f32>() * (att.head_size + WIDTH + LANES))?;
        for (mat, rows, what) in [(&q, queries, "rows of q"), (&k, keys, "rows of k"), (&v, keys, "rows of v")] {
            expect_len(name, what, mat.rows(), rows)?;
            check_columns(name, mat, c)?;
        }
        Ok(Inputs { name, q, k, v, seqs, att, c })
    }

    fn check_outputs(&self, out: &[f32], lse: &[f32]) -> Result<()> {
        expect_len(self.name, "out length", out.len(), shape::product2(self.name, self.q.rows(), self.c)?)?;
        expect_len(self.name, "lse length", lse.len(), self.q.rows() * self.att.heads)
    }

    fn check_saved(&self, dout: &[f32], out: &[f32], lse: &[f32]) -> Result<()> {
        expect_len(self.name, "dout length", dout.len(), out.len())?;
        self.check_outputs(out, lse)
    }
}

/// C = NH·HS of a usable description.
fn channels(op: &'static str, att: &Attention) -> Result<usize> {
    for (n, what) in [(att.heads, "heads"), (att.head_size, "head size")] {
        if n == 0 {
            return Err(Error::InvalidValue { op, what, expected: "at least 1", got: 0.0 });
        }
    }
    if let Some(d) = att.dropout
        && !(0.0..1.0).contains(&d.p)
    {
        return Err(Error::InvalidValue { op, what: "dropout", expected: "0 ≤ p < 1", got: d.p as f64 });
    }
    shape::product2(op, att.heads, shape::round_up(op, att.head_size, 16)?)?;
    Ok(att.heads * att.head_size)
}

fn check_context(op: &'static str, seq: &Seq, att: &Attention) -> Result<()> {
    match att.active_dropout() {
        Some(d) if seq.keys > d.context => {
            Err(Error::OutOfRange { op, what: "keys of a sequence", got: seq.keys, limit: d.context + 1 })
        }
        _ => Ok(()),
    }
}

fn check_columns(op: &'static str, mat: &MatRef, c: usize) -> Result<()> {
    expect_len(op, "columns", mat.cols(), c)?;
    if mat.rows() > 0 && mat.cols() > 1 && mat.col_stride() != 1 {
        let got = mat.col_stride() as f64;
        return Err(Error::InvalidValue { op, what: "column stride", expected: "1", got });
    }
    Ok(())
}

/// The three views of packed rows q | k | v.
fn packed<'a>(op: &'static str, qkv: &'a [f32], seqs: &[Seq], att: &Attention) -> Result<[MatRef<'a>; 3]> {
    let c = channels(op, att)?;
    let width = shape::product2(op, c, 3)?;
    for seq in seqs {
        expect_len(op, "keys of a sequence", seq.keys, seq.queries)?;
    }
    let rows = qkv.len() / width;
    expect_len(op, "qkv length", qkv.len(), rows * width)?;
    let view = |part: usize| MatRef::strided(&qkv[(part * c).min(qkv.len())..], rows, c, width, 1);
    Ok([view(0)?, view(1)?, view(2)?])
}
