//! A ragged batch as tasks: one for each (sequence, head, run of queries), the longest first.

use super::{Attention, Seq};
use crate::ctx::{Ctx, Scratch};
use crate::parallel;

/// A run of queries of one sequence: visible (query, key) pairs, nearly; the sequence; its first query of the run;
/// the rows of the sequence's first query and first key.
type Run = [u64; 5];

/// One head of a run: what a thread does at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub sequence: usize,
    pub seq: Seq,
    pub head: usize,
    /// Queries from..to of the sequence.
    pub from: usize,
    pub to: usize,
    pub query_row: usize,
    pub key_row: usize,
}

/// Floats of a `Run`.
const RUN: usize = size_of::<Run>() / size_of::<f32>();

/// Multiply-adds worth a task of their own: some ten microseconds, a hundred times what handing out a task costs.
const WORTH_A_TASK: u64 = 1 << 18;

/// An entry of a batch.
pub(super) trait Lengths: Sync {
    fn lengths(&self) -> Seq;
}

impl Lengths for Seq {
    fn lengths(&self) -> Seq {
        *self
    }
}

/// A slot of a cache and the sequence in it.
impl Lengths for (usize, Seq) {
    fn lengths(&self) -> Seq {
        self.1
    }
}

/// The `run` of a whole sequence: one task a head, also for a sequence without queries.
pub(super) const WHOLE: usize = usize::MAX;

/// Cuts `seqs` into runs of `run` queries and calls `f` once for each run and head. The cut depends on shapes only.
pub(super) fn for_each_task<Q: Lengths, F: Fn(&mut [f32], Task) + Sync>(
    ctx: &Ctx,
    seqs: &[Q],
    att: &Attention,
    run: usize,
    scratch: usize,
    f: F,
) {
    let runs_of = |seq: Seq| if run == WHOLE { 1 } else { seq.queries.div_ceil(run) };
    let n = seqs.iter().fold(0, |n, q| n + runs_of(q.lengths()));
    let mut memory: Scratch = ctx.scratch(n * RUN);
    let runs: &mut [Run] = bytemuck::cast_slice_mut(&mut memory);
    let (mut i, mut query_row, mut key_row) = (0, 0, 0);
    for (sequence, q) in seqs.iter().enumerate() {
        let seq = q.lengths();
        for query in (0..runs_of(seq)).map(|i| i * run) {
            let end = query.saturating_add(run).min(seq.queries);
            let (first, last) = (att.mask.visible(seq, query), att.mask.visible(seq, end.saturating_sub(1)));
            let pairs = (end - query) as u64 * (first.len() + last.len()) as u64 / 2;
            runs[i] = [pairs, sequence as u64, query as u64, query_row as u64, key_row as u64];
            i += 1;
        }
        query_row += seq.queries;
        key_row += seq.keys;
    }
    // Equal lengths keep the batch's order.
    runs.sort_unstable_by_key(|r| (core::cmp::Reverse(r[0]), r[1], r[2]));
    let runs = &*runs;
    let tasks = n * att.heads;
    let pairs = runs.iter().fold(0u64, |sum, r| sum.saturating_add(r[0])) / n.max(1) as u64;
    let work = pairs.saturating_mul(2 * att.head_size as u64).max(1);
    let block = (WORTH_A_TASK / work).clamp(1, tasks.max(1) as u64) as usize;
    parallel::for_each_rows(ctx, (), tasks, block, |begin, ()| {
        let mut memory = ctx.scratch(scratch);
        for t in begin..(begin + block).min(tasks) {
            let ([_, sequence, from, query_row, key_row], head) =
                (runs[t / att.heads].map(|x| x as usize), t % att.heads);
            let seq = seqs[sequence].lengths();
            let to = from.saturating_add(run).min(seq.queries);
            f(&mut memory, Task { sequence, seq, head, from, to, query_row, key_row });
        }
    });
}

/// A pointer that tasks share, each writing elements of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'a> {
    data: *mut f32,
    len: usize,
    lifetime: core::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: a pointer into a slice borrowed mutably for 'a; `range`'s callers keep their ranges apart.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub fn new(slice: &'a mut [f32]) -> Self {
        Shared { data: slice.as_mut_ptr(), len: slice.len(), lifetime: core::marker::PhantomData }
    }

    /// Elements start..start + len.
    /// # Safety
    /// While the result lives, no other reference to one of these elements is used.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the point of it, see Safety")]
    pub unsafe fn range(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: in bounds, checked above; unaliased, by the caller's word.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

/// Takes `n` floats from the front of `scratch`.
pub(super) fn take<'a>(scratch: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (head, tail) = core::mem::take(scratch).split_at_mut(n);
    *scratch = tail;
    head
}
