//! Every token against `Scalar`, lane by lane and bit by bit.

use super::*;

/// Special values and ordinary ones.
const XS: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    1e-40,
    3.4e38,
    2.5,
    -2.5,
    0.1,
    -7.75,
    126.0,
    -126.0,
    0.5,
];

struct All<'a>(&'a [f32; 16], &'a [f32; 16], &'a [f32; 16]);

impl Kernel for All<'_> {
    type Output = Vec<[f32; 16]>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<[f32; 16]> {
        let (a, b, c) = (s.load(self.0), s.load(self.1), s.load(self.2));
        let mut out = vec![
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.sqrt(a),
            s.max(a, b),
            s.min(a, b),
            s.abs(a),
            s.copysign(a, b),
            s.round_even(a),
            s.select(s.gt(a, b), a, b),
            s.select(s.is_nan(a), b, a),
            s.pow2(s.round_even(s.min(s.max(b, s.splat(-126.0)), s.splat(127.0)))),
        ];
        if S::FUSED {
            out.push(s.mul_add(a, b, c));
        }
        let mut arrays: Vec<_> = out.into_iter().map(|v| s.to_array(v)).collect();
        for n in 0..=16 {
            arrays.push(s.to_array(s.load_partial(&self.0[..n], 7.0)));
            let mut part = [9.0; 16];
            s.store_partial(&mut part[..n], b);
            arrays.push(part);
        }
        let mut last = [0.0; 16];
        (last[0], last[1]) = (s.reduce_add(b), s.reduce_max(b));
        arrays.push(last);
        // Sixteen rows of four, from the three inputs one after the other.
        let rows: Vec<f32> = [self.0, self.1, self.2].into_iter().flatten().copied().cycle().take(15 * 5 + 4).collect();
        // SAFETY: rows 0 to 15 are 5 floats apart, and the last one has its 4.
        arrays.extend(unsafe { s.load_columns(rows.as_ptr(), 5) }.map(|column| s.to_array(column)));
        arrays
    }
}

#[test]
fn every_token_agrees_with_scalar() {
    let ys: [f32; 16] = core::array::from_fn(|i| (i as f32 * 1.37 - 9.0) * if i % 3 == 0 { -1.1 } else { 0.7 });
    let zs: [f32; 16] = core::array::from_fn(|i| 0.3 - i as f32);
    for (a, b) in [(&XS, &ys), (&ys, &zs), (&zs, &ys)] {
        let expected = dispatch_on(Isa::SCALAR, All(a, b, &zs));
        for isa in Isa::available() {
            let mut got = dispatch_on(isa, All(a, b, &zs));
            if !isa.fused() {
                got.insert(13, expected[13]);
            }
            assert_eq!(got.len(), expected.len());
            for (op, (g, e)) in got.iter().zip(&expected).enumerate() {
                for lane in 0..16 {
                    let same = g[lane].to_bits() == e[lane].to_bits() || (g[lane].is_nan() && e[lane].is_nan());
                    assert!(same, "{isa}: result {op}, lane {lane}: {} against {}", g[lane], e[lane]);
                }
            }
        }
    }
}

#[test]
fn names_lower_the_choice_and_never_raise_it() {
    for isa in Isa::available() {
        assert_eq!(Isa::at_most(isa.name()), Ok(isa));
    }
    assert_eq!(Isa::at_most("avx512"), Ok(Isa::detect()));
    assert!(Isa::at_most("sse9").is_err());
}
