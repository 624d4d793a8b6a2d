//! Every ISA against the plain chain, with ==.

use super::params::{Blocks, ONE_PANEL, PACKED_A, TWO_PANELS, cut, depth, span};
use super::*;
use crate::arena::Block;
use crate::bf16;
use crate::kernels::{GeluKind, gelu_forward};
use crate::reference::{self, Fused32, Unfused32};
use crate::simd::Isa;
use core::sync::atomic::{AtomicUsize, Ordering};
use proptest::prelude::*;
use std::sync::Arc;

/// Numbers of one seed, none of them exact in few bits.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as f32 / 4_194_304.0 - 2.0
    };
    (0..n).map(next).collect()
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    RowMajor,
    Transposed,
    /// Rows 3 floats longer than the matrix.
    Padded,
    /// Elements 2 apart, rows 2·cols + 1.
    Spread,
    /// Some columns of wider rows, transposed: what dW reads of a slice of X.
    Columns,
}
use Layout::*;

fn view(data: &[f32], rows: usize, cols: usize, layout: Layout) -> MatRef<'_> {
    match layout {
        RowMajor => MatRef::strided(data, rows, cols, cols, 1),
        Transposed => MatRef::strided(data, rows, cols, 1, rows),
        Padded => MatRef::strided(data, rows, cols, cols + 3, 1),
        Columns => MatRef::strided(data, rows, cols, 1, rows + 19),
        Spread => MatRef::strided(data, rows, cols, 2 * cols + 1, 2),
    }
    .unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    a: Layout,
    b: Layout,
    acc: Accumulate,
    bias: bool,
    gelu: Option<GeluKind>,
    residual: bool,
}

const PLAIN: Case = Case {
    m: 0,
    n: 0,
    k: 0,
    a: RowMajor,
    b: RowMajor,
    acc: Accumulate::Store,
    bias: false,
    gelu: None,
    residual: false,
};

