//! Attention: fused, naive and over a cache; each mask, dropout, any length and head size.

use super::{floats, on_every_isa};
use longhand_tensor::attention::{self, Attention, Dropout, KvCache, Mask, Seq};
use longhand_tensor::random::{Philox, Site, SiteKind};
use longhand_tensor::{Accumulate, Ctx, MatRef};

/// Longest single sequence and largest head of the tails.
const MOST: usize = 65;
const MASKS: [Mask; 3] = [Mask::Causal, Mask::None, Mask::Banded(7)];
/// Around a vector, a group of three and of four, and a tile of queries.
const LENGTHS: [usize; 12] = [0, 1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 65];
/// Those of models, and tails.
const HEAD_SIZES: [usize; 16] = [1, 2, 8, 9, 15, 16, 17, 24, 32, 33, 64, 65, 80, 96, 127, 128];

fn layer<'a>(heads: usize, head_size: usize, mask: Mask, rng: Option<&'a Philox>) -> Attention<'a> {
    let dropout = rng.map(|rng| Dropout { p: 0.25, rng, context: 400, first_sequence: 3 });
    Attention { heads, head_size, mask, dropout, scale: 1.0 / (head_size as f32).sqrt() }
}

fn stream() -> Philox {
    Philox::new(5, Site::new(1, SiteKind::AttentionDropout), 3)
}

/// Forward, and a backward that stores and then adds, on packed rows; fused or naive.
fn packed(ctx: &Ctx, lengths: &[usize], att: &Attention, naive: bool) {
    let seqs: Vec<Seq> = lengths.iter().map(|&n| Seq { queries: n, keys: n }).collect();
    let (rows, c) = (lengths.iter().sum::<usize>(), att.heads * att.head_size);
    let (qkv, dout, mut dqkv) = (floats(rows * 3 * c), floats(rows * c), floats(rows * 3 * c));
    let (mut out, mut lse) = (floats(rows * c), floats(rows * att.heads));
    if naive {
        attention::attention_naive_forward(ctx, &mut out, &mut lse, &qkv, &seqs, att).unwrap();
    } else {
        attention::attention_forward(ctx, &mut out, &mut lse, &qkv, &seqs, att).unwrap();
    }
    for acc in [Accumulate::Store, Accumulate::Add] {
        if naive {
            attention::attention_naive_backward(ctx, &mut dqkv, &dout, &qkv, &out, &lse, &seqs, att, acc).unwrap();
        } else {
            attention::attention_backward(ctx, &mut dqkv, &dout, &qkv, &out, &lse, &seqs, att, acc).unwrap();
        }
    }
}

/// `n` rows of C floats, `gap` floats apart, ending with the last row's last float.
fn matrix(data: &[f32], n: usize, c: usize, gap: usize) -> MatRef<'_> {
    MatRef::strided(data, n, c, c + gap, 1).unwrap()
}

fn matrix_len(n: usize, c: usize, gap: usize) -> usize {
    if n == 0 { 0 } else { n * (c + gap) - gap }
}

/// Forward and backward of one sequence with as many queries and keys as `seq` says, q, k and v in memory of their own.
fn separate(ctx: &Ctx, seq: Seq, att: &Attention, gap: usize) {
    let (c, seqs, Seq { queries, keys }) = (att.heads * att.head_size, [seq], seq);
    let (qv, kv, vv) =
        (floats(matrix_len(queries, c, gap)), floats(matrix_len(keys, c, gap)), floats(matrix_len(keys, c, gap)));
    let (q, k, v) = (matrix(&qv, queries, c, gap), matrix(&kv, keys, c, gap), matrix(&vv, keys, c, gap));
    let (mut out, mut lse, dout) = (floats(queries * c), floats(queries * att.heads), floats(queries * c));
    let (mut dq, mut dk, mut dv) = (floats(queries * c), floats(keys * c), floats(keys * c));
    attention::attention_forward_qkv(ctx, &mut out, &mut lse, q, k, v, &seqs, att).unwrap();
    for acc in [Accumulate::Store, Accumulate::Add] {
        attention::attention_backward_qkv(ctx, &mut dq, &mut dk, &mut dv, &dout, q, k, v, &out, &lse, &seqs, att, acc)
            .unwrap();
    }
}

