//! The fused backward: one task owns a (sequence, head), so that nothing is added atomically.
//!
//! ```text
//! pack Kᵀ and Vᵀ into panels and K into rows; dK = dV = 0
//! for each block of 48 queries, in order
//!     Q' = Q·scale·log₂e, dO, D = Σ dO∘O, dQ = 0
//!     for each block of 64 keys it sees, in order
//!         S = Q'·Kᵀ, dP = dO·Vᵀ                   48 × 64 floats each
//!         P = exp2(S − lse), dS = P∘(keep∘dP − D), P' = keep∘P
//!         dQ += dS·K      dV += P'ᵀ·dO      dK += dSᵀ·Q'
//!     dq = dQ·scale
//! dk = dK·ln 2 (for Q' holds scale·log₂e), dv = dV
//! ```

#[cfg(longhand_variants)]
pub(super) mod by_keys;

use super::dropout::Keep;
use super::forward::{SCORES, ahead, lanes_of, scores_of, visible};
use super::pack::{Map, PutRows, ScaleRows, blocks, blocks_len, panels, put_rows};
use super::plan::{Shared, Task, WHOLE, for_each_task, take};
use super::product::{Clip, Order, Product, QUERIES, Ranges, WIDTH, product};
use super::{Attention, Inputs};
use crate::Ctx;
use crate::matrix::{Accumulate, MatRef};
use crate::simd::math::exp2_low;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch_on};

/// Where the three gradients go: element (row, channel) of each at offset + row·stride + channel.
pub(super) struct Gradients<'a> {
    pub dq: Part<'a>,
    pub dk: Part<'a>,
    pub dv: Part<'a>,
}

/// One gradient's place.
pub(super) struct Part<'a> {
    memory: Shared<'a>,
    offset: usize,
    stride: usize,
}

impl<'a> Gradients<'a> {
    /// Rows dq | dk | dv of C channels each.
    pub fn packed(dqkv: &'a mut [f32], c: usize) -> Self {
        let memory = Shared::new(dqkv);
        let part = |i: usize| Part { memory, offset: i * c, stride: 3 * c };
        Gradients { dq: part(0), dk: part(1), dv: part(2) }
    }

    /// Three matrices of C columns.
    pub fn separate(dq: &'a mut [f32], dk: &'a mut [f32], dv: &'a mut [f32], c: usize) -> Self {
        let part = |memory: &'a mut [f32]| Part { memory: Shared::new(memory), offset: 0, stride: c };
        Gradients { dq: part(dq), dk: part(dk), dv: part(dv) }
    }
}

impl Part<'_> {
    /// Writes values·factor to `rows` rows of one head.
    /// # Safety
    /// No other task writes these rows of this head.
    pub unsafe fn put(&self, isa: Isa, at: (usize, usize), values: Rows, rows: usize, factor: f32, acc: Accumulate) {
        let Rows { data, width, hs } = values;
        let (start, f) = (self.offset + at.0 * self.stride + at.1, Map::Times(factor));
        let (out, stride) = (&self.memory, self.stride);
        // SAFETY: the caller's word.
        unsafe { put_rows(isa, PutRows { out, start, stride, rows, hs, values: data, width, f, acc }) };
    }
}

/// Rows of `hs` channels, `width` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub width: usize,
    pub hs: usize,
}

/// `attention_backward` on checked arguments.
pub(super) fn backward(
    ctx: &Ctx,
    grads: &Gradients,
    dout: &[f32],
    out: &[f32],
    lse: &[f32],
    op: &Inputs,
    acc: Accumulate,
) {
    let (hs, hsp) = (op.att.head_size, op.att.head_size.next_multiple_of(LANES));
    let longest = op.seqs.iter().fold(0, |n, seq| n.max(seq.keys)).next_multiple_of(LANES);
    let scratch = longest * (2 * hs + 3 * hsp) + 2 * blocks_len(hs) + QUERIES * hsp + 3 * SCORES;
    for_each_task(ctx, op.seqs, op.att, WHOLE, scratch, |scratch, task| {
        let head = Head { isa: ctx.isa(), att: op.att, op, task, dout, out, lse, grads, acc };
        head.run(scratch);
    });
}

/// One head of one sequence.
struct Head<'a> {
    isa: Isa,
    att: &'a Attention<'a>,
    op: &'a Inputs<'a>,
    task: Task,
    dout: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    grads: &'a Gradients<'a>,
    acc: Accumulate,
}

