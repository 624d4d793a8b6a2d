//! Block sizes, each with its reason and the hardware it was chosen on.
//!
//! None of them can move a bit of f32 (`FEW_BF16` says which rows products of bf16 take): an output is one chain over k
//! whatever the blocks are, and between two KC blocks it rests in C as the f32 it is.
//!
//! ```text
//! constant   value  reason
//! MR × NR    6 × 16 on AVX2, 14 × 32 on AVX-512: see the tokens in `simd`
//! KC         384    `ONE_PANEL`: a B panel of 384 × 16 f32 is 24 KiB, three quarters of Zen 3's L1 (32 KiB); A's panel
//!                   streams by (9 KiB). 256 measured 2% slower, 512 the same
//!            1,024  `TWO_PANELS`, as on AVX-512: 28 multiply-adds a step leave the L2 time for two vectors of B, so
//!                   panels need not stay in L1, and C is visited once for a GPT-2's C of 768. On Zen 5 256 steps, 32 of
//!                   48 KiB of L1, were 1 to 2% slower on 256 rows, 3% on 1024³, 10% on 4096 × 3072 × 768; 768, which
//!                   visits C once more in 1024³ and 2048³, 1 to 3% there
//! MC         264    `ONE_PANEL`: an A block of 264 × 384 f32 is 396 KiB and B's strip 96 KiB: Zen 3's L2 (512 KiB);
//!                   264 = 44 × 6, and 256 rows, a common B·T, are not cut in two
//!            352    `TWO_PANELS`: 352 × 1,024 f32 is 1.4 of Sapphire and Emerald Rapids' 2 MiB; more than Zen 5's 1 MiB,
//!                   whose L3 keeps up
//! NEAR       1/4    of the room for packed A, 4 MiB: a task's row blocks over the steps of a pass, `ONE_PANEL`. Every task
//!                   reads its rows of A again, 24 or 32 of them in dW of 4,096 tokens, and an L3 that neighbours use does
//!                   not hold 12 MiB. On Zen 3 dW of a GPT-2 over 4,096 tokens is 1.04 to 1.45 times as fast as with all
//!                   of k in a pass; 2 MiB do the same, 6 and 8 less. A pass costs one more fork, and C has left the caches
//!            none   `TWO_PANELS`: not measured; on Zen 5 dW in parts of k gains nothing
//! TALL       3      row blocks for which a strip of B is packed once, where that leaves enough tasks: packing B is 3 to
//!                   6% of a product of one block of rows
//! STRIP      4      panels of B packed at once: 256 B of a row, whole cache lines, into 96 or 256 KiB beside A
//! NC         none   a strip of B is packed when its turn comes, used for a task's rows and dropped, so nothing limits
//!                   the columns of a task
//! ```

use super::pack::SIDE_BY_SIDE;

/// Columns of a panel of B: one vector.
pub(super) const PANEL: usize = 16;

/// Panels of B that are packed together.
pub(super) const STRIP: usize = 4;

/// The most row blocks of a task.
const TALL: usize = 3;

/// The most rows of A in a block, steps of k between two visits to C, and the part of the room for packed A, 1/`near`, that
/// the row blocks of a task take in a pass over some of k, where there are passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub mc: usize,
    pub kc: usize,
    pub near: Option<usize>,
}

/// Blocks for tiles one panel wide, and for wider ones.
pub(super) const ONE_PANEL: Blocks = Blocks { mc: 264, kc: 384, near: Some(4) };
pub(super) const TWO_PANELS: Blocks = Blocks { mc: 352, kc: 1024, near: None };

/// Blocks for tiles of `nv` panels.
pub(super) fn blocks(nv: usize) -> Blocks {
    if nv > 1 { TWO_PANELS } else { ONE_PANEL }
}

/// Rows up to which A, if they are contiguous, is read in place and a whole row of B's panels is streamed once:
/// generation.
pub(super) const SMALL_M: usize = 8;

/// Rows up to which A is read in place, in f32 also with `Ctx::with_bf16_activations`, beside a weight of bfloat16, whose
/// halves are widened anew for every eight rows: on Zen 5 1.3 to 1.4 times as fast with 16 rows as widening a strip once,
/// 1.1 to 1.2 with 32; with 48 both take as long.
pub const FEW_BF16: usize = 32;

/// Columns of C up to which packing A costs more than it saves on a tile of 6 rows: 5% at 128, nothing at 384.
pub(super) const NARROW: usize = 128;