fn bits(xs: &[f32]) -> Vec<u32> {
    // Which NaN comes out of a NaN going in is no promise.
    xs.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Runs the case on every ISA, with B in place and packed, against the reference of its rounding class.
fn check(case: Case) {
    let Case { m, n, k, acc, .. } = case;
    let store = (m.max(n) + 20) * (k + 20) * 3;
    let (av, bv) = (numbers(1, store), numbers(2, store));
    let (a, b) = (view(&av, m, k, case.a), view(&bv, k, n, case.b));
    let bias = numbers(3, n);
    let residual = numbers(4, (n + 2) * m);
    let residual = MatRef::strided(&residual, m, n, n + 2, 1).unwrap();
    let ldc = n + 1;
    let old = if acc == Accumulate::Add { numbers(5, m * ldc) } else { vec![f32::NAN; m * ldc] };
    let inner = |c: &[f32]| -> Vec<f32> { c.chunks(ldc).flat_map(|row| row[..n].to_vec()).collect() };
    let expected = |isa: Isa| {
        let mut c = inner(&old);
        let bias = case.bias.then_some(&bias[..]);
        match isa.fused() {
            true => reference::matmul::<Fused32>(&mut c, a, b, acc, bias),
            false => reference::matmul::<Unfused32>(&mut c, a, b, acc, bias),
        }
        let pre = c.clone();
        if let Some(kind) = case.gelu {
            gelu_forward(&Ctx::new(isa), &mut c, &pre, kind).unwrap();
        }
        if case.residual {
            for i in 0..m {
                for j in 0..n {
                    c[i * n + j] += residual.at(i, j);
                }
            }
        }
        (bits(&c), bits(&pre))
    };
    let classes = [Isa::SCALAR, Isa::PORTABLE].map(expected);
    let weight = Weight::pack(&Ctx::default(), b).unwrap();
    for isa in Isa::available() {
        let (expected, pre_expected) = &classes[usize::from(!isa.fused())];
        for (threads, packed_a) in [(1, PACKED_A), (4, PACKED_A), (4, 1 << 16)] {
            let ctx = Ctx::new(isa).with_threads(threads);
            for operand in [Operand::Mat(b), Operand::Packed(&weight)] {
                let (mut c, mut pre) = (old.clone(), vec![f32::NAN; m * ldc]);
                let epilogue = Epilogue {
                    bias: case.bias.then_some(&bias[..]),
                    gelu: case.gelu,
                    residual: case.residual.then_some(residual),
                    pre_activation: Some(MatMut::strided(&mut pre, m, n, ldc).unwrap()),
                };
                let cm = MatMut::strided(&mut c, m, n, ldc).unwrap();
                multiply(&ctx, cm, a, operand, acc, epilogue, packed_a).unwrap();
                let packed = matches!(operand, Operand::Packed(_));
                let which = format!("{isa}, {threads} threads, packed {packed}, {packed_a} floats of A: {case:?}");
                let differs = bits(&inner(&c)).iter().zip(expected).position(|(g, e)| g != e);
                assert_eq!(differs, None, "first difference, {which}");
                if case.gelu.is_some() {
                    assert_eq!(&bits(&inner(&pre)), pre_expected, "pre-activation, {which}");
                } else {
                    assert!(pre.iter().all(|x| x.is_nan()), "pre-activation without a GELU, {which}");
                }
                for i in 0..m {
                    assert_eq!(c[i * ldc + n].to_bits(), old[i * ldc + n].to_bits(), "past row {i}, {which}");
                }
            }
        }
    }
}

#[test]
fn edges_of_every_tile_equal_the_chain() {
    for m in (0..=30).chain([47, 64]) {
        for n in [0, 1, 15, 16, 17, 33, 64, 79] {
            for k in [0, 1, 19] {
                check(Case { m, n, k, ..PLAIN });
            }
        }
    }
    // Few rows times columns that are contiguous: B is turned 4 steps of k at a time.
    for (m, n, k) in
        (0..=8).flat_map(|m| [1, 16, 50, 96].into_iter().flat_map(move |n| (0..=9).map(move |k| (m, n, k))))
    {
        for b in [Transposed, Columns] {
            check(Case { m, n, k, b, acc: Accumulate::Add, bias: true, ..PLAIN });
        }
    }
}

#[test]
fn every_layout_equals_the_chain() {
    let all = [RowMajor, Transposed, Padded, Spread, Columns];
    for a in all {
        for b in all {
            for (m, n, k) in [(5, 37, 21), (8, 48, 70), (29, 50, 40), (31, 32, 9)] {
                for acc in [Accumulate::Store, Accumulate::Add] {
                    check(Case { m, n, k, a, b, acc, ..PLAIN });
                }
            }
        }
    }
}

#[test]
fn blocks_and_tasks_equal_the_chain() {
    let both = Case { bias: true, gelu: Some(GeluKind::Tanh), residual: true, ..PLAIN };
    // Two blocks of k, two blocks of rows, several tasks, few rows over several blocks of k.
    for Blocks { mc, kc, .. } in [ONE_PANEL, TWO_PANELS] {
        check(Case { m: 20, n: 40, k: 2 * kc + 1, acc: Accumulate::Add, ..both });
        check(Case { m: mc + 5, n: 30, k: 33, ..both });
        check(Case { m: mc + 5, n: 140, k: 70, a: Transposed, ..both });
        // Several blocks of rows and of k, in several groups of packed rows, each of several pieces.
        for a in [RowMajor, Transposed, Spread] {
            check(Case { m: mc + 5, n: 140, k: kc + 9, a, ..both });
        }
        check(Case { m: 3, n: 300, k: 2 * kc + 77, b: Transposed, acc: Accumulate::Add, ..both });
        // Tasks of several blocks of rows, the last one of fewer; with several blocks of k; in several groups.
        check(Case { m: 4 * mc + 3, n: 20, k: 40, a: Transposed, acc: Accumulate::Add, ..both });
        check(Case { m: 4 * mc + 3, n: 2, k: kc + 9, a: Transposed, ..both });
        assert!(cut(4 * mc + 3, 20, 40, mc, PACKED_A).tall > 1 && cut(4 * mc + 3, 2, kc + 9, mc, PACKED_A).tall > 1);
    }
    // Tasks of several blocks of rows in passes of several blocks of k, the last one shorter: one task below, then two.
    let Blocks { mc, kc, near } = ONE_PANEL;
    for (m, k) in [(2 * mc + 102, 4 * kc + 125), (4 * mc + 46, 4 * kc + 45)] {
        check(Case { m, n: 1, k, a: Transposed, acc: Accumulate::Add, ..both });
        let (cut, kc) = (cut(m, 1, k, mc, PACKED_A), depth(k, kc));
        let passes = (cut.tall, k.div_ceil(kc), span(cut.tm * kc, k.div_ceil(kc), &cut, PACKED_A, near));
        assert_eq!((cut.rows.div_ceil(cut.tall), passes), (if m < 3 * mc { 1 } else { 2 }, (3, 5, 3)));
    }
    // Spans of several blocks of k, the last one shorter.
    check(Case { m: 5, n: 20, k: 18 * TWO_PANELS.kc + 1, a: Transposed, acc: Accumulate::Add, ..both });
    check(Case { m: 100, n: 530, k: 90, b: Transposed, gelu: Some(GeluKind::Erf), ..both });
}

#[test]
fn special_values_follow_the_chain() {
    let a = [f32::INFINITY, 0.0, -0.0, f32::NAN, 1e-45, 3e38, -3e38, 1.0];
    let b = [0.0, f32::NEG_INFINITY, 1e-45, -0.0, 2.0, 3e38, 1.0, f32::NAN];
    for isa in Isa::available() {
        for (m, k, n) in [(8, 1, 8), (1, 8, 1), (4, 2, 4), (2, 4, 2)] {
            let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap());
            let (mut got, mut expected) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            let c = MatMut::new(&mut got, m, n).unwrap();
            matmul(&Ctx::new(isa), c, a, b, Accumulate::Store, Epilogue::default()).unwrap();
            match isa.fused() {
                true => reference::matmul::<Fused32>(&mut expected, a, b, Accumulate::Store, None),
                false => reference::matmul::<Unfused32>(&mut expected, a, b, Accumulate::Store, None),
            }
            assert_eq!(bits(&got), bits(&expected), "{isa} {m} × {k} × {n}");
        }
    }
}

