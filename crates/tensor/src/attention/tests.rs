//! Attention on every instruction set of this CPU: against float64 within a derived bound, and bit for bit against its
//! other forms.

use super::*;
use crate::Isa;
use crate::random::{Site, SiteKind};
use crate::reference::{self, F64};

/// Pseudo-random numbers of a place, roughly normal.
fn noise(place: u64, n: usize) -> Vec<f32> {
    let rng = Philox::new(7, Site::new(place as usize, SiteKind::Init), 0);
    (0..n as u64).map(|i| (rng.uniform(4 * i) + rng.uniform(4 * i + 1) - rng.uniform(4 * i + 2) - 0.5) * 2.0).collect()
}

fn stream() -> Philox {
    Philox::new(5, Site::new(1, SiteKind::AttentionDropout), 3)
}

fn seqs_of(lengths: &[usize]) -> Vec<Seq> {
    lengths.iter().map(|&n| Seq { queries: n, keys: n }).collect()
}

fn att(heads: usize, head_size: usize, mask: Mask) -> Attention<'static> {
    Attention { heads, head_size, mask, dropout: None, scale: 1.0 / (head_size as f32).sqrt() }
}

fn bits(xs: &[f32]) -> Vec<u32> {
    xs.iter().map(|x| x.to_bits()).collect()
}

/// Forward and backward of one form on NaN-filled outputs.
struct Run {
    out: Vec<f32>,
    lse: Vec<f32>,
    dqkv: Vec<f32>,
}

fn run(ctx: &Ctx, naive: bool, qkv: &[f32], dout: &[f32], seqs: &[Seq], att: &Attention) -> Run {
    let rows = qkv.len() / (3 * att.heads * att.head_size);
    let (mut out, mut lse) = (vec![f32::NAN; dout.len()], vec![f32::NAN; rows * att.heads]);
    let mut dqkv = vec![f32::NAN; qkv.len()];
    let store = Accumulate::Store;
    if naive {
        attention_naive_forward(ctx, &mut out, &mut lse, qkv, seqs, att).unwrap();
        attention_naive_backward(ctx, &mut dqkv, dout, qkv, &out, &lse, seqs, att, store).unwrap();
    } else {
        attention_forward(ctx, &mut out, &mut lse, qkv, seqs, att).unwrap();
        attention_backward(ctx, &mut dqkv, dout, qkv, &out, &lse, seqs, att, store).unwrap();
    }
    Run { out, lse, dqkv }
}

/// Asserts |got − want| ≤ bound, element by element.
fn close(what: &str, got: &[f32], want: &[f64], bound: &[f64]) {
    assert_eq!(got.len(), want.len());
    for i in 0..got.len() {
        if got[i] as f64 == want[i] {
            continue;
        }
        let error = (got[i] as f64 - want[i]).abs();
        assert!(error <= bound[i], "{what}[{i}]: {} for {}, off by {error:e} of {:e}", got[i], want[i], bound[i]);
    }
}

/// Bounds of the errors of out, lse (bits), and dqkv, from the roundings of each step in f64.
///
/// With u = 2⁻²⁴ and γ(n) = n·u·1.01: a score is off by at most γ(HS + 3)·Σ|q·k|·scale; so p_j/l is off relatively by
/// e = 2·max_j(that) + γ(T + 8) + the exponential's 2u + for the backward lse's own rounding, 2u·(|lse| + 1);
/// an output by Σ P|v|·(e + γ(T)); dP by γ(HS)·Σ|dO·V|, D by γ(HS)·Σ|dO·O| + Σ|dO|·(bound of O); and sums of the
/// products by γ(their length) times the sum of magnitudes.
struct Bounds {
    out: Vec<f64>,
    lse: Vec<f64>,
    dqkv: Vec<f64>,
}

