//! bfloat16: the upper half of an f32, as its 16 bits.

/// The nearest bfloat16, ties to even; a NaN stays one.
pub fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        // Quiet, whatever its lower half was.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

/// The float that a bfloat16 is.
pub fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_with_ties_to_even() {
        for half in (0..0x7F7Fu16).chain(0x8000..0xFF7F) {
            let (a, b) = (widen(half), widen(half + 1));
            let middle = f32::from_bits(a.to_bits() + (b.to_bits() - a.to_bits()) / 2);
            assert_eq!(round(a), half);
            assert_eq!(round(middle), if half % 2 == 0 { half } else { half + 1 });
            assert_eq!(round(f32::from_bits(middle.to_bits() + 1)), half + 1);
            assert_eq!(round(f32::from_bits(middle.to_bits() - 1)), half);
        }
        assert!(widen(round(f32::NAN)).is_nan() && widen(round(f32::from_bits(0x7F80_0001))).is_nan());
        assert_eq!(
            [f32::INFINITY, f32::NEG_INFINITY, f32::MAX].map(|x| widen(round(x))),
            [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]
        );
    }
}