#[test]
fn accumulated_halves_equal_the_whole() {
    let (m, n, k) = (24, 40, 50);
    let (a, b) = (numbers(8, k * m), numbers(9, k * n));
    let (mut whole, mut parts) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
    let ctx = Ctx::default();
    let run = |out: &mut [f32], rows: core::ops::Range<usize>, acc| {
        let x = MatRef::new(&a[rows.start * m..rows.end * m], rows.len(), m).unwrap();
        let dy = MatRef::new(&b[rows.start * n..rows.end * n], rows.len(), n).unwrap();
        matmul(&ctx, MatMut::new(out, m, n).unwrap(), x.t(), dy, acc, Epilogue::default()).unwrap();
    };
    run(&mut whole, 0..k, Accumulate::Store);
    run(&mut parts, 0..17, Accumulate::Store);
    run(&mut parts, 17..k, Accumulate::Add);
    assert_eq!(bits(&whole), bits(&parts));
}

/// A weight of bfloat16 multiplies as the same numbers in f32 do, bit for bit: in place for few rows, widened for many.
#[test]
fn a_weight_of_bf16_is_its_numbers_in_f32() {
    for (m, n, k) in [
        (1, 1, 1),
        (1, 40, 33),
        (2, 64, 1100),
        (3, 130, 7),
        (5, 31, 64),
        (8, 200, 70),
        (9, 33, 40),
        (30, 96, 1100),
        (32, 70, 40),
        (33, 64, 40),
        (67, 5, 20),
        (70, 150, 9),
    ] {
        let (x, data) = (numbers(3, m * k), numbers(4, k * n));
        let rounded: Vec<f32> = data.iter().map(|x| bf16::widen(bf16::round(*x))).collect();
        let (a, bias) = (MatRef::new(&x, m, k).unwrap(), numbers(5, n));
        for isa in Isa::available() {
            let ctx = Ctx::new(isa).with_threads(3);
            let product = |b: Operand<'_>| {
                let mut c = numbers(8, m * n);
                let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
                matmul(&ctx, MatMut::new(&mut c, m, n).unwrap(), a, b, Accumulate::Add, epilogue).unwrap();
                bits(&c)
            };
            let w = Weight::pack_as(&ctx, MatRef::new(&data, k, n).unwrap(), WeightType::Bf16).unwrap();
            let expected = product(Operand::Mat(MatRef::new(&rounded, k, n).unwrap()));
            assert_eq!(product(Operand::Packed(&w)), expected, "{isa}: {m} × {n} × {k}");
            assert_eq!(w.bytes(), k * n.div_ceil(16) * 32);
            let (mut row, mut col) = (vec![0.0; n], vec![0.0; k]);
            w.copy_row(k - 1, &mut row).unwrap();
            w.copy_col(n - 1, &mut col).unwrap();
            assert_eq!(row, rounded[(k - 1) * n..]);
            assert!((0..k).all(|i| col[i] == rounded[i * n + n - 1]));
        }
    }
}

