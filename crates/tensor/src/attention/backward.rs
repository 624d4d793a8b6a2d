//! The fused backward: one task owns a (sequence, head), so that nothing is added atomically.
//!
//! ```text
//! pack Kᵀ and Vᵀ into panels and K into rows; dK = dV = 0
//! for each block of 48 queries, in order
//!     Q' = Q·scale·log₂e, dO, D = Σ dO∘O, dQ = 0
//!     for each block of 48 keys it sees, in order
//!         S = Q'·Kᵀ, dP = dO·Vᵀ                   48 × 48 floats each
//!         P = exp2(S − lse), dS = P∘(keep∘dP − D), P' = keep∘P
//!         dQ += dS·K      dV += P'ᵀ·dO      dK += dSᵀ·Q'
//!     dq = dQ·scale
//! dk = dK·ln 2 (for Q' holds scale·log₂e), dv = dV
//! ```

use super::forward::{Keep, lanes_of, visible};
use super::pack::{ScaleRows, panels};
use super::plan::{Shared, Task, WHOLE, for_each_task, take};
use super::product::{BLOCK, Clip, Product, Ranges, product};
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
        let (first, column) = at;
        for r in 0..rows {
            // SAFETY: the caller's word.
            let out = unsafe { self.memory.range(self.offset + (first + r) * self.stride + column, values.hs) };
            dispatch_on(isa, Put { out, values: &values.data[r * values.width..][..values.hs], factor, acc });
        }
    }
}

/// Rows of `hs` channels, `width` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub width: usize,
    pub hs: usize,
}

/// out (+)= values·factor.
struct Put<'a> {
    out: &'a mut [f32],
    values: &'a [f32],
    factor: f32,
    acc: Accumulate,
}

impl Kernel for Put<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        for (out, values) in self.out.chunks_mut(LANES).zip(self.values.chunks(LANES)) {
            let mut x = s.mul(s.load_partial(values, 0.0), factor);
            if self.acc == Accumulate::Add {
                x = s.add(s.load_partial(out, 0.0), x);
            }
            s.store_partial(out, x);
        }
    }
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
    let scratch = longest * (2 * hs + 3 * hsp) + 3 * BLOCK * hsp + (2 * BLOCK + 1) * BLOCK;
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

/// dP, P and what is computed from them, 48 × 48.
type Square<'a> = &'a mut [f32];

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
            let rows = |m: MatRef<'_>| m.row_stride() * self.task.key_row + at;
            let (k, v) = (&self.op.k, &self.op.v);
            panels(isa, kp, &k.data()[rows(*k)..], k.row_stride(), keys, hs);
            panels(isa, vp, &v.data()[rows(*v)..], v.row_stride(), keys, hs);
            copy_rows(isa, kr, k, (self.task.key_row, at), keys, hs, 1.0);
        }
        dk.fill(0.0);
        dv.fill(0.0);
        let queries = take(&mut scratch, BLOCK * hsp);
        let douts = take(&mut scratch, BLOCK * hsp);
        let dq = take(&mut scratch, BLOCK * hsp);
        let p = take(&mut scratch, BLOCK * BLOCK);
        let ds = take(&mut scratch, BLOCK * BLOCK);
        let keep = take(&mut scratch, BLOCK);
        let mut from = 0;
        while from < self.task.seq.queries {
            let rows = BLOCK.min(self.task.seq.queries - from);
            let place = (self.task.query_row + from, at);
            let block = QueryBlock::new(self, from, rows);
            copy_rows(isa, queries, &self.op.q, place, rows, hs, self.att.scale_log2());
            let c = self.op.c;
            let (src, stride) = (&self.dout[place.0 * c + at..], c);
            dispatch_on(isa, ScaleRows { dst: douts, width: hsp, src, stride, rows, hs, factor: 1.0 });
            dq[..rows * hsp].fill(0.0);
            let ranges = &block.ranges;
            for b in ranges.lo[0] / BLOCK..ranges.hi[rows - 1].div_ceil(BLOCK) {
                let start = b * BLOCK;
                let n = BLOCK.min(keys - start);
                let square = Products { isa, rows, n, hs, hsp, ranges: ranges.within(start, n) };
                square.scores(p, queries, &kp[start * hs..]);
                square.scores(ds, douts, &vp[start * hs..]);
                block.probabilities(start, &square.ranges, p, ds, keep);
                square.over_keys(dq, ds, &kr[start * hsp..]);
                let by_key = square.ranges.transposed(rows, n);
                square.over_queries(&by_key, &mut dv[start * hsp..], p, douts);
                square.over_queries(&by_key, &mut dk[start * hsp..], ds, queries);
            }
            let values = Rows { data: dq, width: hsp, hs };
            // SAFETY: this task alone writes this head of these rows.
            unsafe { self.grads.dq.put(isa, place, values, rows, self.att.scale, self.acc) };
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

/// Rows `at.0`.. of `src`, channels `at.1`.. of one head, times `factor`, to rows of HSP floats.
fn copy_rows(isa: Isa, dst: &mut [f32], src: &MatRef, at: (usize, usize), rows: usize, hs: usize, factor: f32) {
    let (width, stride) = (hs.next_multiple_of(LANES), src.row_stride());
    let src = &src.data()[at.0 * stride + at.1..];
    dispatch_on(isa, ScaleRows { dst, width, src, stride, rows, hs, factor });
}

/// The five products of a block of queries and a block of keys.
struct Products {
    isa: Isa,
    rows: usize,
    /// Keys of the block.
    n: usize,
    hs: usize,
    hsp: usize,
    ranges: Ranges,
}

impl Products {
    /// square = rows·panelsᵀ.
    fn scores(&self, square: Square, rows: &[f32], panels: &[f32]) {
        let p = Product {
            clip: Clip::Vectors,
            rows: self.rows,
            vectors: self.n.div_ceil(LANES),
            steps: self.hs,
            ranges: &self.ranges,
            a: rows,
            a_rs: self.hsp,
            a_ks: 1,
            b: panels,
            b_vs: self.hs * LANES,
            b_ks: LANES,
            c: square,
            c_rs: BLOCK,
        };
        product(self.isa, p);
    }

    /// dq += ds·k
    fn over_keys(&self, dq: &mut [f32], ds: &[f32], k: &[f32]) {
        let p = Product {
            clip: Clip::Steps,
            rows: self.rows,
            vectors: self.hsp / LANES,
            steps: self.n,
            ranges: &self.ranges,
            a: ds,
            a_rs: BLOCK,
            a_ks: 1,
            b: k,
            b_vs: LANES,
            b_ks: self.hsp,
            c: dq,
            c_rs: self.hsp,
        };
        product(self.isa, p);
    }

    /// out += squareᵀ·rows; `by_key` are the queries that see each key.
    fn over_queries(&self, by_key: &Ranges, out: &mut [f32], square: &[f32], rows: &[f32]) {
        let p = Product {
            clip: Clip::Steps,
            rows: self.n,
            vectors: self.hsp / LANES,
            steps: self.rows,
            ranges: by_key,
            a: square,
            a_rs: 1,
            a_ks: BLOCK,
            b: rows,
            b_vs: LANES,
            b_ks: self.hsp,
            c: out,
            c_rs: self.hsp,
        };
        product(self.isa, p);
    }
}

/// At most 48 queries and their saved numbers.
struct QueryBlock<'a> {
    head: &'a Head<'a>,
    from: usize,
    rows: usize,
    ranges: Ranges,
    lse: [f32; BLOCK],
    delta: [f32; BLOCK],
}

