//! The fused forward: a block of 48 queries against all the keys that it sees.
//!
//! ```text
//! pack Kᵀ into panels and V into rows, once for a (sequence, head) and 192 queries
//! for each block of 48 queries
//!     Q' = Q·scale·log₂e
//!     for each block of 64 keys it sees:  S = Q'·Kᵀ, m = max(m, S)              S of all blocks stays
//!     for each block of 64 keys:          P = exp2(S − m), l += P, O += P·V     P of this block alone
//!     out = O / l
//! ```
//!
//! So a score is written once and read once, and what the second loop writes stays in L1: at 2,048 keys a block's scores
//! leave the L2, and every further pass over them would wait for the L3.

use super::cache::KvCache;
use super::dropout::Keep;
use super::pack::{Map, PutRows, ScaleRows, blocks, blocks_len, panels, put_rows};
use super::plan::{Lengths, Shared, Task, for_each_task, take};
use super::product::{Clip, Order, Product, QUERIES, Ranges, WIDTH, product};
use super::{Attention, Dropout, Inputs, Mask, Seq};
use crate::Ctx;
use crate::matrix::{Accumulate, MatRef};
use crate::simd::math::exp2_low;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch_on};

/// Queries of a task: enough to pay for packing the keys (about 25 cycles a key against 2,000), few enough to share a
/// long sequence between threads.
const RUN: usize = 4 * QUERIES;

