//! The only module that names rayon. Work is cut by shape, never by the number of threads: which thread runs a
//! block cannot reach a result, because a block's work and its place in memory depend on its index alone.
//!
//! Nothing here reduces. A kernel that sums across blocks gives each block a slot and adds the slots in order.
//! No parallel call runs inside another.
//!
//! Inside `enter` the blocks go to a team of threads that stay awake, `team.rs`; elsewhere to rayon's join.

#[cfg(feature = "threads")]
mod team;

use crate::ctx::Ctx;
use core::marker::PhantomData;

/// Threads of the current pool; 1 without the `threads` feature.
pub fn current_threads() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    1
}

/// Runs `work` with the threads of the current pool awake from its first parallel call to its last.
///
/// For whatever makes many parallel calls in a row: a training step, a prefill. Idle threads spin meanwhile and take
/// no other work of the pool: `work` must not wait for any (rayon's `broadcast`, `scope` with `spawn`). And it ends
/// only when every thread of the pool has come free: its caller holds no lock that another job of the pool waits for.
/// Inside another `enter`, in a block of a parallel call or with one thread, it is a plain call.
pub fn enter<R: Send>(ctx: &Ctx, work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "threads")]
    if ctx.threads() > 1 {
        return team::enter(work);
    }
    let _ = ctx;
    work()
}

/// Runs `f(0)`, …, `f(blocks − 1)`, in any order, on the threads of `ctx`.
pub fn for_each_block<F: Fn(usize) + Sync>(ctx: &Ctx, blocks: usize, f: F) {
    for_each_rows(ctx, (), blocks, 1, |first, ()| f(first));
}

/// Fills `slots[i] = f(i)` for every slot, in any order.
pub fn map_blocks_into<R: Send, F: Fn(usize) -> R + Sync>(ctx: &Ctx, slots: &mut [R], f: F) {
    let n = slots.len();
    for_each_rows(ctx, RowsMut::new(slots, 1), n, 1, |first, slot| slot.into_slice()[0] = f(first));
}

/// Mutable rows of one width, to be cut between tasks.
pub struct RowsMut<'a, T> {
    data: *mut T,
    len: usize,
    width: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows of `width` elements each; the last may be shorter.
    pub fn new(data: &'a mut [T], width: usize) -> Self {
        RowsMut { data: data.as_mut_ptr(), len: data.len(), width, lifetime: PhantomData }
    }

    /// The rows as one slice.
    pub fn into_slice(self) -> &'a mut [T] {
        // SAFETY: `data` and `len` come from a slice borrowed mutably for 'a, of which `self` is the only holder.
        unsafe { core::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

/// Outputs that can be cut between rows: `RowsMut`, nothing, an optional output, and tuples of these.
///
/// # Safety
/// `part` of ranges that do not overlap gives parts that share no element, which threads may use at once.
pub unsafe trait Parts {
    /// Rows from..to, cut to the rows there are.
    /// # Safety
    /// While the result is used, no part of an overlapping range is, nor `self` otherwise.
    unsafe fn part(&self, from: usize, to: usize) -> Self;
}

// SAFETY: nothing to share.
unsafe impl Parts for () {
    unsafe fn part(&self, _: usize, _: usize) {}
}

// SAFETY: elements from·width..to·width; T: Send lets another thread have them.
unsafe impl<T: Send> Parts for RowsMut<'_, T> {
    unsafe fn part(&self, from: usize, to: usize) -> Self {
        let at = |row: usize| row.saturating_mul(self.width).min(self.len);
        let (from, to) = (at(from), at(to));
        // SAFETY: from ≤ len: inside the slice or at its end.
        let data = unsafe { self.data.add(from) };
        RowsMut { data, len: to.saturating_sub(from), width: self.width, lifetime: PhantomData }
    }
}

// SAFETY: as the part it holds.
unsafe impl<A: Parts> Parts for Option<A> {
    unsafe fn part(&self, from: usize, to: usize) -> Self {
        // SAFETY: the caller's word.
        self.as_ref().map(|a| unsafe { a.part(from, to) })
    }
}

macro_rules! tuples {
    ($($($part:ident)+;)+) => {$(
        // SAFETY: as its parts.
        unsafe impl<$($part: Parts),+> Parts for ($($part,)+) {
            #[allow(non_snake_case, reason = "one name a part, for the type and the value")]
            unsafe fn part(&self, from: usize, to: usize) -> Self {
                let ($($part,)+) = self;
                // SAFETY: the caller's word.
                unsafe { ($($part.part(from, to),)+) }
            }
        }
    )+};
}
tuples!(A B; A B C; A B C D;);

/// Parts on their way to the threads.
struct Shared<P>(P);

// SAFETY: threads only call `part`, each on a range of its own, which `Parts` allows.
unsafe impl<P: Parts> Sync for Shared<P> {}

/// Cuts `rows` rows of `parts` into blocks of `block` rows (the last may be shorter) and runs
/// `f(first_row, rows_of_the_block)` on each, in any order.
pub fn for_each_rows<P, F>(ctx: &Ctx, parts: P, rows: usize, block: usize, f: F)
where
    P: Parts,
    F: Fn(usize, P) + Sync,
{
    assert!(block > 0, "a block has at least one row");
    let shared = Shared(parts);
    let run = |i: usize| {
        let shared = &shared;
        let from = i * block;
        let to = from.saturating_add(block).min(rows);
        // SAFETY: every i is run once, and the ranges of different i do not overlap.
        f(from, unsafe { shared.0.part(from, to) });
    };
    let blocks = rows.div_ceil(block);
    #[cfg(feature = "threads")]
    if ctx.threads() > 1 && blocks > 1 {
        if !team::run(blocks, &run) {
            split(0, blocks, &run);
        }
        return;
    }
    let _ = ctx;
    (0..blocks).for_each(run);
}

/// Halves first..end until one block is left.
#[cfg(feature = "threads")]
fn split<F: Fn(usize) + Sync>(first: usize, end: usize, f: &F) {
    if end - first == 1 {
        return f(first);
    }
    let middle = first + (end - first) / 2;
    rayon::join(|| split(first, middle, f), || split(middle, end, f));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once_at_its_place() {
        for (threads, team) in [(1, false), (4, false), (4, true)] {
            let ctx = Ctx::default().with_threads(threads);
            let (mut a, mut b) = (vec![0u32; 37 * 3], vec![0u32; 37]);
            let mut run = || {
                for_each_rows(
                    &ctx,
                    (RowsMut::new(&mut a, 3), Some(RowsMut::new(&mut b, 1))),
                    37,
                    5,
                    |first, (a, b)| {
                        let (a, b) = (a.into_slice(), b.unwrap().into_slice());
                        assert!(b.len() == 5 || first == 35);
                        for (i, x) in b.iter_mut().enumerate() {
                            *x += (first + i) as u32;
                            a[i * 3..i * 3 + 3].fill(*x);
                        }
                    },
                );
                let mut slots = vec![0usize; 9];
                map_blocks_into(&ctx, &mut slots, |i| i * i);
                assert_eq!(slots[8], 64);
            };
            if team {
                enter(&ctx, run)
            } else {
                run()
            }
            assert!((0..37).all(|i| b[i] == i as u32 && a[3 * i + 2] == i as u32));
        }
    }
}
