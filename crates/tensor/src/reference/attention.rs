//! Plain loops: attention, one query after the other, and its backward under the same equations.

use super::{Arith, Real, put};
use crate::Accumulate;
use crate::attention::{Attention, Seq};

/// out_i = Σ_j P_ij·keep_ij·v_j with P_i = softmax over the visible keys of scale·q_i·k_j; lse_i = log₂ Σ_j e^(score).
///
/// Shapes: q, out (Σ queries, C), k and v (Σ keys, C), lse (Σ queries, NH). A query without keys gives 0 and +∞.
pub fn attention_forward_qkv<A: Arith>(
    out: &mut [A::T],
    lse: &mut [A::T],
    q: &[A::T],
    k: &[A::T],
    v: &[A::T],
    seqs: &[Seq],
    att: &Attention,
) {
    let (nh, hs) = (att.heads, att.head_size);
    let c = nh * hs;
    for_each_query(seqs, att, |row, keys, seq, head, i| {
        let p = probabilities::<A>(&q[row * c + head * hs..], k, keys, seq, head, i, att);
        let (m, l) = (p.max, p.sum);
        let out = &mut out[row * c + head * hs..][..hs];
        out.fill(A::T::ZERO);
        lse[row * nh + head] = if p.weights.is_empty() {
            -A::T::neg_infinity()
        } else {
            (m + l.ln()) * A::T::from_f64(core::f64::consts::LOG2_E)
        };
        for (t, &w) in p.weights.iter().enumerate() {
            let v = &v[(keys + p.first + t) * c + head * hs..][..hs];
            let kept = w * p.keep[t];
            for d in 0..hs {
                out[d] = A::mul_add(kept, v[d], out[d]);
            }
        }
        for x in out {
            *x = if p.weights.is_empty() { A::T::ZERO } else { *x / l };
        }
    });
}

/// The gradients of `attention_forward_qkv`: with P' = P∘keep, dV = P'ᵀdO, dP = keep∘(dO·Vᵀ), dS = P∘(dP − D),
/// D_i = Σ_j P_ij·dP_ij = dO_i·O_i, dQ = scale·dS·K, dK = scale·dSᵀ·Q. Softmax is computed again.
pub fn attention_backward_qkv<A: Arith>(
    dq: &mut [A::T],
    dk: &mut [A::T],
    dv: &mut [A::T],
    dout: &[A::T],
    q: &[A::T],
    k: &[A::T],
    v: &[A::T],
    seqs: &[Seq],
    att: &Attention,
    acc: Accumulate,
) {
    let hs = att.head_size;
    let c = att.heads * hs;
    let scale = A::T::from_f64(att.scale as f64);
    for d in [&mut *dq, &mut *dk, &mut *dv] {
        if acc == Accumulate::Store {
            d.fill(A::T::ZERO);
        }
    }
    for_each_query(seqs, att, |row, keys, seq, head, i| {
        let at = row * c + head * hs;
        let p = probabilities::<A>(&q[at..], k, keys, seq, head, i, att);
        let n = p.weights.len();
        let mut dp = vec![A::T::ZERO; n];
        let mut delta = A::T::ZERO;
        for t in 0..n {
            let j = (keys + p.first + t) * c + head * hs;
            for d in 0..hs {
                dp[t] = A::mul_add(dout[at + d], v[j + d], dp[t]);
            }
            dp[t] = dp[t] * p.keep[t];
            delta = A::mul_add(p.weights[t] / p.sum, dp[t], delta);
        }
        for t in 0..n {
            let j = (keys + p.first + t) * c + head * hs;
            let weight = p.weights[t] / p.sum;
            let ds = weight * (dp[t] - delta) * scale;
            for d in 0..hs {
                put(&mut dv[j + d], weight * p.keep[t] * dout[at + d], Accumulate::Add);
                put(&mut dq[at + d], ds * k[j + d], Accumulate::Add);
                put(&mut dk[j + d], ds * q[at + d], Accumulate::Add);
            }
        }
    });
}

/// `attention_forward_qkv` on packed rows q | k | v: qkv (R, 3C), as many keys as queries.
pub fn attention_forward<A: Arith>(out: &mut [A::T], lse: &mut [A::T], qkv: &[A::T], seqs: &[Seq], att: &Attention) {
    let [q, k, v] = unpack(qkv, att);
    attention_forward_qkv::<A>(out, lse, &q, &k, &v, seqs, att);
}

/// `attention_backward_qkv` on packed rows: dqkv, qkv (R, 3C).
pub fn attention_backward<A: Arith>(
    dqkv: &mut [A::T],
    dout: &[A::T],
    qkv: &[A::T],
    seqs: &[Seq],
    att: &Attention,
    acc: Accumulate,
) {
    let [q, k, v] = unpack(qkv, att);
    let [mut dq, mut dk, mut dv] = [vec![A::T::ZERO; q.len()], vec![A::T::ZERO; q.len()], vec![A::T::ZERO; q.len()]];
    attention_backward_qkv::<A>(&mut dq, &mut dk, &mut dv, dout, &q, &k, &v, seqs, att, Accumulate::Store);
    let c = att.heads * att.head_size;
    for (r, row) in dqkv.chunks_exact_mut(3 * c).enumerate() {
        for (part, d) in [&dq, &dk, &dv].into_iter().enumerate() {
            for i in 0..c {
                put(&mut row[part * c + i], d[r * c + i], acc);
            }
        }
    }
}