fn bounds(qkv: &[f64], dout: &[f64], seqs: &[Seq], att: &Attention) -> Bounds {
    let (nh, hs) = (att.heads, att.head_size);
    let (c, rows) = (nh * hs, qkv.len() / (3 * nh * hs));
    let mut b = Bounds { out: vec![0.0; rows * c], lse: vec![0.0; rows * nh], dqkv: vec![0.0; qkv.len()] };
    let u = 1.01 * f32::EPSILON as f64 / 2.0;
    let mut first = 0;
    let keep_most = 1.0 / (1.0 - att.dropout.map_or(0.0, |d| d.p as f64));
    for seq in seqs {
        for head in 0..nh {
            for i in 0..seq.queries {
                let row = first + i;
                let at = |part: usize, row: usize| row * 3 * c + part * c + head * hs;
                let visible = att.mask.visible(*seq, i);
                if visible.is_empty() {
                    continue;
                }
                let dot = |a: usize, b: usize| (0..hs).fold(0.0, |s, d| s + qkv[a + d] * qkv[b + d]);
                let abs = |a: usize, b: usize| (0..hs).fold(0.0, |s, d| s + (qkv[a + d] * qkv[b + d]).abs());
                let scale = att.scale as f64;
                let scores: Vec<f64> = visible.clone().map(|j| scale * dot(at(0, row), at(1, first + j))).collect();
                let worst = visible.clone().fold(0.0f64, |m, j| m.max(scale * abs(at(0, row), at(1, first + j))));
                let n = visible.len() as f64;
                let max = scores.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
                let sum = scores.iter().fold(0.0, |s, &x| s + libm::exp(x - max));
                let lse = (max + libm::log(sum)).abs();
                let score_error = (hs as f64 + 4.0) * u * worst + 2.0 * u * (max.abs() + 1.0);
                let e = 2.0 * score_error + (n + 12.0) * u + 3.0 * u * (lse + 1.0);
                b.lse[row * nh + head] = 1.5 * (score_error + (n + 8.0) * u + 3.0 * u * (lse + 1.0));
                let o_bound: Vec<f64> = (0..hs)
                    .map(|d| {
                        let mass = visible.clone().zip(&scores).fold(0.0, |s, (j, &x)| {
                            s + libm::exp(x - max) / sum * qkv[at(2, first + j) + d].abs() * keep_most
                        });
                        mass * (e + (n + 4.0) * u) + 1e-37
                    })
                    .collect();
                for d in 0..hs {
                    b.out[row * c + head * hs + d] = o_bound[d];
                }
                let dot_of = |j: usize| (0..hs).map(move |d| (row * c + head * hs + d, at(2, first + j) + d));
                let d_mass = (0..hs).fold((0.0, 0.0), |(m, o), d| {
                    let g = dout[row * c + head * hs + d].abs();
                    let mass = visible.clone().zip(&scores).fold(0.0, |s, (j, &x)| {
                        s + libm::exp(x - max) / sum * qkv[at(2, first + j) + d].abs() * keep_most
                    });
                    (m + g * mass, o + g * o_bound[d])
                });
                let delta_error = (hs as f64 + 2.0) * u * d_mass.0 + d_mass.1;
                for (t, j) in visible.clone().enumerate() {
                    let p = libm::exp(scores[t] - max) / sum;
                    let dp = keep_most * dot_of(j).fold(0.0, |s, (a, b)| s + (dout[a] * qkv[b]).abs());
                    // |dP − D| is at most the sum of the magnitudes.
                    let most = dp + d_mass.0;
                    let ds_error = p * ((e + 6.0 * u) * most + (hs as f64 + 4.0) * u * dp + delta_error);
                    let length = (n.max(seq.queries as f64) + 6.0) * u;
                    for d in 0..hs {
                        let (k, q, g) = (
                            qkv[at(1, first + j) + d].abs(),
                            qkv[at(0, row) + d].abs(),
                            dout[row * c + head * hs + d].abs(),
                        );
                        b.dqkv[at(0, row) + d] += scale * k * (ds_error + length * p * most);
                        b.dqkv[at(1, first + j) + d] += scale * q * (ds_error + length * p * most);
                        b.dqkv[at(2, first + j) + d] += g * p * keep_most * (e + length);
                    }
                }
            }
        }
        first += seq.queries;
    }
    for x in &mut b.dqkv {
        *x += 1e-36;
    }
    b
}

