//! Plain loops: rows.

use super::{Arith, Real, put};
use crate::kernels::{AdamW, GeluKind, IGNORE, Pool};
use crate::matrix::Accumulate;
use crate::random::Philox;

/// Φ(x), in the form of `kind`, and its derivative.
fn normal_distribution<T: Real>(x: T, kind: GeluKind) -> (T, T) {
    let r = T::from_f64;
    match kind {
        GeluKind::Tanh => {
            let a = r(2.0 / core::f64::consts::PI).sqrt();
            let u = a * (x + r(0.044715) * x * x * x);
            let du = a * (T::ONE + r(3.0 * 0.044715) * x * x);
            let t = u.tanh();
            (r(0.5) * (T::ONE + t), r(0.5) * (T::ONE - t * t) * du)
        }
        GeluKind::Erf => {
            let cdf = r(0.5) * (T::ONE + (x * r(core::f64::consts::FRAC_1_SQRT_2)).erf());
            let density = r(2.0 * core::f64::consts::PI).sqrt();
            (cdf, (r(-0.5) * x * x).exp() / density)
        }
    }
}

/// out = x·Φ(x).
pub fn gelu_forward<A: Arith>(out: &mut [A::T], inp: &[A::T], kind: GeluKind) {
    for (y, &x) in out.iter_mut().zip(inp) {
        *y = x * normal_distribution(x, kind).0;
    }
}

/// dinp (+)= dout·(Φ(x) + x·Φ′(x)).
pub fn gelu_backward<A: Arith>(dinp: &mut [A::T], dout: &[A::T], inp: &[A::T], kind: GeluKind, acc: Accumulate) {
    for i in 0..inp.len() {
        let (cdf, density) = normal_distribution(inp[i], kind);
        put(&mut dinp[i], dout[i] * (cdf + inp[i] * density), acc);
    }
}

/// Softmax of each row of `n`; a row of −∞ gives zeros.
pub fn softmax_forward<A: Arith>(out: &mut [A::T], inp: &[A::T], n: usize) {
    for (y, x) in rows_mut(out, n).zip(rows(inp, n)) {
        let (shift, sum) = shift_and_sum(x);
        for i in 0..n {
            let e = (x[i] - shift).exp();
            y[i] = if sum == A::T::ZERO { A::T::ZERO } else { e / sum };
        }
    }
}

/// dinp (+)= out·(dout − Σ dout·out).
pub fn softmax_backward<A: Arith>(dinp: &mut [A::T], dout: &[A::T], out: &[A::T], n: usize, acc: Accumulate) {
    for (dx, (dy, y)) in rows_mut(dinp, n).zip(rows(dout, n).zip(rows(out, n))) {
        let mut sum = A::T::ZERO;
        for i in 0..n {
            sum = A::mul_add(dy[i], y[i], sum);
        }
        for i in 0..n {
            put(&mut dx[i], y[i] * (dy[i] - sum), acc);
        }
    }
}

/// The rows of n elements.
fn rows<T>(xs: &[T], n: usize) -> core::slice::ChunksExact<'_, T> {
    xs.chunks_exact(n.max(1))
}

/// The rows of n elements, to write.
fn rows_mut<T>(xs: &mut [T], n: usize) -> core::slice::ChunksExactMut<'_, T> {
    xs.chunks_exact_mut(n.max(1))
}

/// What is subtracted before the exponentials (the maximum; 0 for a row of −∞), and their sum.
fn shift_and_sum<T: Real>(x: &[T]) -> (T, T) {
    let mut shift = T::neg_infinity();
    for &x in x {
        shift = shift.max(x);
    }
    if shift == T::neg_infinity() {
        shift = T::ZERO;
    }
    let mut sum = T::ZERO;
    for &x in x {
        sum += (x - shift).exp();
    }
    (shift, sum)
}

/// out = a + b.
pub fn residual_forward<A: Arith>(out: &mut [A::T], a: &[A::T], b: &[A::T]) {
    for i in 0..out.len() {
        out[i] = a[i] + b[i];
    }
}

