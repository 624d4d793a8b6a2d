//! The fused forward: a block of 48 queries against all the keys that it sees.
//!
//! ```text
//! pack Kᵀ into panels and V into rows, as far as the task's queries see
//! for each block of 48 queries
//!     Q' = Q·scale·log₂e
//!     for each block of 64 keys it sees:  S = Q'·Kᵀ              48 × 64 floats in scratch
//!     for each query:                     m, P = exp2(S − m), l   dropped P become 0
//!     for each block of 64 keys:          O += P·V
//!     out = O / l
//! ```

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

/// Fewest queries of a task, and those of a task over a cache. A task that packs takes half of the longest sequence if
/// that is more, or less where so few heads would make less than `TASKS`.
///
/// A task packs the keys and values that it sees, so that up to some 1,500 tokens they come from its own thread's L2. Of
/// two causal tasks the second sees all keys and the first half of them: one and a half packings a head. Six tasks pack
/// nearly four times, 2 to 4% of the time at 1,024 tokens. Packing every head once, in parallel before the first task,
/// costs as much: by then the packed keys have gone to the L3.
const RUN: usize = 4 * QUERIES;

/// Tasks for sixteen threads: two for each of twelve heads, of three quarters and of a quarter of a head's work.
const TASKS: usize = 24;

/// Floats of one block of scores.
pub(super) const SCORES: usize = QUERIES * WIDTH;

