//! A learned mean of several tensors of one shape: all layers' features as one.
//!
//! ```text
//! s = softmax(w)                     L numbers
//! out = γ·Σ_l s_l·x_l
//! dx_l (+)= γ·s_l·dout
//! dγ = Σ_l s_l·⟨dout, x_l⟩,   dw_l = γ·s_l·(⟨dout, x_l⟩ − Σ_k s_k·⟨dout, x_k⟩)
//! ```
//!
//! Source: Peters et al., "Deep contextualized word representations", arXiv:1802.05365, equation 1.

use super::{ELEMENTS, fetch, put};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// Shares of the tensors of a mix.
#[derive(Clone, Debug)]
pub struct MixWeights {
    shares: Vec<f64>,
    gamma: f64,
}

impl MixWeights {
    /// γ·s_l, rounded once.
    pub fn of(&self, l: usize) -> f32 {
        (self.gamma * self.shares[l]) as f32
    }

    /// The gradients of w and γ, (L + 1), by `acc`: `dots[l]` = ⟨dout, x_l⟩.
    ///
    /// Numerics: in f64, rounded once. Panics where the lengths are not those of the weights.
    pub fn backward(&self, dweights: &mut [f32], dots: &[f64], acc: Accumulate) {
        assert_eq!(
            (dweights.len(), dots.len()),
            (self.shares.len() + 1, self.shares.len()),
            "a number a tensor, and γ"
        );
        let mean = self.shares.iter().zip(dots).fold(0.0, |sum, (s, d)| sum + s * d);
        let inner = self.shares.iter().zip(dots).map(|(s, d)| self.gamma * s * (d - mean));
        for (out, d) in dweights.iter_mut().zip(inner.chain([mean])) {
            *out = if acc == Accumulate::Add { *out + d as f32 } else { d as f32 };
        }
    }
}

/// softmax of the first `layers` numbers of `weights`, (L + 1), whose last is γ.
/// # Errors
/// `ShapeMismatch` if there are not L + 1 of them; `InvalidValue` for no tensors, `SizeOverflow`.
pub fn mix_weights(weights: &[f32], layers: usize) -> Result<MixWeights> {
    expect_len("mix", "weights, one a tensor and γ", weights.len(), crate::shape::sum("mix", layers, 1)?)?;
    if layers == 0 {
        return Err(Error::InvalidValue { op: "mix", what: "tensors", expected: "at least 1", got: 0.0 });
    }
    let (w, gamma) = weights.split_at(layers);
    let shift = w.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x as f64));
    let powers: Vec<f64> = w.iter().map(|x| libm::exp(*x as f64 - shift)).collect();
    let sum = powers.iter().fold(0.0, |sum, p| sum + p);
    Ok(MixWeights { shares: powers.iter().map(|p| p / sum).collect(), gamma: gamma[0] as f64 })
}

/// out[i] (+)= scale·inp[i]: a tensor's part of a mix, and the mix's part of its gradient.
///
/// Shapes: out, inp of one length. Cost: 8 or 12 bytes and 1 or 2 flops an element.
/// Numerics: adding, one fused multiply-add, or two roundings on instruction sets without.
/// Threads: blocks of 16,384 elements; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn add_scaled(ctx: &Ctx, out: &mut [f32], inp: &[f32], scale: f32, acc: Accumulate) -> Result<()> {
    let _timed = ctx.time("add_scaled");
    expect_len("add_scaled", "inp length", inp.len(), out.len())?;
    let (isa, n) = (ctx.isa(), out.len());
    for_each_rows(ctx, RowsMut::new(out, 1), n, ELEMENTS, |first, out| {
        let out = out.into_slice();
        dispatch_on(isa, Scaled { inp: &inp[first..first + out.len()], out, scale, acc });
    });
    Ok(())
}

struct Scaled<'a> {
    out: &'a mut [f32],
    inp: &'a [f32],
    scale: f32,
    acc: Accumulate,
}