/// dinp (+)= dout.
pub fn residual_backward<A: Arith>(dinp: &mut [A::T], dout: &[A::T], acc: Accumulate) {
    for i in 0..dinp.len() {
        put(&mut dinp[i], dout[i], acc);
    }
}

/// Σ x.
pub fn sum<A: Arith>(xs: &[A::T]) -> A::T {
    let mut sum = A::T::ZERO;
    for &x in xs {
        sum += x;
    }
    sum
}

/// Σ x².
pub fn sum_of_squares<A: Arith>(xs: &[A::T]) -> A::T {
    let mut sum = A::T::ZERO;
    for &x in xs {
        sum = A::mul_add(x, x, sum);
    }
    sum
}

/// One step of AdamW; no operation is fused, in any arithmetic.
pub fn adamw_step<A: Arith>(param: &mut [A::T], m: &mut [A::T], v: &mut [A::T], grad: &[A::T], options: &AdamW) {
    let f = options.factors();
    let r = A::T::from_f64;
    for i in 0..param.len() {
        let g = grad[i] * r(f.grad_scale);
        m[i] = r(f.first.0) * m[i] + r(f.first.1) * g;
        v[i] = r(f.second.0) * v[i] + r(f.second.1) * (g * g);
        let root = v[i].sqrt() * r(f.root_scale) + r(f.eps);
        param[i] = param[i] * r(f.keep) - r(f.step_size) * m[i] / root;
    }
}

/// out = x̂·weight + bias, and each row's mean and 1/√(variance + eps).
pub fn layernorm_forward<A: Arith>(
    out: &mut [A::T],
    mean: &mut [A::T],
    rstd: &mut [A::T],
    inp: &[A::T],
    weight: &[A::T],
    bias: &[A::T],
    eps: A::T,
) {
    let c = weight.len();
    let count = A::T::from_f64(c as f64);
    for (r, (y, x)) in rows_mut(out, c).zip(rows(inp, c)).enumerate() {
        mean[r] = sum::<A>(x) / count;
        let mut squares = A::T::ZERO;
        for &x in x {
            squares = A::mul_add(x - mean[r], x - mean[r], squares);
        }
        rstd[r] = A::T::ONE / (squares / count + eps).sqrt();
        for i in 0..c {
            y[i] = A::mul_add((x[i] - mean[r]) * rstd[r], weight[i], bias[i]);
        }
    }
}

/// The gradients (dinp, dweight, dbias) of layer norm.
pub fn layernorm_backward<A: Arith>(
    dinp: &mut [A::T],
    dweight: &mut [A::T],
    dbias: &mut [A::T],
    dout: &[A::T],
    inp: &[A::T],
    mean: &[A::T],
    rstd: &[A::T],
    weight: &[A::T],
    acc_inp: Accumulate,
    acc_params: Accumulate,
) {
    let c = weight.len();
    let count = A::T::from_f64(c as f64);
    for (r, (dx, (dy, x))) in rows_mut(dinp, c).zip(rows(dout, c).zip(rows(inp, c))).enumerate() {
        let xhat = |i: usize| (x[i] - mean[r]) * rstd[r];
        let (mut sum_g, mut sum_gx) = (A::T::ZERO, A::T::ZERO);
        for i in 0..c {
            let g = dy[i] * weight[i];
            sum_g += g;
            sum_gx = A::mul_add(g, xhat(i), sum_gx);
        }
        for i in 0..c {
            let centred = dy[i] * weight[i] - sum_g / count;
            put(&mut dx[i], rstd[r] * (centred - xhat(i) * (sum_gx / count)), acc_inp);
        }
    }
    for i in 0..c {
        let (mut dw, mut db) = (A::T::ZERO, A::T::ZERO);
        for r in 0..mean.len() {
            let dy = dout[r * c + i];
            dw = A::mul_add(dy, (inp[r * c + i] - mean[r]) * rstd[r], dw);
            db += dy;
        }
        put(&mut dweight[i], dw, acc_params);
        put(&mut dbias[i], db, acc_params);
    }
}

