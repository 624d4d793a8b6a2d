//! The backward by blocks of keys, dQ added to as each of them finishes: what tells how much the fixed order of
//! `super` costs. Compiled under `--cfg longhand_variants` alone.
//!
//! ```text
//! pack Q' and dO of all queries into blocks; dQ = 0
//! for each block of 64 keys, in order or shared by tasks
//!     pack its Kᵀ and Vᵀ into panels and its K into rows; dK = dV = 0, in L1
//!     for each block of 48 queries that sees it, in order
//!         S = Q'·Kᵀ, dP = dO·Vᵀ, P and dS as in `super`
//!         dV += P'ᵀ·dO      dK += dSᵀ·Q'      dQ += dS·K
//!     dk = dK·ln 2, dv = dV
//! dq = dQ·scale
//! ```
//!
//! With one task a head dQ rests in that task's scratch, and is still a chain over keys in order. With more, each task
//! adds what its blocks of keys give to dq itself, under a lock a block of queries, in the order in which they come.

use super::{Gradient48, Gradients, Head, QueryBlock, Rows, over_queries};
use crate::Ctx;
use crate::attention::forward::{SCORES, scores_of};
use crate::attention::pack::{ScaleRows, blocks, blocks_len, panels};
use crate::attention::plan::{WHOLE, for_each_task, take};
use crate::attention::product::{Clip, Order, Product, QUERIES, WIDTH, product};
use crate::attention::{Attention, Inputs, Seq, packed};
use crate::error::{Error, Result, expect_len};
use crate::matrix::{Accumulate, MatRef};
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{LANES, dispatch_on};
use core::sync::atomic::{AtomicBool, Ordering};

/// `attention_backward` that stores, without dropout, the blocks of keys of a head dealt out to `tasks` tasks.
/// # Errors
/// As `attention_backward`; `InvalidValue` for dropout or no tasks.
pub fn attention_backward_by_keys(
    ctx: &Ctx,
    dqkv: &mut [f32],
    dout: &[f32],
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    seqs: &[Seq],
    att: &Attention,
    tasks: usize,
) -> Result<()> {
    let name = "attention_backward_by_keys";
    let [q, k, v] = packed(name, qkv, seqs, att)?;
    let op = Inputs::checked(name, q, k, v, seqs, att)?;
    expect_len(name, "dqkv length", dqkv.len(), qkv.len())?;
    op.check_saved(dout, out, lse)?;
    if att.active_dropout().is_some() {
        return Err(Error::InvalidValue { op: name, what: "dropout", expected: "none", got: 1.0 });
    }
    if tasks == 0 {
        return Err(Error::InvalidValue { op: name, what: "tasks", expected: "at least 1", got: 0.0 });
    }
    if tasks > 1 {
        let rows = q.rows();
        for_each_rows(ctx, RowsMut::new(dqkv, 3 * op.c), rows, 64, |_, part| {
            for row in part.into_slice().chunks_exact_mut(3 * op.c) {
                row[..op.c].fill(0.0);
            }
        });
    }
    let grads = Gradients::packed(dqkv, op.c);
    let (hs, hsp) = (att.head_size, att.head_size.next_multiple_of(LANES));
    let longest = seqs.iter().fold(0, |n, seq| n.max(seq.queries));
    let blocks_of = |queries: usize| queries.div_ceil(QUERIES);
    let scratch = blocks_of(longest) * (2 * blocks_len(hs) + QUERIES * hsp) + WIDTH * (2 * hs + 3 * hsp) + 2 * SCORES;
    let locks: Vec<AtomicBool> =
        (0..if tasks > 1 { q.rows() * att.heads } else { 0 }).map(|_| AtomicBool::new(false)).collect();
    // A run of queries stands for a share of the keys: of n runs the i-th takes every block of keys whose number is i mod n.
    let run = if tasks > 1 { longest.div_ceil(tasks).max(1) } else { WHOLE };
    for_each_task(ctx, seqs, att, run, scratch, |scratch, task| {
        let share = if tasks > 1 { (task.from / run, task.seq.queries.div_ceil(run)) } else { (0, 1) };
        let head = Head { isa: ctx.isa(), att, op: &op, task, dout, out, lse, grads: &grads, acc: Accumulate::Store };
        ByKeys { head, share, shared: tasks > 1, locks: &locks }.run(scratch);
    });
    Ok(())
}

