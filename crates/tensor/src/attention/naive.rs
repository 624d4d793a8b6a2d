//! Attention as the equations read: T × T matrices in memory, plain loops over rows. The same order of arithmetic as
//! the fused kernels, and so the same bits.

use super::backward::{Dots, Gradients, Rows, gradient};
use super::dropout::Keep;
use super::pack::panels;
use super::plan::{Shared, Task, WHOLE, for_each_task, take};
use super::{Dropout, Inputs};
use crate::Ctx;
use crate::matrix::{Accumulate, MatRef};
use crate::simd::math::exp2_low;
use crate::simd::{Kernel, LANES, Simd, dispatch_on};
use core::ops::Range;

/// `attention_naive_forward` on checked arguments.
pub(super) fn forward(ctx: &Ctx, out: &mut [f32], lse: &mut [f32], op: &Inputs) {
    let hs = op.att.head_size;
    let scratch = longest(op, |seq| matrix(seq.queries, seq.keys) + seq.keys.next_multiple_of(LANES) * (hs + 1))
        + 2 * hs.next_multiple_of(LANES);
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    for_each_task(ctx, op.seqs, op.att, WHOLE, scratch, |scratch, task| {
        let head = Head { op, task, isa: ctx.isa() };
        // SAFETY: this task alone writes this head of these rows.
        unsafe { head.forward(scratch, &out, &lse) };
    });
}

/// `attention_naive_backward` on checked arguments.
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
    let scratch = longest(op, |seq| {
        let keys = seq.keys.next_multiple_of(LANES);
        2 * matrix(seq.queries, seq.keys) + keys * (2 * hs + 2 * hsp + 1) + seq.queries * hsp
    }) + hsp;
    for_each_task(ctx, op.seqs, op.att, WHOLE, scratch, |scratch, task| {
        let head = Head { op, task, isa: ctx.isa() };
        // SAFETY: this task alone writes this head of these rows.
        unsafe { head.backward(scratch, grads, dout, out, lse, acc) };
    });
}

/// Floats of a (queries, keys) matrix with rows of whole vectors.
fn matrix(queries: usize, keys: usize) -> usize {
    queries * keys.next_multiple_of(LANES)
}

fn longest(op: &Inputs, f: impl Fn(&super::Seq) -> usize) -> usize {
    op.seqs.iter().fold(0, |n, seq| n.max(f(seq)))
}

/// One head of one sequence.
struct Head<'a> {
    op: &'a Inputs<'a>,
    task: Task,
    isa: crate::Isa,
}