impl Head<'_> {
    fn run(&self, mut scratch: &mut [f32]) {
        let (isa, hs, keys) = (self.isa, self.att.head_size, self.task.seq.keys);
        let (hsp, whole) = (hs.next_multiple_of(LANES), keys.next_multiple_of(LANES));
        let at = self.task.head * hs;
        let kp = take(&mut scratch, whole * hs);
        let vp = take(&mut scratch, whole * hs);
        let kr = take(&mut scratch, keys * hsp);
        let dk = take(&mut scratch, keys * hsp);
        let dv = take(&mut scratch, keys * hsp);
        if keys > 0 {
            let of = |m: MatRef<'_>| m.row_stride() * self.task.key_row + at;
            let (k, v) = (&self.op.k, &self.op.v);
            panels(isa, kp, &k.data()[of(*k)..], k.row_stride(), keys, hs);
            panels(isa, vp, &v.data()[of(*v)..], v.row_stride(), keys, hs);
            let (src, stride) = (&k.data()[of(*k)..], k.row_stride());
            dispatch_on(isa, ScaleRows { dst: kr, width: hsp, src, stride, rows: keys, hs, factor: 1.0 });
        }
        dk.fill(0.0);
        dv.fill(0.0);
        let queries = take(&mut scratch, blocks_len(hs));
        let douts = take(&mut scratch, blocks_len(hs));
        let dq = take(&mut scratch, QUERIES * hsp);
        let p = take(&mut scratch, SCORES);
        let ds = take(&mut scratch, SCORES);
        let keep = take(&mut scratch, SCORES);
        let mut from = 0;
        while from < self.task.seq.queries {
            let rows = QUERIES.min(self.task.seq.queries - from);
            let row = self.task.query_row + from;
            let q = &self.op.q;
            blocks(
                isa,
                queries,
                &q.data()[row * q.row_stride() + at..],
                q.row_stride(),
                rows,
                hs,
                self.att.scale_log2(),
            );
            blocks(isa, douts, &self.dout[row * self.op.c + at..], self.op.c, rows, hs, 1.0);
            let block = QueryBlock::new(self, from, rows);
            let (first, last) = (block.ranges.lo[0], block.ranges.hi[rows - 1]);
            if first >= last {
                dq.fill(0.0);
            }
            for start in (first / WIDTH * WIDTH..last).step_by(WIDTH) {
                let n = WIDTH.min(last - start);
                let ranges = block.ranges.within(rows, start, n);
                scores_of(isa, p, queries, &kp[start * hs..], rows, n, hs, &ranges, ahead(vp, start, hs));
                scores_of(isa, ds, douts, &vp[start * hs..], rows, n, hs, &ranges, ahead(kr, start, hsp));
                block.probabilities(start, &ranges, p, ds, keep);
                let over_keys = Product {
                    clip: Clip::Steps,
                    ranges: &ranges,
                    rows,
                    vectors: hsp / LANES,
                    steps: n,
                    a: ds,
                    order: Order::Rows,
                    b: &kr[start * hsp..],
                    b_vs: LANES,
                    b_ks: hsp,
                    c: dq,
                    c_rs: hsp,
                    add: start > first,
                    next: &[],
                };
                product(isa, over_keys);
                let by_key = ranges.transposed(rows, n);
                over_queries(isa, &mut dv[start * hsp..], p, douts, (n, rows), hs, &by_key, &[]);
                let next = ahead(kp, start + WIDTH, hs);
                over_queries(isa, &mut dk[start * hsp..], ds, queries, (n, rows), hs, &by_key, next);
            }
            let values = Rows { data: dq, width: hsp, hs };
            // SAFETY: this task alone writes this head of these rows.
            unsafe { self.grads.dq.put(isa, (row, at), values, rows, self.att.scale, self.acc) };
            from += rows;
        }
        let place = (self.task.key_row, at);
        // SAFETY: this task alone writes this head of these rows.
        unsafe {
            let ln_2 = core::f32::consts::LN_2;
            self.grads.dk.put(isa, place, Rows { data: dk, width: hsp, hs }, keys, ln_2, self.acc);
            self.grads.dv.put(isa, place, Rows { data: dv, width: hsp, hs }, keys, 1.0, self.acc);
        }
    }
}

/// out += squareᵀ·blocks, (keys, queries) by (queries, HS); `by_key` are the queries that see each key.
fn over_queries(
    isa: Isa,
    out: &mut [f32],
    square: &[f32],
    blocks: &[f32],
    (keys, queries): (usize, usize),
    hs: usize,
    by_key: &Ranges,
    next: &[f32],
) {
    let hsp = hs.next_multiple_of(LANES);
    for d in (0..hs).step_by(WIDTH) {
        let p = Product {
            clip: Clip::Steps,
            ranges: by_key,
            rows: keys,
            vectors: WIDTH.min(hsp - d) / LANES,
            steps: queries,
            a: square,
            order: Order::Transposed,
            b: &blocks[d * QUERIES..],
            b_vs: LANES,
            b_ks: WIDTH,
            c: &mut out[d..],
            c_rs: hsp,
            add: true,
            next: if d + WIDTH < hs { &[] } else { next },
        };
        product(isa, p);
    }
}

/// At most 48 queries and their saved numbers.
struct QueryBlock<'a> {
    head: &'a Head<'a>,
    from: usize,
    rows: usize,
    ranges: Ranges,
    lse: [f32; QUERIES],
    delta: [f32; QUERIES],
}