/// Every form and instruction set on one case: float64, bits of the rounding class, threads, Store and Add.
fn check(lengths: &[usize], att: &Attention) {
    let seqs = seqs_of(lengths);
    let rows = lengths.iter().sum::<usize>();
    let c = att.heads * att.head_size;
    let (qkv, dout) = (noise(1, rows * 3 * c), noise(2, rows * c));
    let wide = |xs: &[f32]| -> Vec<f64> { xs.iter().map(|&x| x as f64).collect() };
    let (qkv64, dout64) = (wide(&qkv), wide(&dout));
    let (mut out64, mut lse64) = (vec![0.0; rows * c], vec![0.0; rows * att.heads]);
    let mut dqkv64 = vec![0.0; rows * 3 * c];
    reference::attention_forward::<F64>(&mut out64, &mut lse64, &qkv64, &seqs, att);
    reference::attention_backward::<F64>(&mut dqkv64, &dout64, &qkv64, &seqs, att, Accumulate::Store);
    let bound = bounds(&qkv64, &dout64, &seqs, att);
    let mut classes: [Option<Run>; 2] = [None, None];
    for isa in Isa::available() {
        let ctx = Ctx::new(isa).with_threads(1);
        let fused = run(&ctx, false, &qkv, &dout, &seqs, att);
        let what = format!("{isa} {lengths:?} {att:?}");
        close(&format!("{what} out"), &fused.out, &out64, &bound.out);
        close(&format!("{what} lse"), &fused.lse, &lse64, &bound.lse);
        close(&format!("{what} dqkv"), &fused.dqkv, &dqkv64, &bound.dqkv);
        let naive = run(&ctx, true, &qkv, &dout, &seqs, att);
        assert_eq!(bits(&naive.out), bits(&fused.out), "{what}: naive out");
        assert_eq!(bits(&naive.lse), bits(&fused.lse), "{what}: naive lse");
        assert_eq!(bits(&naive.dqkv), bits(&fused.dqkv), "{what}: naive dqkv");
        let (mut added, old) = (noise(3, rows * 3 * c), noise(3, rows * 3 * c));
        attention_backward(&ctx, &mut added, &dout, &qkv, &fused.out, &fused.lse, &seqs, att, Accumulate::Add).unwrap();
        assert!((0..added.len()).all(|i| added[i] == old[i] + fused.dqkv[i]), "{what}: Add");
        match &classes[isa.fused() as usize] {
            None => classes[isa.fused() as usize] = Some(fused),
            Some(first) => {
                assert_eq!(bits(&first.out), bits(&fused.out), "{what}: out of another instruction set");
                assert_eq!(bits(&first.lse), bits(&fused.lse), "{what}: lse of another instruction set");
                assert_eq!(bits(&first.dqkv), bits(&fused.dqkv), "{what}: dqkv of another instruction set");
            }
        }
    }
}

#[test]
fn every_length_to_70_causal() {
    for t in 1..=70 {
        check(&[t], &att(1, 8, Mask::Causal));
    }
}

#[test]
fn every_head_size_and_mask() {
    for hs in [1, 5, 8, 15, 16, 17, 20, 32, 33, 64, 80, 96] {
        for mask in [Mask::Causal, Mask::None, Mask::Banded(1), Mask::Banded(7), Mask::Banded(20), Mask::Banded(60)] {
            check(&[53], &att(2, hs, mask));
        }
    }
    check(&[9], &att(1, 4, Mask::Banded(0)));
}

#[test]
fn longer_sequences_and_ragged_batches() {
    check(&[131], &att(1, 16, Mask::Causal));
    check(&[197], &att(1, 5, Mask::None));
    check(&[210], &att(1, 8, Mask::Banded(33)));
    check(&[3, 0, 50, 1, 97, 16], &att(3, 8, Mask::Causal));
    check(&[], &att(1, 8, Mask::Causal));
    check(&[0], &att(1, 8, Mask::None));
    // More than one task a head; a band whose second task packs from the middle on.
    check(&[270, 193, 3, 0, 17, 210, 5], &att(2, 9, Mask::Causal));
    check(&[200, 40, 430], &att(1, 16, Mask::Banded(70)));
}

