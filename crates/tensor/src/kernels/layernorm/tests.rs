//! Layer norm against its reference, and the reference against central differences.

use super::*;
use crate::kernels::residual_forward;
use crate::reference::{self, F64};
use crate::testing::*;

const EPS: f32 = 1e-5;
const STORE: Accumulate = Accumulate::Store;
const ADD: Accumulate = Accumulate::Add;
const NAN: f32 = f32::NAN;

/// (rows, columns) of the tests: every length to 65, more blocks than one, rows of a real model.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    (1..=65).map(|c| (1 + c % 7, c)).chain([(0, 5), (64, 8), (65, 33), (150, 20), (9, 768)])
}

#[test]
fn forward_agrees_with_the_reference() {
    for (rows, c) in shapes() {
        let n = rows * c;
        let (a, b) = (numbers(1, n, 1.0), numbers(2, n, 1.0));
        let (w, bias) = (numbers(3, c, 1.0), numbers(4, c, 1.0));
        // The sum rounded as the kernel rounds it: the bound is layer norm's own.
        let x: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let (mut y, mut m, mut rs) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
        reference::layernorm_forward::<F64>(&mut y, &mut m, &mut rs, &wide(&x), &wide(&w), &wide(&bias), EPS as f64);
        // x − mean is off by gamma·max|x|, x̂ by that times rstd; rstd, relative, by as much.
        let amplify = 1.0 + greatest(&x) * rs.iter().copied().fold(0.0, f64::max);
        let bound = gamma(c / 16 + 12) * amplify;
        on_every_ctx(|ctx| {
            let (mut out, mut mean, mut rstd) = (vec![NAN; n], vec![NAN; rows], vec![NAN; rows]);
            layernorm_forward(ctx, &mut out, &mut mean, &mut rstd, &x, &w, &bias, EPS).unwrap();
            assert_close("mean", &mean, &m, 0.0, bound);
            assert_close("rstd", &rstd, &rs, bound, 0.0);
            assert_close("out", &out, &y, bound, (greatest(&w) * amplify + greatest(&bias)) * bound);

            let mut s = [vec![NAN; n], vec![NAN; n], vec![NAN; rows], vec![NAN; rows]];
            let [sum, out2, mean2, rstd2] = &mut s;
            residual_layernorm_forward(ctx, sum, out2, mean2, rstd2, &a, &b, &w, &bias, EPS).unwrap();
            let mut total = vec![NAN; n];
            residual_forward(ctx, &mut total, &a, &b).unwrap();
            for (what, got, expected) in
                [("sum", &s[0], &total), ("out", &s[1], &out), ("mean", &s[2], &mean), ("rstd", &s[3], &rstd)]
            {
                assert_same_bits(what, got, expected);
            }
            vec![out, mean, rstd]
        });
    }
}

