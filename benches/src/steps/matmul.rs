//! C = A·B in six steps. Each output is the same chain of multiply-adds over k in all of them, so all give the same bits.

use super::Step;
use longhand_tensor::matmul::{Epilogue, matmul};
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use longhand_tensor::{Accumulate, Ctx, MatMut, MatRef};

/// C (M, N), A (M, K) and B (K, N), row-major.
pub struct Operands<'a> {
    /// C.
    pub c: &'a mut [f32],
    /// A.
    pub a: &'a [f32],
    /// B.
    pub b: &'a [f32],
    /// M, N and K.
    pub shape: [usize; 3],
}

/// 1: the definition.
pub struct ThreeLoops<'a>(pub Operands<'a>);

impl Kernel for ThreeLoops<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Operands { c, a, b, shape: [m, n, kk] } = self.0;
        for i in 0..m {
            for j in 0..n {
                let mut sum = 0.0f32;
                for k in 0..kk {
                    sum = a[i * kk + k].mul_add(b[k * n + j], sum);
                }
                c[i * n + j] = sum;
            }
        }
    }
}

/// 2: j innermost, a row of B times one element of A.
pub struct RowsInside<'a>(pub Operands<'a>);

impl Kernel for RowsInside<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Operands { c, a, b, shape: [m, n, kk] } = self.0;
        for i in 0..m {
            let row = &mut c[i * n..][..n];
            row.fill(0.0);
            for k in 0..kk {
                let x = a[i * kk + k];
                for (c, b) in row.iter_mut().zip(&b[k * n..][..n]) {
                    *c = x.mul_add(*b, *c);
                }
            }
        }
    }
}

/// Rows of a tile: with 16 columns, 12 of AVX2's 16 registers.
const MR: usize = 6;

/// The first of a column of tiles. Element (i, k) of A stands at `a + i·kk + k`, or packed at `a + k·rows + i`; (k, j) of
/// B at `b + k·b_step + j`; (i, j) of C at `c + i·n + j`.
#[derive(Clone, Copy)]
struct Tile {
    a: *const f32,
    kk: usize,
    b: *const f32,
    b_step: usize,
    c: *mut f32,
    n: usize,
    /// Steps of k.
    steps: usize,
    /// Whether the chain goes on from C.
    add: bool,
}

/// The tile of `ROWS` × 16: C stays in registers from the first k to the last.
/// # Safety
/// A's, B's and C's elements exist, and nobody else uses C's.
#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const PACKED: bool>(s: S, t: &Tile) {
    let (a_row, a_step) = if PACKED { (1, ROWS) } else { (t.kk, 1) };
    let mut acc = [s.zero(); ROWS];
    // SAFETY: the caller's word.
    unsafe {
        if t.add {
            for i in 0..ROWS {
                acc[i] = s.load_ptr(t.c.add(i * t.n));
            }
        }
        for k in 0..t.steps {
            let b = s.load_ptr(t.b.add(k * t.b_step));
            for i in 0..ROWS {
                let a = s.splat(*t.a.add(i * a_row + k * a_step));
                acc[i] = s.mul_add(a, b, acc[i]);
            }
        }
        for i in 0..ROWS {
            s.store_ptr(t.c.add(i * t.n), acc[i]);
        }
    }
}

/// `rows` rows of C by tiles of 6, and one of fewer.
/// # Safety
/// As `tile`, for all of them.
#[inline(always)]
unsafe fn tiles<S: Simd, const PACKED: bool>(s: S, rows: usize, first: Tile) {
    for i in (0..rows).step_by(MR) {
        let a = first.a.wrapping_add(i * if PACKED { first.steps } else { first.kk });
        let t = &Tile { a, c: first.c.wrapping_add(i * first.n), ..first };
        // SAFETY: the caller's word.
        unsafe {
            match rows - i {
                1 => tile::<S, 1, PACKED>(s, t),
                2 => tile::<S, 2, PACKED>(s, t),
                3 => tile::<S, 3, PACKED>(s, t),
                4 => tile::<S, 4, PACKED>(s, t),
                5 => tile::<S, 5, PACKED>(s, t),
                _ => tile::<S, MR, PACKED>(s, t),
            }
        }
    }
}