#[test]
fn a_packed_weight_gives_back_its_rows_and_columns() {
    let cases = [(0, 3), (1, 1), (9, 40), (16, 16)];
    for ((k, n), isa) in cases.into_iter().flat_map(|case| Isa::available().into_iter().map(move |isa| (case, isa))) {
        let data = numbers(6, k * n);
        let w = Weight::pack(&Ctx::new(isa), MatRef::new(&data, k, n).unwrap()).unwrap();
        assert_eq!((w.rows(), w.cols(), w.bytes()), (k, n, k * n.div_ceil(16) * 64));
        let (mut row, mut col) = (vec![0.0; n], vec![0.0; k]);
        for i in 0..k {
            w.copy_row(i, &mut row).unwrap();
            assert_eq!(row, data[i * n..][..n]);
        }
        for j in 0..n {
            w.copy_col(j, &mut col).unwrap();
            assert!((0..k).all(|i| col[i] == data[i * n + j]));
        }
        assert!(w.copy_row(k, &mut row).is_err() && w.copy_col(n, &mut col).is_err());
    }
}

/// A matrix that comes in pieces, rows of it or of its transpose, packs to what it packs to whole; each number is asked
/// for once.
#[test]
fn a_weight_packs_from_pieces() {
    // The last two are of several pieces.
    for (rows, cols) in [(1, 1), (3, 16), (16, 3), (17, 33), (0, 5), (5, 0), (700, 203), (203, 700)] {
        let data = numbers(7, rows * cols);
        let whole = MatRef::new(&data, rows, cols).unwrap();
        let kinds = [WeightType::F32, WeightType::Bf16];
        for (isa, kind) in Isa::available().into_iter().flat_map(|isa| kinds.map(|kind| (isa, kind))) {
            for (transpose, threads) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
                let ctx = Ctx::new(isa).with_threads(threads);
                let (asked, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let read = |first: usize, out: &mut [f32]| {
                    asked.fetch_add(out.len(), Ordering::Relaxed);
                    calls.fetch_add(1, Ordering::Relaxed);
                    out.copy_from_slice(&data[first..][..out.len()]);
                };
                let b = if transpose { whole.t() } else { whole };
                let (k, n) = (b.rows(), b.cols());
                // Beside another's memory, which stays as it was.
                let room = Weight::room(k, n, kind).unwrap();
                let mut block = Block::zeroed(room + 64).unwrap();
                let numbers = Numbers::Read { read: &read, turned: transpose };
                pack_into(&ctx, &mut block[32..][..room], k, n, kind, numbers);
                assert!([&block[..32], &block[32 + room..]].concat().iter().all(|x| *x == 0.0));
                let w = Weight::packed(Arc::new(block), 32..32 + room, kind, k, n);
                let expected = Weight::pack_as(&ctx, b, kind).unwrap();
                let all = |w: &Weight| -> Vec<u32> {
                    let mut rows = vec![0.0; w.rows() * w.cols()];
                    for k in 0..w.rows() {
                        w.copy_row(k, &mut rows[k * w.cols()..][..w.cols()]).unwrap();
                    }
                    bits(&rows)
                };
                let case = format!("{isa} {kind:?}: {rows} × {cols}, transpose {transpose}, {threads} threads");
                assert_eq!((w.rows(), w.cols(), w.bytes()), (b.rows(), b.cols(), expected.bytes()), "{case}");
                assert_eq!(all(&w), all(&expected), "{case}");
                assert_eq!(asked.into_inner(), rows * cols, "{case}");
                assert!(rows * cols < 1 << 17 || calls.into_inner() > 2, "{case}");
            }
        }
    }
}