/// sum = a + b; out = layer norm of sum.
pub fn residual_layernorm_forward<A: Arith>(
    sum: &mut [A::T],
    out: &mut [A::T],
    mean: &mut [A::T],
    rstd: &mut [A::T],
    a: &[A::T],
    b: &[A::T],
    weight: &[A::T],
    bias: &[A::T],
    eps: A::T,
) {
    residual_forward::<A>(sum, a, b);
    layernorm_forward::<A>(out, mean, rstd, sum, weight, bias, eps);
}

/// dsum_total (+)= dsum + dinp of layer norm; dweight and dbias as there.
pub fn residual_layernorm_backward<A: Arith>(
    dsum_total: &mut [A::T],
    dweight: &mut [A::T],
    dbias: &mut [A::T],
    dout: &[A::T],
    dsum: Option<&[A::T]>,
    sum: &[A::T],
    mean: &[A::T],
    rstd: &[A::T],
    weight: &[A::T],
    acc_inp: Accumulate,
    acc_params: Accumulate,
) {
    let mut dx = dsum.map_or(vec![A::T::ZERO; sum.len()], <[A::T]>::to_vec);
    let add = Accumulate::Add;
    layernorm_backward::<A>(&mut dx, dweight, dbias, dout, sum, mean, rstd, weight, add, acc_params);
    residual_backward::<A>(dsum_total, &dx, acc_inp);
}

/// out[i] = inp[i]/(1 − p) where the draw at first_element + i is at least p, else 0.
pub fn dropout_forward<A: Arith>(out: &mut [A::T], inp: &[A::T], p: f32, rng: &Philox, first_element: u64) {
    dropout_backward::<A>(out, inp, p, rng, first_element, Accumulate::Store);
}

/// dinp[i] (+)= dout[i]/(1 − p) where the forward kept element i, else 0.
pub fn dropout_backward<A: Arith>(
    dinp: &mut [A::T],
    dout: &[A::T],
    p: f32,
    rng: &Philox,
    first_element: u64,
    acc: Accumulate,
) {
    let scale = A::T::from_f64(1.0 / (1.0 - p as f64));
    for i in 0..dinp.len() {
        let kept = rng.uniform(first_element + i as u64) >= p;
        put(&mut dinp[i], if kept { dout[i] * scale } else { A::T::ZERO }, acc);
    }
}

/// out[r] = wte[tokens[r]] + wpe[positions[r]], rows of c.
pub fn embedding_forward<A: Arith>(
    out: &mut [A::T],
    tokens: &[u32],
    positions: &[u32],
    wte: &[A::T],
    wpe: &[A::T],
    c: usize,
) {
    for r in 0..tokens.len() {
        for i in 0..c {
            out[r * c + i] = wte[tokens[r] as usize * c + i] + wpe[positions[r] as usize * c + i];
        }
    }
}

/// dwte[tokens[r]] += dout[r] and dwpe[positions[r]] += dout[r], in the order of r.
pub fn embedding_backward<A: Arith>(
    dwte: &mut [A::T],
    dwpe: &mut [A::T],
    dout: &[A::T],
    tokens: &[u32],
    positions: &[u32],
    c: usize,
    acc_wte: Accumulate,
    acc_wpe: Accumulate,
) {
    for (table, ids, acc) in [(dwte, tokens, acc_wte), (dwpe, positions, acc_wpe)] {
        if acc == Accumulate::Store {
            table.fill(A::T::ZERO);
        }
        for (r, &id) in ids.iter().enumerate() {
            for i in 0..c {
                table[id as usize * c + i] += dout[r * c + i];
            }
        }
    }
}

/// out[i] = inp[rows[i]], rows of c.
pub fn gather_rows<A: Arith>(out: &mut [A::T], inp: &[A::T], rows: &[usize], c: usize) {
    for (i, &row) in rows.iter().enumerate() {
        out[i * c..(i + 1) * c].copy_from_slice(&inp[row * c..(row + 1) * c]);
    }
}