/// A task's share of one head of one sequence.
struct ByKeys<'a> {
    head: Head<'a>,
    /// Its number, and how many there are.
    share: (usize, usize),
    /// Whether other tasks may add to the same dq.
    shared: bool,
    /// One for the first row of each block of queries, of each head.
    locks: &'a [AtomicBool],
}

impl ByKeys<'_> {
    fn run(&self, mut scratch: &mut [f32]) {
        let Head { isa, att, op, task, .. } = self.head;
        let (hs, queries, keys) = (att.head_size, task.seq.queries, task.seq.keys);
        let (hsp, block_len, at) = (hs.next_multiple_of(LANES), blocks_len(hs), task.head * hs);
        let n = queries.div_ceil(QUERIES);
        let q_blocks = take(&mut scratch, n * block_len);
        let dout_blocks = take(&mut scratch, n * block_len);
        let dq = take(&mut scratch, n * QUERIES * hsp);
        let kp = take(&mut scratch, WIDTH * hs);
        let vp = take(&mut scratch, WIDTH * hs);
        let kr = take(&mut scratch, WIDTH * hsp);
        let dk = take(&mut scratch, WIDTH * hsp);
        let dv = take(&mut scratch, WIDTH * hsp);
        let p = take(&mut scratch, SCORES);
        let ds = take(&mut scratch, SCORES);
        let all: Vec<QueryBlock> = (0..n)
            .map(|b| {
                let (from, place) = (b * QUERIES, b * block_len..(b + 1) * block_len);
                let (rows, row) = (QUERIES.min(queries - from), task.query_row + from);
                let (q, stride) = (&op.q.data()[row * op.q.row_stride() + at..], op.q.row_stride());
                blocks(isa, &mut q_blocks[place.clone()], q, stride, rows, hs, att.scale_log2());
                blocks(isa, &mut dout_blocks[place], &self.head.dout[row * op.c + at..], op.c, rows, hs, 1.0);
                QueryBlock::new(&self.head, from, rows)
            })
            .collect();

        for start in (self.share.0 * WIDTH..keys).step_by(self.share.1 * WIDTH) {
            let n_keys = WIDTH.min(keys - start);
            let of = |m: MatRef<'_>| m.row_stride() * (task.key_row + start) + at;
            panels(isa, kp, &op.k.data()[of(op.k)..], op.k.row_stride(), n_keys, hs);
            panels(isa, vp, &op.v.data()[of(op.v)..], op.v.row_stride(), n_keys, hs);
            let (src, stride) = (&op.k.data()[of(op.k)..], op.k.row_stride());
            dispatch_on(isa, ScaleRows { dst: kr, width: hsp, src, stride, rows: n_keys, hs, factor: 1.0 });
            dk.fill(0.0);
            dv.fill(0.0);
            for (b, block) in all.iter().enumerate() {
                let (rows, (first, last)) = (block.rows, (block.ranges.lo[0], block.ranges.hi[block.rows - 1]));
                if last <= start || first >= start + n_keys {
                    continue;
                }
                let n_keys = n_keys.min(last - start);
                let ranges = block.ranges.within(rows, start, n_keys);
                let (q, dout) = (&q_blocks[b * block_len..][..block_len], &dout_blocks[b * block_len..][..block_len]);
                let dq = &mut dq[b * QUERIES * hsp..][..QUERIES * hsp];
                scores_of(isa, p, q, kp, rows, n_keys, hs, &ranges, &dout[..rows * WIDTH]);
                scores_of(isa, ds, dout, vp, rows, n_keys, hs, &ranges, &dq[..rows * hsp]);
                dispatch_on(isa, Gradient48 { p, ds, ranges: &ranges, block, keep: None });
                let over_keys = Product {
                    clip: Clip::Steps,
                    ranges: &ranges,
                    rows,
                    vectors: hsp / LANES,
                    steps: n_keys,
                    a: ds,
                    order: Order::Rows,
                    b: kr,
                    b_vs: LANES,
                    b_ks: hsp,
                    c: dq,
                    c_rs: hsp,
                    add: !self.shared && start > first,
                    next: &[],
                };
                product(isa, over_keys);
                if self.shared {
                    self.add(b, rows, dq);
                }
                let by_key = ranges.transposed(rows, n_keys);
                over_queries(isa, dv, p, dout, (n_keys, rows), hs, &by_key, &[]);
                let next = q_blocks.get((b + 1) * block_len..(b + 2) * block_len).unwrap_or(&[]);
                over_queries(isa, dk, ds, q, (n_keys, rows), hs, &by_key, next);
            }
            let (place, ln_2) = ((task.key_row + start, at), core::f32::consts::LN_2);
            // SAFETY: this task alone has these keys of this head.
            unsafe {
                let acc = Accumulate::Store;
                self.head.grads.dk.put(isa, place, Rows { data: dk, width: hsp, hs }, n_keys, ln_2, acc);
                self.head.grads.dv.put(isa, place, Rows { data: dv, width: hsp, hs }, n_keys, 1.0, acc);
            }
        }
        if self.shared {
            return;
        }
        for (b, block) in all.iter().enumerate() {
            let dq = &mut dq[b * QUERIES * hsp..][..QUERIES * hsp];
            if block.ranges.lo[0] >= block.ranges.hi[block.rows - 1] {
                dq.fill(0.0);
            }
            let (place, values) = ((task.query_row + block.from, at), Rows { data: dq, width: hsp, hs });
            // SAFETY: the one task of this head.
            unsafe { self.head.grads.dq.put(isa, place, values, block.rows, att.scale, Accumulate::Store) };
        }
    }

    /// dq += values·scale for the rows of block `b`, which other tasks add to as well.
    fn add(&self, b: usize, rows: usize, values: &[f32]) {
        let Head { isa, att, task, .. } = self.head;
        let (hs, row) = (att.head_size, task.query_row + b * QUERIES);
        let lock = &self.locks[row * att.heads + task.head];
        while lock.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            core::hint::spin_loop();
        }
        let values = Rows { data: values, width: hs.next_multiple_of(LANES), hs };
        // SAFETY: whoever holds the lock alone writes this head of these rows.
        unsafe { self.head.grads.dq.put(isa, (row, task.head * hs), values, rows, att.scale, Accumulate::Add) };
        lock.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Mask, attention_backward, attention_forward};
    use crate::testing::{assert_same_bits, numbers, on_every_ctx};

    #[test]
    fn equals_the_backward_by_queries() {
        let (heads, hs) = (3, 24);
        let c = heads * hs;
        let seqs: Vec<Seq> = [1, 64, 200, 47, 0, 129].map(|n| Seq { queries: n, keys: n }).to_vec();
        let rows = seqs.iter().fold(0, |n, seq| n + seq.queries);
        let (qkv, dout) = (numbers(1, rows * 3 * c, 1.0), numbers(2, rows * c, 1.0));
        for mask in [Mask::Causal, Mask::None, Mask::Banded(70)] {
            let att = Attention { heads, head_size: hs, mask, dropout: None, scale: 0.2 };
            on_every_ctx(|ctx| {
                let (mut out, mut lse) = (vec![0.0; rows * c], vec![0.0; rows * heads]);
                attention_forward(ctx, &mut out, &mut lse, &qkv, &seqs, &att).unwrap();
                let mut want = vec![f32::NAN; qkv.len()];
                attention_backward(ctx, &mut want, &dout, &qkv, &out, &lse, &seqs, &att, Accumulate::Store).unwrap();
                for tasks in [1, 2, 3] {
                    let mut got = vec![f32::NAN; qkv.len()];
                    attention_backward_by_keys(ctx, &mut got, &dout, &qkv, &out, &lse, &seqs, &att, tasks).unwrap();
                    if tasks == 1 {
                        assert_same_bits("one task a head", &got, &want);
                    }
                    for (got, want) in got.iter().zip(&want) {
                        assert!((got - want).abs() <= 1e-4, "{mask:?}, {tasks} tasks: {got} against {want}");
                    }
                }
                vec![want]
            });
        }
    }
}