/// Checks what the tiles rely on.
fn check(x: &Operands) {
    let [m, n, kk] = x.shape;
    assert!(n.is_multiple_of(LANES) && x.c.len() == m * n && x.a.len() == m * kk && x.b.len() == kk * n);
}

/// 3: tiles in registers; A and B as they are.
pub struct Tiled<'a>(pub Operands<'a>);

impl Kernel for Tiled<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        check(&self.0);
        let Operands { c, a, b, shape: [m, n, kk] } = self.0;
        let (a, c) = (a.as_ptr(), c.as_mut_ptr());
        for j in (0..n).step_by(LANES) {
            let b = b[j..].as_ptr();
            // SAFETY: `check` has seen that columns j..j + 16 of B and C exist.
            unsafe { tiles::<S, false>(s, m, Tile { a, kk, b, b_step: n, c: c.add(j), n, steps: kk, add: false }) };
        }
    }
}

/// 4: the same tiles; B packed into panels [N/16][K][16] first.
pub struct PackedB<'a>(pub Operands<'a>, pub &'a mut [f32]);

impl Kernel for PackedB<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        check(&self.0);
        let (Operands { c, a, b, shape: [m, n, kk] }, panels) = (self.0, self.1);
        pack_b(panels, b, n);
        let (a, c) = (a.as_ptr(), c.as_mut_ptr());
        for (j, panel) in panels.chunks_exact(kk * LANES).take(n / LANES).enumerate() {
            let (b, c) = (panel.as_ptr(), c.wrapping_add(j * LANES));
            // SAFETY: as above; a panel holds K steps of 16.
            unsafe { tiles::<S, false>(s, m, Tile { a, kk, b, b_step: LANES, c, n, steps: kk, add: false }) };
        }
    }
}

/// Packs `b`, rows of `n`, into panels of 16 columns.
#[inline(always)]
fn pack_b(panels: &mut [f32], b: &[f32], n: usize) {
    let steps = b.len() / n;
    for (j, panel) in panels.chunks_exact_mut(steps * LANES).take(n / LANES).enumerate() {
        for (k, row) in panel.chunks_exact_mut(LANES).enumerate() {
            row.copy_from_slice(&b[k * n + j * LANES..][..LANES]);
        }
    }
}

/// Rows and depth of a block of A: 396 KiB, for the L2; and of a panel of B: 24 KiB, for the L1.
const MC: usize = 264;
const KC: usize = 384;

/// 5: A packed too, and both in blocks that the caches hold. The scratch is `KC`·N for B and `MC`·`KC` for A.
pub struct Blocked<'a>(pub Operands<'a>, pub &'a mut [f32], pub &'a mut [f32]);

impl Kernel for Blocked<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        check(&self.0);
        let (Operands { c, a, b, shape: [m, n, kk] }, panels, block) = (self.0, self.1, self.2);
        for k in (0..kk).step_by(KC) {
            let steps = KC.min(kk - k);
            pack_b(panels, &b[k * n..(k + steps) * n], n);
            for i in (0..m).step_by(MC) {
                let rows = MC.min(m - i);
                pack_a(block, &a[i * kk + k..], kk, rows, steps);
                for (j, panel) in panels.chunks_exact(steps * LANES).take(n / LANES).enumerate() {
                    let (a, b, c) = (block.as_ptr(), panel.as_ptr(), c[i * n + j * LANES..].as_mut_ptr());
                    // SAFETY: as above; the block holds `rows` rows of `steps`.
                    unsafe { tiles::<S, true>(s, rows, Tile { a, kk, b, b_step: LANES, c, n, steps, add: k > 0 }) };
                }
            }
        }
    }
}