/// dinp[rows[i]] += dout[i] in the order of i, rows of c.
pub fn scatter_rows_add<A: Arith>(dinp: &mut [A::T], dout: &[A::T], rows: &[usize], c: usize) {
    for (i, &row) in rows.iter().enumerate() {
        for j in 0..c {
            dinp[row * c + j] += dout[i * c + j];
        }
    }
}

/// losses[r] = ln Σ exp(logits[r]) − logits[r, targets[r]]; 0 where the target is `IGNORE`.
pub fn cross_entropy_forward<A: Arith>(losses: &mut [A::T], logits: &[A::T], targets: &[u32], v: usize) {
    for (r, x) in rows(logits, v).enumerate() {
        losses[r] = A::T::ZERO;
        if targets[r] != IGNORE {
            let (shift, sum) = shift_and_sum(x);
            losses[r] = sum.ln() + (shift - x[targets[r] as usize]);
        }
    }
}

/// dlogits (+)= scale·(softmax − onehot); 0 where the target is `IGNORE`.
pub fn cross_entropy_backward<A: Arith>(
    dlogits: &mut [A::T],
    logits: &[A::T],
    targets: &[u32],
    v: usize,
    scale: A::T,
    acc: Accumulate,
) {
    for (r, (dx, x)) in rows_mut(dlogits, v).zip(rows(logits, v)).enumerate() {
        let (shift, sum) = shift_and_sum(x);
        for j in 0..v {
            let onehot = if targets[r] as usize == j { A::T::ONE } else { A::T::ZERO };
            let d = scale * ((x[j] - shift).exp() / sum - onehot);
            put(&mut dx[j], if targets[r] == IGNORE { A::T::ZERO } else { d }, acc);
        }
    }
}

/// losses[r] of the logits inp[r]·weightᵀ, and the gradients of scale·Σ losses (overwritten).
pub fn linear_cross_entropy<A: Arith>(
    losses: &mut [A::T],
    dinp: &mut [A::T],
    dweight: &mut [A::T],
    inp: &[A::T],
    weight: &[A::T],
    targets: &[u32],
    v: usize,
    c: usize,
    scale: A::T,
) {
    dinp.fill(A::T::ZERO);
    dweight.fill(A::T::ZERO);
    let (mut logits, mut dlogits) = (vec![A::T::ZERO; v], vec![A::T::ZERO; v]);
    for (r, x) in rows(inp, c).enumerate() {
        for (z, w) in logits.iter_mut().zip(rows(weight, c)) {
            *z = A::T::ZERO;
            for i in 0..c {
                *z = A::mul_add(x[i], w[i], *z);
            }
        }
        let target = &targets[r..r + 1];
        cross_entropy_forward::<A>(&mut losses[r..r + 1], &logits, target, v);
        cross_entropy_backward::<A>(&mut dlogits, &logits, target, v, scale, Accumulate::Store);
        for (j, &d) in dlogits.iter().enumerate() {
            for i in 0..c {
                dinp[r * c + i] = A::mul_add(d, weight[j * c + i], dinp[r * c + i]);
                dweight[j * c + i] = A::mul_add(d, x[i], dweight[j * c + i]);
            }
        }
    }
}

/// The loss of each run of `inp` of `lens` elements against its target, and the gradient of Σ weights·losses (added).
pub fn cross_entropy_of_runs<A: Arith>(
    losses: &mut [A::T],
    dinp: &mut [A::T],
    inp: &[A::T],
    lens: &[usize],
    targets: &[u32],
    weights: &[A::T],
) {
    let mut first = 0;
    for (s, &len) in lens.iter().enumerate() {
        losses[s] = A::T::ZERO;
        if len > 0 {
            let (run, target) = (first..first + len, &targets[s..=s]);
            cross_entropy_forward::<A>(&mut losses[s..=s], &inp[run.clone()], target, len);
            cross_entropy_backward::<A>(&mut dinp[run.clone()], &inp[run], target, len, weights[s], Accumulate::Add);
        }
        first += len;
    }
}