#[test]
fn dropout_on_the_probabilities() {
    let rng = stream();
    for (p, mask) in [(0.1, Mask::Causal), (0.5, Mask::None), (0.3, Mask::Banded(9))] {
        let dropout = Some(Dropout { p, rng: &rng, context: 103, first_sequence: 11 });
        check(&[67, 20, 49], &Attention { dropout, ..att(2, 8, mask) });
    }
    // A second task, which packs from the middle on.
    let dropout = Some(Dropout { p: 0.3, rng: &rng, context: 430, first_sequence: 2 });
    check(&[430], &Attention { dropout, ..att(1, 9, Mask::Banded(70)) });
    // p = 0 draws nothing and changes nothing.
    let none = Some(Dropout { p: 0.0, rng: &rng, context: 1, first_sequence: 0 });
    let (qkv, dout, seqs) = (noise(1, 40 * 24), noise(2, 40 * 8), seqs_of(&[40]));
    let ctx = Ctx::default();
    let plain = run(&ctx, false, &qkv, &dout, &seqs, &att(1, 8, Mask::Causal));
    let zero = run(&ctx, false, &qkv, &dout, &seqs, &Attention { dropout: none, ..att(1, 8, Mask::Causal) });
    assert_eq!((bits(&plain.out), bits(&plain.dqkv)), (bits(&zero.out), bits(&zero.dqkv)));
}

#[test]
fn threads_change_no_bit() {
    let lengths = [61, 7, 300, 128];
    let (seqs, att) = (seqs_of(&lengths), att(3, 20, Mask::Causal));
    let (qkv, dout) = (noise(1, 496 * 180), noise(2, 496 * 60));
    for isa in Isa::available().into_iter().rev().take(2) {
        let one = run(&Ctx::new(isa).with_threads(1), false, &qkv, &dout, &seqs, &att);
        let four = run(&Ctx::new(isa).with_threads(4), false, &qkv, &dout, &seqs, &att);
        assert_eq!((bits(&one.out), bits(&one.lse)), (bits(&four.out), bits(&four.lse)));
        assert_eq!(bits(&one.dqkv), bits(&four.dqkv));
    }
}

/// One sequence computes the same alone and in a batch.
#[test]
fn a_batch_changes_no_bit() {
    let att = att(2, 8, Mask::Causal);
    let (ctx, qkv, dout) = (Ctx::default(), noise(1, 120 * 48), noise(2, 120 * 16));
    let all = run(&ctx, false, &qkv, &dout, &seqs_of(&[20, 60, 40]), &att);
    let alone = run(&ctx, false, &qkv[20 * 48..80 * 48], &dout[20 * 16..80 * 16], &seqs_of(&[60]), &att);
    assert_eq!(bits(&all.out[20 * 16..80 * 16]), bits(&alone.out));
    assert_eq!(bits(&all.dqkv[20 * 48..80 * 48]), bits(&alone.dqkv));
}

/// More keys than queries, fewer, and none at all.
#[test]
fn queries_and_keys_of_different_number() {
    // In the second batch more than one task a head.
    for seqs in [&[(5, 40), (7, 3), (4, 0), (0, 6), (50, 100)][..], &[(5, 40), (210, 31), (4, 0), (0, 6), (195, 300)]] {
        different_numbers(&seqs.iter().map(|&(queries, keys)| Seq { queries, keys }).collect::<Vec<_>>());
    }
}