/// q, k and v as matrices of their own.
fn unpack<T: Real>(qkv: &[T], att: &Attention) -> [Vec<T>; 3] {
    let c = att.heads * att.head_size;
    [0, 1, 2].map(|part| qkv.chunks_exact(3 * c).flat_map(|row| &row[part * c..(part + 1) * c]).copied().collect())
}

/// Calls f(row of the query, first key row of its sequence, (index, sequence), head, query within the sequence).
fn for_each_query(seqs: &[Seq], att: &Attention, mut f: impl FnMut(usize, usize, (usize, Seq), usize, usize)) {
    let (mut row, mut keys) = (0, 0);
    for (b, &seq) in seqs.iter().enumerate() {
        for i in 0..seq.queries {
            for head in 0..att.heads {
                f(row + i, keys, (b, seq), head, i);
            }
        }
        row += seq.queries;
        keys += seq.keys;
    }
}

/// One query's softmax before the division by its sum.
struct Probabilities<T> {
    /// The first visible key.
    first: usize,
    /// e^(score − max) of the visible keys.
    weights: Vec<T>,
    /// 0 where dropped, 1/(1 − p) where kept; 1 without dropout.
    keep: Vec<T>,
    max: T,
    sum: T,
}

fn probabilities<A: Arith>(
    q: &[A::T],
    k: &[A::T],
    keys: usize,
    (index, seq): (usize, Seq),
    head: usize,
    i: usize,
    att: &Attention,
) -> Probabilities<A::T> {
    let hs = att.head_size;
    let c = att.heads * hs;
    let visible = att.mask.visible(seq, i);
    let mut weights = Vec::new();
    let mut max = A::T::neg_infinity();
    for j in visible.clone() {
        let k = &k[(keys + j) * c + head * hs..][..hs];
        let mut score = A::T::ZERO;
        for d in 0..hs {
            score = A::mul_add(q[d], k[d], score);
        }
        score = score * A::T::from_f64(att.scale as f64);
        max = score.max(max);
        weights.push(score);
    }
    let mut sum = A::T::ZERO;
    for w in &mut weights {
        *w = (*w - max).exp();
        sum += *w;
    }
    let keep = visible.clone().map(|j| match att.dropout {
        None => A::T::ONE,
        Some(d) if d.rng.uniform(d.first_element(index, head, att.heads, seq, i) + j as u64) >= d.p => {
            A::T::ONE / (A::T::ONE - A::T::from_f64(d.p as f64))
        }
        Some(_) => A::T::ZERO,
    });
    Probabilities { first: visible.start, keep: keep.collect(), weights, max, sum }
}

#[cfg(test)]
mod tests {
    use super::super::F64;
    use super::*;
    use crate::attention::{Dropout, Mask};
    use crate::random::{Philox, Site, SiteKind};

    #[test]
    fn backward_agrees_with_central_differences() {
        let seqs = [Seq { queries: 5, keys: 5 }, Seq { queries: 0, keys: 3 }, Seq { queries: 3, keys: 7 }];
        let noise = Philox::new(1, Site::new(0, SiteKind::Init), 0);
        let rng = Philox::new(2, Site::new(0, SiteKind::AttentionDropout), 0);
        for (mask, p) in [(Mask::Causal, 0.0), (Mask::None, 0.0), (Mask::Banded(3), 0.0), (Mask::Causal, 0.25)] {
            let dropout = (p > 0.0).then_some(Dropout { p, rng: &rng, context: 16, first_sequence: 3 });
            let att = Attention { heads: 2, head_size: 3, mask, dropout, scale: 0.6 };
            let draw = |site: u64, n: usize| -> Vec<f64> {
                (0..n as u64).map(|i| noise.normal(site * 1000 + i) as f64).collect()
            };
            let (q, k, v, dout) = (draw(0, 8 * 6), draw(1, 15 * 6), draw(2, 15 * 6), draw(3, 8 * 6));
            let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
            let grads = (&mut dq[..], &mut dk[..], &mut dv[..]);
            let store = Accumulate::Store;
            attention_backward_qkv::<F64>(grads.0, grads.1, grads.2, &dout, &q, &k, &v, &seqs, &att, store);
            let loss = |q: &[f64], k: &[f64], v: &[f64]| {
                let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; 16]);
                attention_forward_qkv::<F64>(&mut out, &mut lse, q, k, v, &seqs, &att);
                (0..out.len()).fold(0.0, |sum, i| sum + out[i] * dout[i])
            };
            let mut inputs = [q, k, v];
            for (which, grad) in [dq, dk, dv].iter().enumerate() {
                for i in 0..grad.len() {
                    let (h, x) = (1e-5, inputs[which][i]);
                    let mut at = |x: f64| {
                        inputs[which][i] = x;
                        loss(&inputs[0], &inputs[1], &inputs[2])
                    };
                    let slope = (at(x + h) - at(x - h)) / (2.0 * h);
                    at(x);
                    let error = (slope - grad[i]).abs();
                    assert!(error <= 1e-8 + 1e-6 * slope.abs(), "{mask:?} input {which} at {i}: {slope} {}", grad[i]);
                }
            }
        }
    }
}
