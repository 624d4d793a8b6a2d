//! The only file that names rayon. Work is cut by shape, never by the number of threads: which thread runs a
//! block cannot reach a result, because a block's work and its place in memory depend on its index alone.
//!
//! Nothing here reduces. A kernel that sums across blocks gives each block a slot and adds the slots in order.
//! No parallel call runs inside another.

use crate::ctx::Ctx;

/// Threads of the current pool; 1 without the `threads` feature.
pub fn current_threads() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    1
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
    data: &'a mut [T],
    width: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows of `width` elements each.
    pub fn new(data: &'a mut [T], width: usize) -> Self {
        RowsMut { data, width }
    }

    /// The rows as one slice.
    pub fn into_slice(self) -> &'a mut [T] {
        self.data
    }
}

/// Outputs that can be cut between rows: `RowsMut`, nothing, an optional output, and tuples of these.
pub trait SplitRows: Send + Sized {
    /// The rows before `at` and the rows from `at` on.
    fn split_rows(self, at: usize) -> (Self, Self);
}

impl SplitRows for () {
    fn split_rows(self, _: usize) -> ((), ()) {
        ((), ())
    }
}

impl<T: Send> SplitRows for RowsMut<'_, T> {
    fn split_rows(self, at: usize) -> (Self, Self) {
        let width = self.width;
        let (a, b) = self.data.split_at_mut(at * width);
        (RowsMut { data: a, width }, RowsMut { data: b, width })
    }
}

impl<A: SplitRows> SplitRows for Option<A> {
    fn split_rows(self, at: usize) -> (Self, Self) {
        self.map_or((None, None), |a| {
            let (x, y) = a.split_rows(at);
            (Some(x), Some(y))
        })
    }
}

impl<A: SplitRows, B: SplitRows> SplitRows for (A, B) {
    fn split_rows(self, at: usize) -> (Self, Self) {
        let ((a0, a1), (b0, b1)) = (self.0.split_rows(at), self.1.split_rows(at));
        ((a0, b0), (a1, b1))
    }
}

impl<A: SplitRows, B: SplitRows, C: SplitRows> SplitRows for (A, B, C) {
    fn split_rows(self, at: usize) -> (Self, Self) {
        let ((a0, b0), (a1, b1)) = (self.0, self.1).split_rows(at);
        let (c0, c1) = self.2.split_rows(at);
        ((a0, b0, c0), (a1, b1, c1))
    }
}

impl<A: SplitRows, B: SplitRows, C: SplitRows, D: SplitRows> SplitRows for (A, B, C, D) {
    fn split_rows(self, at: usize) -> (Self, Self) {
        let ((a0, b0, c0), (a1, b1, c1)) = (self.0, self.1, self.2).split_rows(at);
        let (d0, d1) = self.3.split_rows(at);
        ((a0, b0, c0, d0), (a1, b1, c1, d1))
    }
}

/// Cuts `rows` rows of `parts` into blocks of `block` rows (the last may be shorter) and runs
/// `f(first_row, rows_of_the_block)` on each, in any order.
pub fn for_each_rows<P, F>(ctx: &Ctx, parts: P, rows: usize, block: usize, f: F)
where
    P: SplitRows,
    F: Fn(usize, P) + Sync,
{
    assert!(block > 0, "a block has at least one row");
    if rows == 0 {
        return;
    }
    split(ctx.threads() > 1, parts, 0, rows, block, &f);
}

/// Halves the blocks until one is left. The tree depends on `rows` and `block` only.
fn split<P: SplitRows, F: Fn(usize, P) + Sync>(par: bool, parts: P, first: usize, rows: usize, block: usize, f: &F) {
    let blocks = rows.div_ceil(block);
    if blocks == 1 {
        return f(first, parts);
    }
    let left = blocks / 2 * block;
    let (a, b) = parts.split_rows(left);
    #[cfg(feature = "threads")]
    if par {
        rayon::join(|| split(par, a, first, left, block, f), || split(par, b, first + left, rows - left, block, f));
        return;
    }
    #[cfg(not(feature = "threads"))]
    let _ = par;
    split(par, a, first, left, block, f);
    split(par, b, first + left, rows - left, block, f);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once_at_its_place() {
        for threads in [1, 4] {
            let ctx = Ctx::default().with_threads(threads);
            let (mut a, mut b) = (vec![0u32; 37 * 3], vec![0u32; 37]);
            for_each_rows(&ctx, (RowsMut::new(&mut a, 3), Some(RowsMut::new(&mut b, 1))), 37, 5, |first, (a, b)| {
                let (a, b) = (a.into_slice(), b.unwrap().into_slice());
                assert!(b.len() == 5 || first == 35);
                for (i, x) in b.iter_mut().enumerate() {
                    *x += (first + i) as u32;
                    a[i * 3..i * 3 + 3].fill(*x);
                }
            });
            assert!((0..37).all(|i| b[i] == i as u32 && a[3 * i + 2] == i as u32));
            let mut slots = vec![0usize; 9];
            map_blocks_into(&ctx, &mut slots, |i| i * i);
            assert_eq!(slots[8], 64);
        }
    }
}