fn different_numbers(seqs: &[Seq]) {
    let (nq, nk) = seqs.iter().fold((0, 0), |(q, k), seq| (q + seq.queries, k + seq.keys));
    for (mask, isa) in [Mask::Causal, Mask::None, Mask::Banded(4)]
        .into_iter()
        .flat_map(|m| Isa::available().into_iter().map(move |isa| (m, isa)))
    {
        let (att, ctx) = (att(2, 12, mask), Ctx::new(isa));
        let c = 24;
        let (q, k, v, dout) = (noise(1, nq * c), noise(2, nk * c), noise(3, nk * c), noise(4, nq * c));
        let (mut out, mut lse) = (vec![f32::NAN; nq * c], vec![f32::NAN; nq * 2]);
        let mat = |x, rows| MatRef::new(x, rows, c).unwrap();
        let (qm, km, vm) = (mat(&q[..], nq), mat(&k[..], nk), mat(&v[..], nk));
        attention_forward_qkv(&ctx, &mut out, &mut lse, qm, km, vm, seqs, &att).unwrap();
        let mut grads = [vec![f32::NAN; nq * c], vec![f32::NAN; nk * c], vec![f32::NAN; nk * c]];
        let [dq, dk, dv] = &mut grads;
        let store = Accumulate::Store;
        attention_backward_qkv(&ctx, dq, dk, dv, &dout, qm, km, vm, &out, &lse, seqs, &att, store).unwrap();
        let wide = |xs: &[f32]| -> Vec<f64> { xs.iter().map(|&x| x as f64).collect() };
        let (q, k, v, dout) = (wide(&q), wide(&k), wide(&v), wide(&dout));
        let (mut out64, mut lse64) = (vec![0.0; nq * c], vec![0.0; nq * 2]);
        reference::attention_forward_qkv::<F64>(&mut out64, &mut lse64, &q, &k, &v, seqs, &att);
        let mut grads64 = [vec![0.0; nq * c], vec![0.0; nk * c], vec![0.0; nk * c]];
        let [dq, dk, dv] = &mut grads64;
        reference::attention_backward_qkv::<F64>(dq, dk, dv, &dout, &q, &k, &v, seqs, &att, store);
        // Magnitudes here are near 1 and sums have at most 300 terms: γ(300) is 2e-5.
        let near =
            |a: &[f32], b: &[f64]| (0..a.len()).all(|i| a[i] as f64 == b[i] || (a[i] as f64 - b[i]).abs() <= 5e-5);
        assert!(near(&out, &out64) && near(&lse, &lse64), "{isa} {mask:?}");
        assert!((0..3).all(|i| near(&grads[i], &grads64[i])), "{isa} {mask:?}");
        if mask == Mask::Causal {
            // Queries before the first key: nothing to see.
            let blind = seqs[1].queries - seqs[1].keys;
            assert!((0..blind).all(|i| lse[(5 + i) * 2] == f32::INFINITY && out[(5 + i) * c] == 0.0));
        }
    }
}

/// Appends tokens in pieces and asks for each piece's outputs: the bits of the whole sequence.
#[test]
fn cached_equals_whole() {
    for isa in Isa::available() {
        for (hs, mask) in [(8, Mask::Causal), (20, Mask::Causal), (32, Mask::Banded(11)), (5, Mask::Causal)] {
            let (att, heads, c) = (att(2, hs, mask), 2, 2 * hs);
            let lengths = [70, 33, 51];
            let (rows, starts) = (154, [0, 70, 103]);
            let qkv = noise(hs as u64, rows * 3 * c);
            let ctx = Ctx::new(isa);
            let (mut whole, mut lse) = (vec![0.0; rows * c], vec![0.0; rows * heads]);
            attention_forward(&ctx, &mut whole, &mut lse, &qkv, &seqs_of(&lengths), &att).unwrap();
            for pieces in [vec![1], vec![17, 3], vec![50, 1, 1, 1, 1, 20], vec![70]] {
                let mut cache = KvCache::new(2, 3, heads, hs, 75).unwrap();
                let (mut done, mut turn) = ([0; 3], 0);
                let slots = [2, 0, 1];
                while done != lengths {
                    let piece = pieces[turn % pieces.len()];
                    turn += 1;
                    let (mut seqs, mut q) = (Vec::new(), Vec::new());
                    for b in 0..3 {
                        let n = piece.min(lengths[b] - done[b]);
                        let rows = &qkv[(starts[b] + done[b]) * 3 * c..];
                        let part =
                            |i: usize| MatRef::strided(&rows[(i * c).min(rows.len())..], n, c, 3 * c, 1).unwrap();
                        cache.append(&ctx, 1, slots[b], part(1), part(2)).unwrap();
                        (0..n).for_each(|r| q.extend_from_slice(&rows[r * 3 * c..][..c]));
                        done[b] += n;
                        seqs.push((slots[b], Seq { queries: n, keys: done[b] }));
                    }
                    let n = q.len() / c;
                    let mut out = vec![f32::NAN; n * c];
                    attention_cached(&ctx, &mut out, MatRef::new(&q, n, c).unwrap(), &cache, 1, &seqs, &att).unwrap();
                    let mut row = 0;
                    for b in 0..3 {
                        let (n, end) = (seqs[b].1.queries, starts[b] + done[b]);
                        let (got, want) = (&out[row * c..(row + n) * c], &whole[(end - n) * c..end * c]);
                        assert_eq!(bits(got), bits(want), "{isa} {mask:?} HS {hs} pieces {pieces:?} at {done:?}");
                        row += n;
                    }
                }
            }
        }
    }
}