/// All lengths, and ragged batches that end with each of the delicate ones.
pub fn every_length(side: &str) {
    let rng = stream();
    for mask in MASKS {
        for rng in [None, Some(&rng)] {
            let what = format!("{mask:?}, dropout {} | {side}", rng.is_some());
            for n in 0..=MOST {
                on_every_isa(&format!("attention, {n} tokens, {what}"), |ctx| {
                    packed(ctx, &[n], &layer(1, 8, mask, rng), false);
                    packed(ctx, &[n], &layer(1, 5, mask, rng), true);
                });
                on_every_isa(&format!("attention, {n} keys apart from queries, {what}"), |ctx| {
                    for (queries, gap) in [(1, 0), (n + 3, 5), (50, 0)] {
                        separate(ctx, Seq { queries, keys: n }, &layer(2, 5, mask, rng), gap);
                    }
                });
            }
            for last in 0..LENGTHS.len() {
                let mut lengths = LENGTHS;
                lengths.rotate_left(last);
                on_every_isa(&format!("attention, ragged {lengths:?}, {what}"), |ctx| {
                    packed(&ctx.clone().with_threads(3), &lengths, &layer(2, 9, mask, rng), false);
                });
            }
        }
    }
}

/// Sequences whose keys are packed before the tasks: more than 192 queries, alone and beside short ones.
pub fn long_sequences(side: &str) {
    let rng = stream();
    for (hs, mask, rng) in [(8, Mask::Causal, Some(&rng)), (33, Mask::Banded(7), None), (64, Mask::Causal, None)] {
        let att = layer(2, hs, mask, rng);
        for lengths in [&[193][..], &[210, 3, 0, 1, 250, 193], &[1, 257, 17]] {
            on_every_isa(&format!("attention, {lengths:?} tokens, head size {hs}, {mask:?} | {side}"), |ctx| {
                packed(&ctx.clone().with_threads(3), lengths, &att, false);
            });
        }
        for (queries, keys) in [(193, 31), (200, 257), (193, 0)] {
            on_every_isa(&format!("attention, {queries} queries, {keys} keys, head size {hs} | {side}"), |ctx| {
                separate(ctx, Seq { queries, keys }, &att, 1);
            });
        }
    }
}

/// Head sizes with and without a tail, at the delicate lengths.
pub fn every_head_size(side: &str) {
    let rng = stream();
    for hs in HEAD_SIZES {
        for n in LENGTHS {
            for (mask, rng) in [(Mask::Causal, None), (Mask::Causal, Some(&rng)), (Mask::None, None)] {
                let what =
                    format!("attention, {n} tokens, head size {hs}, {mask:?}, dropout {} | {side}", rng.is_some());
                on_every_isa(&what, |ctx| packed(ctx, &[n], &layer(1, hs, mask, rng), false));
            }
        }
        on_every_isa(&format!("naive attention, 17 tokens, head size {hs} | {side}"), |ctx| {
            packed(ctx, &[17], &layer(2, hs, Mask::Causal, None), true);
        });
        on_every_isa(&format!("attention, 33 keys apart from 18 queries, head size {hs} | {side}"), |ctx| {
            separate(ctx, Seq { queries: 18, keys: 33 }, &layer(2, hs, Mask::Causal, None), 1);
        });
    }
    for hs in 1..=MOST {
        on_every_isa(&format!("attention, 19 tokens, head size {hs} | {side}"), |ctx| {
            packed(ctx, &[19], &layer(1, hs, Mask::Causal, None), false);
        });
    }
}

/// Tokens appended one by one and in pieces; the queries are the first third of packed rows.
pub fn cached(side: &str) {
    for (hs, mask) in HEAD_SIZES.into_iter().flat_map(|hs| MASKS.map(|mask| (hs, mask))) {
        for piece in [1, 5, 16, 33] {
            on_every_isa(
                &format!("cached attention, {piece} tokens at once, head size {hs}, {mask:?} | {side}"),
                |ctx| {
                    let (att, c) = (layer(1, hs, mask, None), hs);
                    let mut cache = KvCache::new(1, 1, 1, hs, 66).unwrap();
                    for done in (0..66).step_by(piece).take(20) {
                        let n = piece.min(66 - done);
                        // Rows q | k | v, cut where each part ends.
                        let qkv = floats(n * 3 * c);
                        let part = |i: usize| {
                            let tight = qkv[i * c..][..matrix_len(n, c, 2 * c)].to_vec();
                            assert_eq!(tight.len(), tight.capacity());
                            tight
                        };
                        let (q, k, v) = (part(0), part(1), part(2));
                        cache.append(ctx, 0, 0, matrix(&k, n, c, 2 * c), matrix(&v, n, c, 2 * c)).unwrap();
                        let seqs = [(0, Seq { queries: n, keys: done + n })];
                        let mut out = floats(n * c);
                        let q = matrix(&q, n, c, 2 * c);
                        attention::attention_cached(ctx, &mut out, q, &cache, 0, &seqs, &att).unwrap();
                    }
                },
            );
        }
    }
}