#[test]
fn backward_agrees_with_the_reference() {
    for (rows, c) in shapes() {
        let n = rows * c;
        let (x, w, dy, ds) = (numbers(1, n, 1.0), numbers(3, c, 1.0), numbers(5, n, 1.0), numbers(6, n, 1.0));
        let (old, old_w, old_b) = (numbers(7, n, 1.0), numbers(8, c, 1.0), numbers(9, c, 1.0));
        let (mut y, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
        let ctx = Ctx::new(crate::Isa::SCALAR);
        layernorm_forward(&ctx, &mut y, &mut mean, &mut rstd, &x, &w, &vec![0.0; c], EPS).unwrap();
        let (mut dx, mut dw, mut db) = (vec![0.0; n], vec![0.0; c], vec![0.0; c]);
        let (x64, m64, r64) = (wide(&x), wide(&mean), wide(&rstd));
        reference::layernorm_backward::<F64>(
            &mut dx,
            &mut dw,
            &mut db,
            &wide(&dy),
            &x64,
            &m64,
            &r64,
            &wide(&w),
            STORE,
            STORE,
        );
        // Mean and rstd are given, so x̂ is off by 3 roundings of a value below `largest`.
        let (largest, scale) = (1.0 + greatest(&x) * 2.0 * greatest(&rstd), greatest(&dy) * greatest(&w));
        let atol = gamma(c / 16 + 16) * greatest(&rstd) * scale * (1.0 + largest * largest);
        let atol_params = gamma(64 + 8) * rows as f64 * greatest(&dy) * largest;
        on_every_ctx(|ctx| {
            let (mut g, mut gw, mut gb) = (vec![NAN; n], vec![NAN; c], vec![NAN; c]);
            layernorm_backward(ctx, &mut g, &mut gw, &mut gb, &dy, &x, &mean, &rstd, &w, STORE, STORE).unwrap();
            assert_close("dinp", &g, &dx, 0.0, atol);
            assert_close("dweight", &gw, &dw, 0.0, atol_params);
            assert_close("dbias", &gb, &db, 0.0, atol_params);

            let (mut h, mut hw, mut hb) = (old.clone(), old_w.clone(), old_b.clone());
            residual_layernorm_backward(ctx, &mut h, &mut hw, &mut hb, &dy, Some(&ds), &x, &mean, &rstd, &w, ADD, ADD)
                .unwrap();
            for i in 0..n {
                assert_eq!(h[i], old[i] + (ds[i] + g[i]), "dsum_total[{i}]");
            }
            for i in 0..c {
                assert_eq!((hw[i], hb[i]), (old_w[i] + gw[i], old_b[i] + gb[i]), "parameters at {i}");
            }
            let (mut k, mut kw, mut kb) = (vec![NAN; n], vec![NAN; c], vec![NAN; c]);
            residual_layernorm_backward(ctx, &mut k, &mut kw, &mut kb, &dy, None, &x, &mean, &rstd, &w, STORE, STORE)
                .unwrap();
            assert_same_bits("without dsum", &k, &g);
            vec![g, gw, gb, h]
        });
    }
}

#[test]
fn a_nan_stays_in_its_row() {
    let c = 21;
    let mut x = numbers(1, 6 * c, 1.0);
    x[2 * c + 20] = NAN;
    x[4 * c] = f32::INFINITY;
    on_every_ctx(|ctx| {
        let (mut y, mut mean, mut rstd) = (vec![7.0; 6 * c], [0.0; 6], [0.0; 6]);
        layernorm_forward(ctx, &mut y, &mut mean, &mut rstd, &x, &vec![1.0; c], &vec![0.0; c], EPS).unwrap();
        for (i, y) in y.iter().enumerate() {
            assert_eq!(y.is_nan(), i / c == 2 || i / c == 4, "element {i}: {y}");
        }
        vec![y]
    });
}

#[test]
fn reference_backward_is_the_slope() {
    let (rows, c, eps) = (3, 7, 1e-5);
    let n = rows * c;
    let (x, w, b, d) =
        (wide(&numbers(1, n, 1.0)), wide(&numbers(2, c, 1.0)), wide(&numbers(3, c, 1.0)), wide(&numbers(4, n, 1.0)));
    let loss = |x: &[f64], w: &[f64], b: &[f64]| {
        let (mut y, mut m, mut r) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
        reference::layernorm_forward::<F64>(&mut y, &mut m, &mut r, x, w, b, eps);
        (dot(&y, &d), m, r)
    };
    let (_, m, r) = loss(&x, &w, &b);
    let (mut dx, mut dw, mut db) = (vec![0.0; n], vec![0.0; c], vec![0.0; c]);
    reference::layernorm_backward::<F64>(&mut dx, &mut dw, &mut db, &d, &x, &m, &r, &w, STORE, STORE);
    central_difference("dinp", &x, &dx, |x| loss(x, &w, &b).0);
    central_difference("dweight", &w, &dw, |w| loss(&x, w, &b).0);
    central_difference("dbias", &b, &db, |b| loss(&x, &w, b).0);
}

#[test]
fn shapes_are_checked() {
    let ctx = Ctx::default();
    let run = |n: usize, rows: usize, c: usize| {
        let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
        let x = vec![1.0; n];
        layernorm_forward(&ctx, &mut vec![0.0; n], &mut mean, &mut rstd, &x, &vec![1.0; c], &vec![1.0; c], EPS)
    };
    assert!(run(6, 2, 3).is_ok() && run(0, 0, 3).is_ok());
    assert!(run(7, 2, 3).is_err() && run(6, 3, 3).is_err() && run(6, 2, 0).is_err());
}