impl Head<'_> {
    /// Panels [key / 16][HS][16] of `m`'s rows of this head.
    fn panels(&self, dst: &mut [f32], m: &MatRef) {
        if self.task.seq.keys > 0 {
            let hs = self.op.att.head_size;
            let src = &m.data()[self.task.key_row * m.row_stride() + self.task.head * hs..];
            panels(self.isa, dst, src, m.row_stride(), self.task.seq.keys, hs);
        }
    }

    /// `m` from row first + i and this head's first channel on.
    fn row<'m>(&self, m: &MatRef<'m>, first: usize, i: usize) -> &'m [f32] {
        &m.data()[(first + i) * m.row_stride() + self.task.head * self.op.att.head_size..]
    }

    /// row[j] = Σ over channels of x_d·k_jd for the vectors of the visible keys.
    fn scores(&self, row: &mut [f32], x: &[f32], panels: &[f32], visible: &Range<usize>) {
        let groups = visible.start / LANES..visible.end.div_ceil(LANES);
        dispatch_on(self.isa, Scores { row, x, panels, groups });
    }

    /// Query `i`'s q·scale·log₂e.
    fn scaled_query(&self, dst: &mut [f32], i: usize) {
        let q = self.row(&self.op.q, self.task.query_row, i);
        for (x, q) in dst.iter_mut().zip(q) {
            *x = *q * self.op.att.scale_log2();
        }
    }

    /// The keep factors of query `i`, or none.
    fn keep<'k>(&self, keep: &'k mut [f32], i: usize, visible: &Range<usize>, value: f32) -> Option<&'k [f32]> {
        let d: Dropout = self.op.att.active_dropout()?;
        let task = &self.task;
        let first = d.first_element(task.sequence, task.head, self.op.att.heads, task.seq, i);
        let (lo, hi) = (visible.start, visible.end);
        dispatch_on(self.isa, Keep { dropout: d, first, lo, hi, value, keep });
        Some(keep)
    }

    /// # Safety
    /// No other task writes this head of these rows.
    unsafe fn forward(&self, mut scratch: &mut [f32], out: &Shared, lse: &Shared) {
        let (op, task, att) = (self.op, &self.task, self.op.att);
        let (hs, keys) = (att.head_size, task.seq.keys.next_multiple_of(LANES));
        let p = take(&mut scratch, matrix(task.seq.queries, keys));
        let panels = take(&mut scratch, keys * hs);
        let keep = take(&mut scratch, keys);
        let q = take(&mut scratch, hs);
        self.panels(panels, &op.k);
        for i in 0..task.seq.queries {
            let visible = att.mask.visible(task.seq, i);
            self.scaled_query(q, i);
            self.scores(&mut p[i * keys..][..keys], q, panels, &visible);
        }
        for i in 0..task.seq.queries {
            let (row, visible) = (task.query_row + i, att.mask.visible(task.seq, i));
            // SAFETY: the caller's word.
            let (o, l) = unsafe {
                (out.range(row * op.c + task.head * hs, hs), &mut lse.range(row * att.heads + task.head, 1)[0])
            };
            o.fill(0.0);
            if visible.is_empty() {
                *l = f32::INFINITY;
                continue;
            }
            let p = &mut p[i * keys + visible.start..i * keys + visible.end];
            let max = p.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
            let sum = dispatch_on(self.isa, Exponentials { p, max, first: visible.start });
            *l = max + libm::log2f(sum);
            let mut kept = 1.0;
            if let Some(keep) = self.keep(keep, i, &visible, 1.0) {
                kept = 1.0 - att.active_dropout().map_or(0.0, |d| d.p);
                for (p, keep) in p.iter_mut().zip(&keep[visible.clone()]) {
                    *p *= keep;
                }
            }
            let v = self.row(&op.v, task.key_row, visible.start);
            dispatch_on(self.isa, WeightedSum { out: o, weights: p, rows: v, stride: op.v.row_stride() });
            for x in o {
                *x /= sum * kept;
            }
        }
    }

    /// # Safety
    /// No other task writes this head of these rows.
    unsafe fn backward(
        &self,
        mut scratch: &mut [f32],
        grads: &Gradients,
        dout: &[f32],
        out: &[f32],
        lse: &[f32],
        acc: Accumulate,
    ) {
        let (op, task, att) = (self.op, &self.task, self.op.att);
        let (hs, keys) = (att.head_size, task.seq.keys.next_multiple_of(LANES));
        let queries = task.seq.queries;
        let p = take(&mut scratch, matrix(queries, keys));
        let ds = take(&mut scratch, matrix(queries, keys));
        let kp = take(&mut scratch, keys * hs);
        let vp = take(&mut scratch, keys * hs);
        let dk = take(&mut scratch, keys * hs);
        let dv = take(&mut scratch, keys * hs);
        let dq = take(&mut scratch, queries * hs);
        let keep = take(&mut scratch, keys);
        let q = take(&mut scratch, hs);
        self.panels(kp, &op.k);
        self.panels(vp, &op.v);
        let place = |i: usize| (task.query_row + i) * op.c + task.head * hs;
        for i in 0..queries {
            let (at, visible) = (place(i), att.mask.visible(task.seq, i));
            if visible.is_empty() {
                continue;
            }
            let (p, ds) = (&mut p[i * keys..][..keys], &mut ds[i * keys..][..keys]);
            self.scaled_query(q, i);
            self.scores(p, q, kp, &visible);
            self.scores(ds, &dout[at..][..hs], vp, &visible);
            let mut delta = [0.0];
            dispatch_on(self.isa, Dots { sums: &mut delta, a: &dout[at..], b: &out[at..], stride: 0, hs });
            let lse = lse[(task.query_row + i) * att.heads + task.head];
            let value = 1.0 / (1.0 - att.active_dropout().map_or(0.0, |d| d.p));
            let keep = self.keep(keep, i, &visible, value);
            dispatch_on(self.isa, Gradient { p, ds, visible, lse, delta: delta[0], keep });
        }
        dq.fill(0.0);
        dk.fill(0.0);
        dv.fill(0.0);
        for i in 0..queries {
            let visible = att.mask.visible(task.seq, i);
            if visible.is_empty() {
                continue;
            }
            self.scaled_query(q, i);
            let (p, ds) = (&p[i * keys..][visible.clone()], &ds[i * keys..][visible.clone()]);
            let k = self.row(&op.k, task.key_row, visible.start);
            let out = &mut dq[i * hs..][..hs];
            dispatch_on(self.isa, WeightedSum { out, weights: ds, rows: k, stride: op.k.row_stride() });
            let seen = visible.start * hs..visible.end * hs;
            dispatch_on(self.isa, AddOuter { out: &mut dk[seen.clone()], weights: ds, x: q });
            dispatch_on(self.isa, AddOuter { out: &mut dv[seen], weights: p, x: &dout[place(i)..][..hs] });
        }
        let rows = |data| Rows { data, width: hs, hs };
        let (query, key) = ((task.query_row, task.head * hs), (task.key_row, task.head * hs));
        // SAFETY: the caller's word.
        unsafe {
            grads.dq.put(self.isa, query, rows(dq), queries, att.scale, acc);
            grads.dk.put(self.isa, key, rows(dk), task.seq.keys, core::f32::consts::LN_2, acc);
            grads.dv.put(self.isa, key, rows(dv), task.seq.keys, 1.0, acc);
        }
    }
}

