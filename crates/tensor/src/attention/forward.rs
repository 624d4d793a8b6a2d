//! The fused forward: a block of 48 queries against all the keys that it sees.
//!
//! ```text
//! pack Kᵀ into panels and V into rows, once for a (sequence, head) and 192 queries
//! for each block of 48 queries
//!     Q' = Q·scale·log₂e
//!     for each block of 48 keys it sees:  S = Q'·Kᵀ              48 × 48 floats in scratch
//!     for each query:                     m, P = exp2(S − m), l   dropped P become 0
//!     for each block of 48 keys:          O += P·V
//!     out = O / l
//! ```

use super::cache::KvCache;
use super::pack::{ScaleRows, panels};
use super::plan::{Lengths, Shared, Task, for_each_task, take};
use super::product::{BLOCK, Clip, Product, Ranges, product};
use super::{Attention, Dropout, Inputs, Mask, Seq};
use crate::Ctx;
use crate::matrix::MatRef;
use crate::random::Philox;
use crate::simd::math::exp2_low;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch_on};

/// Queries of a task: enough to pay for packing the keys (about 25 cycles a key against 2,000), few enough to share a
/// long sequence between threads.
const RUN: usize = 4 * BLOCK;

/// Floats of one block of scores.
const SCORES: usize = BLOCK * BLOCK;

/// Where a task finds keys and values.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    /// Rows of k and v, still to be packed.
    Rows(MatRef<'a>, MatRef<'a>),
    /// One layer of a cache, and the slot of each sequence.
    Cache(&'a KvCache, usize, &'a [(usize, Seq)]),
}

/// `attention_forward` on checked arguments.
pub(super) fn forward(ctx: &Ctx, out: &mut [f32], lse: &mut [f32], op: &Inputs) {
    forward_over(ctx, out, Some(lse), op.q, Keys::Rows(op.k, op.v), op.seqs, op.att);
}

/// The forward over either kind of keys, on checked arguments.
pub(super) fn forward_over<Q: Lengths>(
    ctx: &Ctx,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
    q: MatRef,
    keys: Keys,
    seqs: &[Q],
    att: &Attention,
) {
    let (hs, hsp) = (att.head_size, att.head_size.next_multiple_of(LANES));
    let longest = seqs.iter().fold(0, |n, seq| n.max(seq.lengths().keys));
    let packed = match keys {
        Keys::Rows(..) => longest.next_multiple_of(LANES) * (hs + hsp),
        Keys::Cache(..) => 0,
    };
    let scratch = packed + (longest.div_ceil(BLOCK) + 1) * SCORES + 2 * BLOCK * hsp + longest.next_multiple_of(LANES);
    let (out, lse) = (Shared::new(out), lse.map(Shared::new));
    for_each_task(ctx, seqs, att, RUN, scratch, |mut scratch, task| {
        let last = att.mask.visible(task.seq, task.to - 1).end;
        let at = task.head * hs;
        let (k, v) = match keys {
            Keys::Rows(k, v) => {
                let kp = take(&mut scratch, last.next_multiple_of(LANES) * hs);
                let vp = take(&mut scratch, last * hsp);
                let row = |m: MatRef| task.key_row * m.row_stride() + at;
                if last > 0 {
                    panels(ctx.isa(), kp, &k.data()[row(k)..], k.row_stride(), last, hs);
                    let (src, stride) = (&v.data()[row(v)..], v.row_stride());
                    dispatch_on(ctx.isa(), ScaleRows { dst: vp, width: hsp, src, stride, rows: last, hs, factor: 1.0 });
                }
                (&*kp, &*vp)
            }
            Keys::Cache(cache, layer, slots) => cache.head(layer, slots[task.sequence].0, task.head),
        };
        let mut from = task.from;
        while from < task.to {
            let rows = BLOCK.min(task.to - from);
            let block = QueryBlock { isa: ctx.isa(), att, task, from, rows, k, v };
            let q_row = task.query_row + from;
            let o = block.run(scratch, &q.data()[q_row * q.row_stride() + at..], q.row_stride());
            for r in 0..rows {
                // SAFETY: row q_row + r and columns of this head: no other task writes there.
                unsafe {
                    let c = att.heads * hs;
                    out.range((q_row + r) * c + at, hs).copy_from_slice(&o.out[r * hsp..][..hs]);
                    if let Some(lse) = &lse {
                        lse.range((q_row + r) * att.heads + task.head, 1)[0] = o.lse[r];
                    }
                }
            }
            from += rows;
        }
    });
}

