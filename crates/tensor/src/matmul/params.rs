//! Block sizes, each with its reason and the hardware it was chosen on.
//!
//! None of them can move a bit: an output is one chain over k whatever the blocks are, and between two KC blocks
//! it rests in C as the f32 it is.
//!
//! ```text
//! constant   value  reason
//! MR × NR    6 × 16 on AVX2, 14 × 32 on AVX-512: see the tokens in `simd`
//! KC         256    a B panel of 256 × 16 f32 is 16 KiB, half of Zen 3's L1 (32 KiB); AVX-512's two take 32 of
//!                   Sapphire Rapids' 48 KiB; the rest holds the A panel that streams by (6 or 14 KiB)
//! MC         264    an A block of 264 × 256 f32 is 264 KiB, half of Zen 3's L2 (512 KiB), a seventh of Sapphire
//!                   Rapids' (2 MiB); 264 = 44 × 6, and 256 rows, a common B·T, are not cut in two
//! NC         none   a B panel is packed when its turn comes, used for the MC rows and dropped: it never leaves
//!                   L1, so nothing limits the columns of a task
//! ```

/// Columns of a panel of B: one vector.
pub(super) const PANEL: usize = 16;

/// Most steps of k between two visits to C.
pub(super) const KC: usize = 256;

/// Most rows of C in a task.
pub(super) const MC: usize = 264;

/// Rows up to which A is read in place and a whole row of B's panels is streamed once: generation.
pub(super) const SMALL_M: usize = 8;

/// Multiply-adds that are worth a task of their own: 20 µs at 50 G a second, ten times what a fork costs.
const TASK: usize = 1 << 20;

/// Tasks that a large product is cut into at least: two for each of eight cores.
const TASKS: usize = 16;

/// Fewest columns of a task: below, packing A's rows again for each task would cost more than a twentieth.
const MIN_COLS: usize = 128;

/// Fewest rows of a task, for the same reason in B.
const MIN_ROWS: usize = 48;

/// How C is cut: `rows` × `cols` chunks of at most `tm` × `tn` outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub tm: usize,
    pub tn: usize,
    pub rows: usize,
    pub cols: usize,
}

/// Cuts C by its shape alone. Rows: blocks of at most MC, of nearly equal height. Then columns, and then rows
/// again, are halved until a large product has `TASKS` tasks, while every task keeps `TASK` multiply-adds.
pub(super) fn cut(m: usize, n: usize, k: usize) -> Cut {
    // Below 16 rows the reading of B takes the time, not the arithmetic.
    let macs = m.max(16).saturating_mul(n).saturating_mul(k.max(1));
    let want = (macs / TASK).clamp(1, TASKS);
    let panels = n.div_ceil(PANEL).max(1);
    let (mut rows, mut cols) = (m.div_ceil(MC).max(1), 1);
    while rows * cols < want && panels.div_ceil(cols * 2) * PANEL >= MIN_COLS {
        cols *= 2;
    }
    while rows * cols < want && m / (rows * 2) >= MIN_ROWS {
        rows *= 2;
    }
    let tm = m.div_ceil(rows).max(1);
    // Pairs of panels, so that AVX-512's tiles of 32 columns do not straddle tasks.
    let tn = panels.div_ceil(cols).next_multiple_of(2) * PANEL;
    Cut { tm, tn, rows: m.div_ceil(tm), cols: n.div_ceil(tn) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_c_and_small_products_are_one_task() {
        for (m, n, k) in [(1, 1, 1), (64, 64, 64), (256, 768, 768), (1000, 50257, 768), (7, 3000, 5000), (5000, 9, 99)]
        {
            let c = cut(m, n, k);
            assert!(c.tm * c.rows >= m && c.tm * (c.rows - 1) < m, "{c:?}");
            assert!(c.tn * c.cols >= n && c.tn * (c.cols - 1) < n, "{c:?}");
            assert!(c.tm <= MC && c.tn.is_multiple_of(32), "{c:?}");
        }
        assert_eq!((cut(64, 64, 64).rows, cut(64, 64, 64).cols), (1, 1));
        let big = cut(1024, 1024, 1024);
        assert!(big.rows * big.cols >= TASKS, "{big:?}");
    }
}
