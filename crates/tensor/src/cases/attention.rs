//! Attention: each mask, dropout, ragged batches, and queries apart from keys.

use super::{Op, Tensors, noise, unset, zeros};
use crate::attention::{self, Attention, Dropout, Mask, Seq};
use crate::random::{Philox, Site, SiteKind};
use crate::reference::{self, Arith};
use crate::{Accumulate, Ctx, MatRef, Result};

const STORE: Accumulate = Accumulate::Store;
const HEADS: usize = 2;

/// Attention of two heads over a ragged batch.
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
    /// Of the longest sequence.
    pub queries: usize,
    /// HS.
    pub head_size: usize,
}

impl AttentionCase {
    /// C.
    fn channels(&self) -> usize {
        HEADS * self.head_size
    }

    /// As many queries as the case asks for; none; one; more than a vector.
    fn seqs(&self) -> Vec<Seq> {
        let n = self.queries;
        let lengths =
            if self.separate { [(5, 40), (7, 3), (4, 0), (n, n + 10)] } else { [(n, n), (0, 0), (1, 1), (21, 21)] };
        lengths.map(|(queries, keys)| Seq { queries, keys }).to_vec()
    }

    /// Rows of queries and of keys.
    fn rows(&self) -> (usize, usize) {
        self.seqs().iter().fold((0, 0), |(q, k), seq| (q + seq.queries, k + seq.keys))
    }

    /// q, k and v.
    fn mats<'a>(&self, inp: &'a [Vec<f32>]) -> Result<[MatRef<'a>; 3]> {
        let (c, (queries, keys)) = (self.channels(), self.rows());
        Ok([MatRef::new(&inp[0], queries, c)?, MatRef::new(&inp[1], keys, c)?, MatRef::new(&inp[2], keys, c)?])
    }

    fn with<R>(&self, f: impl FnOnce(&[Seq], &Attention) -> R) -> R {
        let rng = Philox::new(3, Site::new(1, SiteKind::AttentionDropout), 2);
        let dropout = (self.p > 0.0).then_some(Dropout { p: self.p, rng: &rng, context: 64, first_sequence: 5 });
        let (head_size, scale) = (self.head_size, 1.0 / (self.head_size as f32).sqrt());
        f(&self.seqs(), &Attention { heads: HEADS, head_size, mask: self.mask, dropout, scale })
    }
}

impl Op for AttentionCase {
    fn name(&self) -> &'static str {
        self.name
    }
    fn resized(&self, rows: usize, cols: usize) -> Self {
        AttentionCase { queries: rows, head_size: cols.max(1), ..*self }
    }
    fn inputs(&self) -> Vec<(&'static str, Vec<f32>)> {
        let (queries, keys) = self.rows();
        if self.separate {
            let keys = keys * self.channels();
            return vec![("q", noise(1, queries * self.channels())), ("k", noise(2, keys)), ("v", noise(3, keys))];
        }
        vec![("qkv", noise(1, queries * 3 * self.channels()))]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["out", "lse"]
    }
    fn flops(&self) -> u64 {
        let visible = |seq: &Seq| (0..seq.queries).map(|i| self.mask.visible(*seq, i).len()).sum::<usize>();
        let pairs = self.seqs().iter().map(visible).sum::<usize>();
        (pairs * HEADS * (4 * self.head_size + 4)) as u64
    }
    fn reference_forward<A: Arith>(&self, inp: &[Vec<A::T>]) -> Tensors<A::T> {
        let rows = self.rows().0;
        let (mut out, mut lse) = (zeros(rows * self.channels()), zeros(rows * HEADS));
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
        let (mut out, mut lse) = (unset(rows * self.channels()), unset(rows * HEADS));
        self.with(|seqs, att| {
            if !self.separate {
                return attention::attention_forward(ctx, &mut out, &mut lse, &inp[0], seqs, att);
            }
            let [q, k, v] = self.mats(inp)?;
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
            let [q, k, v] = self.mats(inp)?;
            attention::attention_backward_qkv(ctx, dq, dk, dv, dout, q, k, v, out, lse, seqs, att, STORE)
        })?;
        Ok(grads)
    }
}
