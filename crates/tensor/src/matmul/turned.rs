//! Few rows times a B whose columns are contiguous: a linear layer's weight (N, K) as it is stored, and one token.
//!
//! ```text
//!  b, 16 columns as they lie       in registers, 4 steps of k at a time
//!  [16][K]   k k+1 k+2 k+3            b[k]     b[k+1]   b[k+2]   b[k+3]
//!       j0   x   x   x   x            j0       j0       j0       j0
//!       …    …   …   …   …     turn   …        …        …        …
//!       j15  x   x   x   x            j15      j15      j15      j15      then a multiply-add for each row of A
//! ```
//!
//! B is used once, so a packed copy of it would be written and read for nothing.

use super::params::{PANEL, SMALL_M};
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

/// Floats from one line of a first-level cache to the next one of the same set: 64 sets of 64 bytes.
const SAME_SET: usize = 1024;

/// Rows up to which turning B in registers pays, on tiles `nv` vectors wide with B's columns `b_cs` floats apart. AVX2
/// has no registers for more than 3, and 4 take half as long again as a packed copy. Columns that lie in the same set of
/// the first-level cache, 16 lines where there is room for 8 or 12, leave none for A's: more rows than these took up to
/// 1.6 times as long, by where the allocator had put them.
pub(super) fn most_rows(nv: usize, b_cs: usize) -> usize {
    match (nv, b_cs.is_multiple_of(SAME_SET)) {
        (1, true) => 1,
        (1, false) | (_, true) => 3,
        _ => SMALL_M,
    }
}

/// The operands: all of k, some panels of columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turned {
    /// K.
    pub k: usize,
    /// Element (i, k) of A stands at `a + i·a_rs + k`.
    pub a: *const f32,
    pub a_rs: usize,
    /// Element (k, j) of B stands at `b + j·b_cs + k`.
    pub b: *const f32,
    pub b_cs: usize,
    /// Element (i, j) of C stands at `c + i·ldc + j`.
    pub c: *mut f32,
    pub ldc: usize,
    /// Panels of 16 columns: 1 and not 2 at a time, as memory follows 16 rows of B better than 32.
    pub panels: usize,
    /// Whether the chain goes on from C; else it starts at +0 and C is not read.
    pub load_c: bool,
}

/// Computes `m` ≤ `SMALL_M` rows of C, best where `most_rows` says so.
///
/// # Safety
/// For i < m, k < K and j < 16·panels: A's and B's elements are readable, and C's are writable (readable with `load_c`)
/// with no other thread touching them.
pub(super) unsafe fn run_turned(isa: Isa, m: usize, t: Turned) {
    match m {
        1 => dispatch_on(isa, Rows::<1>(t)),
        2 => dispatch_on(isa, Rows::<2>(t)),
        3 => dispatch_on(isa, Rows::<3>(t)),
        4 => dispatch_on(isa, Rows::<4>(t)),
        5 => dispatch_on(isa, Rows::<5>(t)),
        6 => dispatch_on(isa, Rows::<6>(t)),
        7 => dispatch_on(isa, Rows::<7>(t)),
        8 => dispatch_on(isa, Rows::<8>(t)),
        _ => unreachable!("no kernel of {m} rows"),
    }
}

/// Rows of C, all panels of them.
struct Rows<const MR: usize>(Turned);

impl<const MR: usize> Kernel for Rows<MR> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = self.0;
        // Rows that the registers do not hold are never asked for: do not compile them.
        assert!(MR <= most_rows(S::NV, 1), "{MR} rows on an ISA of {} × {}", S::MR, S::NV);
        for p in 0..t.panels {
            let at = Turned { b: t.b.wrapping_add(p * PANEL * t.b_cs), c: t.c.wrapping_add(p * PANEL), ..t };
            // SAFETY: `run_turned`'s caller vouched for all panels.
            unsafe { panel::<S, MR>(s, &at) }
        }
    }
}

/// MR rows × 16 columns of C.
/// # Safety
/// As `run_turned`.
#[inline(always)]
unsafe fn panel<S: Simd, const MR: usize>(s: S, t: &Turned) {
    // SAFETY: the caller vouches for every element of the three.
    unsafe {
        let mut acc = [s.zero(); MR];
        if t.load_c {
            for i in 0..MR {
                acc[i] = s.load_ptr(t.c.add(i * t.ldc));
            }
        }
        let whole = t.k / 4 * 4;
        for k in (0..whole).step_by(4) {
            let b = s.load_columns(t.b.add(k), t.b_cs);
            for u in 0..4 {
                for i in 0..MR {
                    acc[i] = s.mul_add(s.splat(*t.a.add(i * t.a_rs + k + u)), b[u], acc[i]);
                }
            }
        }
        for k in whole..t.k {
            let mut b = [0.0; PANEL];
            for j in 0..PANEL {
                b[j] = *t.b.add(j * t.b_cs + k);
            }
            for i in 0..MR {
                acc[i] = s.mul_add(s.splat(*t.a.add(i * t.a_rs + k)), s.load(&b), acc[i]);
            }
        }
        for i in 0..MR {
            s.store_ptr(t.c.add(i * t.ldc), acc[i]);
        }
    }
}