impl<'a> QueryBlock<'a> {
    fn new(head: &'a Head<'a>, from: usize, rows: usize) -> Self {
        let ranges = visible(head.att.mask, head.task.seq, from, rows);
        let (mut lse, mut delta) = ([0.0; BLOCK], [0.0; BLOCK]);
        for r in 0..rows {
            let row = head.task.query_row + from + r;
            lse[r] = head.lse[row * head.att.heads + head.task.head];
            let at = row * head.op.c + head.task.head * head.att.head_size;
            let (a, b) = (&head.dout[at..][..head.att.head_size], &head.out[at..][..head.att.head_size]);
            delta[r] = dispatch_on(head.isa, Dot { a, b });
        }
        QueryBlock { head, from, rows, ranges, lse, delta }
    }

    /// From S in `p` and dP in `ds`: P' and dS, on the visible pairs; `ranges` are those within the block of keys.
    fn probabilities(&self, start: usize, ranges: &Ranges, p: Square, ds: Square, keep: &mut [f32]) {
        let isa = self.head.isa;
        let dropout = self.head.att.active_dropout();
        for r in 0..self.rows {
            let (lo, hi) = (ranges.lo[r], ranges.hi[r]);
            if lo >= hi {
                continue;
            }
            let keep = dropout.map(|d| {
                let (task, heads) = (&self.head.task, self.head.att.heads);
                let first = d.first_element(task.sequence, task.head, heads, task.seq, self.from + r);
                let first = first.wrapping_add(start as u64);
                keep.fill(0.0);
                dispatch_on(isa, Keep { rng: d.rng, p: d.p, first, lo, hi, value: 1.0 / (1.0 - d.p), keep });
                &keep[..]
            });
            let (p, ds) = (&mut p[r * BLOCK..][..BLOCK], &mut ds[r * BLOCK..][..BLOCK]);
            dispatch_on(isa, Gradient { p, ds, lo, hi, lse: self.lse[r], delta: self.delta[r], keep });
        }
    }
}

/// Σ a∘b, element i in lane i mod 16, then the tree.
pub(super) struct Dot<'a> {
    pub a: &'a [f32],
    pub b: &'a [f32],
}

impl Kernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = s.zero();
        for (a, b) in self.a.chunks(LANES).zip(self.b.chunks(LANES)) {
            sum = s.mul_add(s.load_partial(a, 0.0), s.load_partial(b, 0.0), sum);
        }
        s.reduce_add(sum)
    }
}

/// One row: p holds S and becomes keep∘exp2(S − lse); ds holds dP and becomes P∘(keep∘dP − D); lanes outside lo..hi of
/// the vectors touched become 0.
pub(super) struct Gradient<'a> {
    pub p: &'a mut [f32],
    pub ds: &'a mut [f32],
    pub lo: usize,
    pub hi: usize,
    pub lse: f32,
    pub delta: f32,
    pub keep: Option<&'a [f32]>,
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (lse, delta) = (s.splat(self.lse), s.splat(self.delta));
        for g in self.lo / LANES..self.hi.div_ceil(LANES) {
            let at = g * LANES;
            let (from, to) = (self.lo.saturating_sub(at), self.hi - at);
            let mut p = exp2_low(s, s.sub(s.load(&self.p[at..]), lse));
            let mut dp = s.load(&self.ds[at..]);
            if let Some(keep) = self.keep {
                let keep = s.load(&keep[at..]);
                dp = s.mul(keep, dp);
                let ds = s.mul(p, s.sub(dp, delta));
                p = s.mul(keep, p);
                s.store(&mut self.ds[at..], lanes_of(s, ds, from, to, 0.0));
            } else {
                let ds = s.mul(p, s.sub(dp, delta));
                s.store(&mut self.ds[at..], lanes_of(s, ds, from, to, 0.0));
            }
            s.store(&mut self.p[at..], lanes_of(s, p, from, to, 0.0));
        }
    }
}