#[test]
fn a_cache_forgets_and_moves() {
    let (c, hs, ctx) = (12, 6, Ctx::default());
    let (k, v) = (noise(1, 40 * c), noise(2, 40 * c));
    let fill = |cache: &mut KvCache, from: usize, n: usize| {
        let k = MatRef::new(&k[from * c..(from + n) * c], n, c).unwrap();
        let v = MatRef::new(&v[from * c..(from + n) * c], n, c).unwrap();
        cache.append(&ctx, 0, 0, k, v)
    };
    let ask = |cache: &KvCache| {
        let (n, q, mut out) = (cache.len(0, 0), noise(3, c), vec![0.0; c]);
        let seqs = [(0, Seq { queries: 1, keys: n })];
        let q = MatRef::new(&q, 1, c).unwrap();
        attention_cached(&ctx, &mut out, q, cache, 0, &seqs, &att(2, hs, Mask::Causal)).unwrap();
        bits(&out)
    };
    let mut moved = KvCache::new(1, 1, 2, hs, 40).unwrap();
    fill(&mut moved, 0, 40).unwrap();
    assert!(matches!(fill(&mut moved, 0, 1), Err(Error::OutOfRange { got: 41, limit: 41, .. })));
    moved.truncate(0, 35).unwrap();
    moved.shift(0, 9).unwrap();
    let mut fresh = KvCache::new(1, 1, 2, hs, 40).unwrap();
    fill(&mut fresh, 9, 26).unwrap();
    assert_eq!(moved.len(0, 0), 26);
    assert_eq!(ask(&moved), ask(&fresh));
    moved.shift(0, 100).unwrap();
    assert!(moved.is_empty());
    assert!(KvCache::new(usize::MAX, 2, 2, 2, 2).is_err());
}