/// Floats from one block of scores to the next. A row of 1,024 keys lies in 16 blocks: 12 KiB apart, all of it would
/// fall into four sets of the L1.
const APART: usize = SCORES + WIDTH;

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
    let (isa, out, lse) = (ctx.isa(), Shared::new(out), lse.map(Shared::new));
    let (hs, hsp) = (att.head_size, att.head_size.next_multiple_of(LANES));
    let longest = seqs.iter().fold(0, |n, seq| n.max(seq.lengths().keys));
    let whole = longest.next_multiple_of(LANES);
    let queries = seqs.iter().fold(0, |n, seq| n.max(seq.lengths().queries));
    let pieces = TASKS.div_ceil(seqs.len().saturating_mul(att.heads).max(1)).max(2);
    let (packed, run) = match keys {
        Keys::Rows(..) => (whole * (hs + hsp), RUN.max(queries.div_ceil(pieces).next_multiple_of(QUERIES))),
        Keys::Cache(..) => (0, RUN),
    };
    let keep = if att.active_dropout().is_some() { whole } else { 0 };
    let scratch = packed + longest.div_ceil(WIDTH) * APART + blocks_len(hs) + QUERIES * hsp + keep;
    for_each_task(ctx, seqs, att, run, scratch, |mut scratch, task| {
        let at = task.head * hs;
        let (k, v) = match keys {
            Keys::Rows(k, v) => {
                // Whole blocks of keys from the first that a query sees, each where it belongs.
                let start = att.mask.visible(task.seq, task.from).start / WIDTH * WIDTH;
                let end = att.mask.visible(task.seq, task.to - 1).end;
                let kp = take(&mut scratch, end.next_multiple_of(LANES) * hs);
                let vp = take(&mut scratch, end * hsp);
                let (kp_seen, vp_seen) = (&mut kp[start * hs..], &mut vp[start * hsp..]);
                pack(isa, kp_seen, vp_seen, (k, v), task.key_row + start, end - start, at, hs);
                (&*kp, &*vp)
            }
            Keys::Cache(cache, layer, slots) => cache.head(layer, slots[task.sequence].0, task.head),
        };
        let mut from = task.from;
        while from < task.to {
            let rows = QUERIES.min(task.to - from);
            let block = QueryBlock { isa, att, task, from, rows, k, v, out: &out };
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

/// Packs channels at..at + hs of `n` rows of k, from `row` on, into panels, and of v into rows.
fn pack(
    isa: Isa,
    kp: &mut [f32],
    vp: &mut [f32],
    (k, v): (MatRef, MatRef),
    row: usize,
    n: usize,
    at: usize,
    hs: usize,
) {
    if n > 0 {
        let width = hs.next_multiple_of(LANES);
        panels(isa, kp, &k.data()[row * k.row_stride() + at..], k.row_stride(), n, hs);
        let (src, stride) = (&v.data()[row * v.row_stride() + at..], v.row_stride());
        dispatch_on(isa, ScaleRows { dst: vp, width, src, stride, rows: n, hs, factor: 1.0 });
    }
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
        let scores = take(&mut scratch, (end - first) * APART);
        blocks(isa, queries, q, stride, rows, hs, self.att.scale_log2());
        let keys_of = |block: usize| WIDTH.min(ranges.hi[rows - 1] - block * WIDTH);
        for block in first..end {
            let (start, keys) = (block * WIDTH, keys_of(block));
            let ranges = ranges.within(rows, start, keys);
            let scores = &mut scores[(block - first) * APART..][..SCORES];
            let next =
                if block + 1 < end { ahead(self.k, start + WIDTH, hs) } else { ahead(self.v, first * WIDTH, hsp) };
            scores_of(isa, scores, queries, &self.k[start * hs..], rows, keys, hs, &ranges, next);
        }

        let mut sums = Sums { max: [0.0; QUERIES], sum: [1.0; QUERIES] };
        dispatch_on(isa, Softmax { scores, first, rows, ranges: &ranges, sums: &mut sums });
        let mut kept = 1.0;
        if let Some(dropout) = self.att.active_dropout() {
            kept = 1.0 - dropout.p;
            let keep = take(&mut scratch, self.task.seq.keys.next_multiple_of(LANES));
            for r in 0..rows {
                let (lo, hi, first_element) = (ranges.lo[r], ranges.hi[r], self.element(&dropout, r));
                let draw = Keep { dropout, first: first_element, lo, hi, value: 1.0, keep };
                dispatch_on(isa, draw);
                dispatch_on(isa, Drop { scores, first, row: r, lo, hi, keep });
            }
        }

        if first == end {
            out.fill(0.0);
        }
        for block in first..end {
            let (start, keys) = (block * WIDTH, keys_of(block));
            let p = Product {
                clip: Clip::Steps,
                ranges: &ranges.within(rows, start, keys),
                rows,
                vectors: hsp / LANES,
                steps: keys,
                a: &scores[(block - first) * APART..],
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
        let by = sums.sum.map(|l| l * kept);
        let (row, c) = (self.task.query_row + self.from, self.att.heads * hs);
        let start = row * c + self.task.head * hs;
        let (f, acc) = (Map::Over(&by), Accumulate::Store);
        // SAFETY: no other task writes these rows of this head.
        unsafe {
            put_rows(isa, PutRows { out: self.out, start, stride: c, rows, hs, values: out, width: hsp, f, acc })
        };
        for r in 0..rows {
            if ranges.lo[r] >= ranges.hi[r] {
                sums.max[r] = f32::INFINITY;
            }
        }
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

/// Vectors of a block of keys.
const VECTORS: usize = WIDTH / LANES;

/// Where group `g` of 16 keys of row `r` stands in scores that begin with block `first`.
#[inline(always)]
fn place(g: usize, r: usize, first: usize) -> usize {
    (g / VECTORS - first) * APART + r * WIDTH + g % VECTORS * LANES
}

/// For each row: the scores outside its range become −∞, m their maximum, the scores exp2(s − m), l their sum.
struct Softmax<'a> {
    /// [block of 64 keys][48 rows][64 keys], from block `first` on.
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
        for r in 0..self.rows {
            let (lo, hi) = (self.ranges.lo[r], self.ranges.hi[r]);
            if lo >= hi {
                continue;
            }
            let at = |g: usize| place(g, r, self.first);
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

/// Row `row` of the scores times keep, vector by vector from the first key to the last.
struct Drop<'a> {
    scores: &'a mut [f32],
    first: usize,
    row: usize,
    lo: usize,
    hi: usize,
    keep: &'a [f32],
}

impl Kernel for Drop<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for g in self.lo / LANES..self.hi.div_ceil(LANES) {
            let at = place(g, self.row, self.first);
            let x = s.mul(s.load(&self.scores[at..]), s.load(&self.keep[g * LANES..]));
            s.store(&mut self.scores[at..], x);
        }
    }
}