/// losses = (inp − targets)², and the gradient of Σ weights·losses (added).
pub fn squared_errors<A: Arith>(
    losses: &mut [A::T],
    dinp: &mut [A::T],
    inp: &[A::T],
    targets: &[A::T],
    weights: &[A::T],
) {
    for r in 0..inp.len() {
        let d = inp[r] - targets[r];
        losses[r] = d * d;
        dinp[r] += (weights[r] + weights[r]) * d;
    }
}

/// out[s] = the mean or the greatest of the rows of run s, of `c` columns.
pub fn pool_forward<A: Arith>(out: &mut [A::T], inp: &[A::T], lens: &[usize], c: usize, pool: Pool) {
    let mut first = 0;
    for (s, &len) in lens.iter().enumerate() {
        for j in 0..c {
            let mut y = A::T::ZERO;
            for r in first..first + len {
                let x = inp[r * c + j];
                y = match pool {
                    Pool::Mean => y + x,
                    Pool::Max if r > first => y.max(x),
                    Pool::Max => x,
                };
            }
            let len = A::T::from_f64(len as f64);
            out[s * c + j] = if pool == Pool::Mean && len > A::T::ZERO { y / len } else { y };
        }
        first += len;
    }
}

/// dinp (+)= dout / len, or dout in the first row that is the greatest.
pub fn pool_backward<A: Arith>(
    dinp: &mut [A::T],
    dout: &[A::T],
    inp: &[A::T],
    lens: &[usize],
    c: usize,
    pool: Pool,
    acc: Accumulate,
) {
    let mut first = 0;
    for (s, &len) in lens.iter().enumerate() {
        for j in 0..c {
            let mut greatest = first;
            for r in first..first + len {
                greatest = if inp[r * c + j] > inp[greatest * c + j] { r } else { greatest };
            }
            for r in first..first + len {
                let d = match pool {
                    Pool::Mean => dout[s * c + j] / A::T::from_f64(len as f64),
                    Pool::Max if r == greatest => dout[s * c + j],
                    Pool::Max => A::T::ZERO,
                };
                put(&mut dinp[r * c + j], d, acc);
            }
        }
        first += len;
    }
}

/// softmax of all weights but the last, and that one, γ.
fn mix_shares<A: Arith>(weights: &[A::T]) -> (Vec<A::T>, A::T) {
    let (w, gamma) = weights.split_at(weights.len() - 1);
    let mut shares = vec![A::T::ZERO; w.len()];
    softmax_forward::<A>(&mut shares, w, w.len());
    (shares, gamma[0])
}

/// out = γ·Σ_l softmax(w)_l·xs_l; `weights` holds w and then γ.
pub fn mix_forward<A: Arith>(out: &mut [A::T], xs: &[&[A::T]], weights: &[A::T]) {
    let (shares, gamma) = mix_shares::<A>(weights);
    for (i, y) in out.iter_mut().enumerate() {
        *y = A::T::ZERO;
        for (x, s) in xs.iter().zip(&shares) {
            *y = A::mul_add(gamma * *s, x[i], *y);
        }
    }
}

/// The gradients of every tensor of a mix and of its weights (added).
pub fn mix_backward<A: Arith>(
    dxs: &mut [&mut [A::T]],
    dweights: &mut [A::T],
    dout: &[A::T],
    xs: &[&[A::T]],
    weights: &[A::T],
) {
    let (shares, gamma) = mix_shares::<A>(weights);
    let (mut dots, mut mean) = (vec![A::T::ZERO; xs.len()], A::T::ZERO);
    for (l, x) in xs.iter().enumerate() {
        for (i, &d) in dout.iter().enumerate() {
            dxs[l][i] += gamma * shares[l] * d;
            dots[l] = A::mul_add(d, x[i], dots[l]);
        }
        mean += shares[l] * dots[l];
    }
    for (l, &dot) in dots.iter().enumerate() {
        dweights[l] += gamma * shares[l] * (dot - mean);
    }
    dweights[xs.len()] += mean;
}