/// A slot that takes over another's tokens answers as the other one does, whatever it held, and goes on by itself.
#[test]
fn a_slot_takes_over_anothers_tokens() {
    let (c, hs, ctx) = (12, 6, Ctx::default());
    let (k, v) = (noise(1, 60 * c), noise(2, 60 * c));
    let fill = |cache: &mut KvCache, slot: usize, tokens: &[usize]| {
        for (layer, &t) in (0..2).flat_map(|layer| tokens.iter().map(move |t| (layer, t))) {
            // Another layer has other keys and values.
            let (k, v) = if layer == 0 { (&k, &v) } else { (&v, &k) };
            let row = |x: &[f32]| x[t * c..(t + 1) * c].to_vec();
            let (k, v) = (row(k), row(v));
            let (k, v) = (MatRef::new(&k, 1, c).unwrap(), MatRef::new(&v, 1, c).unwrap());
            cache.append(&ctx, layer, slot, k, v).unwrap();
        }
    };
    let ask = |cache: &KvCache, slot: usize| -> Vec<Vec<u32>> {
        let q = noise(3, c);
        let answer = |layer| {
            let mut out = vec![0.0; c];
            let seqs = [(slot, Seq { queries: 1, keys: cache.len(layer, slot) })];
            let q = MatRef::new(&q, 1, c).unwrap();
            attention_cached(&ctx, &mut out, q, cache, layer, &seqs, &att(2, hs, Mask::Causal)).unwrap();
            bits(&out)
        };
        (0..2).map(answer).collect()
    };
    for (len, other, shared) in [(40, 0, 0), (40, 20, 20), (40, 37, 16), (33, 40, 31), (5, 40, 5), (32, 32, 17)] {
        let mut cache = KvCache::new(2, 3, 2, hs, 41).unwrap();
        let tokens: Vec<usize> = (0..len).collect();
        fill(&mut cache, 2, &tokens);
        let held: Vec<usize> = (0..other).map(|i| if i < shared { i } else { 59 - i }).collect();
        fill(&mut cache, 0, &held);
        let want = ask(&cache, 2);
        cache.fork(2, 0, shared).unwrap();
        assert_eq!((cache.len(0, 0), cache.len(1, 0), cache.len(0, 1)), (len, len, 0));
        assert_eq!(ask(&cache, 0), want, "{len} {other} {shared}");
        fill(&mut cache, 0, &[58]);
        assert_eq!(ask(&cache, 2), want);
        fill(&mut cache, 1, &tokens);
        fill(&mut cache, 1, &[58]);
        assert_eq!(ask(&cache, 0), ask(&cache, 1));
    }
    let mut cache = KvCache::new(2, 2, 2, hs, 41).unwrap();
    fill(&mut cache, 0, &[1, 2, 3]);
    assert!(matches!(cache.fork(0, 1, 1), Err(Error::OutOfRange { what: "shared tokens", got: 1, limit: 1, .. })));
    assert!(matches!(cache.fork(0, 2, 0), Err(Error::OutOfRange { what: "slot", got: 2, limit: 2, .. })));
    assert!(matches!(cache.fork(2, 0, 0), Err(Error::OutOfRange { what: "slot", .. })));
    assert!(cache.fork(0, 0, 3).is_ok() && cache.len(1, 0) == 3 && cache.len(1, 1) == 0);
}

