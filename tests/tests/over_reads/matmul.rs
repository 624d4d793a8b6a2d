//! Matmul: every layout, B in place and packed, with every epilogue and with none.

use super::{floats, on_every_isa};
use longhand_tensor::kernels::GeluKind;
use longhand_tensor::matmul::{Epilogue, Operand, Weight, matmul};
use longhand_tensor::{Accumulate, Ctx, MatMut, MatRef};

/// Rows of A: each number that is multiplied without packing, and about one and two tiles of 14 and of 6.
const ROWS: [usize; 18] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 27, 28, 29];

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    transposed: bool,
    /// Floats between the end of a row in memory and the next one.
    gap: usize,
    /// Floats from one element of a row to the next; 0 where all are one.
    step: usize,
    /// Whether all rows are one.
    one_row: bool,
}

const PLAIN: Layout = Layout { transposed: false, gap: 0, step: 1, one_row: false };

impl Layout {
    /// Floats of a (rows, cols) matrix, which ends with its last element.
    fn len(self, rows: usize, cols: usize) -> usize {
        let (rows, cols) = if self.transposed { (cols, rows) } else { (rows, cols) };
        if rows == 0 || cols == 0 { 0 } else { (rows - 1) * self.stride(cols) + (cols - 1) * self.step + 1 }
    }

    fn stride(self, cols: usize) -> usize {
        if self.one_row { 0 } else { cols * self.step + self.gap }
    }

    fn view(self, data: &[f32], rows: usize, cols: usize) -> MatRef<'_> {
        if self.transposed {
            return Layout { transposed: false, ..self }.view(data, cols, rows).t();
        }
        MatRef::strided(data, rows, cols, self.stride(cols), self.step).unwrap()
    }
}

/// Runs C = A·B, of A and B as they lie, as C and its companions lie `gap` floats apart.
fn multiply(ctx: &Ctx, (m, n, k): (usize, usize, usize), la: Layout, lb: Layout, gap: usize) {
    let (av, bv) = (floats(la.len(m, k)), floats(lb.len(k, n)));
    let (a, b) = (la.view(&av, m, k), lb.view(&bv, k, n));
    let lc = Layout { gap, ..PLAIN };
    let ldc = lc.stride(n);
    let weight = Weight::pack(ctx, b).unwrap();
    let (bias, residual) = (floats(n), floats(lc.len(m, n)));
    for operand in [Operand::Mat(b), Operand::Packed(&weight)] {
        let (mut c, mut pre) = (floats(lc.len(m, n)), floats(lc.len(m, n)));
        let out = MatMut::strided(&mut c, m, n, ldc).unwrap();
        matmul(ctx, out, a, operand, Accumulate::Store, Epilogue::default()).unwrap();
        let epilogue = Epilogue {
            bias: Some(&bias),
            gelu: Some(if n % 2 == 0 { GeluKind::Tanh } else { GeluKind::Erf }),
            residual: Some(lc.view(&residual, m, n)),
            pre_activation: Some(MatMut::strided(&mut pre, m, n, ldc).unwrap()),
        };
        let out = MatMut::strided(&mut c, m, n, ldc).unwrap();
        matmul(ctx, out, a, operand, Accumulate::Add, epilogue).unwrap();
    }
    for i in 0..k.min(1) {
        weight.copy_row(i, &mut floats(n)).unwrap();
    }
    for j in 0..n.min(1) {
        weight.copy_col(j, &mut floats(k)).unwrap();
    }
}

/// All tails of N with a K of 19, all tails of K with an N of 21, for every number of rows.
pub fn every_edge(side: &str) {
    let columns = (0..=65).chain([79, 96, 97]).map(|n| (n, 19));
    let depths = (0..=65).map(|k| (21, k));
    for (n, k) in columns.chain(depths) {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let (la, lb) = (Layout { transposed: ta, ..PLAIN }, Layout { transposed: tb, ..PLAIN });
            on_every_isa(&format!("matmul, any M × {n} × {k}, transposed {ta} {tb} | {side}"), |ctx| {
                ROWS.iter().for_each(|&m| multiply(ctx, (m, n, k), la, lb, 0));
            });
        }
    }
    // Several blocks of k and of rows; several threads.
    for (m, n, k) in [(3, 131, 1031), (269, 35, 70), (20, 530, 401)] {
        for (ta, tb) in [(false, false), (true, true)] {
            let (la, lb) = (Layout { transposed: ta, ..PLAIN }, Layout { transposed: tb, ..PLAIN });
            on_every_isa(&format!("matmul {m} × {n} × {k}, transposed {ta} {tb}, 3 threads | {side}"), |ctx| {
                multiply(&ctx.clone().with_threads(3), (m, n, k), la, lb, 0);
            });
        }
    }
}

/// Rows further apart than they are long, the last one ending at its last element; elements two apart; rows and columns
/// that are all the same floats.
pub fn rows_apart(side: &str) {
    let padded = Layout { gap: 3, ..PLAIN };
    let spread = Layout { step: 2, ..PLAIN };
    let (one_row, one_column) = (Layout { one_row: true, ..PLAIN }, Layout { step: 0, gap: 1, ..PLAIN });
    let layouts = [padded, spread, one_row, one_column].map(|l| [l, Layout { transposed: true, ..l }]);
    let layouts = layouts.as_flattened();
    for (la, lb) in layouts.iter().flat_map(|&a| layouts.iter().map(move |&b| (a, b))) {
        for n in (0..=33).step_by(3).chain([15, 16, 17, 63, 64, 65]) {
            on_every_isa(&format!("matmul, M × {n} × 21, {la:?} {lb:?} | {side}"), |ctx| {
                [1, 5, 8, 13, 15, 29].iter().for_each(|&m| multiply(ctx, (m, n, 21), la, lb, 5));
            });
        }
    }
}