/// Floats of one block of scores.
pub(super) const SCORES: usize = QUERIES * WIDTH;

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
    let block = SCORES + 2 * QUERIES * LANES + WIDTH;
    let scratch = packed + longest.div_ceil(WIDTH) * SCORES + blocks_len(hs) + QUERIES * hsp + block;
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
            let rows = QUERIES.min(task.to - from);
            let block = QueryBlock { isa: ctx.isa(), att, task, from, rows, k, v, out: &out };
            let row = task.query_row + from;
            let sums = block.run(scratch, &q.data()[row * q.row_stride() + at..], q.row_stride());
            if let Some(lse) = &lse {
                for r in 0..rows {
                    // SAFETY: no other task writes this row's lse of this head.
                    unsafe { lse.range((row + r) * att.heads + task.head, 1)[0] = sums.lse(r) };
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
    out: &'a Shared<'a>,
}

/// The ranges of the keys that queries from..from + rows see.
pub(super) fn visible(mask: Mask, seq: Seq, from: usize, rows: usize) -> Ranges {
    let mut ranges = Ranges { lo: [0; WIDTH], hi: [0; WIDTH] };
    for r in 0..rows {
        let keys = mask.visible(seq, from + r);
        (ranges.lo[r], ranges.hi[r]) = (keys.start, keys.end);
    }
    ranges
}

impl QueryBlock<'_> {
    /// Writes the block's rows of out; `q` begins at the first query's first channel of this head.
    fn run(&self, mut scratch: &mut [f32], q: &[f32], stride: usize) -> Sums {
        let (hs, rows, isa) = (self.att.head_size, self.rows, self.isa);
        let hsp = hs.next_multiple_of(LANES);
        let ranges = visible(self.att.mask, self.task.seq, self.from, rows);
        // Blocks of keys that any query sees.
        let (first, end) = (ranges.lo[0] / WIDTH, ranges.hi[rows - 1].div_ceil(WIDTH));
        let end = end.max(first);
        let queries = take(&mut scratch, blocks_len(hs));
        let out = take(&mut scratch, QUERIES * hsp);
        let probabilities = take(&mut scratch, SCORES);
        let (max, sum) = (take(&mut scratch, QUERIES * LANES), take(&mut scratch, QUERIES * LANES));
        let keep = take(&mut scratch, WIDTH);
        let scores = take(&mut scratch, (end - first) * SCORES);
        blocks(isa, queries, q, stride, rows, hs, self.att.scale_log2());
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        let keys_of = |block: usize| WIDTH.min(ranges.hi[rows - 1] - block * WIDTH);
        for (block, scores) in (first..end).zip(scores.chunks_exact_mut(SCORES)) {
            let (start, keys) = (block * WIDTH, keys_of(block));
            let ranges = &ranges.within(start, keys);
            let next =
                if block + 1 < end { ahead(self.k, start + WIDTH, hs) } else { ahead(self.v, first * WIDTH, hsp) };
            scores_of(isa, scores, queries, &self.k[start * hs..], rows, keys, hs, ranges, next);
            dispatch_on(isa, Highest { scores, rows, ranges, max });
        }
        let mut sums = Sums { max: [0.0; QUERIES], sum: [1.0; QUERIES] };
        dispatch_on(isa, OfLanes { lanes: max, rows, to: &mut sums.max, f: Lanes::Max });

        let mut kept = 1.0;
        if first == end {
            out.fill(0.0);
        }
        for (block, scores) in (first..end).zip(scores.chunks_exact(SCORES)) {
            let (start, keys) = (block * WIDTH, keys_of(block));
            let ranges = &ranges.within(start, keys);
            let p = &mut *probabilities;
            dispatch_on(isa, Exponentials { p, scores, rows, ranges, max: &sums.max, sum });
            if let Some(dropout) = self.att.active_dropout() {
                kept = 1.0 - dropout.p;
                for r in 0..rows {
                    let (lo, hi, first) = (ranges.lo[r], ranges.hi[r], self.element(&dropout, r) + start as u64);
                    dispatch_on(isa, Keep { dropout, first, lo, hi, value: 1.0, keep });
                    dispatch_on(isa, Drop { p: &mut p[r * WIDTH..][..WIDTH], lo, hi, keep });
                }
            }
            let p = Product {
                clip: Clip::Steps,
                ranges,
                rows,
                vectors: hsp / LANES,
                steps: keys,
                a: p,
                order: Order::Rows,
                b: &self.v[start * hsp..],
                b_vs: LANES,
                b_ks: hsp,
                c: out,
                c_rs: hsp,
                add: block > first,
                next: ahead(self.v, start + WIDTH, hsp),
            };
            product(isa, p);
        }
        dispatch_on(isa, OfLanes { lanes: sum, rows, to: &mut sums.sum, f: Lanes::Sum });
        for r in 0..rows {
            if ranges.lo[r] >= ranges.hi[r] {
                (sums.max[r], sums.sum[r]) = (f32::INFINITY, 1.0);
            }
        }
        let by = sums.sum.map(|l| l * kept);
        let (row, c) = (self.task.query_row + self.from, self.att.heads * hs);
        let start = row * c + self.task.head * hs;
        let (f, acc) = (Map::Over(&by), Accumulate::Store);
        // SAFETY: no other task writes these rows of this head.
        unsafe {
            put_rows(isa, PutRows { out: self.out, start, stride: c, rows, hs, values: out, width: hsp, f, acc })
        };
        sums
    }

    /// The dropout element of query `r` of the block and key 0.
    fn element(&self, dropout: &Dropout, r: usize) -> u64 {
        let (task, heads) = (&self.task, self.att.heads);
        dropout.first_element(task.sequence, task.head, heads, task.seq, self.from + r)
    }
}

/// The block of keys from `start` on in `of`, `width` floats a key, as far as it goes.
pub(super) fn ahead(of: &[f32], start: usize, width: usize) -> &[f32] {
    let from = (start * width).min(of.len());
    &of[from..(from + WIDTH * width).min(of.len())]
}

/// square = rows·panelsᵀ on `rows` rows of `blocks` and `keys` keys of panels; only the vectors that a tile sees.
pub(super) fn scores_of(
    isa: Isa,
    square: &mut [f32],
    blocks: &[f32],
    panels: &[f32],
    rows: usize,
    keys: usize,
    hs: usize,
    ranges: &Ranges,
    next: &[f32],
) {
    for d in (0..hs).step_by(WIDTH) {
        let p = Product {
            clip: Clip::Vectors,
            ranges,
            rows,
            vectors: keys.div_ceil(LANES),
            steps: WIDTH.min(hs - d),
            a: &blocks[d * QUERIES..],
            order: Order::Rows,
            b: &panels[d * LANES..],
            b_vs: hs * LANES,
            b_ks: LANES,
            c: square,
            c_rs: WIDTH,
            add: d > 0,
            next: if d + WIDTH < hs { &[] } else { next },
        };
        product(isa, p);
    }
}