impl Kernel for Scaled<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.inp.len();
        let (out, scale) = (&mut self.out[..n], s.splat(self.scale));
        for i in (0..n).step_by(LANES) {
            let x = fetch(s, self.inp, i, 0.0);
            let y = match self.acc {
                Accumulate::Store => s.mul(x, scale),
                Accumulate::Add => s.mul_add(x, scale, fetch(s, out, i, 0.0)),
            };
            put(s, out, i, y, Accumulate::Store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dot;
    use crate::reference::{self, F64};
    use crate::testing::*;

    #[test]
    fn agrees_with_the_reference() {
        for n in (0..=65).chain([40_000]) {
            let (xs, dout) = ([1, 2, 3].map(|i| numbers(i, n, 1.0)), numbers(4, n, 1.0));
            let weights = [0.5, -1.0, 2.0, 1.5];
            let (mut y, mut dw) = (vec![0.0; n], [0.0; 4]);
            let mut dx = [0, 1, 2].map(|_| vec![0.0; n]);
            let wide_xs = xs.each_ref().map(|x| wide(x));
            let all = wide_xs.each_ref().map(|x| &x[..]);
            reference::mix_forward::<F64>(&mut y, &all, &wide(&weights));
            let views = dx.each_mut().map(|d| &mut d[..]);
            reference::mix_backward::<F64>(&mut { views }, &mut dw, &wide(&dout), &all, &wide(&weights));
            on_every_ctx(|ctx| {
                let w = mix_weights(&weights, 3).unwrap();
                let (mut out, mut dots, mut got) = (vec![f32::NAN; n], [0.0; 3], [f32::NAN; 4]);
                let mut all = Vec::new();
                for (l, x) in xs.iter().enumerate() {
                    let acc = if l == 0 { Accumulate::Store } else { Accumulate::Add };
                    add_scaled(ctx, &mut out, x, w.of(l), acc).unwrap();
                    let mut d = vec![f32::NAN; n];
                    add_scaled(ctx, &mut d, &dout, w.of(l), Accumulate::Store).unwrap();
                    assert_close("dx", &d, &dx[l], gamma(2), 0.0);
                    all.push(d);
                    dots[l] = dot(ctx, &dout, x).unwrap();
                }
                w.backward(&mut got, &dots, Accumulate::Store);
                // Three products of numbers below 6.
                assert_close("out", &out, &y, gamma(5), gamma(5) * 27.0);
                assert_close("dweights", &got, &dw, gamma(2), gamma(280) * 4.0 * n as f64);
                let mut twice = got;
                w.backward(&mut twice, &dots, Accumulate::Add);
                assert_eq!(twice, got.map(|x| x + x));
                all.extend([out, got.to_vec()]);
                all
            });
        }
        assert!(mix_weights(&[0.0; 3], 3).is_err());
        assert!(mix_weights(&[], usize::MAX).is_err() && mix_weights(&[1.0], 0).is_err());
        assert!(add_scaled(&Ctx::default(), &mut [0.0], &[0.0; 2], 1.0, Accumulate::Store).is_err());
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let xs = [1, 2].map(|i| wide(&numbers(i, 7, 1.0)));
        let (dout, weights) = (wide(&numbers(4, 7, 1.0)), wide(&[0.3, -0.4, 1.2]));
        let value = |xs: [&[f64]; 2], weights: &[f64]| {
            let mut y = vec![0.0; 7];
            reference::mix_forward::<F64>(&mut y, &xs, weights);
            y.iter().zip(&dout).fold(0.0, |sum, (y, d)| sum + y * d)
        };
        let (mut dx, mut dw) = ([vec![0.0; 7], vec![0.0; 7]], vec![0.0; 3]);
        let views = dx.each_mut().map(|d| &mut d[..]);
        reference::mix_backward::<F64>(&mut { views }, &mut dw, &dout, &[&xs[0], &xs[1]], &weights);
        central_difference("weights", &weights, &dw, |w| value([&xs[0], &xs[1]], w));
        central_difference("x_1", &xs[1], &dx[1], |x| value([&xs[0], x], &weights));
    }
}