/// A query's output does not depend on what it cannot see, were it NaN or infinite; NaN that it sees passes.
#[test]
fn the_future_cannot_be_seen() {
    let (t, hs) = (75, 9);
    for (isa, bad) in Isa::available().into_iter().flat_map(|isa| [(isa, f32::NAN), (isa, f32::INFINITY)]) {
        let (ctx, att, seqs) = (Ctx::new(isa), att(1, hs, Mask::Banded(30)), seqs_of(&[t]));
        let (clean, dout) = (noise(1, t * 3 * hs), noise(2, t * hs));
        let want = run(&ctx, false, &clean, &dout, &seqs, &att);
        for place in [3, 40, 52] {
            let mut qkv = clean.clone();
            qkv[place * 3 * hs + hs..(place + 1) * 3 * hs].fill(bad);
            for naive in [false, true] {
                let got = run(&ctx, naive, &qkv, &dout, &seqs, &att);
                for i in 0..t {
                    let row = &got.out[i * hs..][..hs];
                    if (place..place + 30).contains(&i) {
                        assert!(row.iter().all(|x| x.is_nan()), "{isa} {bad} at {place}: query {i} saw it");
                    } else {
                        assert_eq!(bits(row), bits(&want.out[i * hs..][..hs]), "{isa} {bad} at {place}: query {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn visible_keys_of_any_lengths() {
    for (queries, keys) in [(0usize, 0), (1, 1), (3, 5), (5, 3), (4, 4)] {
        for i in 0..queries + 2 {
            let end = (keys + i + 1).saturating_sub(queries).min(keys);
            assert_eq!(Mask::Causal.visible(Seq { queries, keys }, i), 0..end);
            assert_eq!(Mask::Banded(2).visible(Seq { queries, keys }, i), end.saturating_sub(2)..end);
        }
    }
    const MAX: usize = usize::MAX;
    assert_eq!(Mask::Causal.visible(Seq { queries: 1, keys: MAX }, 0), 0..MAX);
    assert_eq!(Mask::Causal.visible(Seq { queries: MAX, keys: MAX }, 0), 0..1);
    assert_eq!(Mask::Causal.visible(Seq { queries: 1, keys: 2 }, MAX), 0..2);
}

#[test]
#[should_panic(expected = "no layer")]
fn a_cache_has_no_length_where_it_has_no_layer() {
    KvCache::new(2, 4, 1, 1, 1).unwrap().len(1 << 62, 0); // 2⁶² · 4 is 0 in 64 bits
}

/// No second row is where a stride would lead to: what is asked for ahead of it is no address.
#[test]
fn one_row_may_have_any_stride() {
    let (x, good, one) = (noise(1, 8), att(2, 4, Mask::Causal), seqs_of(&[1]));
    let m = MatRef::strided(&x, 1, 8, usize::MAX, 1).unwrap();
    for isa in Isa::available() {
        let (ctx, mut out, mut lse) = (Ctx::new(isa), [f32::NAN; 8], [f32::NAN; 2]);
        attention_forward_qkv(&ctx, &mut out, &mut lse, m, m, m, &one, &good).unwrap();
        assert_eq!(out[..], x);
        let mut cache = KvCache::new(1, 1, 2, 4, 3).unwrap();
        cache.append(&ctx, 0, 0, m, m).unwrap();
        out.fill(f32::NAN);
        attention_cached(&ctx, &mut out, m, &cache, 0, &[(0, one[0])], &good).unwrap();
        assert_eq!(out[..], x);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let ctx = Ctx::default();
    let (good, seqs) = (att(2, 4, Mask::Causal), seqs_of(&[3, 2]));
    let (qkv, mut out, mut lse) = (vec![0.0; 5 * 24], vec![0.0; 40], vec![0.0; 10]);
    assert!(attention_forward(&ctx, &mut out, &mut lse, &qkv, &seqs, &good).is_ok());
    let rng = stream();
    let dropout = |p: f32, context: usize| Some(Dropout { p, rng: &rng, context, first_sequence: 0 });
    for wrong in [
        Attention { heads: 0, ..good },
        Attention { head_size: 0, ..good },
        Attention { head_size: 5, ..good },
        Attention { heads: usize::MAX / 2, ..good },
        Attention { dropout: dropout(1.0, 9), ..good },
        Attention { dropout: dropout(f32::NAN, 9), ..good },
        Attention { dropout: dropout(0.5, 2), ..good },
    ] {
        assert!(attention_forward(&ctx, &mut out, &mut lse, &qkv, &seqs, &wrong).is_err(), "{wrong:?}");
    }
    assert!(attention_forward(&ctx, &mut out[1..], &mut lse, &qkv, &seqs, &good).is_err());
    assert!(attention_forward(&ctx, &mut out, &mut lse[1..], &qkv, &seqs, &good).is_err());
    assert!(attention_forward(&ctx, &mut out, &mut lse, &qkv[1..], &seqs, &good).is_err());
    assert!(attention_forward(&ctx, &mut out, &mut lse, &qkv, &seqs[1..], &good).is_err());
    let uneven = [Seq { queries: 5, keys: 4 }];
    assert!(attention_forward(&ctx, &mut out, &mut lse, &qkv, &uneven, &good).is_err());
    let huge = [Seq { queries: usize::MAX, keys: 5 }, Seq { queries: 6, keys: 0 }];
    let m = MatRef::new(&qkv[..40], 5, 8).unwrap();
    assert!(attention_forward_qkv(&ctx, &mut out, &mut lse, m, m, m, &huge, &good).is_err());
    // Rows that lie on top of each other take no memory, however many they are.
    let many = MatRef::strided(&qkv, 1 << 60, 8, 0, 1).unwrap();
    let seq = [Seq { queries: 5, keys: 1 << 60 }];
    assert!(attention_forward_qkv(&ctx, &mut out, &mut lse, m, many, many, &seq, &good).is_err());
    let columns = MatRef::strided(&qkv, 5, 8, 1, 5).unwrap();
    let five = seqs_of(&[5]);
    assert!(attention_forward_qkv(&ctx, &mut out, &mut lse, columns, m, m, &five, &good).is_err());
    let mut dqkv = vec![0.0; 119];
    let store = Accumulate::Store;
    assert!(attention_backward(&ctx, &mut dqkv, &out, &qkv, &out, &lse, &seqs, &good, store).is_err());
}