/// The softmax's two numbers of each row: m = max (+∞ for a row without keys) and l = sum (1).
struct Sums {
    max: [f32; QUERIES],
    sum: [f32; QUERIES],
}

impl Sums {
    /// log₂ of row r's denominator.
    fn lse(&self, r: usize) -> f32 {
        self.max[r] + libm::log2f(self.sum[r])
    }
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

/// The scores of a block of keys outside each row's range become −∞, in the vectors that hold one inside; the others
/// raise the row's maximum, lane by lane.
struct Highest<'a> {
    /// (48, 64)
    scores: &'a mut [f32],
    rows: usize,
    /// Within the block.
    ranges: &'a Ranges,
    /// (48, 16)
    max: &'a mut [f32],
}

impl Kernel for Highest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for r in 0..self.rows {
            let (lo, hi) = (self.ranges.lo[r], self.ranges.hi[r]);
            let scores = &mut self.scores[r * WIDTH..][..WIDTH];
            let mut max = s.load(&self.max[r * LANES..]);
            for at in (lo / LANES * LANES..hi).step_by(LANES) {
                let mut x = s.load(&scores[at..]);
                if at < lo || at + LANES > hi {
                    x = lanes_of(s, x, lo.saturating_sub(at), hi - at, f32::NEG_INFINITY);
                    s.store(&mut scores[at..], x);
                }
                max = s.max(x, max);
            }
            s.store(&mut self.max[r * LANES..], max);
        }
    }
}

/// On each row's range of a block of keys: p = exp2(s − m), and l += p, lane by lane. p is 0 in the other lanes of the
/// vectors that hold the range.
struct Exponentials<'a> {
    /// (48, 64)
    p: &'a mut [f32],
    /// (48, 64), after `Highest`.
    scores: &'a [f32],
    rows: usize,
    /// Within the block.
    ranges: &'a Ranges,
    max: &'a [f32; QUERIES],
    /// (48, 16)
    sum: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for r in 0..self.rows {
            let (lo, hi) = (self.ranges.lo[r], self.ranges.hi[r]);
            let (p, scores) = (&mut self.p[r * WIDTH..][..WIDTH], &self.scores[r * WIDTH..][..WIDTH]);
            let (max, mut sum) = (s.splat(self.max[r]), s.load(&self.sum[r * LANES..]));
            for at in (lo / LANES * LANES..hi).step_by(LANES) {
                let x = exp2_low(s, s.sub(s.load(&scores[at..]), max));
                sum = s.add(sum, x);
                s.store(&mut p[at..], x);
            }
            s.store(&mut self.sum[r * LANES..], sum);
        }
    }
}

/// What becomes of a row's 16 lanes.
#[derive(Clone, Copy)]
enum Lanes {
    Max,
    Sum,
}

/// Reduces (48, 16) to a number a row.
struct OfLanes<'a> {
    lanes: &'a [f32],
    rows: usize,
    to: &'a mut [f32; QUERIES],
    f: Lanes,
}

impl Kernel for OfLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (to, lanes) in self.to.iter_mut().zip(self.lanes.chunks_exact(LANES)).take(self.rows) {
            *to = match self.f {
                Lanes::Max => s.reduce_max(s.load(lanes)),
                Lanes::Sum => s.reduce_add(s.load(lanes)),
            };
        }
    }
}

/// One row of p times keep, in the vectors that hold lo..hi.
struct Drop<'a> {
    p: &'a mut [f32],
    lo: usize,
    hi: usize,
    keep: &'a [f32],
}

impl Kernel for Drop<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (self.lo / LANES * LANES..self.hi).step_by(LANES) {
            let x = s.mul(s.load(&self.p[at..]), s.load(&self.keep[at..]));
            s.store(&mut self.p[at..], x);
        }
    }
}