/// At most 48 queries of one head.
struct QueryBlock<'a> {
    isa: Isa,
    att: &'a Attention<'a>,
    task: Task,
    from: usize,
    rows: usize,
    /// Panels of the keys and rows of the values, from the sequence's first key on.
    k: &'a [f32],
    v: &'a [f32],
}

/// A block's results.
struct Outputs<'a> {
    /// [48][HSP]
    out: &'a [f32],
    lse: [f32; BLOCK],
}

/// The ranges of the keys that queries from..from + rows see.
pub(super) fn visible(mask: Mask, seq: Seq, from: usize, rows: usize) -> Ranges {
    let mut ranges = Ranges { lo: [0; BLOCK], hi: [0; BLOCK] };
    for r in 0..rows {
        let keys = mask.visible(seq, from + r);
        (ranges.lo[r], ranges.hi[r]) = (keys.start, keys.end);
    }
    ranges
}

impl QueryBlock<'_> {
    /// `q` begins at the first query's first channel of this head.
    fn run<'s>(&self, mut scratch: &'s mut [f32], q: &[f32], stride: usize) -> Outputs<'s> {
        let (hs, rows, isa) = (self.att.head_size, self.rows, self.isa);
        let hsp = hs.next_multiple_of(LANES);
        let ranges = visible(self.att.mask, self.task.seq, self.from, rows);
        // Blocks of keys that any query sees.
        let (first, end) = (ranges.lo[0] / BLOCK, ranges.hi[rows - 1].div_ceil(BLOCK));
        let queries = take(&mut scratch, BLOCK * hsp);
        let out = take(&mut scratch, BLOCK * hsp);
        let factor = self.att.scale_log2();
        dispatch_on(isa, ScaleRows { dst: queries, width: hsp, src: q, stride, rows, hs, factor });
        out[..rows * hsp].fill(0.0);
        let scores = take(&mut scratch, (end.max(first) - first) * SCORES);
        let keys_of = |block: usize| BLOCK.min(ranges.hi[rows - 1] - block * BLOCK);

        for block in first..end {
            let keys = keys_of(block);
            product(
                isa,
                Product {
                    clip: Clip::Vectors,
                    rows,
                    vectors: keys.div_ceil(LANES),
                    steps: hs,
                    ranges: &ranges.within(block * BLOCK, keys),
                    a: queries,
                    a_rs: hsp,
                    a_ks: 1,
                    b: &self.k[block * BLOCK * hs..],
                    b_vs: hs * LANES,
                    b_ks: LANES,
                    c: &mut scores[(block - first) * SCORES..],
                    c_rs: BLOCK,
                },
            );
        }

        let mut sums = Sums { max: [0.0; BLOCK], sum: [0.0; BLOCK] };
        dispatch_on(isa, Softmax { scores, first, rows, ranges: &ranges, sums: &mut sums });
        let mut kept = 1.0;
        if let Some(dropout) = self.att.active_dropout() {
            kept = 1.0 - dropout.p;
            let keep = take(&mut scratch, self.task.seq.keys.next_multiple_of(LANES));
            for r in 0..rows {
                let element = self.element(&dropout, r);
                let (lo, hi) = (ranges.lo[r], ranges.hi[r]);
                dispatch_on(isa, Keep { rng: dropout.rng, p: dropout.p, first: element, lo, hi, value: 1.0, keep });
                for j in lo..hi {
                    scores[(j / BLOCK - first) * SCORES + r * BLOCK + j % BLOCK] *= keep[j];
                }
            }
        }

        for block in first..end {
            let keys = keys_of(block);
            product(
                isa,
                Product {
                    clip: Clip::Steps,
                    rows,
                    vectors: hsp / LANES,
                    steps: keys,
                    ranges: &ranges.within(block * BLOCK, keys),
                    a: &scores[(block - first) * SCORES..],
                    a_rs: BLOCK,
                    a_ks: 1,
                    b: &self.v[block * BLOCK * hsp..],
                    b_vs: LANES,
                    b_ks: hsp,
                    c: out,
                    c_rs: hsp,
                },
            );
        }
        let mut lse = [f32::INFINITY; BLOCK];
        for r in 0..rows {
            if ranges.lo[r] < ranges.hi[r] {
                lse[r] = sums.max[r] + libm::log2f(sums.sum[r]);
                dispatch_on(isa, Divide { row: &mut out[r * hsp..][..hsp], by: sums.sum[r] * kept });
            }
        }
        Outputs { out, lse }
    }

    /// The dropout element of query `r` of the block and key 0.
    fn element(&self, dropout: &Dropout, r: usize) -> u64 {
        let (task, heads) = (&self.task, self.att.heads);
        dropout.first_element(task.sequence, task.head, heads, task.seq, self.from + r)
    }
}