/// `gradient` on one row.
struct Gradient<'a> {
    p: &'a mut [f32],
    ds: &'a mut [f32],
    visible: Range<usize>,
    lse: f32,
    delta: f32,
    keep: Option<&'a [f32]>,
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Range { start, end } = self.visible;
        gradient(s, self.p, self.ds, start, end, self.lse, self.delta, self.keep);
    }
}

/// out += factor·x.
#[inline(always)]
fn add_scaled<S: Simd>(s: S, out: &mut [f32], factor: f32, x: &[f32]) {
    let factor = s.splat(factor);
    let whole = out.len() / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        let sum = s.mul_add(factor, s.load(&x[i..]), s.load(&out[i..]));
        s.store(&mut out[i..], sum);
    }
    if whole < out.len() {
        let (x, out) = (&x[whole..out.len()], &mut out[whole..]);
        let sum = s.mul_add(factor, s.load_partial(x, 0.0), s.load_partial(out, 0.0));
        s.store_partial(out, sum);
    }
}

/// row[j] = Σ over channels d, in order, of x_d·panel(j)_d, for the keys of `groups`.
struct Scores<'a> {
    row: &'a mut [f32],
    x: &'a [f32],
    panels: &'a [f32],
    groups: Range<usize>,
}

impl Kernel for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let hs = self.x.len();
        self.row[self.groups.start * LANES..self.groups.end * LANES].fill(0.0);
        for (d, &x) in self.x.iter().enumerate() {
            for g in self.groups.clone() {
                let panel = &self.panels[g * hs * LANES + d * LANES..][..LANES];
                add_scaled(s, &mut self.row[g * LANES..][..LANES], x, panel);
            }
        }
    }
}

/// out += Σ over j, in order, of weights[j]·row j.
struct WeightedSum<'a> {
    out: &'a mut [f32],
    weights: &'a [f32],
    rows: &'a [f32],
    stride: usize,
}

impl Kernel for WeightedSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.out.len();
        for (j, &w) in self.weights.iter().enumerate() {
            add_scaled(s, self.out, w, &self.rows[j * self.stride..][..n]);
        }
    }
}

/// Row j of out += weights[j]·x.
struct AddOuter<'a> {
    out: &'a mut [f32],
    weights: &'a [f32],
    x: &'a [f32],
}

impl Kernel for AddOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (out, &w) in self.out.chunks_exact_mut(self.x.len()).zip(self.weights) {
            add_scaled(s, out, w, self.x);
        }
    }
}

/// p = exp2(p − max) and its sum; p[0] is key `first`, and key j adds in lane j mod 16.
struct Exponentials<'a> {
    p: &'a mut [f32],
    max: f32,
    first: usize,
}

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let max = s.splat(self.max);
        let mut sums = [0.0f32; LANES];
        for (group, p) in self.p.chunks_mut(LANES).enumerate() {
            let x = s.sub(s.load_partial(p, f32::NEG_INFINITY), max);
            s.store_partial(p, exp2_low(s, x));
            for (i, p) in p.iter().enumerate() {
                sums[(self.first + group * LANES + i) % LANES] += *p;
            }
        }
        s.reduce_add(s.load(&sums))
    }
}
