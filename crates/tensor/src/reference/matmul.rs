//! Plain loops: matmul.

use super::Arith;
use crate::matrix::{Accumulate, MatRef};

/// C = A·B + bias, or C += A·B, then + bias: every output one chain of multiply-adds over k = 0, 1, …, K−1,
/// started at +0 (`Store`, which does not read `c`) or at the old value (`Add`).
///
/// Shapes: a (M, K) and b (K, N) with any strides, c (M, N) row-major, bias (N). Panics when they disagree.
pub fn matmul<A: Arith>(
    c: &mut [A::T],
    a: MatRef<'_, A::T>,
    b: MatRef<'_, A::T>,
    acc: Accumulate,
    bias: Option<&[A::T]>,
) {
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    assert_eq!(b.rows(), k, "b's rows are a's columns");
    assert_eq!(c.len(), m * n, "c is (M, N)");
    for i in 0..m {
        for j in 0..n {
            let mut x = match acc {
                Accumulate::Store => A::T::default(),
                Accumulate::Add => c[i * n + j],
            };
            for l in 0..k {
                x = A::mul_add(a.at(i, l), b.at(l, j), x);
            }
            if let Some(bias) = bias {
                x += bias[j];
            }
            c[i * n + j] = x;
        }
    }
}

/// The gradients of C = A·B: dA (+)= dC·Bᵀ and dB (+)= Aᵀ·dC, each the chain of `matmul`.
///
/// Shapes: a (M, K), b (K, N), dc (M, N); da (M, K) and db (K, N) row-major.
pub fn matmul_backward<A: Arith>(
    da: &mut [A::T],
    db: &mut [A::T],
    dc: MatRef<'_, A::T>,
    a: MatRef<'_, A::T>,
    b: MatRef<'_, A::T>,
    acc_a: Accumulate,
    acc_b: Accumulate,
) {
    matmul::<A>(da, dc, b.t(), acc_a, None);
    matmul::<A>(db, a.t(), dc, acc_b, None);
}

/// The gradient of a bias: dbias[j] (+)= Σ_r dout[r, j], one chain over the rows in order.
///
/// Shapes: dbias (N), dout (R, N).
pub fn bias_backward<A: Arith>(dbias: &mut [A::T], dout: &[A::T], acc: Accumulate) {
    let n = dbias.len();
    for j in 0..n {
        let mut x = match acc {
            Accumulate::Store => A::T::default(),
            Accumulate::Add => dbias[j],
        };
        for row in dout.chunks_exact(n) {
            x += row[j];
        }
        dbias[j] = x;
    }
}