/// No second row is where a stride would lead to: what is asked for ahead of it is no address.
#[test]
fn one_row_may_have_any_stride() {
    for isa in Isa::available() {
        for n in [1, 20, 70] {
            let (x, ctx, mut out) = (numbers(1, n), Ctx::new(isa), vec![f32::NAN; n]);
            let a = MatRef::strided(&[2.0], 1, 1, usize::MAX, 1).unwrap();
            let b = MatRef::strided(&x, 1, n, usize::MAX, 1).unwrap();
            let c = MatMut::strided(&mut out, 1, n, usize::MAX).unwrap();
            matmul(&ctx, c, a, b, Accumulate::Store, Epilogue::default()).unwrap();
            assert_eq!(out, x.iter().map(|x| 2.0 * x).collect::<Vec<_>>());
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let data = [0.0; 64];
    let mat = |r, c| MatRef::new(&data[..r * c], r, c).unwrap();
    let ctx = Ctx::default();
    let mut out = [7.0; 12];
    let mut run = |a, b: MatRef<'_>, e| matmul(&ctx, MatMut::new(&mut out, 3, 4).unwrap(), a, b, Accumulate::Add, e);
    assert!(run(mat(2, 5), mat(5, 4), Epilogue::default()).is_err());
    assert!(run(mat(3, 5), mat(4, 4), Epilogue::default()).is_err());
    assert!(run(mat(3, 5), mat(5, 3), Epilogue::default()).is_err());
    assert!(run(mat(3, 5), mat(5, 4), Epilogue { bias: Some(&data[..3]), ..Epilogue::default() }).is_err());
    assert!(run(mat(3, 5), mat(5, 4), Epilogue { residual: Some(mat(4, 3)), ..Epilogue::default() }).is_err());
    let mut pre = [0.0; 12];
    let pre = MatMut::new(&mut pre, 4, 3).unwrap();
    assert!(run(mat(3, 5), mat(5, 4), Epilogue { pre_activation: Some(pre), ..Epilogue::default() }).is_err());
    assert_eq!(out, [7.0; 12]);
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(RowMajor), Just(Transposed), Just(Padded), Just(Spread), Just(Columns)]
}

#[cfg(feature = "threads")]
#[test]
fn four_threads_give_the_bits_of_one() {
    let (m, n, k) = (150, 700, 300);
    let (a, b) = (numbers(10, m * k), numbers(11, k * n));
    let (a, b) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, k, n).unwrap());
    let run = |threads| {
        let mut c = vec![f32::NAN; m * n];
        let (ctx, out) = (Ctx::default().with_threads(threads), MatMut::new(&mut c, m, n).unwrap());
        matmul(&ctx, out, a, b, Accumulate::Store, Epilogue::default()).unwrap();
        bits(&c)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    assert_eq!(run(1), pool.install(|| run(4)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]
    #[test]
    fn any_product_equals_the_chain(
        m in 0usize..70, n in 0usize..90, k in 0usize..60, a in layout(), b in layout(),
        add in any::<bool>(), bias in any::<bool>(), residual in any::<bool>(),
        gelu in prop_oneof![Just(None), Just(Some(GeluKind::Tanh)), Just(Some(GeluKind::Erf))],
    ) {
        let acc = if add { Accumulate::Add } else { Accumulate::Store };
        check(Case { m, n, k, a, b, acc, bias, gelu, residual });
    }
}

/// Pairs of bfloat16: what is multiplied is rounded, the sums are those of f32 within what their order can move.
#[test]
fn activations_of_bfloat16_are_those_of_the_rounded_product() {
    let Some(isa) = Isa::available().into_iter().find(|isa| isa.dots_bf16()) else {
        println!("products of bfloat16: not run: this CPU has none");
        return;
    };
    // Few rows, which are multiplied as ever; odd and even K, one step, several blocks of k, ragged edges of every kind.
    for (m, n, k) in
        [(32, 40, 64), (33, 1, 1), (40, 17, 2), (64, 100, 65), (33, 70, 4101), (400, 130, 768), (50, 33, 0)]
    {
        let (x, w) = (numbers(3, m * k), numbers(4, k * n));
        let rounded = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| bf16::widen(bf16::round(*x))).collect() };
        let packed = Weight::pack_as(&Ctx::new(isa), MatRef::new(&w, k, n).unwrap(), WeightType::Bf16).unwrap();
        let bias = numbers(5, n);
        let product = |threads: usize, round: bool, x: &[f32], acc: Accumulate| {
            let ctx = Ctx::new(isa).with_threads(threads).with_bf16_activations(round);
            let mut c = numbers(8, m * n);
            let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
            let (out, a) = (MatMut::new(&mut c, m, n).unwrap(), MatRef::new(x, m, k).unwrap());
            matmul(&ctx, out, a, &packed, acc, epilogue).unwrap();
            c
        };
        for acc in [Accumulate::Store, Accumulate::Add] {
            let got = product(3, true, &x, acc);
            assert_eq!(bits(&got), bits(&product(1, true, &x, acc)), "{m} × {n} × {k}: one thread");
            let few = m <= FEW_BF16;
            let exact = product(3, false, &if few { x.clone() } else { rounded(&x) }, acc);
            // Each of K products of numbers below 2 may be rounded once where it is added.
            let most = if few { 0.0 } else { (k as f32 + 2.0) * 4.0 * (k as f32).sqrt().max(1.0) * f32::EPSILON };
            for (i, (a, b)) in got.iter().zip(&exact).enumerate() {
                assert!((a - b).abs() <= most, "{m} × {n} × {k}, {i}: {a} {b}");
            }
            assert!(few || k < 64 || got != product(3, false, &x, acc), "{m} × {n} × {k}: rounded");
        }
    }
}