/// Packs `rows` rows, `kk` apart, of `steps` elements into tiles [K][6].
#[inline(always)]
fn pack_a(block: &mut [f32], a: &[f32], kk: usize, rows: usize, steps: usize) {
    for i in (0..rows).step_by(MR) {
        let mr = MR.min(rows - i);
        for (k, out) in block[i * steps..][..mr * steps].chunks_exact_mut(mr).enumerate() {
            for r in 0..mr {
                out[r] = a[(i + r) * kk + k];
            }
        }
    }
}

/// The operands, and C of each step.
pub struct Bench {
    shape: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: [Vec<f32>; 6],
}

impl Bench {
    /// Numbers for a product of M, N and K.
    pub fn new(shape: [usize; 3]) -> Self {
        let [m, n, k] = shape;
        let c = core::array::from_fn(|_| vec![0.0; m * n]);
        Bench { shape, a: super::numbers(1, m * k), b: super::numbers(2, k * n), c }
    }

    /// 2·M·N·K.
    pub fn flops(&self) -> f64 {
        2.0 * self.shape.map(|x| x as f64).into_iter().fold(1.0, |p, x| p * x)
    }

    /// The six steps; the first two compute `slow` rows of C only.
    pub fn steps<'a>(&'a mut self, ctx: &'a Ctx, slow: usize) -> Vec<Step<'a>> {
        let Bench { shape, ref a, ref b, c: [ref mut c1, ref mut c2, ref mut c3, ref mut c4, ref mut c5, ref mut c6] } =
            *self;
        let ([m, n, k], isa, slow) = (shape, ctx.isa(), slow.min(shape[0]));
        let (few, part) = ([slow, n, k], slow as f64 / m as f64);
        let (mut p4, mut p5, mut block) = (vec![0.0; k * n], vec![0.0; KC.min(k) * n], vec![0.0; MC * KC]);
        vec![
            Step::new("1 three loops: i, j, k", move || {
                dispatch_on(isa, ThreeLoops(Operands { c: &mut c1[..slow * n], a: &a[..slow * k], b, shape: few }));
            })
            .of(part),
            Step::new("2 i, k, j: rows of B inside", move || {
                dispatch_on(isa, RowsInside(Operands { c: &mut c2[..slow * n], a: &a[..slow * k], b, shape: few }));
            })
            .of(part),
            Step::new("3 tiles of 6 × 16 in registers", move || {
                dispatch_on(isa, Tiled(Operands { c: c3, a, b, shape }));
            }),
            Step::new("4 … B packed into panels", move || {
                dispatch_on(isa, PackedB(Operands { c: c4, a, b, shape }, &mut p4));
            }),
            Step::new("5 … A packed too, blocks for the caches", move || {
                dispatch_on(isa, Blocked(Operands { c: c5, a, b, shape }, &mut p5, &mut block));
            }),
            Step::new("6 the shipped matmul", move || {
                let (a, b) = (MatRef::new(a, m, k).expect("A is (M, K)"), MatRef::new(b, k, n).expect("B is (K, N)"));
                let c = MatMut::new(c6, m, n).expect("C is (M, N)");
                matmul(ctx, c, a, b, Accumulate::Store, Epilogue::default()).expect("shapes agree");
            }),
        ]
    }

    /// Panics where a step's C differs from the shipped one's: in one bit, if multiply-adds round once.
    pub fn check(&self, ctx: &Ctx, slow: usize) {
        let (m, n) = (self.shape[0], self.shape[1]);
        for (step, c) in self.c.iter().enumerate() {
            let len = if step < 2 { slow.min(m) * n } else { m * n };
            super::agree(&c[..len], &self.c[5][..len], if ctx.isa().fused() { 0.0 } else { 1e-3 }, step + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_tensor::Isa;

    #[test]
    fn every_step_gives_the_chain() {
        for isa in Isa::available() {
            let ctx = Ctx::new(isa).with_threads(1);
            for shape in [[1, 16, 1], [13, 48, 50], [270, 32, 400]] {
                let mut bench = Bench::new(shape);
                bench.steps(&ctx, 9).into_iter().for_each(|mut s| (s.run)());
                bench.check(&ctx, 9);
            }
        }
    }
}