/// Floats of A that are packed before the tasks that share them start: 16 MiB, half of Zen 3's L3.
pub(super) const PACKED_A: usize = 1 << 22;

/// Multiply-adds that are worth a task of their own: 20 µs at 50 G a second, ten times what a fork costs.
const TASK: usize = 1 << 20;

/// Multiply-adds that are worth packing B once more for another block of rows.
const ROW_TASK: usize = 1 << 25;

/// Tasks that a large product is cut into, more or less: two for each of sixteen cores, so that one core which somebody
/// else uses for a while holds up half of its share and not all of it. 64 took 5% longer in a GPT-2's last layer.
const TASKS: usize = 32;

/// Fewest columns of a task: half a strip of B, so that a product of 128 columns still makes four.
const MIN_COLS: usize = STRIP * PANEL / 2;

/// Fewest rows of a task: below, packing B would take a tenth of the time.
const MIN_ROWS: usize = 48;

/// How C is cut: `rows` × `cols` chunks of at most `tm` × `tn` outputs, of which a task takes `tall` below each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub tm: usize,
    pub tn: usize,
    pub rows: usize,
    pub cols: usize,
    /// Row blocks whose A is packed before the tasks that share it.
    pub together: usize,
    /// Row blocks of a task, which share what it packs of B.
    pub tall: usize,
}

/// Cuts C by its shape and the ISA's blocks alone. Rows: blocks of at most `mc`, of nearly equal height, and up to `TALL`
/// of them in a task where narrower tasks make up for that. Then the columns are halved until a large product has `TASKS` tasks,
/// for tasks beside each other share the packed A and pack B but once; and then the rows, for products too narrow for
/// that.
pub(super) fn cut(m: usize, n: usize, k: usize, mc: usize, packed: usize) -> Cut {
    let together = |rows: usize| together(m, k, rows, packed);
    // Below 16 rows the reading of B takes the time, not the arithmetic.
    let macs = m.max(16).saturating_mul(n).saturating_mul(k.max(1));
    let panels = n.div_ceil(PANEL).max(1);
    let mut rows = m.div_ceil(mc).max(1);
    let want = (macs / TASK).clamp(1, TASKS);
    // Groups of one size, also where A is packed in several.
    while !rows.is_multiple_of(together(rows)) {
        rows = rows.next_multiple_of(together(rows));
    }
    let all = together(rows);
    let columns = |tall: usize| {
        let mut cols = 1;
        while all.div_ceil(tall) * cols < want && panels.div_ceil(cols * 2) * PANEL >= MIN_COLS {
            cols *= 2;
        }
        cols
    };
    // Pairs of panels, so that AVX-512's tiles of 32 columns do not straddle tasks.
    let width = |cols: usize| panels.div_ceil(cols).next_multiple_of(2) * PANEL;
    let tasks = |tall: usize| all.div_ceil(tall) * n.div_ceil(width(columns(tall)));
    let mut tall = share(all, TALL.min(all));
    // A quarter fewer tasks cost less than B packed for each block: 3072 × 768 × 4096 is 2 to 3% faster with 24 than with 32.
    while tall > 1 && tasks(tall) * 4 < want.min(tasks(1)) * 3 {
        tall -= 1;
    }
    let cols = columns(tall);
    while rows.div_ceil(tall) * cols < want && m.div_ceil(rows) > ONE_PANEL.mc {
        rows += 1;
    }
    let want = (macs / ROW_TASK).clamp(1, TASKS);
    while rows.div_ceil(tall) * cols < want && m / (rows * 2) >= MIN_ROWS {
        rows *= 2;
    }
    let (tm, tn) = (m.div_ceil(rows).max(1), width(cols));
    let rows = m.div_ceil(tm);
    Cut { tm, tn, rows, cols: n.div_ceil(tn), together: together(rows), tall }
}

/// How many of `rows` row blocks of A, M × K, are packed together: as many as `packed` floats hold, in groups of nearly
/// equal size.
fn together(m: usize, k: usize, rows: usize, packed: usize) -> usize {
    if m.saturating_mul(k) <= packed {
        return rows;
    }
    let block = m.div_ceil(rows).saturating_mul(k);
    share(rows, (packed / block.max(1)).clamp(1, rows))
}

/// The largest of as few groups of `all` things, of at most `most` each, as there can be, all of nearly equal size.
fn share(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most))
}

