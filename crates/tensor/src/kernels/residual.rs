//! The residual connection: a sum, whose gradient goes unchanged to both sides.

use super::{ELEMENTS, fetch, put};
use crate::ctx::Ctx;
use crate::error::{Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// out[i] = a[i] + b[i].
///
/// Shapes: out, a, b of one length. Saves: nothing. Cost: 12 bytes and 1 flop an element.
/// Numerics: correctly rounded. Threads: blocks of 16,384 elements; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn residual_forward(ctx: &Ctx, out: &mut [f32], a: &[f32], b: &[f32]) -> Result<()> {
    let _timed = ctx.time("residual_forward");
    expect_len("residual_forward", "a length", a.len(), out.len())?;
    expect_len("residual_forward", "b length", b.len(), out.len())?;
    let (isa, n) = (ctx.isa(), out.len());
    for_each_rows(ctx, RowsMut::new(out, 1), n, ELEMENTS, |first, out| {
        let out = out.into_slice();
        let here = first..first + out.len();
        dispatch_on(isa, Sum { a: &a[here.clone()], b: &b[here], out });
    });
    Ok(())
}

/// dinp[i] (+)= dout[i]: the gradient of either side.
///
/// Shapes: dinp, dout of one length. Writes `dinp` by `acc`. Cost: 8 or 12 bytes an element.
/// # Errors
/// `ShapeMismatch` if the lengths differ.
pub fn residual_backward(ctx: &Ctx, dinp: &mut [f32], dout: &[f32], acc: Accumulate) -> Result<()> {
    let _timed = ctx.time("residual_backward");
    expect_len("residual_backward", "dout length", dout.len(), dinp.len())?;
    let (isa, n) = (ctx.isa(), dinp.len());
    for_each_rows(ctx, RowsMut::new(dinp, 1), n, ELEMENTS, |first, dinp| {
        let dinp = dinp.into_slice();
        dispatch_on(isa, Copy { dout: &dout[first..first + dinp.len()], dinp, acc });
    });
    Ok(())
}

struct Sum<'a> {
    out: &'a mut [f32],
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // One length for all: one test a block, not one an access.
        let n = self.a.len();
        let (out, b) = (&mut self.out[..n], &self.b[..n]);
        for i in (0..n).step_by(LANES) {
            let y = s.add(fetch(s, self.a, i, 0.0), fetch(s, b, i, 0.0));
            put(s, out, i, y, Accumulate::Store);
        }
    }
}

struct Copy<'a> {
    dinp: &'a mut [f32],
    dout: &'a [f32],
    acc: Accumulate,
}

impl Kernel for Copy<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.dout.len();
        let dinp = &mut self.dinp[..n];
        for i in (0..n).step_by(LANES) {
            put(s, dinp, i, fetch(s, self.dout, i, 0.0), self.acc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, Fused32};
    use crate::testing::{assert_same_bits, numbers, on_every_ctx};

    #[test]
    fn equals_the_reference() {
        for n in (0..=65).chain([50_000]) {
            let (mut a, b) = (numbers(1, n, 1.0), numbers(2, n, 1e5));
            if n > 3 {
                (a[0], a[1], a[2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
            }
            let (mut y, mut more) = (vec![0.0; n], b.clone());
            reference::residual_forward::<Fused32>(&mut y, &a, &b);
            reference::residual_backward::<Fused32>(&mut more, &a, Accumulate::Add);
            on_every_ctx(|ctx| {
                let (mut out, mut dinp, mut add) = (vec![f32::NAN; n], vec![f32::NAN; n], b.clone());
                residual_forward(ctx, &mut out, &a, &b).unwrap();
                residual_backward(ctx, &mut dinp, &a, Accumulate::Store).unwrap();
                residual_backward(ctx, &mut add, &a, Accumulate::Add).unwrap();
                assert_same_bits("sum", &out, &y);
                assert_same_bits("store", &dinp, &a);
                assert_same_bits("add", &add, &more);
                vec![]
            });
        }
        assert!(residual_forward(&Ctx::default(), &mut [0.0], &[0.0; 2], &[0.0]).is_err());
    }
}