/// The softmax's two numbers of each row.
struct Sums {
    max: [f32; BLOCK],
    sum: [f32; BLOCK],
}

/// For each row: the scores outside its range become −∞, m their maximum, the scores exp2(s − m), l their sum.
struct Softmax<'a> {
    /// [block of 48 keys][48 rows][48 keys], from block `first` on.
    scores: &'a mut [f32],
    first: usize,
    rows: usize,
    ranges: &'a Ranges,
    sums: &'a mut Sums,
}

/// The lane numbers.
pub(super) const LANE: [f32; LANES] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// `x` in lanes from..to, `fill` in the others.
#[inline(always)]
pub(super) fn lanes_of<S: Simd>(s: S, x: S::V, from: usize, to: usize, fill: f32) -> S::V {
    let (lane, fill) = (s.load(&LANE), s.splat(fill));
    let x = s.select(s.gt(s.splat(to as f32), lane), x, fill);
    s.select(s.gt(s.splat(from as f32), lane), fill, x)
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const VECTORS: usize = BLOCK / LANES;
        for r in 0..self.rows {
            let (lo, hi) = (self.ranges.lo[r], self.ranges.hi[r]);
            if lo >= hi {
                continue;
            }
            let at = |g: usize| (g / VECTORS - self.first) * SCORES + r * BLOCK + g % VECTORS * LANES;
            // Groups of 16 keys; the first and the last may be visible in part.
            let (from, to) = (lo / LANES, hi.div_ceil(LANES));
            for g in [from, to - 1] {
                let (start, x) = (g * LANES, s.load(&self.scores[at(g)..]));
                let x = lanes_of(s, x, lo.saturating_sub(start), hi - start, f32::NEG_INFINITY);
                s.store(&mut self.scores[at(g)..], x);
            }
            let mut max = s.splat(f32::NEG_INFINITY);
            for g in from..to {
                max = s.max(s.load(&self.scores[at(g)..]), max);
            }
            let m = s.reduce_max(max);
            let (mv, mut sum) = (s.splat(m), s.zero());
            for g in from..to {
                let p = exp2_low(s, s.sub(s.load(&self.scores[at(g)..]), mv));
                sum = s.add(sum, p);
                s.store(&mut self.scores[at(g)..], p);
            }
            self.sums.max[r] = m;
            self.sums.sum[r] = s.reduce_add(sum);
        }
    }
}

/// row /= by.
pub(super) struct Divide<'a> {
    pub row: &'a mut [f32],
    pub by: f32,
}

impl Kernel for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let by = s.splat(self.by);
        for x in self.row.chunks_mut(LANES) {
            let quotient = s.div(s.load_partial(x, 0.0), by);
            s.store_partial(x, quotient);
        }
    }
}

/// keep[j] = `value` where the draw of element first + j is at least p, else 0, for j in lo..hi.
pub(super) struct Keep<'a> {
    pub rng: &'a Philox,
    pub p: f32,
    pub first: u64,
    pub lo: usize,
    pub hi: usize,
    pub value: f32,
    pub keep: &'a mut [f32],
}

impl Kernel for Keep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for j in self.lo..self.hi {
            let kept = self.rng.uniform(self.first.wrapping_add(j as u64)) >= self.p;
            self.keep[j] = if kept { self.value } else { 0.0 };
        }
    }
}
