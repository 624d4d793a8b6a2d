//! Writes f32 tensors as safetensors.

use longhand_tensor::bf16;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct NamedTensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its dims.
    pub shape: &'a [usize],
    /// Row-major; as many numbers as the product of the dims.
    pub data: &'a [f32],
}

/// The element type of a file's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// As they are.
    F32,
    /// The upper half of an f32, rounded to nearest, ties to even.
    Bf16,
    /// IEEE half precision, rounded to nearest, ties to even: beyond 65,504 there is only infinity.
    F16,
}

impl Dtype {
    /// The type of that name: `f32`, `bf16` or `f16`.
    pub fn from_name(name: &str) -> Option<Dtype> {
        [Dtype::F32, Dtype::Bf16, Dtype::F16].into_iter().find(|d| d.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }

    /// Its name in config.json, as PyTorch has it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::Bf16 => "bfloat16",
            Dtype::F16 => "float16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        if self == Dtype::F32 { 4 } else { 2 }
    }
}

/// As [`write_as`], of f32.
///
/// # Errors
/// As [`write_as`].
pub fn write(out: &mut dyn Write, tensors: &[NamedTensor<'_>]) -> io::Result<()> {
    write_as(out, tensors, Dtype::F32)
}

/// Writes a safetensors file of tensors of one type in this order, data aligned to eight bytes, metadata `{"format": "pt"}`.
///
/// # Errors
/// What `out` reports; `InvalidInput` for a shape that does not fit its data, for a name used twice, and for a number
/// that the type does not hold.
pub fn write_as(out: &mut dyn Write, tensors: &[NamedTensor<'_>], dtype: Dtype) -> io::Result<()> {
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut begin = 0u64;
    for t in tensors {
        let elements = t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(t.data.len()) {
            return wrong(format!("the tensor {} has {} numbers for the shape {:?}", t.name, t.data.len(), t.shape));
        }
        let (limit, name, last) = match dtype {
            Dtype::F32 => (f32::INFINITY, "f32", f32::MAX),
            Dtype::F16 => (65_520.0, "f16", 65_504.0),
            // Halfway from the last bfloat16 to what would come next.
            Dtype::Bf16 => (f32::from_bits(0x7F7F_8000), "bf16", bf16::widen(0x7F7F)),
        };
        if let Some(at) = t.data.iter().position(|x| x.is_finite() && x.abs() >= limit) {
            return wrong(format!("the tensor {}, element {at} = {}: {name} ends at {last:e}", t.name, t.data[at]));
        }
        let end = begin + (dtype.bytes() * t.data.len()) as u64;
        let entry = json!({"dtype": dtype.name().to_uppercase(), "shape": t.shape, "data_offsets": [begin, end]});
        if header.insert(t.name.to_string(), entry).is_some() {
            return wrong(format!("the tensor {} stands twice", t.name));
        }
        begin = end;
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut bytes = [0; 4096];
    for chunk in tensors.iter().flat_map(|t| t.data.chunks(1024)) {
        match dtype {
            Dtype::F32 => put(&mut bytes, chunk, f32::to_le_bytes),
            Dtype::Bf16 => put(&mut bytes, chunk, |x| bf16::round(x).to_le_bytes()),
            Dtype::F16 => put(&mut bytes, chunk, |x| f32_to_f16(x).to_le_bytes()),
        }
        out.write_all(&bytes[..dtype.bytes() * chunk.len()])?;
    }
    Ok(())
}

fn put<const W: usize>(bytes: &mut [u8], numbers: &[f32], narrowed: impl Fn(f32) -> [u8; W]) {
    for (to, x) in bytes.as_chunks_mut::<W>().0.iter_mut().zip(numbers) {
        *to = narrowed(*x);
    }
}

/// The nearest IEEE half, ties to even; a NaN stays one.
fn f32_to_f16(x: f32) -> u16 {
    let (sign, magnitude) = ((x.to_bits() >> 16 & 0x8000) as u16, x.to_bits() & 0x7FFF_FFFF);
    let half = if magnitude > 0x7F80_0000 {
        0x7E00
    } else if magnitude >= 0x477F_F000 {
        // 65,520 and more.
        0x7C00
    } else if magnitude >= 0x3880_0000 {
        // Normal: the exponent's bias goes from 127 to 15, 13 bits of the fraction go.
        let shifted = magnitude - (112 << 23);
        ((shifted + 0xFFF + (shifted >> 13 & 1)) >> 13) as u16
    } else {
        // Multiples of 2⁻²⁴: adding 0.5, whose last bit is 2⁻²⁴, rounds to them.
        (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits()) as u16
    };
    sign | half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safetensors_io::{NonFinite, read_bytes};
    use std::path::Path;

    #[test]
    fn halves_are_the_nearest_with_ties_to_even() {
        let read = |x: f32, dtype| {
            let mut out = Vec::new();
            write_as(&mut out, &[NamedTensor { name: "x", shape: &[1], data: &[x] }], dtype).unwrap();
            read_bytes(&out, Path::new("m"), NonFinite::Allow).unwrap()[0].data[0]
        };
        // Every half, what lies between it and the next, and the middle itself.
        for bits in 0..0x7BFFu16 {
            let (a, b) = (half(bits), half(bits + 1));
            let middle = ((a as f64 + b as f64) / 2.0) as f32;
            let even = if bits % 2 == 0 { a } else { b };
            assert_eq!(read(a, Dtype::F16).to_bits(), a.to_bits());
            assert_eq!(read(middle, Dtype::F16), even, "{middle}");
            assert_eq!(read(-middle.next_up(), Dtype::F16), -b);
            assert_eq!(read(middle.next_down(), Dtype::F16), a);
        }
        assert!(read(f32::NAN, Dtype::F16).is_nan() && read(f32::NAN, Dtype::Bf16).is_nan());
        assert_eq!(read(f32::NEG_INFINITY, Dtype::F16), f32::NEG_INFINITY);
        for (x, nearest) in
            [(1.0, 1.0), (1.0 + 1.0 / 256.0, 1.0), (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0), (1.004, 1.0 + 1.0 / 128.0)]
        {
            assert_eq!(read(x, Dtype::Bf16), nearest, "{x}");
        }
        let mut out = Vec::new();
        let e =
            write_as(&mut out, &[NamedTensor { name: "x", shape: &[2], data: &[1.0, 7e4] }], Dtype::F16).unwrap_err();
        assert_eq!(e.to_string(), "the tensor x, element 1 = 70000: f16 ends at 6.5504e4");
    }

    /// A half's value by its definition.
    fn half(bits: u16) -> f32 {
        let (exponent, fraction) = (bits >> 10, f64::from(bits & 0x3FF));
        // 2⁻²⁴ · 2ᵉ⁻¹: a half's last bit is worth that.
        let scale = |e: u16| f64::from(1u32 << e) / f64::from(1u32 << 24);
        let value = match exponent {
            0 => fraction * scale(0),
            e => (1024.0 + fraction) * scale(e - 1),
        };
        value as f32
    }

    #[test]
    fn wrong_tensors_are_not_written() {
        let mut out = Vec::new();
        let t = NamedTensor { name: "a", shape: &[2], data: &[1.0] };
        assert_eq!(write(&mut out, &[t]).unwrap_err().to_string(), "the tensor a has 1 numbers for the shape [2]");
        let t = NamedTensor { name: "a", shape: &[1], data: &[1.0] };
        assert_eq!(write(&mut out, &[t, t]).unwrap_err().to_string(), "the tensor a stands twice");
        assert!(out.is_empty());
    }
}