impl<'a> QueryBlock<'a> {
    fn new(head: &'a Head<'a>, from: usize, rows: usize) -> Self {
        let ranges = visible(head.att.mask, head.task.seq, from, rows);
        let (mut lse, mut delta) = ([0.0; QUERIES], [0.0; QUERIES]);
        for r in 0..rows {
            lse[r] = head.lse[(head.task.query_row + from + r) * head.att.heads + head.task.head];
        }
        let (c, hs) = (head.op.c, head.att.head_size);
        let at = (head.task.query_row + from) * c + head.task.head * hs;
        let dots = Dots { sums: &mut delta[..rows], a: &head.dout[at..], b: &head.out[at..], stride: c, hs };
        dispatch_on(head.isa, dots);
        QueryBlock { head, from, rows, ranges, lse, delta }
    }

    /// From S in `p` and dP in `ds`: P' and dS, on the visible pairs; `ranges` are those within the block of keys.
    fn probabilities(&self, start: usize, ranges: &Ranges, p: &mut [f32], ds: &mut [f32], keep: &mut [f32]) {
        let isa = self.head.isa;
        if let Some(dropout) = self.head.att.active_dropout() {
            let value = 1.0 / (1.0 - dropout.p);
            for (r, keep) in keep.chunks_exact_mut(WIDTH).enumerate().take(self.rows) {
                let (lo, hi) = (ranges.lo[r], ranges.hi[r]);
                let (task, heads) = (&self.head.task, self.head.att.heads);
                let first = dropout.first_element(task.sequence, task.head, heads, task.seq, self.from + r);
                let first = first.wrapping_add(start as u64);
                dispatch_on(isa, Keep { dropout, first, lo, hi, value, keep });
            }
            dispatch_on(isa, Gradient48 { p, ds, ranges, block: self, keep: Some(keep) });
        } else {
            dispatch_on(isa, Gradient48 { p, ds, ranges, block: self, keep: None });
        }
    }
}

/// sums[r] = Σ a∘b of row r, element i in lane i mod 16, then the tree.
pub(super) struct Dots<'a> {
    pub sums: &'a mut [f32],
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub stride: usize,
    pub hs: usize,
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let whole = self.hs / LANES * LANES;
        for (r, out) in self.sums.iter_mut().enumerate() {
            let (a, b) = (&self.a[r * self.stride..][..self.hs], &self.b[r * self.stride..][..self.hs]);
            let mut sum = s.zero();
            for d in (0..whole).step_by(LANES) {
                sum = s.mul_add(s.load(&a[d..]), s.load(&b[d..]), sum);
            }
            if whole < self.hs {
                sum = s.mul_add(s.load_partial(&a[whole..], 0.0), s.load_partial(&b[whole..], 0.0), sum);
            }
            *out = s.reduce_add(sum);
        }
    }
}

/// `gradient` on the rows of a block.
struct Gradient48<'a> {
    p: &'a mut [f32],
    ds: &'a mut [f32],
    ranges: &'a Ranges,
    block: &'a QueryBlock<'a>,
    keep: Option<&'a [f32]>,
}

impl Kernel for Gradient48<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for r in 0..self.block.rows {
            let (lo, hi) = (self.ranges.lo[r], self.ranges.hi[r]);
            if lo < hi {
                let (p, ds) = (&mut self.p[r * WIDTH..][..WIDTH], &mut self.ds[r * WIDTH..][..WIDTH]);
                let keep = self.keep.map(|keep| &keep[r * WIDTH..][..WIDTH]);
                gradient(s, p, ds, lo, hi, self.block.lse[r], self.block.delta[r], keep);
            }
        }
    }
}

/// One row: p holds S and becomes keep∘exp2(S − lse); ds holds dP and becomes P∘(keep∘dP − D); lanes outside lo..hi of
/// the vectors touched become 0.
#[inline(always)]
pub(super) fn gradient<S: Simd>(
    s: S,
    p: &mut [f32],
    ds: &mut [f32],
    lo: usize,
    hi: usize,
    lse: f32,
    delta: f32,
    keep: Option<&[f32]>,
) {
    let (lse, delta) = (s.splat(lse), s.splat(delta));
    for at in (lo / LANES * LANES..hi).step_by(LANES) {
        let mut prob = exp2_low(s, s.sub(s.load(&p[at..]), lse));
        let mut dp = s.load(&ds[at..]);
        if let Some(keep) = keep {
            dp = s.mul(s.load(&keep[at..]), dp);
        }
        let mut grad = s.mul(prob, s.sub(dp, delta));
        if let Some(keep) = keep {
            prob = s.mul(s.load(&keep[at..]), prob);
        }
        if at < lo || at + LANES > hi {
            let (from, to) = (lo.saturating_sub(at), hi - at);
            prob = lanes_of(s, prob, from, to, 0.0);
            grad = lanes_of(s, grad, from, to, 0.0);
        }
        s.store(&mut p[at..], prob);
        s.store(&mut ds[at..], grad);
    }
}
