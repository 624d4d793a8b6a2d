//! Attention: each mask, dropout, ragged batches, and queries apart from keys.

use super::{Op, Tensors, noise, unset, zeros};
use crate::attention::{self, Attention, Dropout, Mask, Seq};
use crate::random::{Philox, Site, SiteKind};
use crate::reference::{self, Arith};
use crate::{Accumulate, Ctx, MatRef, Result};

const STORE: Accumulate = Accumulate::Store;
const HEADS: usize = 2;
const HEAD_SIZE: usize = 9;
/// C.
const CHANNELS: usize = HEADS * HEAD_SIZE;

/// Attention of two heads of nine channels over a ragged batch.
#[derive(Clone, Copy, Debug)]
pub struct AttentionCase {
    /// The variant.
    pub name: &'static str,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Dropout on the probabilities.
    pub p: f32,
    /// q, k and v as tensors of their own, with more, fewer and no keys; else packed rows q | k | v.
    pub separate: bool,
}

impl AttentionCase {
    /// More queries than a block has; none; one; more than a vector.
    fn seqs(&self) -> Vec<Seq> {
        let lengths =
            if self.separate { [(5, 40), (7, 3), (4, 0), (50, 60)] } else { [(53, 53), (0, 0), (1, 1), (21, 21)] };
        lengths.map(|(queries, keys)| Seq { queries, keys }).to_vec()
    }

    /// Rows of queries and of keys.
    fn rows(&self) -> (usize, usize) {
        self.seqs().iter().fold((0, 0), |(q, k), seq| (q + seq.queries, k + seq.keys))
    }

    fn with<R>(&self, f: impl FnOnce(&[Seq], &Attention) -> R) -> R {
        let rng = Philox::new(3, Site::new(1, SiteKind::AttentionDropout), 2);
        let dropout = (self.p > 0.0).then_some(Dropout { p: self.p, rng: &rng, context: 64, first_sequence: 5 });
        let scale = 1.0 / (HEAD_SIZE as f32).sqrt();
        f(&self.seqs(), &Attention { heads: HEADS, head_size: HEAD_SIZE, mask: self.mask, dropout, scale })
    }
}

fn mats(inp: &[Vec<f32>]) -> Result<[MatRef<'_>; 3]> {
    let mat = |i: usize| MatRef::new(&inp[i][..], inp[i].len() / CHANNELS, CHANNELS);
    Ok([mat(0)?, mat(1)?, mat(2)?])
}

impl Op for AttentionCase {
    fn name(&self) -> &'static str {
        self.name
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let (queries, keys) = self.rows();
        if self.separate {
            let keys = keys * CHANNELS;
            return vec![("q", noise(1, queries * CHANNELS)), ("k", noise(2, keys)), ("v", noise(3, keys))];
        }
        vec![("qkv", noise(1, queries * 3 * CHANNELS))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out", "lse"]
    }
    fn flops(&self) -> u64 {
        let visible = |seq: &Seq| (0..seq.queries).map(|i| self.mask.visible(*seq, i).len()).sum::<usize>();
        let pairs = self.seqs().iter().map(visible).sum::<usize>();
        (pairs * HEADS * (4 * HEAD_SIZE + 4)) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let rows = self.rows().0;
        let (mut out, mut lse) = (zeros(rows * CHANNELS), zeros(rows * HEADS));
        self.with(|seqs, att| match inp {
            [q, k, v] => reference::attention_forward_qkv::<A>(&mut out, &mut lse, q, k, v, seqs, att),
            _ => reference::attention_forward::<A>(&mut out, &mut lse, &inp[0], seqs, att),
        });
        vec![out, lse]
    }
    fn reference_backward<A: Arith>(&self, inp: &[Vec<A::T>], dout: &[Vec<A::T>]) -> Tensors<A::T> {
        let mut grads: Tensors<A::T> = inp.iter().map(|x| zeros(x.len())).collect();
        self.with(|seqs, att| match (&mut grads[..], inp) {
            ([dq, dk, dv], [q, k, v]) => {
                reference::attention_backward_qkv::<A>(dq, dk, dv, &dout[0], q, k, v, seqs, att, STORE);
            }
            (grads, _) => reference::attention_backward::<A>(&mut grads[0], &dout[0], &inp[0], seqs, att, STORE),
        });
        grads
    }
    fn forward(&self, ctx: &Ctx, inp: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let rows = self.rows().0;
        let (mut out, mut lse) = (unset(rows * CHANNELS), unset(rows * HEADS));
        self.with(|seqs, att| {
            if !self.separate {
                return attention::attention_forward(ctx, &mut out, &mut lse, &inp[0], seqs, att);
            }
            let [q, k, v] = mats(inp)?;
            attention::attention_forward_qkv(ctx, &mut out, &mut lse, q, k, v, seqs, att)
        })?;
        Ok(vec![out, lse])
    }
    fn backward(&self, ctx: &Ctx, inp: &[Vec<f32>], out: &[Vec<f32>], dout: &[Vec<f32>]) -> Result<Tensors<f32>> {
        let mut grads: Tensors<f32> = inp.iter().map(|x| unset(x.len())).collect();
        let (out, lse, dout) = (&out[0], &out[1], &dout[0]);
        self.with(|seqs, att| {
            let [dq, dk, dv] = &mut grads[..] else {
                let dqkv = &mut grads[0];
                return attention::attention_backward(ctx, dqkv, dout, &inp[0], out, lse, seqs, att, STORE);
            };
            let [q, k, v] = mats(inp)?;
            attention::attention_backward_qkv(ctx, dq, dk, dv, dout, q, k, v, out, lse, seqs, att, STORE)
        })?;
        Ok(grads)
    }
}