/// Blocks of k that are packed and multiplied before the next ones, of `depths` blocks of `block` floats: all of them if
/// `packed` floats hold them, else what stays in an L2 of 2 MiB; and of a task's row blocks no more than 1/`near` of
/// `packed` holds. With K = 50,257, the gradient of a GPT-2's last layer, each task would read 53 MB of packed
/// A from memory; one pass after the other, all tasks share what they read of it.
pub(super) fn span(block: usize, depths: usize, cut: &Cut, packed: usize, near: Option<usize>) -> usize {
    let all = block.saturating_mul(depths) <= packed || cut.together > 1;
    let most = if all { depths } else { (packed / 8 / block).clamp(1, depths) };
    let near = near.map_or(depths, |near| packed / near / (cut.tall * block));
    share(depths, most.min(near).max(1))
}

/// Groups of A's tiles, of `kc` steps, that one task packs: 16,384 floats, some 4 µs, or one group if that is more.
pub(super) fn pieces(kc: usize) -> usize {
    ((1 << 14) / (SIDE_BY_SIDE * kc)).max(1)
}

/// Steps of k in a block: all blocks of nearly equal depth, at most `kc`.
pub(super) fn depth(k: usize, kc: usize) -> usize {
    k.div_ceil(k.div_ceil(kc).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_is_cut_into_spans_where_one_block_of_rows_is_too_much() {
        let whole = |block: usize, depths: usize, together: usize| {
            let cut = Cut { tm: 264, tn: 768, rows: together, cols: 1, together, tall: together.min(TALL) };
            (span(block, depths, &cut, PACKED_A, None), span(block, depths, &cut, PACKED_A, ONE_PANEL.near))
        };
        assert_eq!(whole(264 * 768, 131, 1), (2, 2));
        assert_eq!(whole(264 * 384, 131, 1), (5, 5));
        assert_eq!(whole(528 * 768, 66, 1).0, 1);
        assert_eq!(whole(352 * 1024, 50, 1).0, 1);
        assert_eq!(whole(264 * 384, 8, 1), (8, 8));
        assert_eq!(whole(264 * 384, 20, 2), (20, 5));
        // dW of 768 channels over 4,096 tokens: four passes, as nearly alike as can be.
        assert_eq!(whole(256 * 373, 11, 3), (11, 3));
        assert_eq!(whole(264 * 384, 8, 1 << 20).1, 3);
    }

    #[test]
    fn chunks_cover_c_and_small_products_are_one_task() {
        for (m, n, k) in [(1, 1, 1), (64, 64, 64), (256, 768, 768), (1000, 50257, 768), (7, 3000, 5000), (5000, 9, 99)]
        {
            for mc in [ONE_PANEL.mc, TWO_PANELS.mc] {
                let c = cut(m, n, k, mc, PACKED_A);
                assert!(c.tm * c.rows >= m && c.tm * (c.rows - 1) < m, "{c:?}");
                assert!(c.tn * c.cols >= n && c.tn * (c.cols - 1) < n, "{c:?}");
                assert!(c.tm <= mc && c.tn.is_multiple_of(32), "{c:?}");
            }
        }
        let (small, narrow) = (cut(64, 64, 64, 264, PACKED_A), cut(768, 128, 128, 264, PACKED_A));
        assert_eq!((small.rows, small.cols), (1, 1));
        // A small GPT's 128 columns keep eight threads busy, also where blocks are tall.
        assert_eq!((narrow.rows, narrow.cols), (3, 4));
        assert_eq!(cut(768, 128, 128, TWO_PANELS.mc, PACKED_A), narrow);
        // Rows that cannot all be packed at once are packed in groups of one size, each enough for many threads.
        let long = cut(16384, 768, 3072, TWO_PANELS.mc, PACKED_A);
        assert!(long.together * long.cols >= 24 && long.rows.is_multiple_of(long.together), "{long:?}");
        let exact = cut(2048, 2048, 2048, TWO_PANELS.mc, PACKED_A);
        assert_eq!((exact.rows, exact.together, exact.tall), (6, 6, 3));
        let deep = cut(3072, 768, 4096, TWO_PANELS.mc, PACKED_A);
        assert!(deep.together > 1 && deep.rows.is_multiple_of(deep.together), "{deep:?}");
        // Tasks of several row blocks are no fewer.
        for mc in [ONE_PANEL.mc, TWO_PANELS.mc] {
            let big = cut(1024, 1024, 1024, mc, PACKED_A);
            assert!(big.tall > 1 && big.rows.div_ceil(big.tall) * big.cols >= TASKS, "{big:?}");
        }
    }
}
