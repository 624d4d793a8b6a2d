//! Writes f32 tensors as safetensors.

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

/// Writes a safetensors file of f32 tensors in this order, data aligned to eight bytes, metadata `{"format": "pt"}`.
///
/// # Errors
/// What `out` reports; `InvalidInput` for a shape that does not fit its data, and for a name used twice.
pub fn write(out: &mut dyn Write, tensors: &[NamedTensor<'_>]) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut begin = 0u64;
    for t in tensors {
        let elements = t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(t.data.len()) {
            let what = format!("the tensor {} has {} numbers for the shape {:?}", t.name, t.data.len(), t.shape);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let end = begin + 4 * t.data.len() as u64;
        let entry = json!({"dtype": "F32", "shape": t.shape, "data_offsets": [begin, end]});
        if header.insert(t.name.to_string(), entry).is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the tensor {} stands twice", t.name)));
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
        for (to, x) in bytes.chunks_exact_mut(4).zip(chunk) {
            to.copy_from_slice(&x.to_le_bytes());
        }
        out.write_all(&bytes[..4 * chunk.len()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
